//! Which nodes a DaemonSet is for, and how its Pods are bound to them: by a node affinity that names the
//! node, with the tolerations that keep such a Pod where others must leave. Pure.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{
    Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, PodTemplateSpec, Taint, Toleration,
};
use kube::ResourceExt;

use crate::controllers::history::POD_REVISION;
use crate::controllers::pod::node_name;
use crate::controllers::pod_control::from_template;
use crate::controllers::scheduler::{demand, tolerates};

/// The annotation with the number of changes of the template, and the label with it on Pods.
const GENERATION: &str = "deprecated.daemonset.template.generation";
const POD_GENERATION: &str = "pod-template-generation";
const NODE_NAME: &str = "metadata.name";

/// Taints that every Pod of a DaemonSet tolerates.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
/// And one more, of those in their node's own network.
const HOST_NETWORK_TOLERATED: (&str, &str) = ("node.kubernetes.io/network-unavailable", "NoSchedule");

/// Whether a node should run a Pod of the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fit {
    /// A Pod should be there.
    pub should_run: bool,
    /// A Pod that is there may stay.
    pub may_stay: bool,
}

/// Whether `node` should run a Pod of the set.
pub fn fit(set: &DaemonSet, node: &Node) -> Fit {
    let no = Fit {
        should_run: false,
        may_stay: false,
    };
    let Some(spec) = set.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()) else {
        return no;
    };
    let name = node.name_any();
    let elsewhere = spec
        .node_name
        .as_deref()
        .is_some_and(|wanted| !wanted.is_empty() && wanted != name);
    let affinity = spec.affinity.clone().unwrap_or_default();
    if elsewhere || !demand(spec, &affinity).matches(&name, node.labels()) {
        return no;
    }
    let tolerations = tolerations(spec);
    let taints = node
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.as_deref())
        .unwrap_or_default();
    let unschedulable = node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
    let cordon = unschedulable.then(|| Taint {
        key: "node.kubernetes.io/unschedulable".into(),
        effect: "NoSchedule".into(),
        ..Taint::default()
    });
    let mut repelling = taints
        .iter()
        .chain(&cordon)
        .filter(|taint| !tolerates(&tolerations, taint));
    let repelled = |taint: &Taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
    let evicted = repelling.clone().any(|taint| taint.effect == "NoExecute");
    Fit {
        should_run: !repelling.any(repelled),
        may_stay: !evicted,
    }
}

/// The template's tolerations, and those that every Pod of a DaemonSet has.
fn tolerations(spec: &PodSpec) -> Vec<Toleration> {
    let mut all = spec.tolerations.clone().unwrap_or_default();
    let of_host = (spec.host_network == Some(true)).then_some(HOST_NETWORK_TOLERATED);
    for (key, effect) in TOLERATED.into_iter().chain(of_host) {
        let added = Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            effect: Some(effect.into()),
            ..Toleration::default()
        };
        if !all.contains(&added) {
            all.push(added);
        }
    }
    all
}

/// The set's Pod for a node.
pub fn new_pod(set: &DaemonSet, template: &PodTemplateSpec, hash: &str, node: &str) -> Pod {
    let mut pod = from_template(set, template);
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_REVISION.into(), hash.into());
    if let Some(generation) = set.annotations().get(GENERATION) {
        labels.insert(POD_GENERATION.into(), generation.clone());
    }
    let spec = pod.spec.get_or_insert_default();
    spec.tolerations = Some(tolerations(spec));
    let affinity = spec.affinity.get_or_insert_default();
    // The rest of the template's demands has been met by choosing the node.
    affinity
        .node_affinity
        .get_or_insert_default()
        .required_during_scheduling_ignored_during_execution = Some(only(node));
    pod
}

fn only(node: &str) -> NodeSelector {
    let name = NodeSelectorRequirement {
        key: NODE_NAME.into(),
        operator: "In".into(),
        values: Some(vec![node.into()]),
    };
    NodeSelector {
        node_selector_terms: vec![NodeSelectorTerm {
            match_fields: Some(vec![name]),
            match_expressions: None,
        }],
    }
}

/// The node that a Pod runs on, or will.
pub fn target(pod: &Pod) -> Option<&str> {
    let affinity = || {
        let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
        let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
        let fields = required
            .node_selector_terms
            .iter()
            .flat_map(|term| term.match_fields.iter().flatten());
        let mut names = fields.filter(|field| field.key == NODE_NAME && field.operator == "In");
        names.next()?.values.as_ref()?.first().map(String::as_str)
    };
    node_name(pod).or_else(affinity)
}
