//! What `minik up --foreground` does once the cluster runs: waits for the end of the cluster, or of its own time.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::Context;
use sd_notify::NotifyState;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cluster::names;
use crate::processes::pidfd_open;
use crate::store::{RunLock, WhenBusy, supervisor_runs};
use crate::supervisor::report;

/// Why the wait is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// Told to end, or the cluster was taken down.
    Stop,
    /// The supervisor and its standby have died together.
    Lost,
}

/// How long a supervisor may take to report itself.
const REPORT: Duration = Duration::from_millis(50);

/// Tells systemd, if it is that which waits (`sd_notify(3)`), that the cluster is up.
pub fn ready() {
    if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
        eprintln!("warning: tell the service manager that the cluster is up: {error}");
    }
}

/// What ends the wait. Made once: a signal that comes between two waits is kept for the next.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes SIGTERM and SIGINT from now on. Needs a tokio runtime.
    ///
    /// # Errors
    /// That of `sigaction`.
    pub fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("listen for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("listen for SIGINT")?,
        })
    }
}

/// Waits for a signal, or the cluster's end.
///
/// # Errors
/// When the supervisor cannot be waited for.
pub async fn attend(cluster: &str, signals: &mut Signals) -> anyhow::Result<Leave> {
    loop {
        let supervisor = hold(cluster).context("find the supervisor")?;
        tokio::select! {
            _ = signals.terminate.recv() => return Ok(Leave::Stop),
            _ = signals.interrupt.recv() => return Ok(Leave::Stop),
            ended = ended(supervisor) => ended.context("wait for the supervisor")?,
        }
        // Another may be at work already.
        if !supervisor_runs(cluster) {
            // If it is being taken down, that is to be finished first.
            let lock = RunLock::acquire(cluster, WhenBusy::Wait)?;
            let taken_down = !names::state_link(cluster).exists();
            lock.release();
            return Ok(if taken_down { Leave::Stop } else { Leave::Lost });
        }
    }
}

/// The supervisor at work, or the standby that is about to be it, held; `None` if there is none.
fn hold(cluster: &str) -> io::Result<Option<OwnedFd>> {
    let Some(report) = report::read(&report::path(cluster))? else {
        return Ok(None);
    };
    for pid in [Some(report.pid), report.standby].into_iter().flatten() {
        match pidfd_open(pid) {
            Ok(supervisor) => return Ok(Some(supervisor)),
            Err(nix::Error::ESRCH) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(None)
}

async fn ended(supervisor: Option<OwnedFd>) -> io::Result<()> {
    let Some(supervisor) = supervisor else {
        // Nobody to wait for: one that has taken over writes its report within milliseconds.
        tokio::time::sleep(REPORT).await;
        return Ok(());
    };
    // SAFETY: the descriptor is owned, and closed only when the `AsyncFd`, which it moves into, is done with it.
    let supervisor = unsafe { AsyncFd::register_with_interest(supervisor, Interest::READABLE) }?;
    supervisor.readable().await.map(drop)
}
