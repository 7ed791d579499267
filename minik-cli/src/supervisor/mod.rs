//! The one process that outlives the others of a cluster: holds the listening sockets, starts the API server
//! and the agents, starts them again when they end, and reaps what is orphaned below them.
//!
//! It is single-threaded, runs no async runtime and owns no data path: when it dies, children, Pods and
//! connections go on. It never parses what it does not need and never touches a Pod.

mod backoff;
mod child;
pub mod launch;
mod logs;
mod sockets;

pub use child::FIRST_LISTEN_FD;
pub use sockets::API_PORT;

use std::fs::File;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::cluster::ClusterSpec;
use crate::store::{self, StoreError};
use child::{Child, Role};
use logs::Logs;
use sockets::{SocketError, Sockets};

/// How long children may take to stop before they are killed.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// Lock, directories.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another one lives.
    #[error("cluster {0:?} has a supervisor already")]
    Twice(String),
    /// Listening.
    #[error(transparent)]
    Sockets(#[from] SocketError),
    /// `inotify`
    #[error("watch the logs")]
    Logs(#[source] std::io::Error),
    /// `prctl`, `sigprocmask`, `signalfd`
    #[error("set up signals and reaping")]
    Signals(#[source] nix::Error),
    /// `poll`, `read`
    #[error("wait for events")]
    Wait(#[source] nix::Error),
}

/// A supervisor with everything it needs in hand.
pub struct Supervisor<'a> {
    spec: &'a ClusterSpec,
    sockets: Sockets,
    signals: SignalFd,
    logs: Logs,
    children: Vec<Child>,
    /// Says that we live.
    _lock: File,
}

impl<'a> Supervisor<'a> {
    /// Binds every socket and takes charge of signals and orphans. Starts nothing yet.
    ///
    /// # Errors
    /// [`SupervisorError`]
    pub fn prepare(spec: &'a ClusterSpec) -> Result<Self, SupervisorError> {
        let lock = store::hold_supervisor_lock(&spec.name)?.ok_or_else(|| SupervisorError::Twice(spec.name.clone()))?;
        set_child_subreaper(true).map_err(SupervisorError::Signals)?;
        let mut mask = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD] {
            mask.add(signal);
        }
        mask.thread_block().map_err(SupervisorError::Signals)?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map_err(SupervisorError::Signals)?;
        let logs = Logs::watch(&spec.log_dir()).map_err(SupervisorError::Logs)?;
        let sockets = Sockets::bind(spec)?;
        let roles =
            std::iter::once(Role::ApiServer).chain(spec.nodes.iter().map(|node| Role::Agent(node.name.clone())));
        let now = Instant::now();
        let children = roles.map(|role| Child::new(role, now)).collect();
        Ok(Self {
            spec,
            sockets,
            signals,
            logs,
            children,
            _lock: lock,
        })
    }

    /// The bound port on 127.0.0.1.
    #[must_use]
    pub fn loopback_port(&self) -> u16 {
        self.sockets.loopback_port
    }

    /// Runs until SIGTERM or SIGINT, then stops the children.
    ///
    /// # Errors
    /// [`SupervisorError::Wait`]; a child that cannot be started is logged and tried again, not an error.
    pub fn run(mut self) -> Result<(), SupervisorError> {
        self.watch_over()?;
        self.stop()
    }

    /// Starts what is due and reaps what ended, until told to stop.
    fn watch_over(&mut self) -> Result<(), SupervisorError> {
        loop {
            let now = Instant::now();
            for child in &mut self.children {
                if child.due.is_some_and(|due| due <= now)
                    && let Err(error) = child.spawn(self.spec, &self.sockets, now)
                {
                    let delay = child.ended(now);
                    log(&format!("{}; again in {delay:?}", crate::errors::chain(&error)));
                }
            }
            let next = self.children.iter().filter_map(|child| child.due).min();
            if self.wait(next)? {
                return Ok(());
            }
        }
    }

    /// Waits for a signal, a log line or the deadline; true if it is time to stop.
    fn wait(&mut self, deadline: Option<Instant>) -> Result<bool, SupervisorError> {
        let timeout = deadline.map_or(PollTimeout::NONE, |deadline| {
            // Rounded up, or the last fraction of a millisecond would be spent spinning.
            let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = [
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.logs.fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(errno) => return Err(SupervisorError::Wait(errno)),
        }
        if let Err(error) = self.logs.trim() {
            log(&format!("trim the logs: {error}"));
        }
        let mut stop = false;
        while let Some(signal) = self.signals.read_signal().map_err(SupervisorError::Wait)? {
            stop |= signal.ssi_signo != Signal::SIGCHLD as u32;
        }
        self.reap();
        Ok(stop)
    }

    /// Takes the exit status of everything that ended: our children, and orphans that became ours.
    fn reap(&mut self) {
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            let (pid, how) = match status {
                WaitStatus::Exited(pid, code) => (pid, format!("exited with code {code}")),
                WaitStatus::Signaled(pid, signal, _) => (pid, format!("was killed by {signal}")),
                WaitStatus::StillAlive => return,
                _ => continue,
            };
            if let Some(child) = self.children.iter_mut().find(|child| child.pid == Some(pid)) {
                let delay = child.ended(Instant::now());
                log(&format!("{} {how}; due again in {delay:?}", child.role.name()));
            }
        }
    }

    /// Agents first, so that each can still tell the API server; then the API server. Pods live on.
    fn stop(&mut self) -> Result<(), SupervisorError> {
        self.stop_where(|role| matches!(role, Role::Agent(_)))?;
        self.stop_where(|role| *role == Role::ApiServer)?;
        self.sockets.unlink();
        Ok(())
    }

    fn stop_where(&mut self, chosen: impl Fn(&Role) -> bool) -> Result<(), SupervisorError> {
        let deadline = Instant::now() + STOP_GRACE;
        self.signal(&chosen, Signal::SIGTERM);
        let mut killed = false;
        while self.running(&chosen).next().is_some() {
            self.wait((!killed).then_some(deadline))?;
            if !killed && Instant::now() >= deadline {
                self.signal(&chosen, Signal::SIGKILL);
                killed = true;
            }
        }
        Ok(())
    }

    fn running<'b>(&'b self, chosen: &'b impl Fn(&Role) -> bool) -> impl Iterator<Item = (&'b Child, Pid)> {
        self.children
            .iter()
            .filter(move |child| chosen(&child.role))
            .filter_map(|child| child.pid.map(|pid| (child, pid)))
    }

    fn signal(&self, chosen: &impl Fn(&Role) -> bool, signal: Signal) {
        for (child, pid) in self.running(chosen) {
            // Ours and not reaped yet, so the number cannot have gone to another process.
            if let Err(errno) = kill(pid, signal) {
                log(&format!("send {signal} to {}: {errno}", child.role.name()));
            }
        }
    }
}

/// Its standard error is its log.
fn log(message: &str) {
    eprintln!("supervisor: {message}");
}
