//! What holds of a StatefulSet in any order of events.

use super::*;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Event {
    Pass,
    Advance(usize),
    Fail(usize),
    Lose(usize),
    Scale(i32),
    Roll(u32),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => Just(Event::Pass),
        6 => (0usize..6).prop_map(Event::Advance),
        1 => (0usize..6).prop_map(Event::Fail),
        1 => (0usize..6).prop_map(Event::Lose),
        1 => (0i32..6).prop_map(Event::Scale),
        1 => (1u32..4).prop_map(Event::Roll),
    ]
}

fn happen(world: &mut World, event: Event) -> Option<Plan> {
    let nth = |world: &World, n: usize| world.pods.keys().nth(n).cloned();
    match event {
        Event::Pass => return Some(world.pass()),
        Event::Advance(n) => nth(world, n).into_iter().for_each(|name| world.advance(&name)),
        Event::Fail(n) => nth(world, n).into_iter().for_each(|name| {
            world.change(&name, |pod| {
                pod.status.get_or_insert_default().phase = Some("Failed".into());
            });
        }),
        Event::Lose(n) => drop(nth(world, n).and_then(|name| world.pods.remove(&name))),
        Event::Scale(replicas) => world.spec().replicas = Some(replicas),
        Event::Roll(image) => world.spec().template = template(image),
    }
    None
}

fn is_up(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && crate::controllers::pod::is_ready(pod) && phase(pod) == "Running"
}

proptest! {
    /// Whatever happens in whatever order: never two Pods of one name (the world refuses them), an ordered
    /// set makes a Pod only when all before it are up and takes one away only when none after it is left,
    /// and in the end exactly the wanted Pods run the wanted template.
    #[test]
    fn order_is_kept_and_the_end_is_always_the_same(
        events in prop::collection::vec(event(), 0..80), ordered in any::<bool>(),
    ) {
        let mut world = World::new(set(3));
        world.spec().pod_management_policy = Some(if ordered { "OrderedReady" } else { "Parallel" }.into());
        for event in events {
            let before = world.pods.clone();
            let number = |name: &str| name.rsplit_once('-').unwrap().1.parse::<i32>().unwrap();
            let up = |n: i32| before.get(&format!("web-{n}")).is_some_and(|pod| is_up(pod));
            let Some(plan) = happen(&mut world, event).filter(|_| ordered) else { continue };
            prop_assert!(plan.steps.len() <= 1);
            let wanted = replicas(&world.set);
            for step in &plan.steps {
                match step {
                    Step::Create { pod, .. } => {
                        let own = number(&pod.name_any());
                        prop_assert!(own < wanted && (0..own).all(up));
                    }
                    Step::Delete(pod) if number(&pod.name_any()) >= wanted => {
                        let own = number(&pod.name_any());
                        prop_assert!(before.keys().all(|name| number(name) <= own));
                        prop_assert!((0..wanted).all(up));
                    }
                    _ => {}
                }
            }
        }
        world.settle();
        let wanted = replicas(&world.set);
        let names: Vec<String> = (0..wanted).map(|n| format!("web-{n}")).collect();
        prop_assert_eq!(world.names(), names);
        let image = world.set.spec.as_ref().unwrap().template.spec.as_ref().unwrap().containers[0].image.clone();
        prop_assert!(world.images().into_iter().all(|own| Some(own) == image));
        let status = world.set.status.clone().unwrap();
        prop_assert_eq!(&status.current_revision, &status.update_revision);
        prop_assert_eq!(status.available_replicas, Some(wanted));
        let plan = world.plan();
        prop_assert!(plan.steps.is_empty() && plan.status == status, "a settled set changes nothing");
    }
}
