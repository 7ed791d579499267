//! The supervisor's children: which there are, how each is started, when it is due again.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::Pid;

use super::backoff::Backoff;
use super::sockets::{SocketError, Sockets};
use crate::cluster::ClusterSpec;
use crate::power;
use crate::processes::pidfd_open;

/// First inherited descriptor of the `sd_listen_fds(3)` protocol.
pub const FIRST_LISTEN_FD: i32 = 3;

/// What a child is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// API server and control plane.
    ApiServer,
    /// Keeper of the namespaces and the links between them.
    Network,
    /// The agent of that node.
    Agent(String),
}

/// One child, running or about to.
#[derive(Debug)]
pub struct Child {
    /// What it is.
    pub role: Role,
    /// While it runs.
    pub process: Option<Process>,
    /// When it is to be started; `None` while it runs.
    pub due: Option<Instant>,
    /// How often it ended soon after it was started, in a row.
    pub failures: u32,
    /// How it ended last.
    pub last_end: Option<String>,
    started: Instant,
    backoff: Backoff,
}

/// A child that runs, held by descriptor: it may be the child of a supervisor that has died.
#[derive(Debug)]
pub struct Process {
    /// Its number.
    pub pid: Pid,
    /// Readable once it has ended.
    pub descriptor: OwnedFd,
}

/// How a child ended.
#[derive(Debug)]
pub enum End {
    /// On its own.
    Exited(i32),
    /// By a signal.
    Signalled(Signal),
    /// It was the child of another supervisor, which alone could have known.
    Unknown,
    /// It did not even start.
    Unstarted(String),
}

impl End {
    fn is_kill(&self) -> bool {
        matches!(self, Self::Signalled(Signal::SIGKILL) | Self::Unknown)
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited with code {code}"),
            Self::Signalled(signal) => write!(f, "was killed by {signal}"),
            Self::Unknown => write!(f, "ended"),
            Self::Unstarted(why) => write!(f, "could not be started: {why}"),
        }
    }
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
            Self::Network => "network".to_owned(),
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
            process: None,
            due: Some(now),
            failures: 0,
            last_end: None,
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
                pass(&mut command, sockets.of_api_server(), &name)?;
            }
            Role::Network => drop(command.arg("network")),
            Role::Agent(node) => {
                command.args(["agent", "--node", node]);
                pass(&mut command, sockets.of_agent(node), &name)?;
            }
        }
        command
            .args(["--name", &spec.name])
            .arg("--state-dir")
            .arg(&spec.state_dir);
        let parent = nix::unistd::getpid();
        // SAFETY: between fork and exec it makes system calls and allocates nothing.
        unsafe { command.pre_exec(move || become_child(parent)) };
        let failed = |source| SpawnError::Start {
            child: name.clone(),
            source,
        };
        let child = command.spawn().map_err(failed)?;
        let pid = Pid::from_raw(child.id().cast_signed());
        let descriptor = pidfd_open(pid.as_raw()).map_err(|errno| failed(errno.into()))?;
        self.runs(Process { pid, descriptor }, now);
        Ok(())
    }

    /// The agent of a node that is switched off is not due before somebody says so.
    pub fn rest_if_off(&mut self, spec: &ClusterSpec) {
        if let Role::Agent(node) = &self.role
            && self.due.is_some()
            && power::is_off(spec, node)
        {
            self.due = None;
        }
    }

    /// Notes that it runs, whoever started it.
    pub fn runs(&mut self, process: Process, now: Instant) {
        self.process = Some(process);
        self.started = now;
        self.due = None;
    }

    /// Notes that it is not there, why, and when it is due again; returns the delay.
    pub fn ended(&mut self, how: &End, now: Instant) -> Duration {
        self.process = None;
        let lived = now.saturating_duration_since(self.started);
        let delay = self.backoff.after(lived, how.is_kill());
        self.failures = self.backoff.in_a_row();
        self.last_end = Some(how.to_string());
        self.due = Some(now + delay);
        // A start that fails did not live.
        self.started = now;
        delay
    }
}

/// Passes listening sockets on as `sd_listen_fds(3)` has it.
fn pass<'s>(
    command: &mut Command,
    sockets: impl Iterator<Item = (&'s str, BorrowedFd<'s>)>,
    child: &str,
) -> Result<(), SpawnError> {
    let mut names = Vec::new();
    let mut mappings = Vec::new();
    for (child_fd, (name, fd)) in (FIRST_LISTEN_FD..).zip(sockets) {
        let parent_fd = fd.try_clone_to_owned().map_err(SocketError::Duplicate)?;
        names.push(name);
        mappings.push(FdMapping { parent_fd, child_fd });
    }
    command
        .env("LISTEN_FDS", names.len().to_string())
        .env("LISTEN_FDNAMES", names.join(":"));
    let passed = command.fd_mappings(mappings).map(drop);
    passed.map_err(|source| SpawnError::Pass {
        child: child.to_owned(),
        source,
    })
}

/// In the new process, before it runs its program.
fn become_child(parent: Pid) -> io::Result<()> {
    // The signals that we take by descriptor are blocked here, and a blocked signal stays so over exec.
    SigSet::empty().thread_set_mask()?;
    // Until it says by its command line what it is, nobody but its parent knows it; see `settle`.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if nix::unistd::getppid() == parent {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::ESRCH))
    }
}

/// In a child that has begun to run its program: whoever comes after its parent finds it by name, so it lives on.
///
/// # Errors
/// That of `prctl`.
pub fn settle() -> io::Result<()> {
    Ok(prctl::set_pdeathsig(None)?)
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
