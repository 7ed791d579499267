//! The one loop that every reconciler runs in: coalesce changes, retry with back-off, resync, publish status.
//!
//! A [`Reconciler`] observes, plans and applies; it cannot fail, only report. The loop is
//! level-triggered: it always hands over the newest desired state, so a lost event costs nothing.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Why a pass runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Desired state changed: write what differs from what was applied last.
    Changed,
    /// Resync, first pass, or the pass after a failure: observe the kernel again and mend.
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
pub fn spawn<R: Reconciler>(
    _reconciler: R,
    _desired: watch::Receiver<Option<Arc<R::Desired>>>,
    _timing: Timing,
    _shutdown: CancellationToken,
) -> watch::Receiver<Status> {
    todo!()
}
