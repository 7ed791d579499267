//! The one loop that every reconciler runs in: coalesce changes, retry with back-off, resync, publish status.
//!
//! A [`Reconciler`] observes, plans and applies; it cannot fail, only report. The loop is
//! level-triggered: it always hands over the newest desired state, so a lost event costs nothing.

pub mod fabric;
pub mod host_ports;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Why a pass runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Desired state changed: write what differs from what was applied last.
    Changed,
    /// Resync, first pass, or the pass after a failure or disturbance: observe the kernel again and mend.
    Full,
}

/// How a pass ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The kernel is as desired.
    Synced,
    /// Something could not be done; the loop tries again after a back-off. The text is the error chain.
    Failed(String),
}

impl Outcome {
    /// A failure told by its whole chain of causes, outermost first.
    #[must_use]
    pub fn failed(error: &dyn std::error::Error) -> Self {
        let chain = std::iter::successors(Some(error), |error| error.source());
        Self::Failed(chain.map(ToString::to_string).collect::<Vec<_>>().join(": "))
    }
}

/// What a reconciler last reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Number of finished passes; 0 before the first.
    pub passes: u64,
    /// How the last pass ended; `None` before the first.
    pub outcome: Option<Outcome>,
}

/// Brings one concern of the kernel to its desired state.
pub trait Reconciler: Send + 'static {
    /// Desired state, immutable.
    type Desired: Send + Sync + 'static;

    /// For logs: `service-proxy`, `fabric`.
    fn name(&self) -> &'static str;

    /// One pass. Never panics, never blocks the runtime's threads.
    fn reconcile(&mut self, desired: Arc<Self::Desired>, pass: Pass) -> impl Future<Output = Outcome> + Send;

    /// Ends when other hands have changed the kernel, which makes a full pass due. Must lose nothing when it is
    /// cancelled. One that cannot tell never ends.
    fn disturbed(&mut self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
}

/// When passes run.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// A full pass at least this often.
    pub resync: Duration,
    /// First delay after a failure; doubles up to `retry_max`.
    pub retry_min: Duration,
    /// Longest delay after a failure.
    pub retry_max: Duration,
}

/// Runs `reconciler` until `shutdown`, on every change of `desired` and as `timing` says. `None` means that
/// the caches have not synced: nothing is touched until they have.
///
/// Changes that come while a pass runs are one change. A change does not wait for a back-off to end: it may be
/// the cure. A pass that has begun is finished before the loop obeys `shutdown`; the receiver then reports no
/// more. A sender that goes away leaves its last word in force.
pub fn spawn<R: Reconciler>(
    reconciler: R,
    desired: watch::Receiver<Option<Arc<R::Desired>>>,
    timing: Timing,
    shutdown: CancellationToken,
) -> watch::Receiver<Status> {
    let (status, reported) = watch::channel(Status {
        passes: 0,
        outcome: None,
    });
    tokio::spawn(run(
        reconciler,
        desired,
        Schedule::new(timing, Instant::now()),
        shutdown,
        status,
    ));
    reported
}

async fn run<R: Reconciler>(
    mut reconciler: R,
    mut desired: watch::Receiver<Option<Arc<R::Desired>>>,
    mut schedule: Schedule,
    shutdown: CancellationToken,
    status: watch::Sender<Status>,
) {
    desired.mark_changed();
    let mut more_to_come = true;
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            changed = desired.changed(), if more_to_come => more_to_come = changed.is_ok(),
            () = tokio::time::sleep_until(schedule.due) => {}
            () = reconciler.disturbed(), if schedule.back_off.is_none() => schedule.full_due = Instant::now(),
        }
        let Some(goal) = desired.borrow_and_update().clone() else {
            schedule.postpone(Instant::now());
            continue;
        };
        let outcome = reconciler.reconcile(goal, schedule.pass(Instant::now())).await;
        schedule.finished(&outcome, Instant::now());
        if let Outcome::Failed(error) = &outcome {
            let retry_in = schedule.back_off;
            tracing::warn!(reconciler = reconciler.name(), %error, ?retry_in, "pass failed");
        }
        status.send_modify(|status| {
            status.passes += 1;
            status.outcome = Some(outcome);
        });
    }
}

/// When the next pass is due and of which kind it is; told the time, never asks for it.
#[derive(Debug)]
struct Schedule {
    timing: Timing,
    /// When a pass runs though nothing changed.
    due: Instant,
    /// When the next pass observes the kernel, whatever its cause; the past before the first.
    full_due: Instant,
    /// The delay in force; `None` when the last pass succeeded.
    back_off: Option<Duration>,
}

impl Schedule {
    fn new(timing: Timing, now: Instant) -> Self {
        Self {
            timing,
            due: now + timing.resync,
            full_due: now,
            back_off: None,
        }
    }

    fn pass(&mut self, now: Instant) -> Pass {
        if self.back_off.is_some() || now >= self.full_due {
            self.full_due = now + self.timing.resync;
            Pass::Full
        } else {
            Pass::Changed
        }
    }

    fn finished(&mut self, outcome: &Outcome, now: Instant) {
        self.back_off = match outcome {
            Outcome::Synced => None,
            Outcome::Failed(_) => Some(match self.back_off {
                None => self.timing.retry_min,
                Some(last) => (last * 2).min(self.timing.retry_max),
            }),
        };
        self.due = self.back_off.map_or(self.full_due, |delay| now + delay);
    }

    /// There is nothing to bring about yet.
    fn postpone(&mut self, now: Instant) {
        self.due = now + self.timing.resync;
    }
}

#[cfg(test)]
mod tests;
