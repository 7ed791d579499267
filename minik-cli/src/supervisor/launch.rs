//! Both ends of starting a supervisor: `minik up` runs it and reads one line from a pipe; the supervisor
//! leaves its parent, session and terminal behind.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::process::Stdio;

use command_fds::{CommandFdExt, FdMapping};
use nix::fcntl::OFlag;
use nix::unistd::{ForkResult, fork, pipe2, setsid};

use super::child::{open_log, own_command};
use crate::cluster::ClusterSpec;
use crate::store::{self, StoreError};

/// The pipe's number in the supervisor.
pub const NOTIFY_FD: i32 = 3;
/// Longest report.
const MOST: u64 = 4096;

/// Why no supervisor runs.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// Log directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// `open` of its log, `pipe`, `fork`, `exec`, `wait`
    #[error("start the supervisor")]
    Start(#[source] io::Error),
    /// It said why.
    #[error("the supervisor could not start: {0}")]
    Refused(String),
    /// It ended without a word.
    #[error("the supervisor ended before it listened: see {log}")]
    Silent {
        /// Where it may have said more.
        log: String,
    },
    /// `setsid`, `fork`
    #[error("become a background process")]
    Detach(#[source] nix::Error),
}

/// Starts the supervisor and waits until its sockets are bound; returns the port on 127.0.0.1.
///
/// # Errors
/// [`LaunchError`]
pub fn launch(spec: &ClusterSpec) -> Result<u16, LaunchError> {
    store::make_dir(&spec.log_dir())?;
    let log = open_log(spec, "supervisor").map_err(LaunchError::Start)?;
    let errors = log.try_clone().map_err(LaunchError::Start)?;
    let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| LaunchError::Start(errno.into()))?;
    let mut command = own_command();
    command
        .args(["internal", "supervisor", "--name", &spec.name])
        .arg("--state-dir")
        .arg(&spec.state_dir)
        .current_dir("/")
        // Neither the caller's terminal settings nor its secrets are a daemon's business.
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .envs(std::env::vars_os().filter(|(name, _)| name == "RUST_LOG" || name == "RUST_BACKTRACE"))
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .fd_mappings(vec![FdMapping {
            parent_fd: write,
            child_fd: NOTIFY_FD,
        }])
        .map_err(|collision| LaunchError::Start(io::Error::other(collision)))?;
    let mut first = command.spawn().map_err(LaunchError::Start)?;
    // The command holds the pipe's other end, and with it open we would wait for ourselves.
    drop(command);
    first.wait().map_err(LaunchError::Start)?;
    read_report(read, spec)
}

fn read_report(read: OwnedFd, spec: &ClusterSpec) -> Result<u16, LaunchError> {
    let mut report = String::new();
    File::from(read)
        .take(MOST)
        .read_to_string(&mut report)
        .map_err(LaunchError::Start)?;
    if let Some(port) = report
        .trim()
        .strip_prefix("listening ")
        .and_then(|port| port.parse().ok())
    {
        return Ok(port);
    }
    match report.trim().strip_prefix("error: ") {
        Some(reason) => Err(LaunchError::Refused(reason.to_owned())),
        None => Err(LaunchError::Silent {
            log: spec.log_dir().join("supervisor.log").display().to_string(),
        }),
    }
}

/// Who a process is after [`detach`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detached {
    /// One that has nothing more to do.
    Parent,
    /// The background process.
    Daemon,
}

/// In the supervisor: moves to a session of its own, without leading it, so that no terminal can become its own.
///
/// # Errors
/// [`LaunchError::Detach`]
pub fn detach() -> Result<Detached, LaunchError> {
    for last in [false, true] {
        // SAFETY: no other thread has been started, so the child may do anything.
        match unsafe { fork() }.map_err(LaunchError::Detach)? {
            ForkResult::Parent { .. } => return Ok(Detached::Parent),
            ForkResult::Child if !last => setsid().map_err(LaunchError::Detach).map(drop)?,
            ForkResult::Child => {}
        }
    }
    Ok(Detached::Daemon)
}
