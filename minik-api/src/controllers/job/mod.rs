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
#[cfg(test)]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

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
use plan::{Plan, View, decide};
use pods::{TRACKING, is_tracked};
pub use ttl::TtlController;

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
    released: Arc<Released>,
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

/// The Pods, by Job, whose finalizers have come off and that the cache still shows with them.
#[derive(Default)]
struct Released(Mutex<BTreeMap<String, BTreeSet<String>>>);

impl Released {
    fn with<T>(&self, f: impl FnOnce(&mut BTreeMap<String, BTreeSet<String>>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn of(&self, job: &Job) -> BTreeSet<String> {
        self.with(|all| all.get(&job.uid().unwrap_or_default()).cloned().unwrap_or_default())
    }

    fn add(&self, job: &Job, pod: &Pod) {
        let (job, pod) = (job.uid().unwrap_or_default(), pod.uid().unwrap_or_default());
        self.with(|all| all.entry(job).or_default().insert(pod));
    }

    fn remove(&self, job: &str, pod: &Pod) {
        self.with(|all| {
            if let Some(pods) = all.get_mut(job) {
                pods.remove(&pod.uid().unwrap_or_default());
                if pods.is_empty() {
                    all.remove(job);
                }
            }
        });
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
            released: Arc::default(),
        };
        controller.watch_pods();
        controller.watch_jobs();
        controller
    }

    fn watch_pods(&self) {
        let (released, orphans, jobs) = (self.released.clone(), self.orphans.clone(), self.context.jobs.clone());
        self.context.pods.on_change(move |change| {
            let Some(pod) = change.latest() else { return };
            let owner = controller_of(&pod.metadata).filter(|owner| owner.kind == "Job");
            let tracked = change.new.as_ref().is_some_and(|pod| is_tracked(pod));
            if let Some(owner) = owner.filter(|_| !tracked) {
                released.remove(&owner.uid, pod);
            }
            if tracked && !has_job(&jobs, pod) {
                orphans.add(Key::of(&**pod));
            }
        });
        follow_owned::<Job, Pod>(&self.context, &self.context.pods, &self.queue);
    }

    fn watch_jobs(&self) {
        let (latest, released) = (self.latest.clone(), self.released.clone());
        let (orphans, pods) = (self.orphans.clone(), self.context.pods.clone());
        self.context.jobs.on_change(move |change| {
            let Some(job) = change.old.as_ref().filter(|_| change.new.is_none()) else {
                return;
            };
            let uid = job.uid().unwrap_or_default();
            latest.forget(&**job);
            released.with(|all| all.remove(&uid));
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
        let released = self.released.of(&job);
        let snapshot = self.context.pods.snapshot();
        let candidates = snapshot.in_namespace(&key.namespace);
        let pods = claim_objects(&self.context.client, &*job, candidates).await?;
        let plan = decide(&View {
            job: &job,
            pods: &pods,
            settled,
            released: &released,
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
        self.release(job, &plan.discard).await?;
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
        self.release(job, &plan.release).await?;
        failed.map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Takes the finalizers off Pods that are counted, or will not be.
    async fn release(&self, job: &Job, pods: &[Arc<Pod>]) -> Result<(), ReconcileError> {
        let release = |pod: Arc<Pod>| async move {
            self.released.add(job, &pod);
            let result = write::remove_finalizer(&self.context.client, &*pod, TRACKING).await;
            if result.is_err() {
                self.released.remove(&job.uid().unwrap_or_default(), &pod);
            }
            result
        };
        let results = join_all(pods.iter().cloned().map(release)).await;
        results.into_iter().collect()
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
