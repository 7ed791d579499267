//! Named network namespaces under `/run/netns`, as `ip netns` keeps them: create, open, enter, list, delete.
//!
//! Names carry ours: `minik.CLUSTER.NODE`, `minik.CLUSTER.fabric`, `minik.CLUSTER.outside`,
//! `minik.CLUSTER.pod.UID`. A cluster's name has no dot, so no name is another's prefix.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

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
    /// `unshare(CLONE_NEWNET)`
    #[error("create network namespace {name}")]
    Create {
        /// Namespace name.
        name: String,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// `open`
    #[error("open network namespace {path}")]
    Open {
        /// Namespace path.
        path: PathBuf,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// `setns`
    #[error("enter network namespace")]
    Enter(#[source] std::io::Error),
    /// `umount` and `unlink`
    #[error("delete network namespace {name}")]
    Delete {
        /// Namespace name.
        name: String,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// `readdir`
    #[error("list network namespaces")]
    List(#[source] std::io::Error),
}

impl NetNs {
    /// Makes a namespace and mounts it at `/run/netns/NAME`; opens it when it is there already.
    /// The new namespace's loopback is up.
    pub fn create(_name: &str) -> Result<Self, NetNsError> {
        todo!()
    }

    /// Opens `/run/netns/NAME`.
    pub fn open(_name: &str) -> Result<Self, NetNsError> {
        todo!()
    }

    /// The namespace of the calling thread.
    pub fn current() -> Result<Self, NetNsError> {
        todo!()
    }

    /// Unmounts and unlinks `/run/netns/NAME`; a missing one is no error.
    pub fn delete(_name: &str) -> Result<(), NetNsError> {
        todo!()
    }

    /// Names under `/run/netns` that start with `prefix`, sorted.
    pub fn list(_prefix: &str) -> Result<Vec<String>, NetNsError> {
        todo!()
    }

    /// Runs `f` on a thread of its own inside the namespace; sockets that `f` opens belong to it for good.
    pub fn run<T: Send>(&self, _f: impl FnOnce() -> T + Send) -> Result<T, NetNsError> {
        todo!()
    }

    /// Moves the whole process there; to be called before any thread starts.
    pub fn enter(&self) -> Result<(), NetNsError> {
        todo!()
    }
}
