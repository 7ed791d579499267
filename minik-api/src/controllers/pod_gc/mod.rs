//! The Pod garbage collector: removes Pods of nodes that are gone, Pods that go on nodes that are out of service, and the
//! oldest of too many finished ones.
//!
//! Reads Pods and nodes from the shared caches; [`decide`] says which. Everything else about a Pod's end is the kubelet's.

mod decide;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;

use super::cache::Key;
use super::context::Context;
use super::error::{ReconcileError, found, is_conflict, is_not_found};
use super::pod::{is_finished, node_name};
use super::queue::{Queue, drive};
use super::write;
use decide::{Fate, fate};

/// Finished Pods beyond these are removed, the oldest first (`--terminated-pod-gc-threshold`).
const FINISHED: usize = 12_500;
/// Pods worked on at a time.
const WORKERS: usize = 8;

/// The controller; see the module's documentation.
pub struct PodCollector {
    context: Arc<Context>,
    queue: Arc<Queue<Key>>,
    /// Nodes that Pods name and that are missing, since when.
    missing: Mutex<BTreeMap<String, Timestamp>>,
}

impl PodCollector {
    /// A controller that learns of changes from now on.
    pub fn new(context: Arc<Context>) -> Self {
        let queue: Arc<Queue<Key>> = Arc::default();
        let (own, all) = (queue.clone(), context.clone());
        context.nodes.on_change(move |change| {
            let taints = |node: &Option<Arc<Node>>| node.as_ref().and_then(|node| node.spec.as_ref()?.taints.clone());
            if change.new.is_some() && taints(&change.old) == taints(&change.new) {
                return;
            }
            let name = change.latest().map(|node| node.name_any());
            let pods = all.pods.snapshot();
            let here = pods.iter().filter(|pod| node_name(pod) == name.as_deref());
            here.for_each(|pod| own.add(Key::of(&**pod)));
        });
        let own = queue.clone();
        context.pods.on_change(move |change| {
            let Some(pod) = &change.new else { return };
            let state = |pod: &Pod| {
                let node = node_name(pod).map(ToOwned::to_owned);
                (node, pod.metadata.deletion_timestamp.clone(), is_finished(pod))
            };
            if change.old.as_ref().is_none_or(|old| state(old) != state(pod)) {
                own.add(Key::of(&**pod));
            }
        });
        Self {
            context,
            queue,
            missing: Mutex::default(),
        }
    }

    /// Works until dropped.
    pub async fn run(&self) {
        self.context.nodes.synced().await;
        self.context.pods.synced().await;
        drive(&self.queue, WORKERS, |key| self.reconcile(key)).await;
    }

    async fn reconcile(&self, key: Key) -> Result<(), ReconcileError> {
        let Some(pod) = self.context.pods.get(&key) else {
            return Ok(());
        };
        let now = Timestamp::now();
        let node = node_name(&pod).and_then(|node| self.context.nodes.get(&Key::new("", node)));
        match fate(
            &pod,
            node.as_deref(),
            self.missing_since(&pod, node.is_some(), now),
            now,
        ) {
            Fate::Stay if is_finished(&pod) && self.is_one_too_many(&pod) => self.remove(&pod).await,
            Fate::Stay => Ok(()),
            Fate::Wait(left) => {
                self.queue.add_after(key, left);
                Ok(())
            }
            Fate::Lost => {
                if self.has_node(&pod).await? {
                    return Ok(());
                }
                self.fail(&pod, now).await?;
                self.remove(&pod).await
            }
            Fate::Gone => self.remove(&pod).await,
        }
    }

    fn missing_since(&self, pod: &Pod, there: bool, now: Timestamp) -> Option<Timestamp> {
        let name = node_name(pod)?;
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        if there {
            missing.remove(name);
            return None;
        }
        Some(*missing.entry(name.to_owned()).or_insert(now))
    }

    fn is_one_too_many(&self, pod: &Pod) -> bool {
        let pods = self.context.pods.snapshot();
        let finished = || pods.iter().filter(|other| is_finished(other));
        let excess = finished().count().saturating_sub(FINISHED);
        let age = |pod: &Pod| (pod.metadata.creation_timestamp.clone().map(|time| time.0), Key::of(pod));
        let own = age(pod);
        excess > 0 && finished().filter(|other| age(other) < own).count() < excess
    }

    /// Whether the server has the Pod's node after all: the cache of nodes may lag behind that of Pods.
    async fn has_node(&self, pod: &Pod) -> Result<bool, ReconcileError> {
        let name = node_name(pod).unwrap_or_default();
        let api: Api<Node> = Api::all(self.context.client.clone());
        let live = found(api.get(name).await);
        live.map(|node| node.is_some()).map_err(|source| ReconcileError::Read {
            what: format!("Node {name}"),
            source,
        })
    }

    async fn fail(&self, pod: &Pod, now: Timestamp) -> Result<(), ReconcileError> {
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
            "message": "PodGC: node no longer exists",
            "lastTransitionTime": now.to_string(), "observedGeneration": pod.metadata.generation,
        });
        let mut status = json!({"conditions": [condition]});
        if !is_finished(pod) {
            status["phase"] = "Failed".into();
        }
        let patch = json!({"metadata": {"uid": pod.uid()}, "status": status});
        match self
            .api(pod)
            .patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(patch))
            .await
        {
            Err(source) if !is_not_found(&source) => Err(ReconcileError::UpdateStatus {
                what: write::what(pod),
                source,
            }),
            _ => Ok(()),
        }
    }

    /// At once: there is nobody who could let it end in its own time.
    async fn remove(&self, pod: &Pod) -> Result<(), ReconcileError> {
        let params = DeleteParams::default().grace_period(0).preconditions(Preconditions {
            uid: pod.uid(),
            resource_version: None,
        });
        match self.api(pod).delete(&pod.name_any(), &params).await {
            Err(source) if !is_not_found(&source) && !is_conflict(&source) => Err(ReconcileError::Delete {
                what: write::what(pod),
                source,
            }),
            _ => Ok(()),
        }
    }

    fn api(&self, pod: &Pod) -> Api<Pod> {
        Api::namespaced(self.context.client.clone(), &pod.namespace().unwrap_or_default())
    }
}
