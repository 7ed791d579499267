//! A simulated node on which every Pod must come to rest, whatever its containers do.

use proptest::prelude::*;

use super::*;

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
        });
    };
    match step {
        Step::CreateSandbox => knowledge.renew(),
        Step::RemoveSandbox => knowledge.sandbox = Sandbox::Absent,
        // Nothing that it starts fails.
        Step::BackOff(name) => unreachable!("{name} has its image"),
        Step::Start(name) => {
            if let Some(ended) = knowledge.current(name).and_then(|run| run.ended.as_ref()) {
                let next = Backoff::next(knowledge.crashes.get(name).copied(), ended.at, now);
                knowledge.crashes.insert(name.clone(), next);
            }
            let mut fresh = state(None);
            let before = knowledge.last(name).map_or(0, |run| run.attempt + 1);
            fresh.current.id = format!("{name}-{before}");
            fresh.current.attempt = before;
            if let Some(Some(code)) = codes.next() {
                end(&mut fresh, code);
            }
            knowledge.states.insert(name.clone(), fresh);
        }
        Step::Stop { container, grace, .. } => {
            let stopping = Stopping {
                id: knowledge.states[container].current.id.clone(),
                since: now,
                grace: *grace,
                stage: Stage::Waiting,
            };
            knowledge.stopping.insert(container.clone(), stopping);
        }
        Step::Signal(name, until) => {
            let stopping = knowledge.stopping.get_mut(name).expect("signals only what is stopping");
            stopping.stage = Stage::Signalled(*until);
            if codes.next().is_some_and(|code| code.is_some()) {
                end(knowledge.states.get_mut(name).expect("signals only what runs"), 143);
            }
        }
        Step::Kill(name) => {
            knowledge
                .stopping
                .get_mut(name)
                .expect("kills only what is stopping")
                .stage = Stage::Killed;
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
        sidecar in any::<bool>(),
        losses in proptest::collection::vec(0..200_usize, 0..3),
        sick in proptest::collection::vec(0..200_usize, 0..3),
    ) {
        let mut pod = pod(&policy, &["i", "j"][..inits.min(2)], &["a", "b"]);
        if let Some(first) = pod.spec.as_mut().and_then(|spec| spec.init_containers.as_mut()?.first_mut()) {
            first.restart_policy = sidecar.then(|| "Always".to_owned());
        }
        let mut knowledge = Knowledge::default();
        let mut codes = codes.into_iter();
        let mut now = at(0);
        let mut rested = false;
        for round in 0..400 {
            if losses.contains(&round) {
                lose(&mut knowledge, &pod, now);
            }
            if sick.contains(&round) && let Some(id) = knowledge.current("a").map(|run| run.id.clone()) {
                let health = Health { id, liveness: Some(Verdict::Failure), ..Health::default() };
                knowledge.health.insert("a".into(), health);
            }
            let plan = decide(&pod, false, &knowledge, now);
            for step in &plan.steps {
                if let Step::Start(name) = step {
                    prop_assert!(!knowledge.alive(name), "{} runs already", name);
                    prop_assert_eq!(knowledge.sandbox, Sandbox::Ready);
                    let ended = knowledge.last(name).and_then(|run| run.ended.as_ref());
                    let done = policy == "Never" || policy == "OnFailure" && ended.is_some_and(|end| end.exit.code == 0);
                    let regular = name == "a" || name == "b";
                    prop_assert!(!(regular && ended.is_some() && done), "{} has had its run", name);
                }
                prop_assert!(!apply(&mut knowledge, step, now, &mut codes), "released without deletion");
            }
            match plan.wake {
                Some(wake) => { prop_assert!(wake > now); now = wake; }
                None if plan.steps.is_empty() && round > 200 => { rested = true; break; }
                None => now = now.saturating_add(SignedDuration::from_millis(1)).unwrap(),
            }
        }
        prop_assert!(rested, "{knowledge:?}");
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
