//! The one process that outlives the others of a cluster: holds the listening sockets, starts the API server
//! and the agents, starts them again when they end, and reaps what is orphaned below them.
//!
//! It is single-threaded, runs no async runtime and owns no data path: when it dies, children, Pods and
//! connections go on, and its [`standby`] goes on in its place with the same sockets and the children it finds. It
//! never parses what it does not need and never touches a Pod.

mod backoff;
mod child;
pub mod launch;
mod logs;
pub mod report;
mod sockets;
mod standby;

pub use child::{FIRST_LISTEN_FD, settle};
pub use sockets::{API_PORT, KUBELET};

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::cluster::ClusterSpec;
use crate::processes::{self, Belonging, pidfd_open, pidfd_signal};
use crate::store::{self, StoreError};
use child::{Child, End, Process, Role};
use logs::Logs;
use report::{ChildReport, Report};
use sockets::{SocketError, Sockets};
use standby::Part;

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
    standby: Option<Pid>,
    /// What was reported last.
    report: Report,
    /// Says that we live; the standby holds it too.
    _lock: File,
}

/// What a run ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Stop,
    /// Only this process's, which was the standby.
    Leave,
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
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD, Signal::SIGHUP] {
            mask.add(signal);
        }
        mask.thread_block().map_err(SupervisorError::Signals)?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map_err(SupervisorError::Signals)?;
        let logs = Logs::watch(&spec.log_dir()).map_err(SupervisorError::Logs)?;
        let sockets = Sockets::bind(spec)?;
        let agents = spec.nodes.iter().map(|node| Role::Agent(node.name.clone()));
        let roles = [Role::ApiServer, Role::Network].into_iter().chain(agents);
        let now = Instant::now();
        let mut supervisor = Self {
            spec,
            sockets,
            signals,
            logs,
            children: roles.map(|role| Child::new(role, now)).collect(),
            standby: None,
            report: Report::default(),
            _lock: lock,
        };
        // What an earlier run reported must not be taken for ours.
        supervisor.tell();
        Ok(supervisor)
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
        match self.watch_over()? {
            Task::Stop => self.stop(),
            Task::Leave => Ok(()),
        }
    }

    /// Starts what is due and reaps what ended, until told to stop.
    fn watch_over(&mut self) -> Result<Task, SupervisorError> {
        loop {
            if self.standby.is_none() && self.stand_by() == Task::Leave {
                return Ok(Task::Leave);
            }
            let now = Instant::now();
            for child in &mut self.children {
                child.rest_if_off(self.spec);
                if child.due.is_some_and(|due| due <= now)
                    && let Err(error) = child.spawn(self.spec, &self.sockets, now)
                {
                    let how = End::Unstarted(crate::errors::chain(&error));
                    let delay = child.ended(&how, now);
                    log(&format!("{} {how}; again in {delay:?}", child.role.name()));
                }
            }
            self.tell();
            let next = self.children.iter().filter_map(|child| child.due).min();
            if self.wait(next)? {
                return Ok(Task::Stop);
            }
        }
    }

    /// Sees to it that there is a standby. In the standby it returns when that is to go on as the supervisor, or to leave.
    fn stand_by(&mut self) -> Task {
        match standby::part(&self.signals) {
            Ok(Part::AtWork(pid)) => self.standby = Some(pid),
            Ok(Part::Heir) => {
                self.standby = None;
                self.take_over();
            }
            Ok(Part::Dismissed) => return Task::Leave,
            // Without one the cluster runs all the same; the next event is the next attempt.
            Err(errno) => log(&format!("keep a standby: {errno}")),
        }
        Task::Stop
    }

    /// In what was the standby: everything is as it was when it was made, but for the children.
    fn take_over(&mut self) {
        if let Err(errno) = set_child_subreaper(true) {
            log(&format!("take orphans: {errno}"));
        }
        let now = Instant::now();
        let mut found = match running_children(&self.spec.name) {
            Ok(found) => found,
            Err(error) => {
                log(&format!("find what runs: {error}"));
                BTreeMap::new()
            }
        };
        let mut adopted = Vec::new();
        for child in &mut self.children {
            match found.remove(&child.role.name()) {
                Some(process) => {
                    adopted.push(child.role.name());
                    child.runs(process, now);
                }
                None => {
                    child.process = None;
                    child.due = Some(now);
                }
            }
        }
        log(&format!(
            "took over from one that died; running: {}",
            adopted.join(", ")
        ));
    }

    /// Waits for a signal, a log line, the end of an adopted child or the deadline; true if it is time to stop.
    fn wait(&mut self, deadline: Option<Instant>) -> Result<bool, SupervisorError> {
        let timeout = deadline.map_or(PollTimeout::NONE, |deadline| {
            // Rounded up, or the last fraction of a millisecond would be spent spinning.
            let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.logs.fd(), PollFlags::POLLIN),
        ];
        let descriptors = self.children.iter().filter_map(|child| child.process.as_ref());
        fds.extend(descriptors.map(|process| PollFd::new(process.descriptor.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(errno) => return Err(SupervisorError::Wait(errno)),
        }
        if let Err(error) = self.logs.trim() {
            log(&format!("trim the logs: {error}"));
        }
        let mut stop = false;
        while let Some(signal) = self.signals.read_signal().map_err(SupervisorError::Wait)? {
            match signal.ssi_signo {
                number if number == Signal::SIGCHLD as u32 => {}
                // A node may have been switched on.
                number if number == Signal::SIGHUP as u32 => self.rouse(),
                _ => stop = true,
            }
        }
        self.reap();
        self.miss();
        Ok(stop)
    }

    /// Makes due what is neither running nor due.
    fn rouse(&mut self) {
        let now = Instant::now();
        let resting = |child: &&mut Child| child.process.is_none() && child.due.is_none();
        self.children
            .iter_mut()
            .filter(resting)
            .for_each(|child| child.due = Some(now));
    }

    /// Takes the exit status of everything that ended: our children, and orphans that became ours.
    fn reap(&mut self) {
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            let (pid, how) = match status {
                WaitStatus::Exited(pid, code) => (pid, End::Exited(code)),
                WaitStatus::Signaled(pid, signal, _) => (pid, End::Signalled(signal)),
                WaitStatus::StillAlive => return,
                _ => continue,
            };
            if self.standby == Some(pid) {
                log(&format!("the standby {how}"));
                self.standby = None;
            }
            let is_it = |child: &&mut Child| child.process.as_ref().is_some_and(|process| process.pid == pid);
            if let Some(child) = self.children.iter_mut().find(is_it) {
                note(child, &how);
            }
        }
    }

    /// Notes the end of children that are not ours to reap.
    fn miss(&mut self) {
        for child in &mut self.children {
            let gone = |process: &Process| has_ended(process).unwrap_or(true);
            if child.process.as_ref().is_some_and(gone) {
                note(child, &End::Unknown);
            }
        }
    }

    /// Writes the report if it is another than the last.
    fn tell(&mut self) {
        let children = self.children.iter().map(|child| {
            let report = ChildReport {
                pid: child.process.as_ref().map(|process| process.pid.as_raw()),
                failures: child.failures,
                last_end: child.last_end.clone(),
            };
            (child.role.name(), report)
        });
        let report = Report {
            pid: nix::unistd::getpid().as_raw(),
            standby: self.standby.map(Pid::as_raw),
            children: children.collect(),
        };
        if report != self.report {
            match report::write(&report::path(&self.spec.name), &report) {
                Ok(()) => self.report = report,
                Err(error) => log(&format!("report: {error}")),
            }
        }
    }

    /// Agents first, so that each can still tell the API server; then the API server. Pods live on.
    fn stop(&mut self) -> Result<(), SupervisorError> {
        self.dismiss();
        self.stop_where(|role| matches!(role, Role::Agent(_) | Role::Network))?;
        self.stop_where(|role| *role == Role::ApiServer)?;
        self.sockets.unlink();
        Ok(())
    }

    /// Ends the standby, which would take our end for a death.
    fn dismiss(&mut self) {
        if let Some(standby) = self.standby.take()
            && let Err(errno) = kill(standby, Signal::SIGKILL).and_then(|()| waitpid(standby, None))
        {
            log(&format!("dismiss the standby: {errno}"));
        }
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

    fn running<'b>(&'b self, chosen: &'b impl Fn(&Role) -> bool) -> impl Iterator<Item = (&'b Child, &'b Process)> {
        self.children
            .iter()
            .filter(move |child| chosen(&child.role))
            .filter_map(|child| Some((child, child.process.as_ref()?)))
    }

    fn signal(&self, chosen: &impl Fn(&Role) -> bool, signal: Signal) {
        for (child, process) in self.running(chosen) {
            if let Err(errno) = pidfd_signal(&process.descriptor, signal) {
                log(&format!("send {signal} to {}: {errno}", child.role.name()));
            }
        }
    }
}

fn note(child: &mut Child, how: &End) {
    let delay = child.ended(how, Instant::now());
    log(&format!("{} {how}; due again in {delay:?}", child.role.name()));
}

fn has_ended(process: &Process) -> nix::Result<bool> {
    let mut fds = [PollFd::new(process.descriptor.as_fd(), PollFlags::POLLIN)];
    Ok(poll(&mut fds, PollTimeout::ZERO)? > 0)
}

/// The cluster's API server and agents, whoever started them, by the name of their role.
fn running_children(cluster: &str) -> std::io::Result<BTreeMap<String, Process>> {
    let internal = |how| match how {
        Belonging::Internal {
            what,
            node,
            fork: false,
        } => Some(node.map_or(what.clone(), |node| format!("{what}-{node}"))),
        Belonging::Internal { fork: true, .. } | Belonging::Inside { .. } => None,
    };
    Ok(processes::of_cluster(cluster)?
        .into_iter()
        .filter_map(|(pid, how)| {
            let descriptor = pidfd_open(pid).ok()?;
            let pid = Pid::from_raw(pid);
            Some((internal(how)?, Process { pid, descriptor }))
        })
        .collect())
}

/// Its standard error is its log. On a full disk a line is lost, and nothing else: `eprintln!` would panic.
fn log(message: &str) {
    writeln!(std::io::stderr(), "supervisor: {message}").ok();
}
