//! Which nodes a Pod may run on, and in what words the scheduler says why not. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};

/// Why a node will not do, in the words of Kubernetes 1.36's scheduler plugins.
pub fn refusal(node: &Node, pod: &Pod) -> Option<String> {
    let spec = node.spec.as_ref();
    let tolerations = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.tolerations.as_deref())
        .unwrap_or_default();
    let unschedulable = Taint {
        key: "node.kubernetes.io/unschedulable".into(),
        effect: "NoSchedule".into(),
        ..Taint::default()
    };
    if spec.and_then(|spec| spec.unschedulable) == Some(true) && !is_tolerated(&unschedulable, tolerations) {
        return Some("node(s) were unschedulable".into());
    }
    let taints = spec.and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let repels = |taint: &&Taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
    // A node that is not ready is one whose not-ready taint has yet to be written.
    let repelled = taints
        .iter()
        .filter(repels)
        .any(|taint| !is_tolerated(taint, tolerations));
    if repelled || !is_ready(node) {
        return Some("node(s) had untolerated taint(s)".into());
    }
    let selector = pod.spec.as_ref().and_then(|spec| spec.node_selector.as_ref());
    let labels = node.metadata.labels.as_ref();
    let selected = selector
        .into_iter()
        .flatten()
        .all(|(k, v)| labels.and_then(|labels| labels.get(k)) == Some(v));
    (!selected).then(|| "node(s) didn't match Pod's node affinity/selector".into())
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn is_tolerated(taint: &Taint, tolerations: &[Toleration]) -> bool {
    tolerations.iter().any(|toleration| {
        let effect = toleration.effect.as_deref().unwrap_or_default();
        let key = toleration.key.as_deref().unwrap_or_default();
        let exists = toleration.operator.as_deref() == Some("Exists");
        (effect.is_empty() || effect == taint.effect)
            && (key == taint.key || (key.is_empty() && exists))
            && (exists || toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default())
    })
}

/// The message of `FailedScheduling`: how many nodes there are, and each reason with its count.
pub fn unschedulable_message(nodes: &[Arc<Node>], pod: &Pod) -> String {
    if nodes.is_empty() {
        return "no nodes available to schedule pods".into();
    }
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for reason in nodes.iter().filter_map(|node| refusal(node, pod)) {
        *reasons.entry(reason).or_default() += 1;
    }
    let mut texts: Vec<String> = reasons
        .into_iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    texts.sort();
    format!(
        "0/{total} nodes are available: {reasons}. no new claims to deallocate, preemption: 0/{total} nodes are available: \
         {total} Preemption is not helpful for scheduling.",
        total = nodes.len(),
        reasons = texts.join(", "),
    )
}
