//! Named network namespaces under `/run/netns`, as `ip netns` keeps them: create, open, enter, list, delete.
//!
//! Names carry ours: `minik.CLUSTER.NODE`, `minik.CLUSTER.fabric`, `minik.CLUSTER.outside`,
//! `minik.CLUSTER.pod.UID`. A cluster's name has no dot, so no name is another's prefix.
//!
//! Never ends a process and never removes a link: a namespace whose name is gone lives on until its last
//! process and descriptor are, and what hangs on it is freed by the kernel some time later. Whoever needs a
//! link's name back deletes the link first (`kernel::link`).

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::fstat;
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};

use super::netns_dir::{self, RUN_NETNS};
use super::process::NetNsId;
use super::request::raise_loopback;

/// The network namespace of whoever reads it. `/proc/self` would name the process's first thread instead.
const THREAD_NETNS: &str = "/proc/thread-self/ns/net";

/// An open network namespace.
#[derive(Debug)]
pub struct NetNs {
    /// Keeps the namespace alive.
    pub fd: OwnedFd,
    /// Where it is mounted, when it has a name.
    pub path: Option<PathBuf>,
}

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum NetNsError {
    /// The folder of the names, `/run/netns`, could not be made a shared mount.
    #[error("prepare {RUN_NETNS}")]
    Prepare(#[source] io::Error),
    /// `unshare(CLONE_NEWNET)`, or mounting its result.
    #[error("create network namespace {name}")]
    Create {
        /// Namespace name.
        name: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// `open`
    #[error("open network namespace {path}")]
    Open {
        /// Namespace path.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// `setns`
    #[error("enter network namespace")]
    Enter(#[source] io::Error),
    /// `fstat`
    #[error("identify network namespace")]
    Identify(#[source] io::Error),
    /// No thread could be started to enter a namespace with.
    #[error("start a thread for a network namespace")]
    Thread(#[source] io::Error),
    /// `umount` and `unlink`
    #[error("delete network namespace {name}")]
    Delete {
        /// Namespace name.
        name: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// `readdir`
    #[error("list network namespaces")]
    List(#[source] io::Error),
}

impl NetNs {
    /// Makes a namespace and mounts it at `/run/netns/NAME`; opens it when it is there already.
    /// The new namespace's loopback is up.
    ///
    /// A file that is no namespace (left by whoever died between making and mounting it) is mounted over.
    ///
    /// # Errors
    /// [`NetNsError::Prepare`], [`NetNsError::Create`], [`NetNsError::Open`], [`NetNsError::Thread`].
    pub fn create(name: &str) -> Result<Self, NetNsError> {
        if let Some(existing) = Self::find(name)? {
            return Ok(existing);
        }
        let _folder = netns_dir::hold().map_err(NetNsError::Prepare)?;
        let path = Path::new(RUN_NETNS).join(name);
        on_own_thread(|| make_and_mount(&path))?.map_err(|source| NetNsError::Create {
            name: name.to_owned(),
            source,
        })?;
        Self::open(name)
    }

    /// Gives the namespace the name `/run/netns/NAME` again, which other hands took away.
    ///
    /// # Errors
    /// [`NetNsError::Prepare`], [`NetNsError::Create`].
    pub fn name_again(&self, name: &str) -> Result<(), NetNsError> {
        let _folder = netns_dir::hold().map_err(NetNsError::Prepare)?;
        let path = Path::new(RUN_NETNS).join(name);
        let own = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        pin(&own, &path).map_err(|source| NetNsError::Create {
            name: name.to_owned(),
            source,
        })
    }

    /// Opens `/run/netns/NAME`.
    ///
    /// # Errors
    /// [`NetNsError::Open`], also when there is a file of that name that is no namespace.
    pub fn open(name: &str) -> Result<Self, NetNsError> {
        Self::find(name)?.ok_or_else(|| NetNsError::Open {
            path: Path::new(RUN_NETNS).join(name),
            source: io::Error::from(io::ErrorKind::NotFound),
        })
    }

    /// Opens `/run/netns/NAME`; `None` when there is no namespace of that name.
    ///
    /// # Errors
    /// [`NetNsError::Open`].
    pub fn find(name: &str) -> Result<Option<Self>, NetNsError> {
        let path = Path::new(RUN_NETNS).join(name);
        let failed = |source| NetNsError::Open {
            path: path.clone(),
            source,
        };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let file_system = fstatfs(&file).map_err(|errno| failed(errno.into()))?.filesystem_type();
        Ok((file_system == NSFS_MAGIC).then(|| Self {
            fd: file.into(),
            path: Some(path),
        }))
    }

    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// [`NetNsError::Open`].
    pub fn current() -> Result<Self, NetNsError> {
        let file = File::open(THREAD_NETNS).map_err(|source| NetNsError::Open {
            path: THREAD_NETNS.into(),
            source,
        })?;
        Ok(Self {
            fd: file.into(),
            path: None,
        })
    }

    /// Unmounts and unlinks `/run/netns/NAME`; a missing one is no error.
    ///
    /// # Errors
    /// [`NetNsError::Delete`].
    pub fn delete(name: &str) -> Result<(), NetNsError> {
        let path = Path::new(RUN_NETNS).join(name);
        unmount_and_unlink(&path).map_err(|source| NetNsError::Delete {
            name: name.to_owned(),
            source,
        })
    }

    /// Names under `/run/netns` that start with `prefix`, sorted.
    ///
    /// # Errors
    /// [`NetNsError::List`]; a folder that is not there holds no names.
    pub fn list(prefix: &str) -> Result<Vec<String>, NetNsError> {
        let entries = match fs::read_dir(RUN_NETNS) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(NetNsError::List(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry.map_err(NetNsError::List)?.file_name().into_string()
                && name.starts_with(prefix)
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Runs `f` on a thread of its own inside the namespace; sockets that `f` opens belong to it for good.
    /// The caller waits for it, so `f` must not.
    ///
    /// # Errors
    /// [`NetNsError::Thread`], [`NetNsError::Enter`]; a panic of `f` goes on in the caller.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T, NetNsError> {
        on_own_thread(|| self.enter().map(|()| f()))?
    }

    /// Which namespace this is: two descriptors of one have the same.
    ///
    /// # Errors
    /// [`NetNsError::Identify`].
    pub fn id(&self) -> Result<NetNsId, NetNsError> {
        let stat = fstat(&self.fd).map_err(|errno| NetNsError::Identify(errno.into()))?;
        Ok(stat.st_ino)
    }

    /// Moves the whole process there; to be called before any thread starts.
    ///
    /// # Errors
    /// [`NetNsError::Enter`].
    pub fn enter(&self) -> Result<(), NetNsError> {
        setns(&self.fd, CloneFlags::CLONE_NEWNET).map_err(|errno| NetNsError::Enter(errno.into()))
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A namespace is a thread's, so changing it is left to threads that end right after.
fn on_own_thread<T: Send>(f: impl FnOnce() -> T + Send) -> Result<T, NetNsError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("netns".into())
            .spawn_scoped(scope, f)
            .map_err(NetNsError::Thread)?;
        Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// Runs on a thread that ends with it: moves to a new namespace and pins that at `path`.
fn make_and_mount(path: &Path) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    raise_loopback()?;
    pin(THREAD_NETNS, path)
}

/// Mounts the namespace that is found at `source` at `path`.
fn pin(source: &str, path: &Path) -> io::Result<()> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    let none: Option<&str> = None;
    let pinned = mount(Some(source), path, none, MsFlags::MS_BIND, none).map_err(io::Error::from);
    if pinned.is_err() {
        // An empty file would be listed as a namespace by `ip netns`; the first error is the one to tell.
        fs::remove_file(path).ok();
    }
    pinned
}

/// A namespace may be mounted more than once at one path (`ip netns` copies mounts when it makes
/// `/run/netns` a mount of its own), and a copy left behind would keep it alive unseen.
fn unmount_and_unlink(path: &Path) -> io::Result<()> {
    const MOST_COPIES: usize = 16;
    for _ in 0..MOST_COPIES {
        match umount2(path, MntFlags::MNT_DETACH) {
            Ok(()) => {}
            // Not a mount (any more), or not there at all.
            Err(nix::Error::EINVAL | nix::Error::ENOENT) => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
