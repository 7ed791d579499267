//! A cluster on paper for the scheduler's tests: manifests in, decisions out.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde_json::{Value, json};

use super::decide::Decision;
use super::roster::Roster;
use super::volumes::Volumes;
use crate::controllers::cache::Key;

/// A node with room for ten Pods, four processors and 8 GiB, in `extra` whatever differs.
pub fn node(name: &str, extra: Value) -> Node {
    let mut node = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}},
        "spec": {},
        "status": {
            "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10", "ephemeral-storage": "10Gi"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    });
    merge(&mut node, extra);
    serde_json::from_value(node).unwrap()
}

/// The control-plane node as kubeadm taints it.
pub fn control_plane() -> Node {
    let taint = json!({"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"});
    node("control-plane", json!({"spec": {"taints": [taint]}}))
}

/// A Pod of namespace `default` with one container, in `extra` whatever differs.
pub fn pod(name: &str, extra: Value) -> Pod {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"), "labels": {}},
        "spec": {"containers": [{"name": "c"}], "priority": 0},
    });
    merge(&mut pod, extra);
    serde_json::from_value(pod).unwrap()
}

/// `extra` for a Pod that asks this much.
pub fn asking(cpu: &str) -> Value {
    json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}})
}

/// RFC 7386, which is all the tests need.
pub fn merge(target: &mut Value, patch: Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
        (target, patch) => *target = patch,
    }
}

/// A cluster on paper.
#[derive(Default)]
pub struct Paper {
    pub roster: Roster,
    pub volumes: Volumes,
    pub budgets: Vec<Arc<PodDisruptionBudget>>,
}

impl Paper {
    pub fn of(nodes: &[Node]) -> Self {
        let mut paper = Self::default();
        paper.roster.see_namespace(
            "default",
            Some([("kubernetes.io/metadata.name".to_owned(), "default".to_owned())].into()),
        );
        for node in nodes {
            paper
                .roster
                .see_node(node.metadata.name.as_deref().unwrap(), Some(node));
        }
        paper
    }

    /// A Pod that runs on `node`.
    pub fn running(mut self, mut pod: Pod, node: &str) -> Self {
        pod.spec.as_mut().unwrap().node_name = Some(node.to_owned());
        self.roster.see_pod(&Key::of(&pod), Some(&pod));
        self
    }

    /// What becomes of one more Pod.
    pub fn decide(&mut self, pod: &Pod) -> Decision {
        self.roster.see_pod(&Key::of(pod), Some(pod));
        self.next().expect("the Pod waits")
    }

    pub fn next(&mut self) -> Option<Decision> {
        let (_, decision) = self.roster.next(&self.volumes, &self.budgets)?;
        Some(decision)
    }

    /// The node that one more Pod gets, or the message that it gets instead.
    pub fn place(&mut self, pod: &Pod) -> String {
        match self.decide(pod) {
            Decision::Bind { node, .. } => node,
            Decision::Refuse { message, .. } => message,
        }
    }
}
