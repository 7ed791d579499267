//! The node lifecycle controller: notices nodes that have fallen silent, says so in their conditions, taints nodes as their
//! conditions ask, and takes readiness from the Pods of those that are lost.
//!
//! Reads nodes, Leases and Pods from the shared caches; [`health`] and [`taints`] decide. A node is looked at when it or its
//! Lease changes, and at the moment its grace ends: nothing is polled. Pods are driven off by `taint_eviction`.

mod health;
mod taints;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, Taint};
use kube::api::{Api, Patch, PatchParams};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use super::cache::Key;
use super::context::Context;
use super::error::{ReconcileError, is_conflict, is_not_found};
use super::pod::{is_finished, node_name, ready_condition};
use super::queue::{Queue, drive};
use super::recorder::{Note, Recorder, Severity};
use health::{Judgement, Sign, is_ready, judge, sign};
use taints::{disruption, wanted};

/// Where nodes renew their Leases.
const LEASES: &str = "kube-node-lease";
/// Nodes worked on at a time.
const WORKERS: usize = 4;

/// What is remembered of a node.
struct Known {
    sign: Sign,
    ready: bool,
}

/// The controller; see the module's documentation.
pub struct NodeLifecycle {
    context: Arc<Context>,
    recorder: Recorder,
    queue: Arc<Queue<Key>>,
    known: Mutex<BTreeMap<String, Known>>,
}

impl NodeLifecycle {
    /// A controller that learns of changes from now on.
    pub fn new(context: Arc<Context>) -> Self {
        let queue: Arc<Queue<Key>> = Arc::default();
        let (own, all) = (queue.clone(), context.clone());
        context.nodes.on_change(move |change| {
            own.add(Key::new(
                "",
                change.latest().map(|node| node.name_any()).unwrap_or_default(),
            ));
            let ready = |node: &Option<Arc<Node>>| node.as_ref().map(|node| is_ready(node));
            // How many are lost decides about each.
            if ready(&change.old) != ready(&change.new) {
                all.nodes.snapshot().iter().for_each(|node| own.add(Key::of(&**node)));
            }
        });
        let own = queue.clone();
        context.leases.on_change(move |change| {
            let renewed = change
                .new
                .as_ref()
                .filter(|lease| lease.namespace().as_deref() == Some(LEASES));
            renewed
                .into_iter()
                .for_each(|lease| own.add(Key::new("", lease.name_any())));
        });
        let (own, all) = (queue.clone(), context.clone());
        context.pods.on_change(move |change| {
            let Some(node) = change.new.as_ref().and_then(|pod| node_name(pod)) else {
                return;
            };
            let key = Key::new("", node);
            if all.nodes.get(&key).is_some_and(|node| !is_ready(&node)) {
                own.add(key);
            }
        });
        Self {
            recorder: context.recorder.component("node-controller", None),
            context,
            queue,
            known: Mutex::default(),
        }
    }

    /// Works until dropped.
    pub async fn run(&self) {
        self.context.nodes.synced().await;
        self.context.leases.synced().await;
        self.context.pods.synced().await;
        drive(&self.queue, WORKERS, |key| self.reconcile(key)).await;
    }

    async fn reconcile(&self, key: Key) -> Result<(), ReconcileError> {
        let now = Timestamp::now();
        let Some(node) = self.context.nodes.get(&key) else {
            self.known
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&key.name);
            return Ok(());
        };
        match judge(&node, &self.look(&node, now), Instant::now(), now) {
            Judgement::Alive(left) => self.queue.add_after(key.clone(), left),
            Judgement::KnownSilent => {}
            // The change comes back by the watch, and the rest follows then.
            Judgement::Silent(conditions) => return self.set_conditions(&node, &conditions).await,
        }
        let nodes = self.context.nodes.snapshot();
        let all: Vec<&Node> = nodes.iter().map(|node| &**node).collect();
        let disruption = disruption(&node, &all);
        if let Some(taints) = wanted(&node, disruption, now) {
            self.set_taints(&node, &taints).await?;
        }
        if is_ready(&node) {
            return Ok(());
        }
        let pods = self.context.pods.snapshot();
        let here = pods
            .iter()
            .filter(|pod| node_name(pod) == Some(&key.name) && !is_finished(pod));
        for pod in here {
            self.unready(pod, now).await?;
        }
        Ok(())
    }

    /// The node's last sign of life; tells of a node that is new, or was ready and is not.
    fn look(&self, node: &Arc<Node>, now: Timestamp) -> Sign {
        let name = node.name_any();
        let lease = self.context.leases.get(&Key::new(LEASES, &name));
        let ready = is_ready(node);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.get(&name);
        let sign = sign(before.map(|known| &known.sign), node, lease.as_deref(), Instant::now());
        let tell = |reason: &'static str, message: String| {
            let note = Note {
                severity: Severity::Normal,
                reason,
                message,
            };
            self.recorder.record(&**node, note, now);
        };
        match before {
            None => tell(
                "RegisteredNode",
                format!("Node {name} event: Registered Node {name} in Controller"),
            ),
            Some(before) if before.ready && !ready => {
                tell("NodeNotReady", format!("Node {name} status is now: NodeNotReady"));
            }
            Some(_) => {}
        }
        let remembered = Known {
            sign: sign.clone(),
            ready,
        };
        known.insert(name, remembered);
        sign
    }

    async fn set_conditions(&self, node: &Node, conditions: &[NodeCondition]) -> Result<(), ReconcileError> {
        let patch = json!({"metadata": {"uid": node.uid()}, "status": {"conditions": conditions}});
        let api: Api<Node> = Api::all(self.context.client.clone());
        let result = api
            .patch_status(&node.name_any(), &PatchParams::default(), &Patch::Strategic(patch))
            .await;
        accepted(node, result)
    }

    /// Taints are one list that others write too: only over the version that was read.
    async fn set_taints(&self, node: &Node, taints: &[Taint]) -> Result<(), ReconcileError> {
        let taints = Some(taints).filter(|taints| !taints.is_empty());
        let patch = json!({
            "metadata": {"uid": node.uid(), "resourceVersion": node.resource_version()},
            "spec": {"taints": taints},
        });
        let api: Api<Node> = Api::all(self.context.client.clone());
        let result = api
            .patch(&node.name_any(), &PatchParams::default(), &Patch::Merge(patch))
            .await;
        accepted(node, result)
    }

    /// A Pod that nobody can vouch for is not ready.
    async fn unready(&self, pod: &Pod, now: Timestamp) -> Result<(), ReconcileError> {
        let Some(ready) = ready_condition(pod).filter(|condition| condition.status == "True") else {
            return Ok(());
        };
        let mut condition: Value = serde_json::to_value(ready).map_err(|source| ReconcileError::Serialise {
            what: "a condition".to_owned(),
            source,
        })?;
        condition["status"] = "False".into();
        condition["lastTransitionTime"] = now.to_string().into();
        let patch = json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [condition]}});
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), &pod.namespace().unwrap_or_default());
        let result = api
            .patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(patch))
            .await;
        accepted(pod, result)?;
        let note = Note {
            severity: Severity::Warning,
            reason: "NodeNotReady",
            message: "Node is not ready".to_owned(),
        };
        self.recorder.record(pod, note, now);
        Ok(())
    }
}

/// An object that is gone by now needs nothing.
fn accepted<K: Resource<DynamicType = ()>>(object: &K, result: Result<K, kube::Error>) -> Result<(), ReconcileError> {
    match result {
        Err(source) if is_not_found(&source) => Ok(()),
        Err(source) if is_conflict(&source) => Err(ReconcileError::Update {
            what: super::write::what(object),
            source,
        }),
        Err(source) => Err(ReconcileError::UpdateStatus {
            what: super::write::what(object),
            source,
        }),
        Ok(_) => Ok(()),
    }
}
