use super::*;
use crate::controllers::deployment::revision::desired_replicas;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSetSpec, ReplicaSetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;

fn set(age: i64, size: i32, ready: i32) -> ReplicaSet {
    let mut set = ReplicaSet {
        spec: Some(ReplicaSetSpec {
            replicas: Some(size),
            ..ReplicaSetSpec::default()
        }),
        status: Some(ReplicaSetStatus {
            available_replicas: Some(ready),
            replicas: ready,
            ..ReplicaSetStatus::default()
        }),
        ..ReplicaSet::default()
    };
    set.metadata.creation_timestamp = Some(Time(Timestamp::from_second(age).unwrap()));
    set
}

fn limits(replicas: i32, surge: i32, unavailable: i32) -> Limits {
    Limits {
        replicas,
        surge,
        unavailable,
    }
}

/// A cluster that may do anything a real one may: Pods of any ReplicaSet come up or go in any order.
#[derive(Debug, Clone)]
enum Step {
    /// The controller takes a pass.
    Decide,
    /// A Pod of this ReplicaSet becomes available, or one too many goes.
    Advance(usize),
}

fn advance(set: &mut ReplicaSet) {
    let (size, have) = (wanted(set), available(set));
    set.status.get_or_insert_default().available_replicas = Some(have + (size - have).signum());
}

fn decide(sets: &mut [ReplicaSet], limits: Limits) {
    let (new, old) = sets.split_last_mut().unwrap();
    rolling_step(new, old, limits);
}

fn sum(sets: &[ReplicaSet], of: fn(&ReplicaSet) -> i32) -> i32 {
    sets.iter().map(of).sum()
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![Just(Step::Decide), (0usize..3).prop_map(Step::Advance)]
}

proptest! {
    /// Never more Pods asked for than surge allows, never fewer available than promised, in any
    /// interleaving; and fair progress always ends with the new ReplicaSet alone.
    #[test]
    fn a_rolling_update_keeps_its_bounds_and_ends(
        replicas in 1i32..12, surge in 0i32..5, unavailable in 0i32..5, split in 0i32..12,
        steps in prop::collection::vec(step(), 0..80),
    ) {
        let unavailable = if surge == 0 { unavailable.max(1) } else { unavailable }.min(replicas);
        let limits = limits(replicas, surge, unavailable);
        let first = split.min(replicas);
        let mut sets = vec![set(1, first, first), set(2, replicas - first, replicas - first), set(3, 0, 0)];
        let check = |sets: &[ReplicaSet]| {
            assert!(sum(sets, wanted) <= limits.most(), "over surge: {sets:?}");
            assert!(sum(sets, available) >= limits.fewest(), "too few available: {sets:?}");
        };
        for step in steps {
            match step {
                Step::Decide => decide(&mut sets, limits),
                Step::Advance(i) => advance(&mut sets[i]),
            }
            check(&sets);
        }
        for _ in 0..200 {
            decide(&mut sets, limits);
            check(&sets);
            sets.iter_mut().for_each(advance);
            check(&sets);
        }
        prop_assert_eq!(sets.iter().map(wanted).collect::<Vec<_>>().iter().sum::<i32>(), replicas);
        prop_assert_eq!(wanted(sets.last().unwrap()), replicas);
        let settled = sets.clone();
        decide(&mut sets, limits);
        prop_assert_eq!(sets, settled, "a finished rollout changes nothing");
    }

    /// A rescale in the middle of a rollout reaches exactly the allowed total.
    #[test]
    fn a_rescale_reaches_the_allowed_total(
        before in 2i32..30, after in 0i32..60, first in 1i32..29, surge in 0i32..6,
    ) {
        let first = first.min(before - 1);
        let mut old = vec![set(1, first, first)];
        let mut new = set(2, before - first, 0);
        for set in old.iter_mut().chain([&mut new]) {
            note_size(set, limits(before, surge, 0));
        }
        let wish = limits(after, surge, 1);
        rescale(Some(&mut new), &mut old, wish, true);
        let total = wanted(&new) + old.iter().map(wanted).sum::<i32>();
        prop_assert_eq!(total, if after == 0 { 0 } else { wish.most() });
        prop_assert!(old.iter().chain([&new]).all(|set| wanted(set) >= 0));
    }
}

#[test]
fn two_replicas_roll_as_the_documentation_shows() {
    let limits = limits(2, 1, 0);
    let (mut new, mut old) = (set(2, 0, 0), vec![set(1, 2, 2)]);
    let mut seen = Vec::new();
    for _ in 0..6 {
        rolling_step(&mut new, &mut old, limits);
        seen.push((wanted(&old[0]), wanted(&new)));
        advance(&mut new);
        advance(&mut old[0]);
    }
    assert_eq!(seen, [(2, 1), (1, 1), (1, 2), (0, 2), (0, 2), (0, 2)]);
    assert_eq!(desired_replicas(&new), Some(2));
}

#[test]
fn recreate_waits_for_the_old_pods() {
    let limits = limits(2, 0, 0);
    let (mut new, mut old) = (set(2, 0, 0), vec![set(1, 2, 2)]);
    recreate_step(Some(&mut new), &mut old, false, limits);
    assert_eq!((wanted(&old[0]), wanted(&new)), (0, 0));
    recreate_step(Some(&mut new), &mut old, false, limits);
    assert_eq!(wanted(&new), 0);
    recreate_step(Some(&mut new), &mut old, true, limits);
    assert_eq!(wanted(&new), 2);
}
