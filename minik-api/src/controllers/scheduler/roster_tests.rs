use super::super::testing::{Paper, asking, merge, node, pod};
use super::*;
use std::collections::btree_map::Entry;

use proptest::prelude::*;
use serde_json::json;

#[test]
fn the_important_come_first_and_then_the_old() {
    let aged = |name: &str, priority: i32, second: i64| {
        let created = Timestamp::from_second(second).unwrap().to_string();
        pod(
            name,
            json!({"metadata": {"creationTimestamp": created}, "spec": {"priority": priority}}),
        )
    };
    let mut paper = Paper::of(&[node("a", json!({}))]);
    for pod in [aged("young", 0, 30), aged("old", 0, 10), aged("vip", 5, 50)] {
        paper.roster.see_pod(&Key::of(&pod), Some(&pod));
    }
    let order: Vec<_> = std::iter::from_fn(|| paper.roster.next(&paper.volumes, &[]))
        .map(|(facts, _)| facts.key.name.clone())
        .collect();
    assert_eq!(order, ["vip", "old", "young"]);
}

#[test]
fn only_what_matters_calls_a_refused_pod_back() {
    let mut paper = Paper::of(&[node("a", json!({}))]);
    let picky = pod("picky", json!({"spec": {"nodeSelector": {"disk": "ssd"}}}));
    assert!(paper.place(&picky).starts_with("0/1"));
    let other = pod("other", json!({}));
    assert_eq!(paper.place(&other), "a");
    paper.roster.see_pod(&Key::of(&other), None);
    // Its own refusal, written to its status, is no news either.
    let mut told = picky.clone();
    told.status = Some(k8s_openapi::api::core::v1::PodStatus::default());
    paper.roster.see_pod(&Key::of(&picky), Some(&told));
    assert!(paper.roster.is_idle());
    paper
        .roster
        .see_node("a", Some(&node("a", json!({"metadata": {"labels": {"disk": "ssd"}}}))));
    assert!(matches!(paper.next(), Some(Decision::Bind { .. })));
}

#[test]
fn a_namesake_of_an_assumed_pod_is_another() {
    let mut paper = Paper::of(&[node("a", json!({}))]);
    let first = pod("p", json!({}));
    assert_eq!(paper.place(&first), "a");
    paper.roster.see_pod(&Key::of(&first), Some(&first));
    assert!(paper.roster.is_idle(), "the watch lags behind the decision");
    let second = pod("p", json!({"metadata": {"uid": "another"}}));
    assert_eq!(paper.place(&second), "a");
}

#[test]
fn what_could_not_be_carried_out_is_decided_again() {
    let mut paper = Paper::of(&[node("a", json!({}))]);
    let one = pod("p", asking("4"));
    assert_eq!(paper.place(&one), "a");
    paper.roster.take_back(&Key::of(&one));
    assert_eq!(paper.place(&one), "a");
}

/// A step of a cluster's life.
#[derive(Debug, Clone)]
enum Step {
    Create(u8, bool),
    Delete(u8),
    Decide,
    Node(u8, bool),
    Forget(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..12, any::<bool>()).prop_map(|(pod, picky)| Step::Create(pod, picky)),
        2 => (0u8..12).prop_map(Step::Delete),
        6 => Just(Step::Decide),
        2 => (0u8..3, any::<bool>()).prop_map(|(node, there)| Step::Node(node, there)),
        1 => (0u8..12).prop_map(Step::Forget),
    ]
}

fn any_pod(number: u8, picky: bool) -> Pod {
    let term = json!({"labelSelector": {"matchLabels": {"app": "a"}}, "topologyKey": "kubernetes.io/hostname"});
    let sides = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
    let app = if number.is_multiple_of(2) { "a" } else { "b" };
    let mut extra = json!({"metadata": {"labels": {"app": app}}});
    merge(&mut extra, asking("500m"));
    if picky {
        merge(&mut extra, json!({"spec": {"affinity": sides}}));
    }
    pod(&format!("p{number}"), extra)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// However it came about, the board holds what a fresh one would that sees the same nodes and the same Pods on them.
    #[test]
    fn counts_do_not_depend_on_how_they_came_about(steps in prop::collection::vec(step(), 1..60)) {
        let (mut roster, volumes) = (Roster::default(), Volumes::default());
        let mut nodes: BTreeMap<String, Node> = BTreeMap::new();
        let mut pods: BTreeMap<Key, Pod> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Create(number, picky) => {
                    let pod = any_pod(number, picky);
                    let key = Key::of(&pod);
                    if let Entry::Vacant(entry) = pods.entry(key.clone()) {
                        roster.see_pod(&key, Some(&pod));
                        entry.insert(pod);
                    }
                }
                Step::Delete(number) => {
                    let key = Key::new("default", format!("p{number}"));
                    pods.remove(&key);
                    roster.see_pod(&key, None);
                }
                Step::Decide => {
                    if let Some((facts, Decision::Bind { node, .. })) = roster.next(&volumes, &[]) {
                        prop_assert!(nodes.contains_key(&node));
                        pods.get_mut(&facts.key).unwrap().spec.as_mut().unwrap().node_name = Some(node);
                    }
                }
                Step::Node(number, there) => {
                    let name = format!("n{number}");
                    let node = there.then(|| node(&name, json!({})));
                    roster.see_node(&name, node.as_ref());
                    nodes.remove(&name);
                    nodes.extend(node.map(|node| (name, node)));
                }
                Step::Forget(number) => {
                    let key = Key::new("default", format!("p{number}"));
                    if let Some(pod) = pods.get(&key) {
                        roster.see_pod(&key, Some(pod));
                    }
                }
            }
        }
        let mut fresh = Board::default();
        for (name, node) in &nodes {
            fresh.set_node(name, Some(node));
        }
        for pod in pods.values() {
            if let Some(node) = node_name(pod) {
                fresh.place(node, Arc::new(Facts::of(pod)));
            }
        }
        prop_assert_eq!(roster.board(), &fresh);
    }

    /// However Pods arrive and however the burst is cut, the Pods of one owner differ by at most one between nodes.
    #[test]
    fn pods_of_an_owner_spread_within_one(nodes in 1usize..6, count in 1usize..60) {
        let room = json!({"status": {"allocatable": {"pods": "110"}}});
        let nodes: Vec<_> = (0..nodes).map(|n| node(&format!("n{n}"), room.clone())).collect();
        let mut paper = Paper::of(&nodes);
        let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "o", "uid": "o", "controller": true}]);
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for number in 0..count {
            let pod = pod(&format!("p{number}"), json!({"metadata": {"ownerReferences": owner}}));
            *counts.entry(paper.place(&pod)).or_default() += 1;
        }
        let least = if counts.len() < nodes.len() { 0 } else { *counts.values().min().unwrap() };
        prop_assert!(counts.values().max().unwrap() - least <= 1, "{counts:?}");
    }
}
