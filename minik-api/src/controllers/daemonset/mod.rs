//! The daemonset controller: one Pod on every node that a DaemonSet is for.
//!
//! Reads DaemonSets, Pods, ControllerRevisions and nodes from the shared caches, decides in [`plan`],
//! creates and deletes Pods and writes revisions and the status. Binds no Pod: each asks the scheduler for
//! its node by name.

mod placement;
mod plan;
mod rest;
mod rollout;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;
use tokio::time::Instant;

use super::cache::{Cache, Change, Key};
use super::context::Context;
use super::controller_ref::{Owner, claim_objects, follow, follow_owned};
use super::error::ReconcileError;
use super::history::{Recorded, record};
use super::pod;
use super::pod_control::PodControl;
use super::queue::{Queue, drive};
use super::recorder::Severity;
use super::write;
use plan::{Plan, View, decide};
use rest::Rest;

/// DaemonSets worked on at a time.
const WORKERS: usize = 4;

/// The controller; see the module's documentation.
pub struct DaemonSetController {
    context: Arc<Context>,
    queue: Arc<Queue<Key>>,
    pods: PodControl,
    rest: Arc<Rest>,
}

impl Owner for DaemonSet {
    fn cache(context: &Context) -> &Arc<Cache<Self>> {
        &context.daemon_sets
    }

    fn selector(&self) -> LabelSelector {
        self.spec.as_ref().map(|spec| spec.selector.clone()).unwrap_or_default()
    }
}

impl DaemonSetController {
    /// A controller that learns of changes from now on.
    pub fn new(context: Arc<Context>) -> Self {
        let (queue, rest): (Arc<Queue<Key>>, Arc<Rest>) = Default::default();
        // Before the queue hears of a Pod, so that what was expected is struck out by then.
        let pods = PodControl::new::<DaemonSet>(&context, "daemonset-controller");
        let resting = rest.clone();
        context.daemon_sets.on_change(move |change| {
            if let (Some(old), None) = (&change.old, &change.new) {
                resting.forget(&old.uid().unwrap_or_default());
            }
        });
        follow::<DaemonSet>(&context, &queue);
        follow_owned::<DaemonSet, Pod>(&context, &context.pods, &queue);
        follow_owned::<DaemonSet, ControllerRevision>(&context, &context.revisions, &queue);
        let (all, sets) = (queue.clone(), context.daemon_sets.clone());
        context.nodes.on_change(move |change| {
            if matters(change) {
                sets.snapshot().iter().for_each(|set| all.add(Key::of(&**set)));
            }
        });
        Self {
            context,
            queue,
            pods,
            rest,
        }
    }

    /// Works until dropped.
    pub async fn run(&self) {
        self.context.daemon_sets.synced().await;
        self.context.pods.synced().await;
        self.context.revisions.synced().await;
        self.context.nodes.synced().await;
        drive(&self.queue, WORKERS, |key| self.reconcile(key)).await;
    }

    async fn reconcile(&self, key: Key) -> Result<(), ReconcileError> {
        let going = |set: &Arc<DaemonSet>| set.metadata.deletion_timestamp.is_some();
        let Some(set) = self.context.daemon_sets.get(&key).filter(|set| !going(set)) else {
            return Ok(());
        };
        if self.refuse_empty_selector(&set) {
            return Ok(());
        }
        let settled = self.pods.settled(&*set);
        let (client, snapshot) = (&self.context.client, self.context.pods.snapshot());
        let candidates = snapshot.in_namespace(&key.namespace);
        let pods = claim_objects(client, &*set, candidates).await?;
        let revisions = self.context.revisions.snapshot();
        let revisions = claim_objects(client, &*set, revisions.in_namespace(&key.namespace)).await?;
        let nodes: Vec<_> = self.context.nodes.snapshot().iter().cloned().collect();
        let failed = pods.iter().filter(|pod| pod::phase(pod) == "Failed");
        let failed = failed.filter_map(|pod| placement::target(pod));
        let resting = self
            .rest
            .resting(&set.uid().unwrap_or_default(), failed, Instant::now());
        let plan = decide(&View {
            set: &set,
            pods: &pods,
            revisions: &revisions,
            nodes: &nodes,
            resting: &resting.nodes,
            settled,
            now: Timestamp::now(),
        })
        .map_err(|source| ReconcileError::Serialise {
            what: write::what(&*set),
            source,
        })?;
        let delays = [plan.recheck, resting.until];
        if let Some(delay) = delays.into_iter().flatten().min() {
            self.queue.add_after(key, delay);
        }
        self.apply(&set, plan).await
    }

    fn refuse_empty_selector(&self, set: &DaemonSet) -> bool {
        let empty = set.selector() == LabelSelector::default();
        if empty {
            let message = "This daemon set is selecting all pods. A non-empty selector is required.".into();
            self.pods.note(set, Severity::Warning, "SelectingAll", message);
        }
        empty
    }

    async fn apply(&self, set: &DaemonSet, plan: Plan) -> Result<(), ReconcileError> {
        let client = &self.context.client;
        // Its going is on the way, and with it a status that nobody will read.
        if !plan.create.is_empty() && !write::is_living(client, set).await? {
            return Ok(());
        }
        if record(client, set, &plan.update).await? == Recorded::Collision {
            let mut collided = set.clone();
            let status = collided.status.get_or_insert_default();
            status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
            return write::update_status(client, &collided).await.map(|_| ());
        }
        for note in plan.notes {
            self.pods.note(set, note.severity, note.reason, note.message);
        }
        let failed = plan.delete.iter().filter(|pod| pod::phase(pod) == "Failed");
        let nodes = failed.filter_map(|pod| placement::target(pod));
        self.rest.begin(&set.uid().unwrap_or_default(), nodes, Instant::now());
        let undeleted = self.pods.delete(set, &plan.delete).await;
        let uncreated = self.pods.create(set, &plan.create).await;
        if set.status.as_ref() != Some(&plan.status) {
            let changed = DaemonSet {
                status: Some(plan.status),
                ..set.clone()
            };
            write::update_status(client, &changed).await?;
        }
        for revision in plan.obsolete {
            write::delete(client, &*revision).await?;
        }
        undeleted.or(uncreated).map_or(Ok(()), |(_, error)| Err(error))
    }
}

/// Whether a change of a node may change which Pods should be there; its heartbeats do not.
fn matters(change: &Change<Node>) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else {
        return true;
    };
    old.metadata.labels != new.metadata.labels || old.spec != new.spec
}
