//! Where Pods go: the spread of Pods over nodes as one pure decision for all that wait.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};

use super::filter::{refusal, unschedulable_message};
use crate::controllers::cache::Key;
use crate::controllers::owner::controller_of;
use crate::controllers::pod::{is_finished, node_name};

/// What the scheduler looks at.
pub struct View<'a> {
    /// Every Pod, bound or not.
    pub pods: Vec<&'a Arc<Pod>>,
    /// Every node, by name.
    pub nodes: Vec<Arc<Node>>,
    /// Bindings that were made, or are being made, and that the Pods do not show yet.
    pub assumed: &'a BTreeMap<Key, String>,
}

/// Where a waiting Pod goes.
#[derive(Debug, PartialEq)]
pub enum Decision {
    /// To this node.
    Bind(String),
    /// Nowhere, and why.
    Unschedulable(String),
}

/// Pods on each node: of one group, and of all.
#[derive(Default)]
struct Tally<'a> {
    of_group: BTreeMap<(String, &'a str), usize>,
    of_node: BTreeMap<&'a str, usize>,
}

impl<'a> Tally<'a> {
    fn add(&mut self, group: String, node: &'a str) {
        *self.of_group.entry((group, node)).or_default() += 1;
        *self.of_node.entry(node).or_default() += 1;
    }

    fn rank(&self, group: &str, node: &'a str) -> (usize, usize, &'a str) {
        let of_group = self.of_group.get(&(group.to_string(), node)).copied().unwrap_or(0);
        (of_group, self.of_node.get(node).copied().unwrap_or(0), node)
    }
}

/// Decides for every Pod that waits for the default scheduler, oldest first. Of the nodes that will
/// do it takes the one with the fewest Pods of the same owner, then with the fewest Pods, then the
/// first by name; each decision counts for the next.
pub fn decide(view: &View<'_>) -> Vec<(Arc<Pod>, Decision)> {
    let mut tally = Tally::default();
    for pod in view.pods.iter().filter(|pod| !is_finished(pod)) {
        if let Some(node) = node_name(pod).or_else(|| view.assumed.get(&Key::of(&***pod)).map(String::as_str)) {
            tally.add(group(pod), node);
        }
    }
    let mut waiting: Vec<&Arc<Pod>> = view
        .pods
        .iter()
        .copied()
        .filter(|pod| is_waiting(pod, view.assumed))
        .collect();
    waiting.sort_by_key(|pod| {
        (
            pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
            Key::of(&***pod),
        )
    });

    let mut decisions = Vec::with_capacity(waiting.len());
    for pod in waiting {
        let group = group(pod);
        let fitting = view.nodes.iter().filter(|node| refusal(node, pod).is_none());
        let names = fitting.filter_map(|node| node.metadata.name.as_deref());
        let decision = match names.min_by_key(|name| tally.rank(&group, name)) {
            Some(node) => {
                tally.add(group, node);
                Decision::Bind(node.to_string())
            }
            None => Decision::Unschedulable(unschedulable_message(&view.nodes, pod)),
        };
        decisions.push((pod.clone(), decision));
    }
    decisions
}

fn is_waiting(pod: &Pod, assumed: &BTreeMap<Key, String>) -> bool {
    let spec = pod.spec.as_ref();
    let ours = spec
        .and_then(|spec| spec.scheduler_name.as_deref())
        .is_none_or(|name| name == "default-scheduler");
    let gated = spec
        .and_then(|spec| spec.scheduling_gates.as_ref())
        .is_some_and(|gates| !gates.is_empty());
    ours && !gated
        && node_name(pod).is_none()
        && !is_finished(pod)
        && pod.metadata.deletion_timestamp.is_none()
        && !assumed.contains_key(&Key::of(pod))
}

/// What should be spread: the Pods of a controller, or of a namespace's loose Pods those with the
/// same labels.
fn group(pod: &Pod) -> String {
    match controller_of(&pod.metadata) {
        Some(owner) => owner.uid.clone(),
        None => {
            let labels: BTreeMap<_, _> = pod.metadata.labels.clone().unwrap_or_default();
            format!("{}/{labels:?}", pod.metadata.namespace.as_deref().unwrap_or_default())
        }
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
