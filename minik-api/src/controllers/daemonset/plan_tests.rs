use super::*;
use crate::controllers::history::Upkeep;
use k8s_openapi::api::apps::v1::{DaemonSetSpec, DaemonSetUpdateStrategy, RollingUpdateDaemonSet};
use k8s_openapi::api::core::v1::{Container, NodeSpec, PodCondition, PodSpec, PodStatus, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proptest::prelude::*;

const NOW: i64 = 1_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn template(image: u32) -> PodTemplateSpec {
    let container = Container {
        name: "agent".into(),
        image: Some(format!("agent:{image}")),
        ..Container::default()
    };
    PodTemplateSpec {
        metadata: None,
        spec: Some(PodSpec {
            containers: vec![container],
            ..PodSpec::default()
        }),
    }
}

fn set(unavailable: i32, surge: i32) -> DaemonSet {
    let mut set = DaemonSet {
        spec: Some(DaemonSetSpec {
            template: template(1),
            update_strategy: Some(DaemonSetUpdateStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: Some(RollingUpdateDaemonSet {
                    max_unavailable: Some(IntOrString::Int(unavailable)),
                    max_surge: Some(IntOrString::Int(surge)),
                }),
            }),
            ..DaemonSetSpec::default()
        }),
        ..DaemonSet::default()
    };
    set.metadata.name = Some("agent".into());
    set.metadata.uid = Some("set".into());
    set.metadata.annotations = Some(BTreeMap::from([(
        "deprecated.daemonset.template.generation".into(),
        "1".into(),
    )]));
    set
}

/// A cluster as the API server, the scheduler and the node agents would keep it.
struct World {
    set: DaemonSet,
    nodes: BTreeMap<String, Arc<Node>>,
    pods: BTreeMap<String, Arc<Pod>>,
    revisions: Vec<Arc<ControllerRevision>>,
    made: i64,
}

impl World {
    fn new(set: DaemonSet, nodes: usize) -> Self {
        let mut world = Self {
            set,
            nodes: BTreeMap::new(),
            pods: BTreeMap::new(),
            revisions: Vec::new(),
            made: 0,
        };
        (0..nodes).for_each(|n| world.add_node(n));
        world
    }

    fn add_node(&mut self, n: usize) {
        let mut node = Node::default();
        node.metadata.name = Some(format!("n{n}"));
        node.metadata.labels = Some(BTreeMap::from([("number".into(), n.to_string())]));
        self.nodes.insert(format!("n{n}"), Arc::new(node));
    }

    fn taint(&mut self, name: &str, effect: &str) {
        let Some(slot) = self.nodes.get_mut(name) else { return };
        let mut node = Node::clone(slot);
        let taint = Taint {
            key: "dedicated".into(),
            effect: effect.into(),
            ..Taint::default()
        };
        node.spec = Some(NodeSpec {
            taints: Some(vec![taint]).filter(|_| !effect.is_empty()),
            ..NodeSpec::default()
        });
        *slot = Arc::new(node);
    }

    fn plan(&self) -> Plan {
        let pods: Vec<_> = self.pods.values().cloned().collect();
        let nodes: Vec<_> = self.nodes.values().cloned().collect();
        decide(&View {
            set: &self.set,
            pods: &pods,
            revisions: &self.revisions,
            nodes: &nodes,
            resting: &BTreeSet::new(),
            settled: true,
            now: at(NOW),
        })
        .unwrap()
    }

    fn pass(&mut self) -> Plan {
        let plan = self.plan();
        let revision = Arc::new(plan.update.revision.clone());
        match plan.update.upkeep {
            Upkeep::None => {}
            Upkeep::Create => self.revisions.push(revision),
            Upkeep::Renumber => {
                let slot = self
                    .revisions
                    .iter_mut()
                    .find(|r| r.metadata.name == revision.metadata.name);
                *slot.unwrap() = revision;
            }
        }
        for pod in &plan.delete {
            self.change(&pod.name_any(), |pod| {
                pod.metadata.deletion_timestamp = Some(Time(at(NOW)));
            });
        }
        for pod in &plan.create {
            let mut pod = pod.clone();
            self.made += 1;
            let name = format!("pod{:03}", self.made);
            pod.metadata.name = Some(name.clone());
            pod.metadata.uid = Some(name.clone());
            pod.metadata.creation_timestamp = Some(Time(at(NOW - 10_000 + self.made)));
            self.pods.insert(name, Arc::new(pod));
        }
        self.set.status = Some(plan.status.clone());
        self.revisions.retain(|revision| !plan.obsolete.contains(revision));
        plan
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut Pod)) {
        let Some(slot) = self.pods.get_mut(name) else { return };
        let mut pod = Pod::clone(slot);
        change(&mut pod);
        *slot = Arc::new(pod);
    }

    /// What comes next for a Pod: it goes, or is bound and becomes Ready.
    fn advance(&mut self, name: &str) {
        let pod = &self.pods[name];
        if is_terminating(pod) {
            self.pods.remove(name);
            return;
        }
        let node = target(pod).map(String::from);
        if node.as_ref().is_none_or(|node| !self.nodes.contains_key(node)) {
            return;
        }
        self.change(name, |pod| {
            pod.spec.get_or_insert_default().node_name = node;
            pod.status = Some(PodStatus {
                phase: Some("Running".into()),
                conditions: Some(vec![PodCondition {
                    type_: "Ready".into(),
                    status: "True".into(),
                    ..PodCondition::default()
                }]),
                ..PodStatus::default()
            });
        });
    }

    fn settle(&mut self) {
        for _ in 0..40 {
            self.pass();
            let names: Vec<_> = self.pods.keys().cloned().collect();
            names.iter().for_each(|name| self.advance(name));
        }
    }

    fn images(&self) -> Vec<String> {
        let image = |pod: &Arc<Pod>| pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
        self.pods.values().map(image).collect()
    }

    fn on(&self, node: &str) -> Vec<&Arc<Pod>> {
        let living = self.pods.values().filter(|pod| !is_terminating(pod));
        living.filter(|pod| target(pod) == Some(node)).collect()
    }

    fn available(&self) -> usize {
        let up = |node: &&String| self.on(node).iter().any(|pod| is_ready(pod));
        self.nodes.keys().filter(up).count()
    }

    fn roll(&mut self, image: u32) {
        self.set.spec.as_mut().unwrap().template = template(image);
    }
}

#[test]
fn every_node_has_one_pod_that_asks_for_it_by_name() {
    let mut world = World::new(set(1, 0), 2);
    assert_eq!(world.pass().create.len(), 2);
    let pod = world.pods["pod001"].clone();
    assert_eq!((target(&pod), node_name(&pod)), (Some("n0"), None));
    assert_eq!(pod.metadata.generate_name.as_deref(), Some("agent-"));
    assert_eq!(pod.labels()["pod-template-generation"], "1");
    let revision = world.revisions[0].clone();
    assert_eq!(pod.labels()[POD_REVISION], revision.labels()[POD_REVISION]);
    // The tolerations that the documentation of DaemonSets lists.
    let keys: Vec<_> = pod
        .spec
        .as_ref()
        .unwrap()
        .tolerations
        .iter()
        .flatten()
        .filter_map(|t| t.key.clone())
        .collect();
    let expected = [
        "not-ready",
        "unreachable",
        "disk-pressure",
        "memory-pressure",
        "pid-pressure",
        "unschedulable",
    ];
    assert_eq!(keys, expected.map(|key| format!("node.kubernetes.io/{key}")));
    world.settle();
    let status = world.set.status.clone().unwrap();
    assert_eq!(
        (
            status.desired_number_scheduled,
            status.number_ready,
            status.number_available
        ),
        (2, 2, Some(2))
    );
    world.add_node(2);
    assert_eq!(world.pass().create.len(), 1);
}

#[test]
fn nodes_that_are_not_meant_have_none() {
    let mut world = World::new(set(1, 0), 3);
    world.settle();
    world.taint("n0", "NoSchedule");
    world.settle();
    assert_eq!(world.pods.len(), 3, "what runs may stay");
    assert_eq!(world.set.status.as_ref().unwrap().number_misscheduled, 1);
    world.taint("n1", "NoExecute");
    world.settle();
    assert!(world.on("n1").is_empty());
    let spec = world.set.spec.as_mut().unwrap().template.spec.as_mut().unwrap();
    spec.node_selector = Some(BTreeMap::from([("number".into(), "2".into())]));
    world.settle();
    assert_eq!(world.pods.len(), 1);
    assert_eq!(world.on("n2").len(), 1);
}

#[test]
fn a_failed_pod_is_replaced_once_its_rest_is_over() {
    let mut world = World::new(set(1, 0), 1);
    world.settle();
    let name = world.on("n0")[0].name_any();
    world.change(&name, |pod| pod.status.as_mut().unwrap().phase = Some("Failed".into()));
    let plan = world.plan();
    assert_eq!((plan.notes[0].reason, plan.delete.len()), ("FailedDaemonPod", 1));
    let (pods, nodes): (Vec<_>, Vec<_>) = (
        world.pods.values().cloned().collect(),
        world.nodes.values().cloned().collect(),
    );
    let resting = BTreeSet::from(["n0".to_string()]);
    let view = View {
        set: &world.set,
        pods: &pods,
        revisions: &world.revisions,
        nodes: &nodes,
        resting: &resting,
        settled: true,
        now: at(NOW),
    };
    assert!(decide(&view).unwrap().delete.is_empty());
}

#[test]
fn an_update_goes_node_by_node_and_keeps_its_history() {
    let mut world = World::new(set(1, 0), 3);
    world.settle();
    world.roll(2);
    assert_eq!(world.pass().delete.len(), 1);
    assert!(world.pass().delete.is_empty(), "one node is without already");
    world.settle();
    assert_eq!(world.images(), ["agent:2", "agent:2", "agent:2"]);
    assert_eq!(world.set.status.as_ref().unwrap().updated_number_scheduled, Some(3));
    assert_eq!(world.revisions.len(), 2);
    world.roll(1);
    world.settle();
    let mut numbers: Vec<_> = world.revisions.iter().map(|revision| revision.revision).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [2, 3]);
}

#[test]
fn with_surge_the_new_pod_comes_first() {
    let mut world = World::new(set(0, 1), 2);
    world.settle();
    world.roll(2);
    let plan = world.pass();
    assert_eq!((plan.create.len(), plan.delete.len()), (1, 0));
    let new = world.pods.keys().last().unwrap().clone();
    world.advance(&new);
    assert_eq!(world.pass().delete.len(), 1);
    world.settle();
    assert_eq!(world.images(), ["agent:2", "agent:2"]);
}

#[test]
fn on_delete_replaces_only_what_others_delete() {
    let mut world = World::new(set(1, 0), 2);
    world.settle();
    world.set.spec.as_mut().unwrap().update_strategy.as_mut().unwrap().type_ = Some("OnDelete".into());
    world.roll(2);
    world.settle();
    assert_eq!(world.images(), ["agent:1", "agent:1"]);
    world.pods.pop_first();
    world.settle();
    assert_eq!(world.images(), ["agent:1", "agent:2"]);
}

#[derive(Debug, Clone)]
enum Event {
    Pass,
    Advance(usize),
    Roll(u32),
    Lose(usize),
    AddNode(usize),
    RemoveNode(usize),
    Taint(usize, &'static str),
}

fn event() -> impl Strategy<Value = Event> {
    let effect = prop_oneof![Just(""), Just("NoSchedule"), Just("NoExecute")];
    prop_oneof![
        6 => Just(Event::Pass),
        8 => (0usize..12).prop_map(Event::Advance),
        1 => (1u32..4).prop_map(Event::Roll),
        1 => (0usize..12).prop_map(Event::Lose),
        1 => (0usize..6).prop_map(Event::AddNode),
        1 => (0usize..6).prop_map(Event::RemoveNode),
        1 => ((0usize..6), effect).prop_map(|(n, effect)| Event::Taint(n, effect)),
    ]
}

fn happen(world: &mut World, event: &Event) {
    let nth = |world: &World, n: usize| world.pods.keys().nth(n).cloned();
    match event {
        Event::Pass => drop(world.pass()),
        Event::Advance(n) => nth(world, *n).into_iter().for_each(|name| world.advance(&name)),
        Event::Roll(image) => world.roll(*image),
        Event::Lose(n) => drop(nth(world, *n).and_then(|name| world.pods.remove(&name))),
        Event::AddNode(n) => world.add_node(*n),
        Event::RemoveNode(n) => drop(world.nodes.remove(&format!("n{n}"))),
        Event::Taint(n, effect) => world.taint(&format!("n{n}"), effect),
    }
}

proptest! {
    /// In a rollout no more nodes are ever without an available Pod, nor with a second one, than the strategy says;
    /// only the strategy's own steps are made, Pods going and coming up in any order.
    #[test]
    fn a_rollout_keeps_its_bounds(
        steps in prop::collection::vec(prop::option::of(0usize..12), 0..80), limit in 1i32..4, surge in any::<bool>(),
    ) {
        let mut world = World::new(if surge { set(0, limit) } else { set(limit, 0) }, 5);
        world.settle();
        world.roll(2);
        let limit = usize::try_from(limit).unwrap();
        for step in steps {
            happen(&mut world, &step.map_or(Event::Pass, Event::Advance));
            let pairs = world.nodes.keys().filter(|node| world.on(node).len() > 1).count();
            prop_assert!(pairs <= if surge { limit } else { 0 }, "{} nodes with two", pairs);
            prop_assert!(world.available() >= if surge { 5 } else { 5 - limit }, "{} available", world.available());
        }
    }

    /// Whatever happens in whatever order, in the end every node that is meant has one Pod of the present
    /// template, and the next pass changes nothing.
    #[test]
    fn the_end_is_always_the_same(events in prop::collection::vec(event(), 0..60), surge in any::<bool>()) {
        let mut world = World::new(if surge { set(0, 1) } else { set(1, 0) }, 3);
        events.iter().for_each(|event| happen(&mut world, event));
        // What ran on a node that is gone goes with it, as the collector of lost Pods sees to.
        let nodes: BTreeSet<_> = world.nodes.keys().cloned().collect();
        world.pods.retain(|_, pod| target(pod).is_some_and(|node| nodes.contains(node)));
        (0..6).for_each(|n| world.taint(&format!("n{n}"), ""));
        world.settle();
        let image = world.set.spec.as_ref().unwrap().template.spec.as_ref().unwrap().containers[0].image.clone();
        prop_assert!(world.images().into_iter().all(|own| Some(own) == image));
        for node in world.nodes.keys() {
            prop_assert_eq!(world.on(node).len(), 1);
        }
        prop_assert_eq!(world.pods.len(), world.nodes.len());
        let plan = world.plan();
        prop_assert!(plan.create.is_empty() && plan.delete.is_empty());
        prop_assert_eq!(Some(plan.status), world.set.status);
    }
}
