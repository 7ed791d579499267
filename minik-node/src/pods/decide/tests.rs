//! Tables for each rule; what holds for every Pod is in `converges`.

mod converges;

use jiff::SignedDuration;
use serde_json::json;

use super::*;
use crate::pods::backoff::Backoff;
use crate::probe::schedule::Verdict;
use crate::runtime::client::States;
use crate::runtime::protocol::{Attempt, ContainerState, Ended, Exit};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

fn pod(policy: &str, init: &[&str], containers: &[&str]) -> Pod {
    let list = |names: &[&str]| {
        names
            .iter()
            .map(|name| json!({"name": name, "image": "busybox"}))
            .collect::<Vec<_>>()
    };
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "u"},
        "spec": {"restartPolicy": policy, "initContainers": list(init), "containers": list(containers)},
    }))
    .unwrap()
}

fn state(ended: Option<(i64, i32)>) -> ContainerState {
    let ended = ended.map(|(time, code)| Ended {
        at: at(time),
        exit: Exit { code, signal: None },
        start_error: None,
    });
    let current = Attempt {
        id: "id".into(),
        attempt: 0,
        image: "busybox".into(),
        image_id: String::new(),
        stop_signal: libc::SIGTERM,
        user: None,
        pid: 1,
        started_at: at(0),
        ended,
    };
    ContainerState {
        current,
        previous: None,
    }
}

fn ready(states: &[(&str, Option<(i64, i32)>)]) -> Knowledge {
    let states = states
        .iter()
        .map(|(name, ended)| ((*name).to_owned(), state(*ended)))
        .collect();
    Knowledge {
        sandbox: Sandbox::Ready,
        states,
        ..Knowledge::default()
    }
}

fn starts(names: &[&str]) -> Vec<Step> {
    names.iter().map(|name| Step::Start((*name).to_owned())).collect()
}

fn deleted(mut pod: Pod, grace: i64) -> Pod {
    pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(grace)));
    pod.metadata.deletion_grace_period_seconds = Some(grace);
    pod
}

fn lose(knowledge: &mut Knowledge, pod: &Pod, now: Timestamp) {
    if knowledge.sandbox == Sandbox::Ready {
        let states = crate::pods::lost::recover(pod, &knowledge.states, &States::new(), now);
        knowledge.lose(states);
    }
}

fn seconds(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

fn stop(container: &str, grace: i64, why: &str) -> Step {
    Step::Stop {
        container: container.to_owned(),
        grace: seconds(grace),
        why: why.to_owned(),
    }
}

fn stopping(grace: i64, stage: Stage) -> Stopping {
    Stopping {
        id: "id".into(),
        since: at(0),
        grace: seconds(grace),
        stage,
    }
}

fn waits_until(time: i64) -> Plan {
    Plan {
        steps: vec![],
        wake: Some(at(time)),
    }
}

/// Containers from JSON, ready to run.
fn pod_of(spec: serde_json::Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": spec})).unwrap()
}

fn fails(kind: crate::probe::schedule::Kind) -> Health {
    use crate::probe::schedule::Kind;
    let verdict = |of| (of == kind).then_some(Verdict::Failure);
    Health {
        id: "id".into(),
        startup: verdict(Kind::Startup),
        readiness: verdict(Kind::Readiness),
        liveness: verdict(Kind::Liveness),
    }
}

#[test]
fn a_new_pod_gets_a_sandbox_then_its_containers() {
    let pod = pod("Always", &[], &["a", "b"]);
    assert_eq!(
        decide(&pod, false, &Knowledge::default(), at(0)).steps,
        [Step::CreateSandbox]
    );
    assert_eq!(decide(&pod, false, &ready(&[]), at(0)).steps, starts(&["a", "b"]));
    assert_eq!(
        decide(&pod, false, &ready(&[("a", None), ("b", None)]), at(0)),
        Plan::default()
    );
}

#[test]
fn an_image_that_is_not_there_is_looked_for_less_and_less_often() {
    let pod = pod("Always", &[], &["a"]);
    let mut knowledge = ready(&[]);
    let trouble = |reason: &str, backoff| Trouble {
        reason: reason.to_owned(),
        message: "no".to_owned(),
        at: at(0),
        backoff,
    };
    let first = Backoff::next(None, at(0), at(0));
    knowledge.troubles.insert("a".into(), trouble(ERR_IMAGE_PULL, first));
    assert_eq!(decide(&pod, false, &knowledge, at(0)), waits_until(1));
    let said = decide(&pod, false, &knowledge, at(1)).steps;
    assert_eq!(said, [Step::BackOff("a".into())]);
    knowledge
        .troubles
        .insert("a".into(), trouble(IMAGE_PULL_BACK_OFF, first));
    assert_eq!(decide(&pod, false, &knowledge, at(1)), waits_until(10));
    assert_eq!(decide(&pod, false, &knowledge, at(10)).steps, starts(&["a"]));
    let second = Backoff::next(Some(first), at(0), at(0));
    knowledge
        .troubles
        .insert("a".into(), trouble(IMAGE_PULL_BACK_OFF, second));
    assert_eq!(decide(&pod, false, &knowledge, at(10)), waits_until(20));
}

#[test]
fn init_containers_run_one_after_another() {
    let pod = pod("Always", &["i", "j"], &["a"]);
    for (states, expected) in [
        (vec![], starts(&["i"])),
        (vec![("i", None)], vec![]),
        (vec![("i", Some((0, 1)))], starts(&["i"])),
        (vec![("i", Some((0, 0)))], starts(&["j"])),
        (vec![("i", Some((0, 0))), ("j", Some((0, 0)))], starts(&["a"])),
    ] {
        assert_eq!(
            decide(&pod, false, &ready(&states), at(0)).steps,
            expected,
            "{states:?}"
        );
    }
}

#[test]
fn the_restart_policy_decides_about_what_ended() {
    for (policy, code, expected) in [
        ("Always", 0, starts(&["a"])),
        ("Always", 1, starts(&["a"])),
        ("OnFailure", 1, starts(&["a"])),
        ("OnFailure", 0, vec![Step::RemoveSandbox]),
        ("Never", 1, vec![Step::RemoveSandbox]),
        ("Never", 0, vec![Step::RemoveSandbox]),
    ] {
        let knowledge = ready(&[("a", Some((0, code)))]);
        assert_eq!(
            decide(&pod(policy, &[], &["a"]), false, &knowledge, at(0)).steps,
            expected,
            "{policy} {code}"
        );
    }
}

#[test]
fn a_container_that_keeps_failing_waits() {
    let mut knowledge = ready(&[("a", Some((5, 1)))]);
    knowledge.crashes.insert("a".into(), Backoff::next(None, at(4), at(4)));
    let pod = pod("Always", &[], &["a"]);
    assert_eq!(
        decide(&pod, false, &knowledge, at(6)),
        Plan {
            steps: vec![],
            wake: Some(at(15))
        }
    );
    assert_eq!(decide(&pod, false, &knowledge, at(15)).steps, starts(&["a"]));
}

#[test]
fn a_dead_shim_is_cleared_away_first() {
    let knowledge = Knowledge {
        sandbox: Sandbox::Lost,
        ..ready(&[("a", None)])
    };
    assert_eq!(
        decide(&pod("Always", &[], &["a"]), false, &knowledge, at(0)).steps,
        [Step::RemoveSandbox]
    );
}

#[test]
fn deletion_asks_waits_kills_removes_and_releases() {
    let pod = deleted(pod("Always", &[], &["a"]), 30);
    let mut knowledge = ready(&[("a", None)]);
    let decided = |knowledge: &Knowledge, time| decide(&pod, false, knowledge, at(time));
    assert_eq!(decided(&knowledge, 0).steps, [stop("a", 30, "Stopping container a")]);
    knowledge.stopping.insert("a".into(), stopping(30, Stage::Waiting));
    assert_eq!(decided(&knowledge, 0).steps, [Step::Signal("a".into(), at(30))]);
    knowledge
        .stopping
        .insert("a".into(), stopping(30, Stage::Signalled(at(30))));
    assert_eq!(decided(&knowledge, 1), waits_until(30));
    assert_eq!(decided(&knowledge, 30).steps, [Step::Kill("a".into())]);
    knowledge.stopping.insert("a".into(), stopping(30, Stage::Killed));
    assert_eq!(decided(&knowledge, 31), Plan::default());
    let ended = ready(&[("a", Some((31, 137)))]);
    assert_eq!(decided(&ended, 31).steps, [Step::RemoveSandbox, Step::Release]);
}

#[test]
fn the_hook_is_part_of_the_grace_period_but_two_seconds_are_left() {
    let pod = deleted(pod("Always", &[], &["a"]), 30);
    let mut knowledge = ready(&[("a", None)]);
    knowledge.stopping.insert("a".into(), stopping(30, Stage::Hook));
    assert_eq!(decide(&pod, false, &knowledge, at(12)), waits_until(30));
    // A hook that hangs has all of it.
    assert_eq!(
        decide(&pod, false, &knowledge, at(30)).steps,
        [Step::Signal("a".into(), at(32))]
    );
    // One that ends leaves the rest, in whole seconds.
    knowledge.stopping.insert("a".into(), stopping(30, Stage::Waiting));
    let later = at(12).saturating_add(SignedDuration::from_millis(900)).unwrap();
    let until = later.saturating_add(seconds(18)).unwrap();
    assert_eq!(
        decide(&pod, false, &knowledge, later).steps,
        [Step::Signal("a".into(), until)]
    );
}

#[test]
fn a_pod_that_the_api_forgot_has_a_moment_left() {
    let knowledge = ready(&[("a", None)]);
    let plan = decide(&pod("Always", &[], &["a"]), true, &knowledge, at(0));
    assert_eq!(plan.steps, [stop("a", 1, "Stopping container a")]);
}

#[test]
fn a_shorter_grace_period_counts_from_when_it_is_said() {
    let mut knowledge = ready(&[("a", None)]);
    knowledge
        .stopping
        .insert("a".into(), stopping(30, Stage::Signalled(at(30))));
    let shorter = deleted(pod("Always", &[], &["a"]), 5);
    let plan = decide(&shorter, false, &knowledge, at(10));
    assert_eq!(plan.steps, [stop("a", 5, "Stopping container a")]);
    let longer = deleted(pod("Always", &[], &["a"]), 60);
    assert_eq!(decide(&longer, false, &knowledge, at(10)), waits_until(30));
}

#[test]
fn failing_probes_restart_a_container() {
    use crate::probe::schedule::Kind;
    let probe = |grace: serde_json::Value| json!({"exec": {}, "terminationGracePeriodSeconds": grace});
    let spec = |policy: &str, grace: serde_json::Value| {
        pod_of(json!({"restartPolicy": policy, "terminationGracePeriodSeconds": 60,
            "containers": [{"name": "a", "image": "busybox", "livenessProbe": probe(grace.clone()), "startupProbe": probe(grace)}]}))
    };
    for (pod, kind, grace, why) in [
        (
            spec("Always", json!(null)),
            Kind::Liveness,
            60,
            "Container a failed liveness probe, will be restarted",
        ),
        (
            spec("Always", json!(7)),
            Kind::Liveness,
            7,
            "Container a failed liveness probe, will be restarted",
        ),
        (
            spec("Never", json!(7)),
            Kind::Liveness,
            7,
            "Container a failed liveness probe",
        ),
        (
            spec("Always", json!(7)),
            Kind::Startup,
            7,
            "Container a failed startup probe, will be restarted",
        ),
    ] {
        let mut knowledge = ready(&[("a", None)]);
        knowledge.health.insert("a".into(), fails(kind));
        assert_eq!(decide(&pod, false, &knowledge, at(0)).steps, [stop("a", grace, why)]);
        knowledge.health.insert(
            "a".into(),
            Health {
                id: "before".into(),
                ..fails(kind)
            },
        );
        assert_eq!(
            decide(&pod, false, &knowledge, at(0)),
            Plan::default(),
            "of an earlier run"
        );
    }
    let mut knowledge = ready(&[("a", None)]);
    knowledge.health.insert("a".into(), fails(Kind::Readiness));
    assert_eq!(
        decide(&spec("Always", json!(null)), false, &knowledge, at(0)),
        Plan::default()
    );
}

#[test]
fn sidecars_start_first_and_the_rest_waits_until_they_have() {
    let sidecar =
        |name: &str| json!({"name": name, "image": "busybox", "restartPolicy": "Always", "startupProbe": {"exec": {}}});
    let once = json!({"name": "i", "image": "busybox"});
    let pod = pod_of(
        json!({"initContainers": [sidecar("s"), once, sidecar("t")], "containers": [{"name": "a", "image": "busybox"}]}),
    );
    let started = |knowledge: &mut Knowledge, name: &str| {
        let health = Health {
            id: "id".into(),
            startup: Some(Verdict::Success),
            ..Health::default()
        };
        knowledge.health.insert(name.to_owned(), health);
    };
    let steps = |knowledge: &Knowledge| decide(&pod, false, knowledge, at(0)).steps;
    assert_eq!(steps(&ready(&[])), starts(&["s"]));
    let mut knowledge = ready(&[("s", None)]);
    assert_eq!(steps(&knowledge), [], "its startup probe has not succeeded");
    started(&mut knowledge, "s");
    assert_eq!(steps(&knowledge), starts(&["i"]));
    let mut knowledge = ready(&[("s", Some((0, 1))), ("i", None)]);
    assert_eq!(
        steps(&knowledge),
        starts(&["s"]),
        "it is started again beside what comes after it"
    );
    knowledge = ready(&[("s", None), ("i", Some((0, 0))), ("t", None)]);
    started(&mut knowledge, "t");
    assert_eq!(
        steps(&knowledge),
        starts(&["a"]),
        "what has passed holds nothing up again"
    );
    knowledge = ready(&[("s", None), ("t", Some((0, 0))), ("a", None)]);
    assert_eq!(steps(&knowledge), starts(&["t"]), "for the Pod's whole life");
}

#[test]
fn sidecars_end_after_all_others_the_last_first() {
    let sidecar = |name: &str| json!({"name": name, "image": "busybox", "restartPolicy": "Always"});
    let spec =
        json!({"initContainers": [sidecar("s"), sidecar("t")], "containers": [{"name": "a", "image": "busybox"}]});
    let pod = deleted(pod_of(spec), 30);
    let mut knowledge = ready(&[("a", None), ("s", None), ("t", None)]);
    for name in ["a", "s", "t"] {
        knowledge.stopping.insert(name.into(), stopping(30, Stage::Waiting));
    }
    let steps = |knowledge: &Knowledge, time| decide(&pod, false, knowledge, at(time)).steps;
    let signal = |name: &str, until| Step::Signal(name.into(), at(until));
    assert_eq!(steps(&knowledge, 0), [signal("a", 30)]);
    knowledge.states.insert("a".into(), state(Some((3, 0))));
    assert_eq!(steps(&knowledge, 3), [signal("t", 30)]);
    knowledge.states.insert("t".into(), state(Some((4, 0))));
    assert_eq!(steps(&knowledge, 4), [signal("s", 30)]);
    // When there is no time left nobody waits.
    let mut late = ready(&[("a", None), ("s", None)]);
    late.stopping.insert("a".into(), stopping(30, Stage::Killed));
    late.stopping.insert("s".into(), stopping(30, Stage::Waiting));
    assert_eq!(steps(&late, 30), [signal("s", 32)]);
}

#[test]
fn a_finished_pod_takes_its_sidecars_along() {
    let spec = json!({"restartPolicy": "Never", "initContainers": [{"name": "s", "image": "busybox", "restartPolicy": "Always"}],
        "containers": [{"name": "a", "image": "busybox"}]});
    let pod = pod_of(spec);
    let knowledge = ready(&[("a", Some((0, 0))), ("s", None)]);
    assert_eq!(
        decide(&pod, false, &knowledge, at(0)).steps,
        [stop("s", 30, "Stopping container s")]
    );
    let knowledge = ready(&[("a", Some((0, 0))), ("s", Some((1, 143)))]);
    assert_eq!(decide(&pod, false, &knowledge, at(1)).steps, [Step::RemoveSandbox]);
}

#[test]
fn a_post_start_hook_holds_up_the_containers_after_it() {
    let pod = pod("Always", &[], &["a", "b"]);
    let mut knowledge = ready(&[("a", None)]);
    knowledge.hooks.insert("a".into(), Hook::Running("id".into()));
    assert_eq!(decide(&pod, false, &knowledge, at(0)), Plan::default());
    knowledge.hooks.insert("a".into(), Hook::Failed("id".into()));
    assert_eq!(
        decide(&pod, false, &knowledge, at(0)).steps,
        [stop("a", 30, "FailedPostStartHook"), starts(&["b"])[0].clone()]
    );
}

#[test]
fn a_deadline_ends_a_pod() {
    let mut pod = pod_of(json!({"activeDeadlineSeconds": 5, "containers": [{"name": "a", "image": "busybox"}]}));
    let status = json!({"startTime": at(0).to_string()});
    pod.status = Some(serde_json::from_value(status).unwrap());
    let knowledge = ready(&[("a", None)]);
    assert_eq!(decide(&pod, false, &knowledge, at(4)), waits_until(5));
    assert_eq!(
        decide(&pod, false, &knowledge, at(5)).steps,
        [stop("a", 30, "Stopping container a")]
    );
}

#[test]
fn a_lost_sandbox_is_made_again_unless_nothing_may_run_twice() {
    for (policy, runs, again) in [
        ("Always", vec![("a", None), ("b", Some((0, 0)))], starts(&["a", "b"])),
        ("OnFailure", vec![("a", None), ("b", Some((0, 0)))], starts(&["a"])),
        ("Never", vec![("a", None), ("b", Some((0, 0)))], vec![]),
    ] {
        let pod = pod(policy, &[], &["a", "b"]);
        let mut knowledge = ready(&runs);
        lose(&mut knowledge, &pod, at(1));
        assert_eq!(decide(&pod, false, &knowledge, at(1)).steps, [Step::RemoveSandbox]);
        knowledge.sandbox = Sandbox::Absent;
        let plan = decide(&pod, false, &knowledge, at(1));
        if again.is_empty() {
            assert_eq!(plan, Plan::default(), "{policy}");
            continue;
        }
        assert_eq!(plan.steps, [Step::CreateSandbox], "{policy}");
        knowledge.renew();
        assert_eq!(decide(&pod, false, &knowledge, at(1)).steps, again, "{policy}");
    }
}

#[test]
fn another_image_is_another_container() {
    let pod = pod_of(json!({"containers": [{"name": "a", "image": "nginx"}]}));
    let plan = decide(&pod, false, &ready(&[("a", None)]), at(0));
    assert_eq!(
        plan.steps,
        [stop("a", 30, "Container a definition changed, will be restarted")]
    );
}
