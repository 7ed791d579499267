//! The taint eviction controller: Pods leave nodes whose `NoExecute` taints they do not tolerate, or no longer.
//!
//! Reads Pods and nodes from the shared caches; [`decide`] says when. A Pod of a node that is down stays Terminating until
//! its agent is back or somebody deletes it by force: nobody else can tell that its containers have ended.

mod decide;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::cache::Key;
use super::context::Context;
use super::error::{ReconcileError, is_conflict, is_not_found};
use super::pod::{is_finished, is_terminating, node_name};
use super::queue::{Queue, drive};
use super::recorder::{Note, Recorder, Severity};
use super::write;
use decide::{Stay, drives_off, stay};

/// Pods worked on at a time.
const WORKERS: usize = 8;

/// The controller; see the module's documentation.
pub struct TaintEviction {
    context: Arc<Context>,
    recorder: Recorder,
    queue: Arc<Queue<Key>>,
    /// Pods whose time is running.
    counted: Mutex<BTreeSet<Key>>,
}

impl TaintEviction {
    /// A controller that learns of changes from now on.
    pub fn new(context: Arc<Context>) -> Self {
        let queue: Arc<Queue<Key>> = Arc::default();
        let (own, all) = (queue.clone(), context.clone());
        context.nodes.on_change(move |change| {
            let taints = |node: &Option<Arc<Node>>| node.as_ref().map(|node| driving(node)).unwrap_or_default();
            let Some(node) = change.latest().filter(|_| taints(&change.old) != taints(&change.new)) else {
                return;
            };
            let name = node.name_any();
            let pods = all.pods.snapshot();
            let here = pods.iter().filter(|pod| node_name(pod) == Some(&name));
            here.for_each(|pod| own.add(Key::of(&**pod)));
        });
        let (own, all) = (queue.clone(), context.clone());
        context.pods.on_change(move |change| {
            let Some(pod) = &change.new else { return };
            let asks = |pod: &Pod| {
                pod.spec
                    .as_ref()
                    .map(|spec| (spec.node_name.clone(), spec.tolerations.clone()))
            };
            let same = change.old.as_ref().is_some_and(|old| asks(old) == asks(pod));
            let node = node_name(pod).and_then(|node| all.nodes.get(&Key::new("", node)));
            if !same && node.is_some_and(|node| !driving(&node).is_empty()) {
                own.add(Key::of(&**pod));
            }
        });
        Self {
            recorder: context.recorder.component("taint-eviction-controller", None),
            context,
            queue,
            counted: Mutex::default(),
        }
    }

    /// Works until dropped.
    pub async fn run(&self) {
        self.context.nodes.synced().await;
        self.context.pods.synced().await;
        drive(&self.queue, WORKERS, |key| self.reconcile(key)).await;
    }

    async fn reconcile(&self, key: Key) -> Result<(), ReconcileError> {
        let now = Timestamp::now();
        let pod = self
            .context
            .pods
            .get(&key)
            .filter(|pod| !is_finished(pod) && !is_terminating(pod));
        let Some(pod) = pod else {
            self.counted().remove(&key);
            return Ok(());
        };
        let node = node_name(&pod).and_then(|node| self.context.nodes.get(&Key::new("", node)));
        let taints = node.map(|node| driving(&node)).unwrap_or_default();
        let tolerations = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.tolerations.clone())
            .unwrap_or_default();
        match stay(&taints, &tolerations, now) {
            Stay::Forever => {
                if self.counted().remove(&key) {
                    self.tell(&pod, format!("Cancelling deletion of Pod {key}"), now);
                }
                Ok(())
            }
            Stay::For(left) => {
                self.counted().insert(key.clone());
                self.queue.add_after(key, left);
                Ok(())
            }
            Stay::Over => {
                self.counted().remove(&key);
                self.tell(&pod, format!("Marking for deletion Pod {key}"), now);
                self.evict(&pod, now).await
            }
        }
    }

    async fn evict(&self, pod: &Pod, now: Timestamp) -> Result<(), ReconcileError> {
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "lastTransitionTime": now.to_string(), "observedGeneration": pod.metadata.generation,
        });
        let patch = json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [condition]}});
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), &pod.namespace().unwrap_or_default());
        match api
            .patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(patch))
            .await
        {
            Err(error) if !is_not_found(&error) && !is_conflict(&error) => Err(ReconcileError::UpdateStatus {
                what: write::what(pod),
                source: error,
            }),
            _ => write::delete(&self.context.client, pod).await,
        }
    }

    fn tell(&self, pod: &Pod, message: String, now: Timestamp) {
        let note = Note {
            severity: Severity::Normal,
            reason: "TaintManagerEviction",
            message,
        };
        self.recorder.record(pod, note, now);
    }

    fn counted(&self) -> std::sync::MutexGuard<'_, BTreeSet<Key>> {
        // A panic while the lock is held leaves at worst a cancellation untold.
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The node's taints that drive Pods off.
fn driving(node: &Node) -> Vec<Taint> {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.filter(|taint| drives_off(taint)).cloned().collect()
}
