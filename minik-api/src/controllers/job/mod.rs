//! The job controller: Pods that run to their end, as often as a Job asks for; and, in [`ttl`], the
//! controller that deletes Jobs some time after theirs.
//!
//! Reads Jobs and Pods from the shared caches, decides in [`plan`], creates and deletes Pods, takes
//! their finalizers off once they are counted, and writes the Job's status. Decides on no older copy of a
//! Job than the one it wrote, since that holds the counts.

mod backoff;
mod conditions;
mod indexes;
mod manage;
mod plan;
mod pods;
mod policy;
mod tally;
mod ttl;
mod view;
#[cfg(test)]
mod world;

use std::sync::Arc;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;
use tokio::join;

use super::cache::{Cache, Key};
use super::context::Context;
use super::controller_ref::{Owner, claim_objects, follow, follow_owned};
use super::error::ReconcileError;
use super::latest::Latest;
use super::owner::{controller_of, is_controlled_by};
use super::pod_control::PodControl;
use super::queue::{Queue, drive};
use super::write;
pub use conditions::finished;
use plan::{Plan, decide};
use pods::{TRACKING, is_tracked};
pub use ttl::TtlController;
use view::View;

/// Jobs, and Pods that lost theirs, worked on at a time.
const WORKERS: usize = 8;
/// The only value of `spec.managedBy` that means this controller.
const MANAGER: &str = "kubernetes.io/job-controller";

/// The controller; see the module's documentation.
pub struct JobController {
    context: Arc<Context>,
    queue: Arc<Queue<Key>>,
    /// Pods that still carry the finalizer of a Job that is gone.
    orphans: Arc<Queue<Key>>,
    pods: PodControl,
    latest: Arc<Latest>,
}

impl Owner for Job {
    fn cache(context: &Context) -> &Arc<Cache<Self>> {
        &context.jobs
    }

    fn selector(&self) -> LabelSelector {
        let selector = self.spec.as_ref().and_then(|spec| spec.selector.clone());
        selector.unwrap_or_default()
    }
}

impl JobController {
    /// A controller that learns of changes from now on.
    pub fn new(context: Arc<Context>) -> Self {
        let controller = Self {
            pods: PodControl::new::<Job>(&context, "job-controller"),
            context,
            queue: Arc::default(),
            orphans: Arc::default(),
            latest: Arc::default(),
        };
        controller.watch_pods();
        controller.watch_jobs();
        controller
    }

    fn watch_pods(&self) {
        let (orphans, jobs) = (self.orphans.clone(), self.context.jobs.clone());
        self.context.pods.on_change(move |change| {
            let tracked = change.new.as_ref().filter(|pod| is_tracked(pod));
            let lost = tracked.filter(|pod| !has_job(&jobs, pod));
            lost.into_iter().for_each(|pod| orphans.add(Key::of(&**pod)));
        });
        follow_owned::<Job, Pod>(&self.context, &self.context.pods, &self.queue);
    }

    fn watch_jobs(&self) {
        let (latest, orphans, pods) = (self.latest.clone(), self.orphans.clone(), self.context.pods.clone());
        self.context.jobs.on_change(move |change| {
            let Some(job) = change.old.as_ref().filter(|_| change.new.is_none()) else {
                return;
            };
            let uid = job.uid().unwrap_or_default();
            latest.forget(&**job);
            let (snapshot, namespace) = (pods.snapshot(), job.namespace().unwrap_or_default());
            let left = snapshot.in_namespace(&namespace);
            left.filter(|pod| is_tracked(pod) && is_controlled_by(&pod.metadata, &uid))
                .for_each(|pod| orphans.add(Key::of(&**pod)));
        });
        follow::<Job>(&self.context, &self.queue);
    }

    /// Works until dropped.
    pub async fn run(&self) {
        self.context.jobs.synced().await;
        self.context.pods.synced().await;
        join!(
            drive(&self.queue, WORKERS, |key| self.reconcile(key)),
            drive(&self.orphans, WORKERS, |key| self.let_go(key)),
        );
    }

    async fn reconcile(&self, key: Key) -> Result<(), ReconcileError> {
        let Some(job) = self.context.jobs.get(&key) else {
            return Ok(());
        };
        let manager = job.spec.as_ref().and_then(|spec| spec.managed_by.as_deref());
        // An older copy is followed by the newer one, and with it by another pass.
        if manager.is_some_and(|manager| manager != MANAGER) || !self.latest.is_shown(&*job) {
            return Ok(());
        }
        let settled = self.pods.settled(&*job);
        let snapshot = self.context.pods.snapshot();
        let candidates = snapshot.in_namespace(&key.namespace);
        let pods = claim_objects(&self.context.client, &*job, candidates).await?;
        let plan = decide(&View {
            job: &job,
            pods: &pods,
            settled,
            now: Timestamp::now(),
        });
        // Its going is on the way, and with it a status that nobody will read.
        if !plan.create.is_empty() && !write::is_living(&self.context.client, &*job).await? {
            return Ok(());
        }
        if let Some(delay) = plan.recheck {
            self.queue.add_after(key, delay);
        }
        self.apply(&job, plan).await
    }

    async fn apply(&self, job: &Job, plan: Plan) -> Result<(), ReconcileError> {
        let mut status = plan.status;
        self.release(&plan.discard).await?;
        let going: Vec<_> = plan.discard.into_iter().chain(plan.delete).collect();
        if let Some((_, error)) = self.pods.delete(job, &going).await {
            return Err(error);
        }
        let failed = self.pods.create(job, &plan.create).await;
        if let Some((failure, _)) = &failed {
            let missing = i32::try_from(failure.count).unwrap_or(i32::MAX);
            status.active = status
                .active
                .map(|active| active - missing)
                .filter(|active| *active > 0);
        }
        if job.status.as_ref() != Some(&status) {
            let changed = Job {
                status: Some(status),
                ..job.clone()
            };
            let written = write::update_status(&self.context.client, &changed).await?;
            self.latest.wrote(&written);
        }
        for note in plan.notes {
            self.pods.note(job, note.severity, note.reason, note.message);
        }
        self.release(&plan.release).await?;
        failed.map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Takes the finalizers off Pods that are counted, or will not be.
    async fn release(&self, pods: &[Arc<Pod>]) -> Result<(), ReconcileError> {
        let client = &self.context.client;
        let releases = pods.iter().map(|pod| write::remove_finalizer(client, &**pod, TRACKING));
        join_all(releases).await.into_iter().collect()
    }

    /// Lets a Pod go that nobody will count.
    async fn let_go(&self, key: Key) -> Result<(), ReconcileError> {
        match self.context.pods.get(&key) {
            Some(pod) if is_tracked(&pod) && !has_job(&self.context.jobs, &pod) => {
                write::remove_finalizer(&self.context.client, &*pod, TRACKING).await
            }
            _ => Ok(()),
        }
    }
}

fn has_job(jobs: &Cache<Job>, pod: &Pod) -> bool {
    let Some(owner) = controller_of(&pod.metadata).filter(|owner| owner.kind == "Job") else {
        return false;
    };
    let job = jobs.get(&Key::new(pod.namespace().unwrap_or_default(), &owner.name));
    job.is_some_and(|job| job.uid().as_deref() == Some(&owner.uid))
}
