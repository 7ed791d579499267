//! The replicaset and replication controllers: keep as many Pods as a ReplicaSet or a
//! ReplicationController asks for.
//!
//! Reads these and Pods from the shared caches, decides in [`plan`], creates and deletes Pods
//! and writes the object's status. Finished Pods do not count and are not touched.

mod kinds;
mod plan;

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use kube::ResourceExt;

use super::cache::Key;
use super::context::Context;
use super::controller_ref::{claim_objects, follow, follow_owned};
use super::error::ReconcileError;
use super::owner::{controller_of, is_controlled_by};
use super::pod_control::{PodControl, from_template};
use super::queue::{Queue, drive};
use super::{pod, write};
use kinds::Replicated;
use plan::{Action, View, decide, recheck, status};

/// Objects worked on at a time.
const WORKERS: usize = 8;

/// The controller of ReplicaSets.
pub type ReplicaSetController = Controller<ReplicaSet>;
/// The controller of ReplicationControllers.
pub type ReplicationControllerController = Controller<ReplicationController>;

/// The controller of one of the kinds; see the module's documentation.
pub struct Controller<K> {
    context: Arc<Context>,
    queue: Arc<Queue<Key>>,
    pods: PodControl,
    kind: std::marker::PhantomData<fn() -> K>,
}

impl<K: Replicated> Controller<K> {
    /// A controller that learns of changes from now on.
    pub fn new(context: Arc<Context>) -> Self {
        let queue = Arc::new(Queue::default());
        // Before the queue hears of a Pod, so that what was expected is struck out by then.
        let pods = PodControl::new::<K>(&context, K::COMPONENT);
        follow::<K>(&context, &queue);
        follow_owned::<K, Pod>(&context, &context.pods, &queue);
        Self {
            context,
            queue,
            pods,
            kind: std::marker::PhantomData,
        }
    }

    /// Works until dropped.
    pub async fn run(&self) {
        K::cache(&self.context).synced().await;
        self.context.pods.synced().await;
        drive(&self.queue, WORKERS, |key| self.reconcile(key)).await;
    }

    async fn reconcile(&self, key: Key) -> Result<(), ReconcileError> {
        let Some(owner) = K::cache(&self.context).get(&key) else {
            return Ok(());
        };
        let settled = self.pods.settled(&*owner);
        let snapshot = self.context.pods.snapshot();
        let living = snapshot
            .in_namespace(&key.namespace)
            .filter(|p| controller_of(&p.metadata).is_some() || pod::is_active(p));
        let pods = claim_objects(&self.context.client, &*owner, living).await?;
        let related = self.related(&owner);
        let replica_set = owner.as_replica_set();
        let view = View {
            replica_set: &replica_set,
            pods: &pods,
            related: &related,
            settled,
            now: Timestamp::now(),
        };
        let (acted, failure) = match decide(&view) {
            Action::Nothing => (settled, None),
            // Its going is on the way, and with it a status that nobody will read.
            Action::Create(_) if !write::is_living(&self.context.client, &*owner).await? => return Ok(()),
            Action::Create(count) => {
                let template = replica_set.spec.as_ref().and_then(|spec| spec.template.clone());
                let pod = from_template(&*owner, &template.unwrap_or_default());
                (true, self.pods.create(&*owner, &vec![pod; count]).await)
            }
            Action::Delete(pods) => (true, self.pods.delete(&*owner, &pods).await),
        };
        if let Some(delay) = recheck(&view) {
            self.queue.add_after(key.clone(), delay);
        }
        let wanted = status(&view, acted, failure.as_ref().map(|(failure, _)| failure));
        let changed = owner.with_status(wanted);
        if replica_set.status != changed.as_replica_set().status {
            write::update_status(&self.context.client, &changed).await?;
        }
        failure.map_or(Ok(()), |(_, error)| Err(error))
    }

    /// The Pods of every object that has the same controller.
    fn related(&self, owner: &K) -> Vec<Arc<Pod>> {
        let namespace = owner.namespace().unwrap_or_default();
        let above = controller_of(owner.meta()).map(|above| above.uid.clone());
        let all = K::cache(&self.context).snapshot();
        let same_owner = |other: &&Arc<K>| match &above {
            Some(above) => is_controlled_by(other.meta(), above),
            None => other.meta().uid == owner.meta().uid,
        };
        let uids: BTreeSet<_> = all
            .in_namespace(&namespace)
            .filter(same_owner)
            .filter_map(|other| other.uid())
            .collect();
        let pods = self.context.pods.snapshot();
        let belongs = |pod: &&Arc<Pod>| controller_of(&pod.metadata).is_some_and(|owner| uids.contains(&owner.uid));
        pods.in_namespace(&namespace).filter(belongs).cloned().collect()
    }
}
