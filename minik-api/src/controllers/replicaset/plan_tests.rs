use super::*;
use k8s_openapi::api::apps::v1::ReplicaSetSpec;
use k8s_openapi::api::core::v1::{PodCondition, PodSpec, PodStatus};
use proptest::prelude::*;

const NOW: i64 = 1_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A Pod: phase, ready for so many seconds, on this node, going.
#[derive(Debug, Clone)]
struct Spec {
    phase: &'static str,
    ready: Option<i64>,
    node: Option<&'static str>,
    terminating: bool,
}

const RUNNING: Spec = Spec {
    phase: "Running",
    ready: Some(100),
    node: Some("a"),
    terminating: false,
};

fn pod(name: usize, spec: &Spec) -> Arc<Pod> {
    let mut pod = Pod {
        spec: Some(PodSpec {
            node_name: spec.node.map(Into::into),
            ..PodSpec::default()
        }),
        status: Some(PodStatus {
            phase: Some(spec.phase.into()),
            ..PodStatus::default()
        }),
        ..Pod::default()
    };
    pod.metadata.name = Some(format!("p{name}"));
    pod.metadata.uid = Some(format!("uid{name:03}"));
    pod.metadata.creation_timestamp = Some(Time(at(NOW - 1000)));
    pod.metadata.deletion_timestamp = spec.terminating.then(|| Time(at(NOW)));
    if let Some(seconds) = spec.ready {
        pod.status.as_mut().unwrap().conditions = Some(vec![PodCondition {
            type_: "Ready".into(),
            status: "True".into(),
            last_transition_time: Some(Time(at(NOW - seconds))),
            ..PodCondition::default()
        }]);
    }
    Arc::new(pod)
}

fn set(replicas: i32) -> ReplicaSet {
    ReplicaSet {
        spec: Some(ReplicaSetSpec {
            replicas: Some(replicas),
            ..ReplicaSetSpec::default()
        }),
        ..ReplicaSet::default()
    }
}

fn view<'a>(replica_set: &'a ReplicaSet, pods: &'a [Arc<Pod>]) -> View<'a> {
    View {
        replica_set,
        pods,
        related: pods,
        settled: true,
        now: at(NOW),
    }
}

fn deleted(replicas: i32, specs: &[Spec]) -> Vec<String> {
    let pods: Vec<_> = specs.iter().enumerate().map(|(i, spec)| pod(i, spec)).collect();
    match decide(&view(&set(replicas), &pods)) {
        Action::Delete(pods) => pods.iter().map(|pod| pod.metadata.name.clone().unwrap()).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_pod_whose_loss_costs_least_goes_first() {
    let unassigned = Spec {
        phase: "Pending",
        ready: None,
        node: None,
        terminating: false,
    };
    let pending = Spec {
        node: Some("a"),
        ..unassigned
    };
    let unready = Spec { ready: None, ..RUNNING };
    let young = Spec {
        ready: Some(1),
        ..RUNNING
    };
    let old = Spec {
        ready: Some(900),
        ..RUNNING
    };
    let all = [old, young, unready, pending, unassigned];
    assert_eq!(deleted(0, &all).len(), 5);
    assert_eq!(deleted(1, &all), ["p4", "p3", "p2", "p1"]);
}

#[test]
fn the_fuller_node_gives_first() {
    let elsewhere = Spec {
        node: Some("b"),
        ..RUNNING
    };
    assert_eq!(deleted(2, &[elsewhere, RUNNING, RUNNING]), ["p1"]);
}

#[test]
fn finished_and_going_pods_do_not_count() {
    let failed = Spec {
        phase: "Failed",
        ..RUNNING
    };
    let done = Spec {
        phase: "Succeeded",
        ..RUNNING
    };
    let going = Spec {
        terminating: true,
        ..RUNNING
    };
    let pods: Vec<_> = [failed, done, going, RUNNING]
        .iter()
        .enumerate()
        .map(|(i, spec)| pod(i, spec))
        .collect();
    let set = set(2);
    assert_eq!(decide(&view(&set, &pods)), Action::Create(1));
    let status = status(&view(&set, &pods), true, None);
    assert_eq!(
        (status.replicas, status.ready_replicas, status.terminating_replicas),
        (1, Some(1), Some(1))
    );
}

#[test]
fn nothing_is_counted_while_writes_are_unseen_or_the_set_is_going() {
    let mut going = set(3);
    going.metadata.deletion_timestamp = Some(Time(at(1)));
    assert_eq!(decide(&view(&going, &[])), Action::Nothing);
    let set = set(3);
    assert_eq!(
        decide(&View {
            settled: false,
            ..view(&set, &[])
        }),
        Action::Nothing
    );
}

#[test]
fn availability_waits_for_min_ready_seconds() {
    let mut set = set(1);
    set.spec.as_mut().unwrap().min_ready_seconds = Some(10);
    let young = [pod(
        0,
        &Spec {
            ready: Some(4),
            ..RUNNING
        },
    )];
    assert_eq!(status(&view(&set, &young), false, None).available_replicas, None);
    assert_eq!(recheck(&view(&set, &young)), Some(Duration::from_secs(6)));
    let old = [pod(
        0,
        &Spec {
            ready: Some(10),
            ..RUNNING
        },
    )];
    assert_eq!(status(&view(&set, &old), false, None).available_replicas, Some(1));
    assert_eq!(recheck(&view(&set, &old)), None);
}

#[test]
fn a_failure_stays_until_a_pass_succeeds() {
    let mut set = set(1);
    let failure = Failure {
        reason: "FailedCreate",
        message: "no".into(),
        count: 1,
    };
    let failed = status(&view(&set, &[]), true, Some(&failure));
    assert_eq!(
        failed.conditions.as_ref().unwrap()[0].reason.as_deref(),
        Some("FailedCreate")
    );
    set.status = Some(failed.clone());
    assert_eq!(status(&view(&set, &[]), false, None), failed);
    assert_eq!(status(&view(&set, &[]), true, None).conditions, None);
}

fn any_pod() -> impl Strategy<Value = Spec> {
    let phase = prop_oneof![
        Just("Pending"),
        Just("Running"),
        Just("Succeeded"),
        Just("Failed"),
        Just("Unknown")
    ];
    let node = prop_oneof![Just(None), Just(Some("a")), Just(Some("b"))];
    (phase, prop::option::of(0i64..2000), node, any::<bool>()).prop_map(|(phase, ready, node, terminating)| Spec {
        phase,
        ready,
        node,
        terminating,
    })
}

proptest! {
    /// Whatever the Pods, one pass reaches the wanted number of active ones exactly, from whatever
    /// order the cache lists them in, and a second pass finds nothing to do.
    #[test]
    fn one_pass_reaches_the_wanted_number(specs in prop::collection::vec(any_pod(), 0..30), wanted in 0i32..30) {
        let mut pods: Vec<_> = specs.iter().enumerate().map(|(i, spec)| pod(i, spec)).collect();
        let set = set(wanted);
        let action = decide(&view(&set, &pods));
        let mut reversed = pods.clone();
        reversed.reverse();
        if let (Action::Delete(a), Action::Delete(b)) = (&action, decide(&view(&set, &reversed))) {
            let sorted = |pods: &[Arc<Pod>]| {
                let mut names: Vec<_> = pods.iter().map(|p| p.metadata.name.clone()).collect();
                names.sort();
                names
            };
            prop_assert_eq!(sorted(a), sorted(&b), "the order of the cache must not matter");
        }
        match action {
            Action::Nothing => {}
            Action::Create(count) => pods.extend((0..count).map(|i| pod(100 + i, &RUNNING))),
            Action::Delete(gone) => pods.retain(|pod| !gone.contains(pod)),
        }
        prop_assert_eq!(pods.iter().filter(|pod| is_active(pod)).count(), usize::try_from(wanted).unwrap());
        prop_assert_eq!(decide(&view(&set, &pods)), Action::Nothing);
    }
}
