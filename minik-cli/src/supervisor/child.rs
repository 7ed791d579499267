//! The supervisor's children: which there are, how each is started, when it is due again.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use nix::sys::signal::SigSet;
use nix::unistd::Pid;

use super::backoff::Backoff;
use super::sockets::{SocketError, Sockets};
use crate::cluster::ClusterSpec;

/// First inherited descriptor of the `sd_listen_fds(3)` protocol.
pub const FIRST_LISTEN_FD: i32 = 3;

/// What a child is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// API server and control plane.
    ApiServer,
    /// The agent of that node.
    Agent(String),
}

/// One child, running or about to.
#[derive(Debug)]
pub struct Child {
    /// What it is.
    pub role: Role,
    /// While it runs.
    pub pid: Option<Pid>,
    /// When it is to be started; `None` while it runs.
    pub due: Option<Instant>,
    started: Instant,
    backoff: Backoff,
}

/// Why a child could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// Its log.
    #[error("open the log of {child}")]
    Log {
        /// Child.
        child: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// Its listening sockets.
    #[error(transparent)]
    Sockets(#[from] SocketError),
    /// Two sockets were to get one number.
    #[error("pass listening sockets to {child}")]
    Pass {
        /// Child.
        child: String,
        /// Cause.
        #[source]
        source: command_fds::FdMappingCollision,
    },
    /// `fork`, `exec`
    #[error("start {child}")]
    Start {
        /// Child.
        child: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
}

impl Role {
    /// As logs and `minik status` name it.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::ApiServer => "apiserver".to_owned(),
            Self::Agent(node) => format!("agent-{node}"),
        }
    }
}

impl Child {
    /// A child that is due at once.
    #[must_use]
    pub fn new(role: Role, now: Instant) -> Self {
        Self {
            role,
            pid: None,
            due: Some(now),
            started: now,
            backoff: Backoff::default(),
        }
    }

    /// Starts it.
    ///
    /// # Errors
    /// [`SpawnError`]
    pub fn spawn(&mut self, spec: &ClusterSpec, sockets: &Sockets, now: Instant) -> Result<(), SpawnError> {
        let name = self.role.name();
        let log = open_log(spec, &name).map_err(|source| SpawnError::Log {
            child: name.clone(),
            source,
        })?;
        let errors = log.try_clone().map_err(|source| SpawnError::Log {
            child: name.clone(),
            source,
        })?;
        let mut command = own_command();
        command.arg("internal").stdin(Stdio::null()).stdout(log).stderr(errors);
        match &self.role {
            Role::ApiServer => {
                command.arg("apiserver");
                let fds = sockets.duplicate()?;
                command
                    .env("LISTEN_FDS", fds.len().to_string())
                    .env("LISTEN_FDNAMES", sockets.names());
                let mappings = (FIRST_LISTEN_FD..)
                    .zip(fds)
                    .map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd })
                    .collect();
                command.fd_mappings(mappings).map_err(|source| SpawnError::Pass {
                    child: name.clone(),
                    source,
                })?;
            }
            Role::Agent(node) => {
                command.args(["agent", "--node", node]);
            }
        }
        command
            .args(["--name", &spec.name])
            .arg("--state-dir")
            .arg(&spec.state_dir);
        // The signals that we take by descriptor are blocked here, and a blocked signal stays so over exec.
        // SAFETY: between fork and exec it makes one system call and allocates nothing.
        unsafe { command.pre_exec(|| SigSet::empty().thread_set_mask().map_err(io::Error::from)) };
        let child = command
            .spawn()
            .map_err(|source| SpawnError::Start { child: name, source })?;
        self.pid = Some(Pid::from_raw(child.id().cast_signed()));
        self.started = now;
        self.due = None;
        Ok(())
    }

    /// Notes that it is not there, and when it is due again; returns the delay.
    pub fn ended(&mut self, now: Instant) -> Duration {
        self.pid = None;
        let delay = self.backoff.after(now.saturating_duration_since(self.started));
        self.due = Some(now + delay);
        // A start that fails did not live.
        self.started = now;
        delay
    }
}

/// This program again.
pub fn own_command() -> Command {
    match std::env::current_exe() {
        Ok(path) if path.exists() => Command::new(path),
        // Its file was replaced, by a new build say; the link still leads to the one that runs.
        _ => Command::new("/proc/self/exe"),
    }
}

/// `STATE/log/NAME.log`, appended to.
pub fn open_log(spec: &ClusterSpec, name: &str) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(spec.log_dir().join(format!("{name}.log")))
}
