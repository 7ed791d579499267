//! The namespaces and memory file systems that a Pod's containers share. The shim itself lives in them.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::CloneFlags;

use crate::runtime::spec::{Memory, SandboxSpec};

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// `setsid`, so that signals to the agent's group do not reach the Pod.
    #[error("start a session")]
    Session(#[source] nix::Error),
    /// The Pod's network namespace.
    #[error("join network namespace {path}")]
    Network {
        /// Namespace file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The namespaces of a sandbox that is there.
    #[error("join the sandbox")]
    Join(#[source] nix::Error),
    /// `unshare`
    #[error("make namespaces")]
    Unshare(#[source] nix::Error),
    /// `sethostname`
    #[error("set host name {0}")]
    Hostname(String, #[source] nix::Error),
    /// A kernel parameter.
    #[error("set /proc/sys/{name}")]
    Sysctl {
        /// Path below `/proc/sys`.
        name: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A shared memory file system.
    #[error("mount memory at {path}")]
    Memory {
        /// Mount point.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
}

/// Moves the process into the sandbox that `holder` holds.
pub fn join(holder: BorrowedFd<'_>) -> Result<(), SandboxError> {
    lead()?;
    let flags =
        CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWNET;
    nix::sched::setns(holder, flags).map_err(SandboxError::Join)
}

fn lead() -> Result<(), SandboxError> {
    match nix::unistd::setsid() {
        // Already a leader: the agent made the session when it spawned us.
        Ok(_) | Err(nix::errno::Errno::EPERM) => Ok(()),
        Err(error) => Err(SandboxError::Session(error)),
    }
}

/// Makes the sandbox that `spec` describes, and moves the process into it.
pub fn enter(spec: &SandboxSpec, dir: &Path) -> Result<(), SandboxError> {
    lead()?;
    let mut flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS;
    if !spec.shares.node_ipc {
        flags |= CloneFlags::CLONE_NEWIPC;
    }
    if let Some(path) = &spec.netns {
        join_network(path).map_err(|source| SandboxError::Network {
            path: path.clone(),
            source,
        })?;
    }
    nix::sched::unshare(flags).map_err(SandboxError::Unshare)?;
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .map_err(SandboxError::Unshare)?;
    nix::unistd::sethostname(&spec.hostname).map_err(|error| SandboxError::Hostname(spec.hostname.clone(), error))?;
    for (name, value) in &spec.shares.sysctls {
        std::fs::write(Path::new("/proc/sys").join(name), value).map_err(|source| SandboxError::Sysctl {
            name: name.display().to_string(),
            source,
        })?;
    }
    let shm = SandboxSpec::shm(dir);
    if spec.shares.node_ipc {
        share_memory(&shm)?;
    } else {
        memory(&shm, "mode=1777,size=65536k")?;
    }
    spec.tmpfs
        .iter()
        .try_for_each(|wanted| memory(&wanted.path, &options(wanted)))
}

fn options(wanted: &Memory) -> String {
    let mut options = match wanted.group {
        Some(group) => format!("mode=2777,gid={group}"),
        None => "mode=0777".to_owned(),
    };
    if let Some(size) = wanted.size {
        options.push_str(&format!(",size={size}"));
    }
    options
}

/// The node's own shared memory in the place of the Pod's.
fn share_memory(path: &Path) -> Result<(), SandboxError> {
    let none = None::<&str>;
    std::fs::create_dir_all(path)
        .and_then(|()| mount(Some("/dev/shm"), path, none, MsFlags::MS_BIND, none).map_err(io::Error::from))
        .map_err(|source| SandboxError::Memory {
            path: path.to_owned(),
            source,
        })
}

fn join_network(path: &Path) -> io::Result<()> {
    nix::sched::setns(std::fs::File::open(path)?, CloneFlags::CLONE_NEWNET)?;
    // As containerd since 2.0: inside its own namespace a Pod may bind low ports and send pings unprivileged.
    std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")?;
    std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647")
}

fn memory(path: &Path, options: &str) -> Result<(), SandboxError> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    std::fs::create_dir_all(path)
        .and_then(|()| mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some(options)).map_err(io::Error::from))
        .map_err(|source| SandboxError::Memory {
            path: path.to_owned(),
            source,
        })
}
