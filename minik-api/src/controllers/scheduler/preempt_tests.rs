use super::super::decide::Decision;
use super::super::testing::{Paper, asking, merge, node, pod};
use super::*;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::controllers::cache::Key;

fn important(name: &str, cpu: &str, priority: i32, extra: Value) -> Pod {
    let mut all = asking(cpu);
    all["spec"]["priority"] = priority.into();
    merge(&mut all, extra);
    pod(name, all)
}

fn room(decision: Decision) -> Option<(String, Vec<String>)> {
    match decision {
        Decision::Refuse { room, .. } => room.map(|room| {
            (
                room.node,
                room.victims.iter().map(|victim| victim.key.name.clone()).collect(),
            )
        }),
        Decision::Bind { node, .. } => panic!("bound to {node}"),
    }
}

fn message(decision: Decision) -> String {
    match decision {
        Decision::Refuse { message, .. } => message,
        Decision::Bind { node, .. } => panic!("bound to {node}"),
    }
}

#[test]
fn the_least_important_leave_and_no_more_than_must() {
    let mut paper = Paper::of(&[node("a", json!({})), node("b", json!({}))])
        .running(important("low", "2", 1, json!({})), "a")
        .running(important("lower", "2", 0, json!({})), "a")
        .running(important("high", "4", 5, json!({})), "b");
    let decision = paper.decide(&important("vip", "2", 9, json!({})));
    assert_eq!(room(decision), Some(("a".to_owned(), vec!["lower".to_owned()])));
}

#[test]
fn room_is_kept_for_whom_it_was_made() {
    let vip = important("vip", "4", 9, json!({}));
    let mut paper = Paper::of(&[node("a", json!({}))]).running(important("low", "4", 0, json!({})), "a");
    let decision = paper.decide(&vip);
    assert_eq!(message(decision), "0/1 nodes are available: 1 Insufficient cpu.");
    paper.roster.see_pod(&Key::new("default", "low"), None);
    // A less important one that comes first does not get the room.
    let thief = important("thief", "1", 0, json!({}));
    paper.roster.see_pod(&Key::of(&thief), Some(&thief));
    let first = paper.next();
    assert!(
        matches!(first, Some(Decision::Bind { .. })),
        "the important one: {first:?}"
    );
    let text = message(paper.next().unwrap());
    assert!(
        text.starts_with("0/1 nodes are available: 1 Insufficient cpu. no new claims"),
        "{text}"
    );
}

#[test]
fn who_may_not_preempt_waits_and_says_so() {
    let meek = important("meek", "4", 9, json!({"spec": {"preemptionPolicy": "Never"}}));
    let mut paper = Paper::of(&[node("a", json!({}))]).running(important("low", "4", 0, json!({})), "a");
    let expected = "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: not eligible \
                    due to preemptionPolicy=Never.";
    assert_eq!(message(paper.decide(&meek)), expected);
}

#[test]
fn while_a_victim_goes_no_other_is_chosen() {
    let vip = important("vip", "4", 9, json!({}));
    let nodes = [node("a", json!({})), node("b", json!({}))];
    let mut paper = Paper::of(&nodes)
        .running(important("x", "4", 0, json!({})), "a")
        .running(important("y", "4", 1, json!({})), "b");
    assert_eq!(room(paper.decide(&vip)), Some(("a".to_owned(), vec!["x".to_owned()])));
    let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"});
    let going = json!({
        "metadata": {"deletionTimestamp": "2026-11-21T10:00:00Z"}, "status": {"conditions": [condition]},
    });
    let mut paper = paper.running(important("x", "4", 0, going), "a");
    let expected = "0/2 nodes are available: 2 Insufficient cpu. no new claims to deallocate, preemption: not eligible \
                    due to a terminating pod on the nominated node.";
    assert_eq!(message(paper.next().unwrap()), expected);
}

#[test]
fn budgets_are_spared_where_others_can_go() {
    let labels = |app: &str| json!({"metadata": {"labels": {"app": app}}});
    let mut paper = Paper::of(&[node("a", json!({}))])
        .running(important("kept", "2", 0, labels("db")), "a")
        .running(important("loose", "2", 0, labels("web")), "a");
    let budget = json!({
        "metadata": {"name": "db", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "db"}}},
        "status": {"disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1},
    });
    paper.budgets = vec![Arc::new(serde_json::from_value(budget).unwrap())];
    let decision = paper.decide(&important("vip", "2", 9, json!({})));
    assert_eq!(room(decision), Some(("a".to_owned(), vec!["loose".to_owned()])));
}

#[test]
fn a_pod_of_equal_priority_is_no_victim() {
    let mut paper = Paper::of(&[node("a", json!({}))]).running(important("same", "4", 9, json!({})), "a");
    let expected = "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are \
                    available: 1 No preemption victims found for incoming pod.";
    assert_eq!(message(paper.decide(&important("late", "1", 9, json!({})))), expected);
}
