use super::*;

fn owner(uid: &str, block: bool) -> OwnerReference {
    OwnerReference {
        uid: uid.into(),
        block_owner_deletion: Some(block),
        ..OwnerReference::default()
    }
}

fn node(owners: &[OwnerReference], finalizers: &[&str], deleting: bool) -> Node {
    Node {
        kind: 0,
        key: Key::new("default", "x"),
        owners: owners.to_vec(),
        finalizers: finalizers.iter().map(|f| (*f).to_string()).collect(),
        deleting,
    }
}

/// Deployment d owns ReplicaSet r, which owns Pod p.
fn chain() -> Graph {
    let mut graph = Graph::default();
    graph.upsert("d", node(&[], &[], false));
    graph.upsert("r", node(&[owner("d", true)], &[], false));
    graph.upsert("p", node(&[owner("r", true)], &[], false));
    graph
}

#[test]
fn what_is_owned_stays_while_its_owner_does() {
    let graph = chain();
    for uid in ["d", "r", "p"] {
        assert_eq!(graph.decide(uid), Action::Nothing);
    }
}

#[test]
fn background_deletion_follows_the_chain() {
    let mut graph = chain();
    assert_eq!(graph.remove("d"), ["r"]);
    assert_eq!(graph.decide("r"), Action::Delete(Policy::Background));
    assert_eq!(graph.decide("p"), Action::Nothing);
    assert_eq!(graph.remove("r"), ["p"]);
    assert_eq!(graph.decide("p"), Action::Delete(Policy::Background));
    assert_eq!(graph.remove("p"), [""; 0]);
    assert!(
        graph.nodes.is_empty() && graph.dependents.is_empty() && graph.absent.is_empty(),
        "nothing is kept"
    );
}

#[test]
fn an_owner_that_is_unknown_is_asked_for_before_anything_goes() {
    let mut graph = Graph::default();
    graph.upsert("p", node(&[owner("r", true)], &[], false));
    assert_eq!(graph.decide("p"), Action::Verify(vec![owner("r", true)]));
    graph.note_absent("r");
    assert_eq!(graph.decide("p"), Action::Delete(Policy::Background));
}

#[test]
fn one_living_owner_is_enough() {
    let mut graph = chain();
    graph.upsert("e", node(&[], &[], false));
    graph.upsert("r", node(&[owner("d", true), owner("e", false)], &[], false));
    graph.remove("d");
    assert_eq!(graph.decide("r"), Action::DropOwners(BTreeSet::from(["d".to_string()])));
}

#[test]
fn foreground_deletion_goes_bottom_up() {
    let mut graph = chain();
    let look = graph.upsert("d", node(&[], &[FOREGROUND], true));
    assert!(look.contains(&"r".to_string()));
    assert_eq!(graph.decide("d"), Action::Nothing);
    assert_eq!(graph.decide("r"), Action::Delete(Policy::Foreground));
    graph.upsert("r", node(&[owner("d", true)], &[FOREGROUND], true));
    assert_eq!(graph.decide("p"), Action::Delete(Policy::Background));
    assert_eq!(graph.remove("p"), ["r"]);
    assert_eq!(graph.decide("r"), Action::RemoveFinalizer(FOREGROUND));
    assert_eq!(graph.remove("r"), ["d"]);
    assert_eq!(graph.decide("d"), Action::RemoveFinalizer(FOREGROUND));
}

#[test]
fn a_dependent_that_does_not_block_is_not_waited_for() {
    let mut graph = Graph::default();
    graph.upsert("p", node(&[owner("d", false)], &[], false));
    graph.upsert("d", node(&[], &[FOREGROUND], true));
    assert_eq!(graph.decide("d"), Action::RemoveFinalizer(FOREGROUND));
    assert_eq!(graph.decide("p"), Action::Nothing);
}

#[test]
fn orphans_are_released_before_their_owner_goes() {
    let mut graph = chain();
    graph.upsert("d", node(&[], &[ORPHAN], true));
    assert_eq!(graph.decide("d"), Action::Release(vec!["r".to_string()]));
    let look = graph.upsert("r", node(&[], &[], false));
    assert!(look.contains(&"d".to_string()));
    assert_eq!(graph.decide("d"), Action::RemoveFinalizer(ORPHAN));
    graph.remove("d");
    assert_eq!(graph.decide("r"), Action::Nothing);
}
