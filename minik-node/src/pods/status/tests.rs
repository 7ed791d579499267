//! Statuses from situations: phases, waiting reasons, conditions, as the kubelet's sources and documents have them.

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::*;
use crate::pods::backoff::Backoff;
use crate::pods::decide::{Failure, Health, Hook, Sandbox};
use crate::probe::schedule::Verdict;
use crate::runtime::client::States;
use crate::runtime::protocol::{Attempt, ContainerState, Ended, Exit};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

fn pod(spec: Value) -> Pod {
    let metadata = json!({"name": "web", "namespace": "default", "uid": "u", "generation": 3});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
}

/// Names of containers and what became of them: running (`None`) or ended with a code.
fn knowledge(runs: &[(&str, Option<i32>)]) -> Knowledge {
    let state = |(name, code): &(&str, Option<i32>)| {
        let ended = code.map(|code| Ended {
            at: at(1),
            exit: Exit { code, signal: None },
            start_error: None,
        });
        let current = Attempt {
            id: format!("{name}-1"),
            attempt: 1,
            image: "busybox".into(),
            image_id: "minik://busybox".into(),
            stop_signal: libc::SIGTERM,
            user: None,
            pid: 1,
            started_at: at(0),
            ended,
        };
        let state = ContainerState {
            current,
            previous: None,
        };
        ((*name).to_owned(), state)
    };
    Knowledge {
        sandbox: Sandbox::Ready,
        states: runs.iter().map(state).collect(),
        ..Knowledge::default()
    }
}

fn of(pod: &Pod, knowledge: &Knowledge) -> Value {
    let addresses = Addresses {
        host: [172, 30, 0, 11].into(),
        pod: Some([10, 244, 1, 3].into()),
    };
    serde_json::to_value(status(pod, knowledge, addresses, at(0), at(2))).unwrap()
}

fn condition(status: &Value, name: &str) -> Value {
    let list = status["conditions"].as_array().unwrap();
    let found = list.iter().find(|condition| condition["type"] == name).unwrap();
    json!([found["status"], found["reason"], found["message"]])
}

#[test]
fn of_a_pod_that_is_refused_nothing_is_said_but_why() {
    let mut pod = pod(json!({"os": {"name": "windows"}, "containers": [{"name": "a"}]}));
    let scheduled = json!({"type": "PodScheduled", "status": "True"});
    pod.status = serde_json::from_value(json!({"phase": "Pending", "conditions": [scheduled]})).unwrap();
    let refused = of(&pod, &Knowledge::default());
    let expected = json!({
        "phase": "Failed",
        "reason": "PodOSNotSupported",
        "message": "Pod was rejected: Failed to admit pod as the OS field doesn't match node OS",
        "observedGeneration": 3,
        "startTime": serde_json::to_value(Time(at(0))).unwrap(),
        "conditions": [scheduled],
    });
    assert_eq!(refused, expected);
    pod.status = serde_json::from_value(refused).unwrap();
    assert_eq!(of(&pod, &Knowledge::default()), expected);
}

#[test]
fn the_phase_is_what_the_containers_amount_to() {
    let two = |policy: &str| json!({"restartPolicy": policy, "containers": [{"name": "a"}, {"name": "b"}]});
    for (policy, runs, phase) in [
        ("Always", vec![], "Pending"),
        ("Always", vec![("a", None)], "Pending"),
        ("Always", vec![("a", None), ("b", None)], "Running"),
        ("Always", vec![("a", Some(0)), ("b", Some(1))], "Running"),
        ("OnFailure", vec![("a", Some(0)), ("b", Some(1))], "Running"),
        ("OnFailure", vec![("a", Some(0)), ("b", Some(0))], "Succeeded"),
        ("Never", vec![("a", Some(0)), ("b", None)], "Running"),
        ("Never", vec![("a", Some(0)), ("b", Some(1))], "Failed"),
        ("Never", vec![("a", Some(0)), ("b", Some(0))], "Succeeded"),
    ] {
        let status = of(&pod(two(policy)), &knowledge(&runs));
        assert_eq!(status["phase"], phase, "{policy} {runs:?}");
    }
}

#[test]
fn init_containers_and_sidecars_have_their_part_in_the_phase() {
    let spec = |policy: &str| {
        json!({"restartPolicy": policy, "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}],
            "containers": [{"name": "a"}]})
    };
    for (policy, runs, phase) in [
        ("Always", vec![("i", None)], "Pending"),
        ("Always", vec![("i", Some(1))], "Pending"),
        ("Never", vec![("i", Some(1))], "Failed"),
        ("Always", vec![("i", Some(0)), ("s", None)], "Pending"),
        ("Always", vec![("i", Some(0)), ("s", None), ("a", None)], "Running"),
        ("Never", vec![("i", Some(0)), ("s", None), ("a", Some(0))], "Running"),
        (
            "Never",
            vec![("i", Some(0)), ("s", Some(1)), ("a", Some(0))],
            "Succeeded",
        ),
    ] {
        let status = of(&pod(spec(policy)), &knowledge(&runs));
        assert_eq!(status["phase"], phase, "{policy} {runs:?}");
    }
}

#[test]
fn a_deleted_pod_ends_in_a_phase() {
    let mut pod = pod(json!({"containers": [{"name": "a"}]}));
    pod.metadata.deletion_timestamp = Some(Time(at(30)));
    for (runs, phase) in [
        (vec![("a", None)], "Running"),
        (vec![("a", Some(0))], "Succeeded"),
        (vec![("a", Some(137))], "Failed"),
        (vec![], "Failed"),
    ] {
        assert_eq!(of(&pod, &knowledge(&runs))["phase"], phase, "{runs:?}");
    }
}

#[test]
fn waiting_says_why() {
    let plain = pod(json!({"containers": [{"name": "a"}]}));
    let reason = |status: &Value| status["containerStatuses"][0]["state"]["waiting"]["reason"].clone();
    assert_eq!(reason(&of(&plain, &knowledge(&[]))), "ContainerCreating");
    let init = pod(json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}]}));
    assert_eq!(reason(&of(&init, &knowledge(&[]))), "PodInitializing");

    let mut crashing = knowledge(&[("a", Some(1))]);
    crashing.crashes.insert("a".into(), Backoff::next(None, at(0), at(0)));
    let status = of(&plain, &crashing);
    let container = &status["containerStatuses"][0];
    let text = "back-off 10s restarting failed container=a pod=web_default(u)";
    assert_eq!(
        container["state"]["waiting"],
        json!({"reason": "CrashLoopBackOff", "message": text})
    );
    assert_eq!(container["lastState"]["terminated"]["reason"], "Error");
    assert_eq!(container["restartCount"], 1);

    let mut hooked = knowledge(&[("a", None)]);
    hooked.hooks.insert("a".into(), Hook::Running("a-1".into()));
    let status = of(&plain, &hooked);
    assert_eq!(
        reason(&status),
        "ContainerCreating",
        "not Running before postStart has ended"
    );
    assert_eq!(status["phase"], "Pending");

    let mut failed = knowledge(&[("a", Some(137))]);
    let failure = Failure {
        id: "a-1".into(),
        reason: "PostStartHookError",
        message: "no".into(),
    };
    failed.failures.insert("a".into(), failure);
    assert_eq!(reason(&of(&plain, &failed)), "PostStartHookError");
}

#[test]
fn conditions_name_who_keeps_them_from_holding() {
    let probe = json!({"exec": {"command": ["true"]}});
    let spec = json!({
        "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always", "startupProbe": probe}],
        "containers": [{"name": "a", "readinessProbe": probe}, {"name": "b"}],
    });
    let pod = pod(spec);
    let status = of(&pod, &knowledge(&[("i", None)]));
    let message = "containers with incomplete status: [i s]";
    assert_eq!(
        condition(&status, "Initialized"),
        json!(["False", "ContainersNotInitialized", message])
    );
    let message = "containers with unready status: [s a b]";
    assert_eq!(
        condition(&status, "Ready"),
        json!(["False", "ContainersNotReady", message])
    );

    let mut running = knowledge(&[("i", Some(0)), ("s", None), ("a", None), ("b", None)]);
    running.health.insert(
        "a".into(),
        Health {
            id: "a-1".into(),
            readiness: Some(Verdict::Failure),
            ..Health::default()
        },
    );
    running.health.insert(
        "s".into(),
        Health {
            id: "s-1".into(),
            startup: Some(Verdict::Success),
            ..Health::default()
        },
    );
    let status = of(&pod, &running);
    assert_eq!(condition(&status, "Initialized"), json!(["True", null, null]));
    let message = "containers with unready status: [a]";
    assert_eq!(
        condition(&status, "ContainersReady"),
        json!(["False", "ContainersNotReady", message])
    );
    assert_eq!(status["containerStatuses"][0]["started"], true);
    assert_eq!(status["observedGeneration"], 3);

    running.health.insert(
        "a".into(),
        Health {
            id: "a-0".into(),
            readiness: Some(Verdict::Success),
            ..Health::default()
        },
    );
    assert_eq!(
        condition(&of(&pod, &running), "Ready")[0],
        "False",
        "what an earlier run said does not count"
    );
    running.health.insert(
        "a".into(),
        Health {
            id: "a-1".into(),
            readiness: Some(Verdict::Success),
            ..Health::default()
        },
    );
    assert_eq!(condition(&of(&pod, &running), "Ready"), json!(["True", null, null]));
}

#[test]
fn a_pod_that_is_over_says_how() {
    let pod = pod(json!({"restartPolicy": "Never", "containers": [{"name": "a"}]}));
    let status = of(&pod, &knowledge(&[("a", Some(0))]));
    for name in ["Ready", "ContainersReady"] {
        assert_eq!(condition(&status, name), json!(["False", "PodCompleted", null]));
    }
    assert_eq!(condition(&status, "Initialized"), json!(["True", "PodCompleted", null]));
    let status = of(&pod, &knowledge(&[("a", Some(1))]));
    assert_eq!(condition(&status, "Ready"), json!(["False", "PodFailed", null]));
}

#[test]
fn readiness_gates_are_for_others_to_open() {
    let mut pod = pod(json!({"readinessGates": [{"conditionType": "x/y"}], "containers": [{"name": "a"}]}));
    let knowledge = knowledge(&[("a", None)]);
    let status = of(&pod, &knowledge);
    let message = "corresponding condition of pod readiness gate \"x/y\" does not exist.";
    assert_eq!(
        condition(&status, "Ready"),
        json!(["False", "ReadinessGatesNotReady", message])
    );
    assert_eq!(condition(&status, "ContainersReady")[0], "True");
    for (value, expected) in [
        (
            "False",
            json!([
                "False",
                "ReadinessGatesNotReady",
                "the status of pod readiness gate \"x/y\" is not \"True\", but False"
            ]),
        ),
        ("True", json!(["True", null, null])),
    ] {
        let conditions = json!({"conditions": [{"type": "x/y", "status": value}]});
        pod.status = Some(serde_json::from_value(conditions).unwrap());
        assert_eq!(condition(&of(&pod, &knowledge), "Ready"), expected);
    }
}

#[test]
fn a_deadline_that_has_passed_fails_the_pod_for_good() {
    let mut pod = pod(json!({"activeDeadlineSeconds": 2, "containers": [{"name": "a"}]}));
    let started = json!({"startTime": at(0).to_string()});
    pod.status = Some(serde_json::from_value(started).unwrap());
    let late = of(&pod, &knowledge(&[("a", None)]));
    assert_eq!(
        (&late["phase"], &late["reason"]),
        (&json!("Failed"), &json!("DeadlineExceeded"))
    );
    assert_eq!(
        late["message"],
        "Pod was active on the node longer than the specified deadline"
    );
    pod.status = Some(serde_json::from_value(late).unwrap());
    let later = of(&pod, &knowledge(&[("a", Some(0))]));
    assert_eq!(
        (&later["phase"], &later["reason"]),
        (&json!("Failed"), &json!("DeadlineExceeded"))
    );
}

#[test]
fn whose_end_nobody_saw_ended_with_137() {
    let spec = json!({"restartPolicy": "Never", "containers": [{"name": "a"}]});
    let mut knowledge = knowledge(&[("a", None)]);
    let pod = pod(spec);
    knowledge.lose(crate::pods::lost::recover(
        &pod,
        &knowledge.states,
        &States::new(),
        at(1),
    ));
    let status = of(&pod, &knowledge);
    let end = &status["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(
        (&end["reason"], &end["exitCode"]),
        (&json!("ContainerStatusUnknown"), &json!(137))
    );
    assert_eq!(
        end["message"],
        "The container could not be located when the pod was terminated"
    );
    assert_eq!(status["phase"], "Failed");
}

#[test]
fn what_ran_in_an_earlier_sandbox_is_the_last_state() {
    let mut knowledge = knowledge(&[("a", Some(3))]);
    knowledge.renew();
    let pod = pod(json!({"containers": [{"name": "a"}]}));
    let container = of(&pod, &knowledge)["containerStatuses"][0].clone();
    assert_eq!(container["state"]["waiting"]["reason"], "ContainerCreating");
    assert_eq!(container["lastState"]["terminated"]["exitCode"], 3);
    assert_eq!(container["restartCount"], 1);
}

#[test]
fn a_transition_is_timed_once() {
    let mut pod = pod(json!({"containers": [{"name": "a"}]}));
    let knowledge = knowledge(&[("a", None)]);
    let first = of(&pod, &knowledge);
    pod.status = Some(serde_json::from_value(first.clone()).unwrap());
    let addresses = Addresses {
        host: [172, 30, 0, 11].into(),
        pod: Some([10, 244, 1, 3].into()),
    };
    let later = at(2).saturating_add(SignedDuration::from_secs(60)).unwrap();
    let second = serde_json::to_value(status(&pod, &knowledge, addresses, at(50), later)).unwrap();
    assert_eq!(first, second);
}

#[test]
fn a_patch_unsays_what_no_longer_holds_and_leaves_others_conditions() {
    let old = json!({"reason": "Odd", "podIPs": [{"ip": "10.244.1.9"}], "conditions": [
        {"type": "x/y", "status": "True"},
        {"type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "m"}]});
    let new = json!({"podIPs": [{"ip": "10.244.1.3"}], "conditions": [{"type": "Ready", "status": "True"}]});
    let old: PodStatus = serde_json::from_value(old).unwrap();
    let new: PodStatus = serde_json::from_value(new).unwrap();
    let patch = patch("u", [None, Some(&old)], &new).unwrap();
    assert_eq!(patch["metadata"], json!({"uid": "u"}));
    let status = &patch["status"];
    assert_eq!(status.get("reason"), Some(&Value::Null));
    assert_eq!(status["podIPs"], json!([{"$patch": "replace"}, {"ip": "10.244.1.3"}]));
    assert_eq!(status["conditions"][0].get("message"), Some(&Value::Null));
    assert_eq!(status["conditions"].as_array().unwrap().len(), 1);
    assert_eq!(
        status["$setElementOrder/conditions"],
        json!([{"type": "x/y"}, {"type": "Ready"}])
    );
}

#[test]
fn what_the_api_knows_is_not_told_again() {
    let mut pod = pod(json!({"containers": [{"name": "a"}]}));
    let mut running = knowledge(&[("a", None)]);
    let mut known = of(&pod, &running);
    known["qosClass"] = json!("BestEffort");
    let gate = json!({"type": "x/y", "status": "True"});
    known["conditions"].as_array_mut().unwrap().insert(0, gate);
    let api: PodStatus = serde_json::from_value(known).unwrap();
    pod.status = Some(api.clone());
    let now = |knowledge: &Knowledge| serde_json::from_value(of(&pod, knowledge)).unwrap();
    assert!(is_known(&api, &now(&running)).unwrap());
    running.states = knowledge(&[("a", Some(1))]).states;
    assert!(!is_known(&api, &now(&running)).unwrap());
}
