//! Which probes are asked when, by tables, and that a container which ended or was replaced leaves no result behind.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::pods::decide::{Hook, Sandbox};
use crate::runtime::protocol::{Attempt, ContainerState};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

fn pod(container: &serde_json::Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"containers": [container]}})).unwrap()
}

fn knowledge(id: &str, started: i64) -> Knowledge {
    let current = Attempt {
        id: id.into(),
        attempt: 0,
        image: String::new(),
        image_id: String::new(),
        stop_signal: libc::SIGTERM,
        user: None,
        pid: 1,
        started_at: at(started),
        ended: None,
    };
    let state = ContainerState {
        current,
        previous: None,
    };
    Knowledge {
        sandbox: Sandbox::Ready,
        states: [("c".to_owned(), state)].into(),
        ..Knowledge::default()
    }
}

fn due(id: &str, kind: Kind) -> Due {
    Due {
        container: "c".into(),
        id: id.into(),
        kind,
    }
}

fn never() -> f64 {
    unreachable!("nothing is left to chance for a container that this agent started")
}

#[test]
fn startup_comes_first_then_readiness_at_once() {
    let probe = json!({"exec": {"command": ["true"]}, "periodSeconds": 10});
    let pod = pod(&json!({"name": "c", "startupProbe": probe, "readinessProbe": probe, "livenessProbe": probe}));
    let knowledge = knowledge("1", 0);
    let mut probes = Probes::default();
    probes.follow(&pod, &knowledge, at(0), never);
    assert_eq!(probes.take_due(at(0)), [due("1", Kind::Startup)]);
    assert_eq!(probes.wake(), None, "everything waits for the one under way");
    probes.record(&due("1", Kind::Startup), Some(true), at(3));
    assert_eq!(probes.take_due(at(3)), [due("1", Kind::Readiness)]);
    assert_eq!(probes.wake(), Some(at(10)));
    assert_eq!(probes.health()["c"].startup, Some(Verdict::Success));
    assert_eq!(probes.health()["c"].readiness, Some(Verdict::Failure));
}

#[test]
fn a_post_start_hook_comes_before_any_probe() {
    let pod = pod(&json!({"name": "c", "readinessProbe": {"exec": {}}}));
    let mut knowledge = knowledge("1", 0);
    knowledge.hooks.insert("c".into(), Hook::Running("1".into()));
    let mut probes = Probes::default();
    probes.follow(&pod, &knowledge, at(0), never);
    assert_eq!(probes.wake(), None);
    knowledge.hooks.clear();
    probes.follow(&pod, &knowledge, at(0), never);
    assert_eq!(probes.wake(), Some(at(0)));
}

#[test]
fn a_result_of_a_run_that_is_over_counts_for_nothing() {
    let pod = pod(&json!({"name": "c", "readinessProbe": {"exec": {}}}));
    let mut probes = Probes::default();
    probes.follow(&pod, &knowledge("1", 0), at(0), never);
    let first = probes.take_due(at(0));
    probes.follow(&pod, &knowledge("2", 1), at(0), never);
    assert!(!probes.record(&first[0], Some(true), at(2)));
    assert_eq!(probes.health()["c"].readiness, Some(Verdict::Failure));
}

#[test]
fn a_deleted_pod_is_asked_for_its_readiness_alone() {
    let probe = json!({"exec": {}});
    let mut pod = pod(&json!({"name": "c", "startupProbe": probe, "readinessProbe": probe, "livenessProbe": probe}));
    pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(30)));
    let mut probes = Probes::default();
    probes.follow(&pod, &knowledge("1", 0), at(0), never);
    assert_eq!(probes.take_due(at(0)), [due("1", Kind::Readiness)]);
}

#[test]
fn what_the_api_says_holds_over_a_restart_of_the_agent() {
    let mut pod = pod(&json!({"name": "c", "readinessProbe": {"exec": {}, "periodSeconds": 10}}));
    let status = json!({"containerStatuses": [{"name": "c", "ready": true, "started": true, "restartCount": 0,
        "image": "", "imageID": "", "containerID": "minik://1"}]});
    pod.status = Some(serde_json::from_value(status).unwrap());
    let mut probes = Probes::default();
    probes.follow(&pod, &knowledge("1", 0), at(100), || 0.5);
    assert_eq!(probes.health()["c"].readiness, Some(Verdict::Success));
    assert_eq!(probes.wake(), Some(at(105)));
    let mut other = Probes::default();
    other.follow(&pod, &knowledge("2", 0), at(100), || 0.5);
    assert_eq!(other.health()["c"].readiness, Some(Verdict::Failure), "another run");
}

proptest! {
    /// Never two probes of one kind at once, and nothing asked of a run that is over.
    #[test]
    fn one_at_a_time_and_only_of_what_runs(
        events in proptest::collection::vec((0..4_u8, 0..9_i64, any::<bool>()), 0..60),
    ) {
        let probe = json!({"exec": {}, "periodSeconds": 3, "failureThreshold": 2});
        let pod = pod(&json!({"name": "c", "startupProbe": probe, "readinessProbe": probe, "livenessProbe": probe}));
        let (mut probes, mut now, mut run) = (Probes::default(), at(0), 0);
        let mut under_way: Vec<Due> = Vec::new();
        probes.follow(&pod, &knowledge("0", 0), at(0), never);
        for (event, seconds, result) in events {
            now = now.saturating_add(SignedDuration::from_secs(seconds)).unwrap();
            match event {
                0 => {
                    run += 1;
                    let started = now.as_second() - 1_000_000;
                    probes.follow(&pod, &knowledge(&run.to_string(), started), at(0), never);
                }
                1 if !under_way.is_empty() => {
                    let due = under_way.remove(0);
                    let current = due.id == run.to_string();
                    prop_assert_eq!(probes.record(&due, Some(result), now), current);
                }
                _ => {
                    for due in probes.take_due(now) {
                        prop_assert_eq!(&due.id, &run.to_string());
                        prop_assert!(!under_way.contains(&due));
                        under_way.push(due);
                    }
                }
            }
        }
    }
}
