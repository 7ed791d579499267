//! The caller's kubeconfig: which file, whose, and how it is replaced. What changes in it is decided in [`edit`].
//!
//! Follows kubectl: `--kubeconfig`, else the files of `KUBECONFIG`, else `~/.kube/config`; a lock file beside it;
//! the file replaced as a whole, mode 0600. Under sudo it is the calling user's file and stays his.

pub mod edit;

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

use nix::unistd::User;
use serde_json::Value;

pub use edit::Access;

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    /// No `HOME`.
    #[error("no kubeconfig to write: set KUBECONFIG or HOME, or pass --kubeconfig")]
    NoFile,
    /// `open`, `read`
    #[error("read kubeconfig {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// Not YAML.
    #[error("kubeconfig {} is not valid YAML", path.display())]
    Parse {
        /// Which.
        path: PathBuf,
        /// Cause.
        #[source]
        source: Box<serde_saphyr::Error>,
    },
    /// Should not happen for plain values.
    #[error("format kubeconfig")]
    Format(#[source] serde_saphyr::SerializeError),
    /// `open`, `write`, `fsync`, `chown`, `rename`
    #[error("write kubeconfig {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// Another tool is writing, or died while it was.
    #[error("kubeconfig {} is locked by another tool: if none is running, remove {}", path.display(), lock.display())]
    Locked {
        /// The file.
        path: PathBuf,
        /// Its lock.
        lock: PathBuf,
    },
}

/// Whose environment decides; gathered once.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `--kubeconfig`
    pub flag: Option<PathBuf>,
    /// `KUBECONFIG`
    pub variable: Option<OsString>,
    /// The home directory: under sudo, the calling user's.
    pub home: Option<PathBuf>,
    /// Under sudo, the calling user and group.
    pub owner: Option<(u32, u32)>,
}

impl Environment {
    /// Of this process.
    #[must_use]
    pub fn of_process(flag: Option<PathBuf>) -> Self {
        let caller = std::env::var("SUDO_USER")
            .ok()
            .and_then(|name| User::from_name(&name).ok().flatten());
        let home = std::env::var_os("HOME").map(PathBuf::from);
        Self {
            flag,
            variable: std::env::var_os("KUBECONFIG"),
            home: caller.as_ref().map(|user| user.dir.clone()).or(home),
            owner: caller.map(|user| (user.uid.as_raw(), user.gid.as_raw())),
        }
    }

    /// The files, in kubectl's order. Pure.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        if let Some(flag) = &self.flag {
            return vec![flag.clone()];
        }
        if let Some(variable) = self.variable.as_ref().filter(|variable| !variable.is_empty()) {
            return std::env::split_paths(variable)
                .filter(|path| !path.as_os_str().is_empty())
                .collect();
        }
        self.home.iter().map(|home| home.join(".kube/config")).collect()
    }
}

/// Adds the cluster and makes it the current one; returns the file written.
///
/// An entry of that name is replaced where it lies; a new one goes to the first file that exists, or else to the
/// last, which is made. The current context goes where one is set, or else to the first.
///
/// # Errors
/// [`KubeconfigError`]
pub fn add(environment: &Environment, access: &Access) -> Result<PathBuf, KubeconfigError> {
    let files = environment.files();
    let target = choose(&files, |config| edit::holds(config, &access.name))?.ok_or(KubeconfigError::NoFile)?;
    let current = choose(&files, |config| edit::current_context(config).is_some())?.unwrap_or_else(|| target.clone());
    update(&target, environment, |config| {
        edit::add(config, access);
        true
    })?;
    update(&current, environment, |config| {
        edit::use_context(config, &access.name);
        true
    })?;
    Ok(target)
}

/// Takes the cluster out of every file; returns the files that changed. A file that then says nothing is
/// removed: before us it was not there, or said nothing.
///
/// # Errors
/// [`KubeconfigError`]
pub fn remove(environment: &Environment, name: &str) -> Result<Vec<PathBuf>, KubeconfigError> {
    let mut changed = Vec::new();
    for path in environment.files() {
        let Some(config) = read(&path)? else { continue };
        if edit::holds(&config, name) || edit::current_context(&config) == Some(name) {
            update(&path, environment, |config| edit::remove(config, name))?;
            changed.push(path);
        }
    }
    Ok(changed)
}

/// The kubeconfig of this cluster alone, as text.
///
/// # Errors
/// [`KubeconfigError::Format`]
pub fn alone(access: &Access) -> Result<String, KubeconfigError> {
    let mut config = edit::empty();
    edit::add(&mut config, access);
    edit::use_context(&mut config, &access.name);
    format(&config)
}

/// The first file that `wanted` likes; else the first that exists; else the last.
fn choose(files: &[PathBuf], wanted: impl Fn(&Value) -> bool) -> Result<Option<PathBuf>, KubeconfigError> {
    let mut existing = None;
    for path in files {
        if let Some(config) = read(path)? {
            if wanted(&config) {
                return Ok(Some(path.clone()));
            }
            existing = existing.or(Some(path));
        }
    }
    Ok(existing.or(files.last()).cloned())
}

fn read(path: &Path) -> Result<Option<Value>, KubeconfigError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(KubeconfigError::Read {
                path: path.to_owned(),
                source,
            });
        }
    };
    if text.trim().is_empty() {
        return Ok(Some(edit::empty()));
    }
    serde_saphyr::from_str(&text)
        .map(Some)
        .map_err(|source| KubeconfigError::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })
}

fn format(config: &Value) -> Result<String, KubeconfigError> {
    crate::client::yaml::to_string(config).map_err(KubeconfigError::Format)
}

/// Reads, changes and replaces one file under its lock.
fn update(
    path: &Path,
    environment: &Environment,
    change: impl FnOnce(&mut Value) -> bool,
) -> Result<(), KubeconfigError> {
    let failed = |source| KubeconfigError::Write {
        path: path.to_owned(),
        source,
    };
    // A link is followed, or replacing the file would cut it.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    make_parent(parent, environment.owner).map_err(failed)?;
    let _lock = Lock::take(path)?;
    let mut config = read(path)?.unwrap_or_else(edit::empty);
    if !change(&mut config) {
        return Ok(());
    }
    if edit::is_empty(&config) {
        return fs::remove_file(path).map_err(failed);
    }
    let mut file = tempfile::NamedTempFile::new_in(parent).map_err(failed)?;
    file.write_all(format(&config)?.as_bytes()).map_err(failed)?;
    let owner = match fs::metadata(path) {
        Ok(there) => Some((there.uid(), there.gid())),
        Err(_) => environment.owner,
    };
    if let Some((user, group)) = owner {
        chown(file.path(), Some(user), Some(group)).map_err(failed)?;
    }
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// `~/.kube` belongs to the user whose home it is.
fn make_parent(parent: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    if parent.exists() {
        return Ok(());
    }
    fs::create_dir_all(parent)?;
    match owner {
        Some((user, group)) => chown(parent, Some(user), Some(group)),
        None => Ok(()),
    }
}

/// `config.lock`, as kubectl makes it: exclusive by being created, gone when done.
struct Lock(PathBuf);

impl Lock {
    fn take(path: &Path) -> Result<Self, KubeconfigError> {
        let mut lock = path.as_os_str().to_owned();
        lock.push(".lock");
        let lock = PathBuf::from(lock);
        let made: io::Result<File> = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&lock);
        match made {
            Ok(_) => Ok(Self(lock)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(KubeconfigError::Locked {
                path: path.to_owned(),
                lock,
            }),
            Err(source) => Err(KubeconfigError::Write { path: lock, source }),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Left behind it would be named by the next writer's error.
        fs::remove_file(&self.0).ok();
    }
}

#[cfg(test)]
mod tests;
