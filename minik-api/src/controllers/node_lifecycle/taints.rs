//! The taints that a node's conditions ask for. Pure; time comes in as `now`.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::health::condition;

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
const NO_SCHEDULE: &str = "NoSchedule";
const NO_EXECUTE: &str = "NoExecute";
/// Condition, status, and the taint that keeps Pods away while it is so.
const BY_CONDITION: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
];
const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";
/// Above this many lost nodes, and this share of a zone, it is the zone that is in trouble and not its nodes.
const MOST_LOST: usize = 2;
const MOST_LOST_PERCENT: usize = 55;

/// How much of the cluster is lost, which decides whether Pods are driven off nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disruption {
    /// Pods leave nodes that are lost.
    None,
    /// Too many are lost at once: those that are not driven off yet stay.
    Partial,
    /// All are lost: more likely it is us. Nobody leaves.
    Full,
}

/// How a node's zone, and the cluster, are.
pub fn disruption(of: &Node, all: &[&Node]) -> Disruption {
    let is_lost = |node: &&Node| !super::health::is_ready(node);
    if all.iter().all(is_lost) {
        return Disruption::Full;
    }
    let zone = |node: &Node| {
        let label = |key: &str| {
            node.metadata
                .labels
                .as_ref()
                .and_then(|labels| labels.get(key))
                .cloned()
        };
        (label(REGION), label(ZONE))
    };
    let own = zone(of);
    let here: Vec<&Node> = all.iter().copied().filter(|node| zone(node) == own).collect();
    let lost = here.iter().copied().filter(is_lost).count();
    // A zone without any node left is emptied: the others can take its Pods.
    let some_left = lost < here.len();
    if some_left && lost > MOST_LOST && lost * 100 >= here.len() * MOST_LOST_PERCENT {
        return Disruption::Partial;
    }
    Disruption::None
}

/// The node's taints as they should be; `None` if they are so.
pub fn wanted(node: &Node, disruption: Disruption, now: Timestamp) -> Option<Vec<Taint>> {
    let given = node
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.clone())
        .unwrap_or_default();
    let mut asked: Vec<(&str, &str)> = Vec::new();
    for (type_, status, key) in BY_CONDITION {
        let holds = condition(node, type_).is_some_and(|condition| condition.status == status);
        if holds {
            asked.push((key, NO_SCHEDULE));
        }
        let drives_off = matches!(key, NOT_READY | UNREACHABLE);
        let driven_off = given.iter().any(drives);
        let may = match disruption {
            Disruption::None => true,
            Disruption::Partial => driven_off,
            Disruption::Full => false,
        };
        if holds && drives_off && may {
            asked.push((key, NO_EXECUTE));
        }
    }
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        asked.push((UNSCHEDULABLE, NO_SCHEDULE));
    }
    let is_asked = |taint: &Taint| asked.contains(&(taint.key.as_str(), taint.effect.as_str()));
    let mut taints: Vec<Taint> = given
        .iter()
        .filter(|taint| !is_ours(taint) || is_asked(taint))
        .cloned()
        .collect();
    for (key, effect) in asked {
        if !taints.iter().any(|taint| taint.key == key && taint.effect == effect) {
            taints.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                value: None,
                time_added: Some(Time(now)),
            });
        }
    }
    (taints != given).then_some(taints)
}

/// Whether the taint drives Pods off a node that is lost.
fn drives(taint: &Taint) -> bool {
    taint.effect == NO_EXECUTE && matches!(taint.key.as_str(), NOT_READY | UNREACHABLE)
}

fn is_ours(taint: &Taint) -> bool {
    let by_condition = BY_CONDITION.iter().any(|(_, _, key)| *key == taint.key) || taint.key == UNSCHEDULABLE;
    drives(taint) || (taint.effect == NO_SCHEDULE && by_condition)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn node(ready: &str, spec: Value) -> Node {
        let conditions = json!([{"type": "Ready", "status": ready}, {"type": "MemoryPressure", "status": "False"}]);
        serde_json::from_value(json!({"metadata": {"name": "n"}, "spec": spec, "status": {"conditions": conditions}}))
            .unwrap()
    }

    fn keys(node: &Node, disruption: Disruption) -> Option<Vec<String>> {
        let taints = wanted(node, disruption, Timestamp::UNIX_EPOCH)?;
        Some(
            taints
                .iter()
                .map(|taint| format!("{}:{}", taint.key, taint.effect))
                .collect(),
        )
    }

    #[test]
    fn conditions_become_taints_and_strangers_stay() {
        let spec = json!({"taints": [{"key": "mine", "effect": "NoExecute"}]});
        assert_eq!(keys(&node("True", spec.clone()), Disruption::None), None);
        let not_ready = [
            "mine:NoExecute",
            "node.kubernetes.io/not-ready:NoSchedule",
            "node.kubernetes.io/not-ready:NoExecute",
        ];
        assert_eq!(keys(&node("False", spec.clone()), Disruption::None).unwrap(), not_ready);
        let lost = [
            "mine:NoExecute",
            "node.kubernetes.io/unreachable:NoSchedule",
            "node.kubernetes.io/unreachable:NoExecute",
        ];
        assert_eq!(keys(&node("Unknown", spec.clone()), Disruption::None).unwrap(), lost);
        assert_eq!(keys(&node("Unknown", spec), Disruption::Full).unwrap(), lost[..2]);
        let cordoned = node("True", json!({"unschedulable": true}));
        assert_eq!(
            keys(&cordoned, Disruption::None).unwrap(),
            ["node.kubernetes.io/unschedulable:NoSchedule"]
        );
    }

    #[test]
    fn a_node_that_is_back_loses_ours_and_keeps_the_time_of_what_stays() {
        let taints = wanted(&node("Unknown", json!({})), Disruption::None, Timestamp::UNIX_EPOCH).unwrap();
        let back = node("True", json!({"taints": taints}));
        assert_eq!(keys(&back, Disruption::None), Some(Vec::new()));
        let still = node("Unknown", json!({"taints": taints}));
        assert_eq!(keys(&still, Disruption::None), None);
    }

    #[test]
    fn too_many_lost_at_once_are_not_emptied() {
        let all = |lost: usize, ready: usize| {
            let mut nodes = vec![node("Unknown", json!({})); lost];
            nodes.extend(vec![node("True", json!({})); ready]);
            nodes
        };
        let disruption = |nodes: Vec<Node>| disruption(&nodes[0], &nodes.iter().collect::<Vec<_>>());
        assert_eq!(disruption(all(1, 2)), Disruption::None);
        assert_eq!(disruption(all(2, 1)), Disruption::None);
        assert_eq!(disruption(all(3, 2)), Disruption::Partial);
        assert_eq!(disruption(all(3, 3)), Disruption::None);
        assert_eq!(disruption(all(3, 0)), Disruption::Full);
        let fresh = node("Unknown", json!({}));
        assert_eq!(
            keys(&fresh, Disruption::Partial).unwrap(),
            ["node.kubernetes.io/unreachable:NoSchedule"]
        );
    }

    proptest! {
        /// Whatever a node has been through, one more look asks for nothing more.
        #[test]
        fn one_pass_is_enough(history in prop::collection::vec((0..3usize, any::<bool>(), 0..3usize), 1..8)) {
            let mut taints: Vec<Taint> = Vec::new();
            for (ready, cordoned, disruption) in history {
                let ready = ["True", "False", "Unknown"][ready];
                let disruption = [Disruption::None, Disruption::Partial, Disruption::Full][disruption];
                let look = |taints: &[Taint]| {
                    let node = node(ready, json!({"unschedulable": cordoned, "taints": taints}));
                    wanted(&node, disruption, Timestamp::UNIX_EPOCH)
                };
                taints = look(&taints).unwrap_or(taints);
                prop_assert_eq!(look(&taints), None);
                prop_assert!(ready != "True" || !taints.iter().any(drives));
            }
        }
    }
}
