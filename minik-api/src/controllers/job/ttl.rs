//! The ttl-after-finished controller: deletes a Job, and what it owns, some time after it has ended.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;

use super::conditions::finished;
use crate::controllers::cache::Key;
use crate::controllers::context::Context;
use crate::controllers::controller_ref::follow;
use crate::controllers::error::ReconcileError;
use crate::controllers::queue::{Queue, drive};
use crate::controllers::write;

/// The controller; see the module's documentation.
pub struct TtlController {
    context: Arc<Context>,
    queue: Arc<Queue<Key>>,
}

impl TtlController {
    /// A controller that learns of changes from now on.
    pub fn new(context: Arc<Context>) -> Self {
        let queue = Arc::default();
        follow::<Job>(&context, &queue);
        Self { context, queue }
    }

    /// Works until dropped.
    pub async fn run(&self) {
        self.context.jobs.synced().await;
        drive(&self.queue, 1, |key| self.reconcile(key)).await;
    }

    async fn reconcile(&self, key: Key) -> Result<(), ReconcileError> {
        let Some(job) = self.context.jobs.get(&key) else {
            return Ok(());
        };
        match left(&job, Timestamp::now()) {
            None => Ok(()),
            Some(Duration::ZERO) => write::delete_with_dependents(&self.context.client, &*job).await,
            Some(left) => {
                self.queue.add_after(key, left);
                Ok(())
            }
        }
    }
}

/// How long the Job may stay; `None` for ever, or because it goes already.
fn left(job: &Job, now: Timestamp) -> Option<Duration> {
    let ttl = job.spec.as_ref()?.ttl_seconds_after_finished?;
    let ended = finished(job)?.last_transition_time.as_ref()?.0;
    if job.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let allowed = Duration::from_secs(u64::try_from(ttl).unwrap_or(0));
    let age = Duration::try_from(now.duration_since(ended)).unwrap_or_default();
    Some(allowed.saturating_sub(age))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::batch::v1::{JobSpec, JobStatus};

    #[test]
    fn only_an_ended_job_with_a_ttl_goes_and_not_before_its_time() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut job = Job {
            spec: Some(JobSpec::default()),
            ..Job::default()
        };
        let mut status = JobStatus::default();
        crate::controllers::job::conditions::set(&mut status, "Complete", true, ("", ""), at(100));
        job.status = Some(status);
        assert_eq!(left(&job, at(200)), None);
        job.spec.as_mut().unwrap().ttl_seconds_after_finished = Some(60);
        assert_eq!(left(&job, at(110)), Some(Duration::from_secs(50)));
        assert_eq!(left(&job, at(160)), Some(Duration::ZERO));
        job.status = None;
        assert_eq!(left(&job, at(160)), None);
    }
}
