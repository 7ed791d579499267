//! What holds of a Job in any order of events.

use super::*;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Event {
    See,
    Pass,
    End(usize, bool),
    Delete(usize),
    Wait(i64),
    Parallelism(i32),
    Suspend(bool),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        5 => Just(Event::See),
        6 => Just(Event::Pass),
        5 => ((0usize..8), prop::bool::weighted(0.7)).prop_map(|(n, well)| Event::End(n, well)),
        1 => (0usize..8).prop_map(Event::Delete),
        2 => (0i64..60).prop_map(Event::Wait),
        1 => (1i32..5).prop_map(Event::Parallelism),
        1 => any::<bool>().prop_map(Event::Suspend),
    ]
}

fn happen(world: &mut World, event: &Event) {
    let nth = |world: &World, n: usize| world.running().get(n).cloned();
    match event {
        Event::See => world.see(),
        Event::Pass => drop(world.pass()),
        Event::End(n, well) => {
            let pod = nth(world, *n);
            pod.into_iter().for_each(|uid| world.end(&uid, i32::from(!well)));
        }
        Event::Delete(n) => {
            if let Some(uid) = nth(world, *n) {
                let pod = world.pods[&uid].clone();
                world.delete(&pod);
                world.end(&uid, 137);
            }
        }
        Event::Wait(seconds) => world.now += seconds,
        Event::Parallelism(wish) => world.spec().parallelism = Some(*wish),
        Event::Suspend(wish) => world.spec().suspend = Some(*wish),
    }
}

proptest! {
    /// Whatever ends, is deleted, seen late or asked for in between: never more Pods made than parallelism
    /// allows, no count ever falls or exceeds what has ended, and in the end every Pod that ended as the Job's
    /// is counted exactly once.
    #[test]
    fn parallelism_is_kept_and_every_pod_is_counted_once(
        events in prop::collection::vec(event(), 0..120), completions in 1i32..6, with_indexes in any::<bool>(),
    ) {
        let mut world = World::new(if with_indexes { indexed(completions, 2) } else { job(Some(completions), 2) });
        world.spec().backoff_limit = Some(1000);
        for event in &events {
            let (before, running) = (world.status(), world.running().len());
            happen(&mut world, event);
            let status = world.status();
            if matches!(event, Event::Pass) && world.running().len() > running {
                let parallelism = usize::try_from(world.spec().parallelism.unwrap()).unwrap();
                prop_assert!(world.running().len() <= parallelism, "{:?}", world.running());
            }
            prop_assert!(status.failed >= before.failed && status.succeeded >= before.succeeded);
        }
        world.spec().suspend = Some(false);
        for _ in 0..40 {
            world.now += 600;
            // What was taken away goes.
            let going: Vec<_> = world.pods.values().filter(|pod| is_terminating(pod)).filter_map(|p| p.uid()).collect();
            going.iter().for_each(|uid| world.end(uid, 143));
            world.run_all(0);
        }
        let status = world.status();
        let conditions = world.conditions();
        prop_assert_eq!(conditions.last().unwrap().0.as_str(), "Complete");
        let ended = |well: bool| {
            let uids = world.ended.iter().filter(|(uid, was)| **was == well && !world.discarded.contains(*uid));
            i32::try_from(uids.count()).unwrap()
        };
        prop_assert_eq!(status.failed.unwrap_or(0), ended(false));
        if with_indexes {
            prop_assert_eq!(status.succeeded, Some(completions));
        } else {
            prop_assert_eq!(status.succeeded.unwrap_or(0), ended(true));
        }
        prop_assert!(world.pods.values().all(|pod| !is_tracked(pod)));
        let plan = world.plan();
        prop_assert!(plan.status == status && plan.create.is_empty() && plan.release.is_empty());
        prop_assert_eq!(status.uncounted_terminated_pods, Some(Default::default()));
    }
}
