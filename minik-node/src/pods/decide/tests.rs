//! Tables for each rule, and a simulated node on which every Pod must come to rest.

use jiff::SignedDuration;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::runtime::protocol::{Attempt, Exit};

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
        message: None,
    });
    let current = Attempt {
        id: "id".into(),
        attempt: 0,
        image: "busybox".into(),
        image_id: String::new(),
        stop_signal: libc::SIGTERM,
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

fn deleted(mut pod: Pod, deadline: i64) -> Pod {
    pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(deadline)));
    pod
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
    knowledge.crashes.insert("a".into(), Backoff::next(None, at(4)));
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
    assert_eq!(
        decide(&pod, false, &knowledge, at(0)).steps,
        [Step::Stop("a".into(), at(30))]
    );
    knowledge.stopping.insert("a".into(), Some(at(30)));
    assert_eq!(
        decide(&pod, false, &knowledge, at(1)),
        Plan {
            steps: vec![],
            wake: Some(at(30))
        }
    );
    assert_eq!(decide(&pod, false, &knowledge, at(30)).steps, [Step::Kill("a".into())]);
    knowledge.stopping.insert("a".into(), None);
    assert_eq!(decide(&pod, false, &knowledge, at(31)), Plan::default());
    let ended = ready(&[("a", Some((31, 137)))]);
    assert_eq!(
        decide(&pod, false, &ended, at(31)).steps,
        [Step::RemoveSandbox, Step::Release]
    );
}

#[test]
fn a_pod_that_the_api_forgot_is_killed_at_once() {
    let knowledge = ready(&[("a", None)]);
    assert_eq!(
        decide(&pod("Always", &[], &["a"]), true, &knowledge, at(0)).steps,
        [Step::Kill("a".into())]
    );
}

#[test]
fn a_shorter_grace_period_counts_from_when_it_is_said() {
    let mut knowledge = ready(&[("a", None)]);
    knowledge.stopping.insert("a".into(), Some(at(30)));
    let pod = deleted(pod("Always", &[], &["a"]), 2);
    assert_eq!(decide(&pod, false, &knowledge, at(1)).wake, Some(at(2)));
    assert_eq!(decide(&pod, false, &knowledge, at(2)).steps, [Step::Kill("a".into())]);
}

/// Carries a step out on a node where everything succeeds; containers end as told by `codes`.
fn apply(
    knowledge: &mut Knowledge,
    step: &Step,
    now: Timestamp,
    codes: &mut impl Iterator<Item = Option<i32>>,
) -> bool {
    let end = |state: &mut ContainerState, code| {
        state.current.ended.get_or_insert(Ended {
            at: now,
            exit: Exit { code, signal: None },
            start_error: None,
            message: None,
        });
    };
    match step {
        Step::CreateSandbox => (knowledge.sandbox, knowledge.states) = (Sandbox::Ready, States::default()),
        Step::RemoveSandbox => knowledge.sandbox = Sandbox::Absent,
        Step::Start(name) => {
            if knowledge.states.contains_key(name) {
                let next = Backoff::next(knowledge.crashes.get(name).copied(), now);
                knowledge.crashes.insert(name.clone(), next);
            }
            let mut fresh = state(None);
            if let Some(Some(code)) = codes.next() {
                end(&mut fresh, code);
            }
            knowledge.states.insert(name.clone(), fresh);
        }
        Step::Stop(name, until) => drop(knowledge.stopping.insert(name.clone(), Some(*until))),
        Step::Kill(name) => {
            knowledge.stopping.insert(name.clone(), None);
            end(knowledge.states.get_mut(name).expect("kills only what runs"), 137);
        }
        Step::Release => return true,
    }
    false
}

proptest! {
    /// Whatever containers do, a Pod comes to rest within bounded steps, nothing is started twice, and deletion
    /// ends in release with no sandbox left.
    #[test]
    fn every_pod_comes_to_rest_and_can_be_deleted(
        policy in prop_oneof!["Always", "OnFailure", "Never"],
        codes in proptest::collection::vec(proptest::option::of(0..2), 0..20),
        inits in 0..3_usize,
        lost in any::<bool>(),
    ) {
        let mut pod = pod(&policy, &["i", "j"][..inits.min(2)], &["a", "b"]);
        let mut knowledge = Knowledge::default();
        let mut codes = codes.into_iter();
        let mut now = at(0);
        let mut rested = false;
        for _ in 0..200 {
            let plan = decide(&pod, false, &knowledge, now);
            for step in &plan.steps {
                if let Step::Start(name) = step {
                    prop_assert!(!alive(knowledge.states.get(name)), "{} runs already", name);
                }
                prop_assert!(!apply(&mut knowledge, step, now, &mut codes), "released without deletion");
            }
            match plan.wake {
                Some(wake) => { prop_assert!(wake > now); now = wake; }
                None if plan.steps.is_empty() => { rested = true; break; }
                None => now = now.saturating_add(SignedDuration::from_millis(1)).unwrap(),
            }
        }
        prop_assert!(rested, "{knowledge:?}");
        if lost && knowledge.sandbox == Sandbox::Ready {
            knowledge.sandbox = Sandbox::Lost;
        }
        pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now.saturating_add(SignedDuration::from_secs(30)).unwrap()));
        let mut released = false;
        for _ in 0..20 {
            let plan = decide(&pod, false, &knowledge, now);
            for step in &plan.steps {
                released = apply(&mut knowledge, step, now, &mut codes);
            }
            if released { break; }
            now = plan.wake.unwrap_or(now);
        }
        prop_assert!(released && knowledge.sandbox == Sandbox::Absent, "{knowledge:?}");
    }
}
