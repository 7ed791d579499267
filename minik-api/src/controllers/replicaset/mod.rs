//! The replicaset controller: keeps as many Pods as a ReplicaSet asks for.
//!
//! Reads ReplicaSets and Pods from the shared caches, decides in [`plan`], creates and deletes Pods
//! and writes the ReplicaSet's status. Finished Pods do not count and are not touched.

mod expectations;
mod plan;
mod rank;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use kube::{Resource, ResourceExt};
use tokio::time::Instant;

use super::cache::{Change, Key};
use super::context::Context;
use super::error::{ReconcileError, server_message};
use super::owner::{Matcher, adopted, claim, controller_of, controller_reference, is_controlled_by, released};
use super::queue::{Queue, drive};
use super::recorder::{Note, Recorder, Severity};
use super::{pod, write};
use expectations::Expectations;
use plan::{Action, Failure, View, decide, new_pod, recheck, slow_start, status};

/// ReplicaSets worked on at a time.
const WORKERS: usize = 8;

/// The controller; see the module's documentation.
pub struct ReplicaSetController {
    context: Arc<Context>,
    recorder: Recorder,
    queue: Arc<Queue<Key>>,
    expectations: Arc<Mutex<Expectations>>,
}

impl ReplicaSetController {
    /// A controller that learns of changes from now on.
    pub fn new(context: Arc<Context>) -> Self {
        let queue = Arc::new(Queue::default());
        let expectations = Arc::new(Mutex::new(Expectations::default()));
        let (own, open) = (queue.clone(), expectations.clone());
        context.replica_sets.on_change(move |change| {
            if let (Some(old), None) = (&change.old, &change.new) {
                lock(&open).forget(&old.uid().unwrap_or_default());
            }
            change
                .latest()
                .into_iter()
                .for_each(|replica_set| own.add(Key::of(&**replica_set)));
        });
        let (owners, open, all) = (queue.clone(), expectations.clone(), context.clone());
        context.pods.on_change(move |change| {
            strike(&mut lock(&open), change);
            for pod in change.states() {
                let namespace = pod.namespace().unwrap_or_default();
                match controller_of(&pod.metadata) {
                    Some(owner) if owner.kind == "ReplicaSet" => owners.add(Key::new(namespace, &owner.name)),
                    Some(_) => {}
                    None => {
                        let sets = all.replica_sets.snapshot();
                        let wants = |set: &&Arc<ReplicaSet>| matcher(set).is_ok_and(|m| m.matches(&**pod));
                        sets.in_namespace(&namespace)
                            .filter(wants)
                            .for_each(|set| owners.add(Key::of(&**set)));
                    }
                }
            }
        });
        let recorder = context.recorder.component("replicaset-controller", None);
        Self {
            context,
            recorder,
            queue,
            expectations,
        }
    }

    /// Works until dropped.
    pub async fn run(&self) {
        self.context.replica_sets.synced().await;
        self.context.pods.synced().await;
        drive(&self.queue, WORKERS, |key| self.reconcile(key)).await;
    }

    async fn reconcile(&self, key: Key) -> Result<(), ReconcileError> {
        let Some(replica_set) = self.context.replica_sets.get(&key) else {
            return Ok(());
        };
        let uid = replica_set.uid().unwrap_or_default();
        // Asked before the snapshot is taken: what was seen by now is in it.
        let settled = lock(&self.expectations).satisfied(&uid, Instant::now());
        let pods = self.claim(&replica_set).await?;
        let related = self.related(&replica_set);
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
            Action::Create(_) if !write::is_living(&self.context.client, &*replica_set).await? => return Ok(()),
            Action::Create(count) => (true, self.create_pods(&replica_set, count).await),
            Action::Delete(pods) => (true, self.delete_pods(&replica_set, &pods).await),
        };
        if let Some(delay) = recheck(&view) {
            self.queue.add_after(key.clone(), delay);
        }
        let wanted = status(&view, acted, failure.as_ref().map(|(failure, _)| failure));
        if replica_set.status.as_ref() != Some(&wanted) {
            let changed = ReplicaSet {
                status: Some(wanted),
                ..ReplicaSet::clone(&replica_set)
            };
            write::update_status(&self.context.client, &changed).await?;
        }
        failure.map_or(Ok(()), |(_, error)| Err(error))
    }

    async fn claim(&self, replica_set: &ReplicaSet) -> Result<Vec<Arc<Pod>>, ReconcileError> {
        let selector = matcher(replica_set)?;
        let namespace = replica_set.namespace().unwrap_or_default();
        let snapshot = self.context.pods.snapshot();
        let living = snapshot
            .in_namespace(&namespace)
            .filter(|p| controller_of(&p.metadata).is_some() || pod::is_active(p));
        let claims = claim(&replica_set.metadata, &selector, living);
        let mut owned = claims.owned;
        for orphan in claims.adopt {
            let owners = adopted(&orphan.metadata, controller_reference(replica_set));
            owned.push(Arc::new(
                write::set_owners(&self.context.client, &*orphan, &owners).await?,
            ));
        }
        for stranger in claims.release {
            let owners = released(&stranger.metadata, &replica_set.uid().unwrap_or_default());
            write::set_owners(&self.context.client, &*stranger, &owners).await?;
        }
        Ok(owned)
    }

    /// The Pods of every ReplicaSet that has the same controller.
    fn related(&self, replica_set: &ReplicaSet) -> Vec<Arc<Pod>> {
        let namespace = replica_set.namespace().unwrap_or_default();
        let owner = controller_of(&replica_set.metadata).map(|owner| owner.uid.clone());
        let sets = self.context.replica_sets.snapshot();
        let same_owner = |set: &&Arc<ReplicaSet>| match &owner {
            Some(owner) => is_controlled_by(&set.metadata, owner),
            None => set.metadata.uid == replica_set.metadata.uid,
        };
        let uids: BTreeSet<_> = sets
            .in_namespace(&namespace)
            .filter(same_owner)
            .filter_map(|set| set.uid())
            .collect();
        let pods = self.context.pods.snapshot();
        let belongs = |pod: &&Arc<Pod>| controller_of(&pod.metadata).is_some_and(|owner| uids.contains(&owner.uid));
        pods.in_namespace(&namespace).filter(belongs).cloned().collect()
    }

    async fn create_pods(&self, replica_set: &ReplicaSet, count: usize) -> Option<(Failure, ReconcileError)> {
        let uid = replica_set.uid().unwrap_or_default();
        let pod = new_pod(replica_set);
        lock(&self.expectations).expect(&uid, count, BTreeSet::new(), Instant::now());
        let mut left = count;
        for batch in slow_start(count) {
            let results = join_all((0..batch).map(|_| write::create(&self.context.client, &pod))).await;
            left -= batch;
            let mut failed = None;
            for result in results {
                match result {
                    Ok(pod) => {
                        let message = format!("Created pod: {}", pod.name_any());
                        self.note(replica_set, Severity::Normal, "SuccessfulCreate", message);
                    }
                    Err(error) => {
                        lock(&self.expectations).created(&uid);
                        failed = Some(error);
                    }
                }
            }
            if let Some(error) = failed {
                (0..left).for_each(|_| {
                    lock(&self.expectations).created(&uid);
                });
                return Some(self.failed(replica_set, "FailedCreate", "Error creating", error));
            }
        }
        None
    }

    async fn delete_pods(&self, replica_set: &ReplicaSet, pods: &[Arc<Pod>]) -> Option<(Failure, ReconcileError)> {
        let uid = replica_set.uid().unwrap_or_default();
        let going = pods.iter().filter_map(|pod| pod.uid()).collect();
        lock(&self.expectations).expect(&uid, 0, going, Instant::now());
        let results = join_all(pods.iter().map(|pod| write::delete(&self.context.client, &**pod))).await;
        let mut failed = None;
        for (pod, result) in pods.iter().zip(results) {
            match result {
                Ok(()) => {
                    let message = format!("Deleted pod: {}", pod.name_any());
                    self.note(replica_set, Severity::Normal, "SuccessfulDelete", message);
                }
                Err(error) => {
                    lock(&self.expectations).deleted(&uid, &pod.uid().unwrap_or_default());
                    failed = Some(error);
                }
            }
        }
        failed.map(|error| self.failed(replica_set, "FailedDelete", "Error deleting", error))
    }

    fn failed(
        &self,
        replica_set: &ReplicaSet,
        reason: &'static str,
        prefix: &str,
        error: ReconcileError,
    ) -> (Failure, ReconcileError) {
        let message = match &error {
            ReconcileError::Create { source, .. } | ReconcileError::Delete { source, .. } => server_message(source),
            other => other.to_string(),
        };
        self.note(replica_set, Severity::Warning, reason, format!("{prefix}: {message}"));
        (Failure { reason, message }, error)
    }

    fn note(&self, replica_set: &ReplicaSet, severity: Severity, reason: &'static str, message: String) {
        self.recorder.record(
            replica_set,
            Note {
                severity,
                reason,
                message,
            },
            Timestamp::now(),
        );
    }
}

fn matcher(replica_set: &ReplicaSet) -> Result<Matcher, ReconcileError> {
    let selector = replica_set
        .spec
        .as_ref()
        .map(|spec| spec.selector.clone())
        .unwrap_or_default();
    Matcher::new(&selector).map_err(|source| ReconcileError::Selector {
        what: write::what(replica_set),
        source,
    })
}

fn lock(expectations: &Mutex<Expectations>) -> MutexGuard<'_, Expectations> {
    expectations.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Strikes out what this change shows: a Pod that appeared, or one that has begun to go.
fn strike(open: &mut Expectations, change: &Change<Pod>) {
    let Some(pod) = change.latest() else { return };
    let Some(owner) = controller_of(pod.meta()) else { return };
    if change.old.is_none() {
        open.created(&owner.uid);
    }
    if change.new.as_ref().is_none_or(|pod| pod::is_terminating(pod)) {
        open.deleted(&owner.uid, &pod.uid().unwrap_or_default());
    }
}
