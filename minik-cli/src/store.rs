//! A cluster's parameters on disk, and the lock that keeps two `minik up` or `down` of one cluster apart.
//!
//! `STATE/cluster.json` is replaced as a whole, so a reader sees the old one or the new one.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};

use crate::cluster::{ClusterSpec, names};

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// `mkdir`
    #[error("create directory {}", path.display())]
    MakeDir {
        /// Which.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// `open`, `read`
    #[error("read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// Not what we wrote.
    #[error("{} is damaged: restore it, or remove the cluster and its state with `minik down --purge`", path.display())]
    Parse {
        /// Which.
        path: PathBuf,
        /// Cause.
        #[source]
        source: serde_json::Error,
    },
    /// `write`, `fsync`, `rename`, `symlink`
    #[error("write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// `flock`
    #[error("lock {}", path.display())]
    Lock {
        /// Which.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// Somebody else holds it.
    #[error("another `minik up` or `minik down` of cluster {0:?} is at work: try again when it is done")]
    Busy(String),
    /// No run directory.
    #[error("cluster {cluster:?} is not up: start it with `minik up{flag}`", flag = name_flag(cluster))]
    NotUp {
        /// Which.
        cluster: String,
    },
}

/// What to add to a command so that it means `cluster`: nothing for the default one.
#[must_use]
pub fn name_flag(cluster: &str) -> String {
    if cluster == "minik" {
        String::new()
    } else {
        format!(" --name {cluster}")
    }
}

/// Reads `STATE_DIR/cluster.json`; `None` if there is none. The state is where it was found, wherever it was written.
///
/// # Errors
/// [`StoreError::Read`], [`StoreError::Parse`]
pub fn load(state_dir: &Path) -> Result<Option<ClusterSpec>, StoreError> {
    let path = state_dir.join("cluster.json");
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StoreError::Read { path, source }),
    };
    let written: ClusterSpec = serde_json::from_slice(&text).map_err(|source| StoreError::Parse { path, source })?;
    Ok(Some(ClusterSpec {
        state_dir: state_dir.to_owned(),
        ..written
    }))
}

/// Reads the parameters of a cluster that has a run directory, through the link in it, whatever of it runs; `None` for one
/// that has none.
///
/// # Errors
/// [`StoreError::Read`], [`StoreError::Parse`]
pub fn load_linked(cluster: &str) -> Result<Option<ClusterSpec>, StoreError> {
    let link = names::state_link(cluster);
    match fs::read_link(&link) {
        Ok(state_dir) => load(&state_dir),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::Read { path: link, source }),
    }
}

/// Reads the parameters of a cluster that is up.
///
/// # Errors
/// [`StoreError::NotUp`] and those of [`load_linked`].
pub fn load_running(cluster: &str) -> Result<ClusterSpec, StoreError> {
    load_linked(cluster)?.ok_or_else(|| StoreError::NotUp {
        cluster: cluster.to_owned(),
    })
}

/// Writes `STATE_DIR/cluster.json`, mode 0600, durably, and links it from the run directory.
///
/// # Errors
/// [`StoreError::MakeDir`], [`StoreError::Write`]
pub fn save(spec: &ClusterSpec) -> Result<(), StoreError> {
    make_dir(&spec.state_dir)?;
    let path = spec.state_dir.join("cluster.json");
    let failed = |source| StoreError::Write {
        path: path.clone(),
        source,
    };
    // A temporary file is made with mode 0600 and keeps it.
    let mut file = tempfile::NamedTempFile::new_in(&spec.state_dir).map_err(failed)?;
    serde_json::to_writer_pretty(&mut file, spec).map_err(|error| failed(error.into()))?;
    file.write_all(b"\n").map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(&path).map_err(|error| failed(error.error))?;

    let link = names::state_link(&spec.name);
    match symlink(&spec.state_dir, &link) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done.map_err(|source| StoreError::Write { path: link, source }),
    }
}

/// Makes a directory and its parents, for root alone.
///
/// # Errors
/// [`StoreError::MakeDir`]
pub fn make_dir(path: &Path) -> Result<(), StoreError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| StoreError::MakeDir {
            path: path.to_owned(),
            source,
        })
}

/// Whether a supervisor of this cluster lives: it alone holds the lock.
#[must_use]
pub fn supervisor_runs(cluster: &str) -> bool {
    // Asks without taking it, so that asking never gets in a starting supervisor's way.
    let mut lock = whole_file(libc::F_RDLCK);
    File::open(names::supervisor_lock(cluster)).is_ok_and(|file| {
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock)).is_ok() && lock.l_type != libc::F_UNLCK as libc::c_short
    })
}

/// Takes the supervisor's lock for as long as the file is open; `None` if another supervisor lives.
///
/// # Errors
/// [`StoreError::Write`], [`StoreError::Lock`]
pub fn hold_supervisor_lock(cluster: &str) -> Result<Option<File>, StoreError> {
    let path = names::supervisor_lock(cluster);
    let file = match File::create(&path) {
        Ok(file) => file,
        Err(source) => return Err(StoreError::Write { path, source }),
    };
    match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_WRLCK))) {
        Ok(_) => Ok(Some(file)),
        Err(nix::Error::EAGAIN | nix::Error::EACCES) => Ok(None),
        Err(errno) => Err(StoreError::Lock {
            path,
            source: errno.into(),
        }),
    }
}

fn whole_file(kind: libc::c_int) -> libc::flock {
    libc::flock {
        // The constants are small; C declares them wider than the field.
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// The right to change a cluster's being: held over `up`'s preparations and all of `down`.
///
/// The lock is on the run directory itself, so that it goes with the directory and leaves no file behind.
#[derive(Debug)]
pub struct RunLock {
    path: PathBuf,
    _directory: File,
}

/// What to do when another holds the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenBusy {
    /// Say so.
    Refuse,
    /// Wait for it.
    Wait,
}

impl RunLock {
    /// Makes the run directory if need be and locks it.
    ///
    /// # Errors
    /// [`StoreError::Busy`], [`StoreError::Lock`], [`StoreError::MakeDir`]
    pub fn acquire(cluster: &str, when_busy: WhenBusy) -> Result<Self, StoreError> {
        /// How often a directory may vanish between opening and locking it.
        const ATTEMPTS: usize = 16;
        let path = names::run_dir(cluster);
        for _ in 0..ATTEMPTS {
            make_dir(&path)?;
            let Ok(directory) = File::open(&path) else { continue };
            let failed = |source| StoreError::Lock {
                path: path.clone(),
                source,
            };
            match when_busy {
                WhenBusy::Wait => directory.lock().map_err(failed)?,
                WhenBusy::Refuse => match directory.try_lock() {
                    Ok(()) => {}
                    Err(fs::TryLockError::WouldBlock) => return Err(StoreError::Busy(cluster.to_owned())),
                    Err(fs::TryLockError::Error(source)) => return Err(failed(source)),
                },
            }
            // The holder before us may have removed it: then the lock is on a directory nobody can find.
            let held = directory.metadata().map_err(failed)?.ino();
            if fs::metadata(&path).is_ok_and(|there| there.ino() == held) {
                return Ok(Self {
                    path,
                    _directory: directory,
                });
            }
        }
        Err(StoreError::Busy(cluster.to_owned()))
    }

    /// Lets go, and removes the run directory if it is empty, as it is after a refused preflight.
    pub fn release(self) {
        // Not empty means in use, and the parent may hold other clusters.
        if fs::remove_dir(&self.path).is_ok() {
            fs::remove_dir(names::RUN).ok();
        }
    }
}
