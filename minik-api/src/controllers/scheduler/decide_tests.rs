use super::*;
use k8s_openapi::api::core::v1::{NodeCondition, NodeSpec, NodeStatus, PodSpec, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use proptest::prelude::*;

fn node(name: &str) -> Node {
    let ready = NodeCondition {
        type_: "Ready".into(),
        status: "True".into(),
        ..NodeCondition::default()
    };
    let mut node = Node {
        spec: Some(NodeSpec::default()),
        status: Some(NodeStatus {
            conditions: Some(vec![ready]),
            ..NodeStatus::default()
        }),
        ..Node::default()
    };
    node.metadata.name = Some(name.into());
    node
}

fn control_plane() -> Node {
    let mut node = node("control-plane");
    let key = "node-role.kubernetes.io/control-plane".into();
    node.spec.as_mut().unwrap().taints = Some(vec![Taint {
        key,
        effect: "NoSchedule".into(),
        ..Taint::default()
    }]);
    node
}

fn pod(name: &str, owner: &str, on: Option<&str>) -> Pod {
    let mut pod = Pod {
        spec: Some(PodSpec {
            node_name: on.map(Into::into),
            ..PodSpec::default()
        }),
        ..Pod::default()
    };
    pod.metadata.name = Some(name.into());
    pod.metadata.namespace = Some("default".into());
    let owner = OwnerReference {
        uid: owner.into(),
        controller: Some(true),
        ..OwnerReference::default()
    };
    pod.metadata.owner_references = Some(vec![owner]);
    pod
}

fn run(pods: &[Pod], nodes: &[Node], assumed: &BTreeMap<Key, String>) -> Vec<(String, Decision)> {
    let pods: Vec<_> = pods.iter().cloned().map(Arc::new).collect();
    let view = View {
        pods: pods.iter().collect(),
        nodes: nodes.iter().cloned().map(Arc::new).collect(),
        assumed,
    };
    decide(&view)
        .into_iter()
        .map(|(pod, decision)| (pod.metadata.name.clone().unwrap(), decision))
        .collect()
}

fn one(pod: Pod, nodes: &[Node]) -> Decision {
    run(&[pod], nodes, &BTreeMap::new()).remove(0).1
}

#[test]
fn the_control_plane_takes_pods_only_when_it_is_tolerated() {
    let nodes = [control_plane(), node("worker1")];
    assert_eq!(one(pod("p", "a", None), &nodes), Decision::Bind("worker1".into()));
    let mut dns = pod("dns", "a", None);
    let key = Some("node-role.kubernetes.io/control-plane".into());
    let toleration = Toleration {
        key,
        effect: Some("NoSchedule".into()),
        ..Toleration::default()
    };
    dns.spec.as_mut().unwrap().tolerations = Some(vec![toleration]);
    assert_eq!(one(dns, &nodes), Decision::Bind("control-plane".into()));
}

/// The sentence of Kubernetes' scheduler: every reason with its count, then preemption.
#[test]
fn the_message_counts_every_reason() {
    let mut cordoned = node("worker1");
    cordoned.spec.as_mut().unwrap().unschedulable = Some(true);
    let mut picky = pod("p", "a", None);
    picky.spec.as_mut().unwrap().node_selector = Some([("disk".to_string(), "ssd".to_string())].into());
    let expected = "0/3 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, \
                    1 node(s) had untolerated taint(s), \
                    1 node(s) were unschedulable. no new claims to deallocate, preemption: 0/3 nodes are available: \
                    3 Preemption is not helpful for scheduling.";
    let decision = one(picky, &[control_plane(), cordoned, node("worker2")]);
    assert_eq!(decision, Decision::Unschedulable(expected.into()));
    let none = Decision::Unschedulable("no nodes available to schedule pods".into());
    assert_eq!(one(pod("p", "a", None), &[]), none);
}

#[test]
fn assumed_bindings_count_and_are_not_made_again() {
    let nodes = [node("a"), node("b")];
    let pods = [pod("p1", "o", None), pod("p2", "o", None)];
    let assumed = BTreeMap::from([(Key::new("default", "p1"), "a".to_string())]);
    assert_eq!(
        run(&pods, &nodes, &assumed),
        [("p2".to_string(), Decision::Bind("b".into()))]
    );
}

proptest! {
    /// However Pods arrive and however the burst is cut, the Pods of one owner differ by at most one
    /// between nodes.
    #[test]
    fn pods_of_an_owner_spread_within_one(nodes in 1usize..6, count in 1usize..80, cut in 0usize..80) {
        let nodes: Vec<_> = (0..nodes).map(|i| node(&format!("n{i}"))).collect();
        let pods: Vec<_> = (0..count).map(|i| pod(&format!("p{i:03}"), "o", None)).collect();
        let mut assumed = BTreeMap::new();
        for end in [cut.min(count), count] {
            for (name, decision) in run(&pods[..end], &nodes, &assumed) {
                let Decision::Bind(node) = decision else { panic!("{decision:?}") };
                assumed.insert(Key::new("default", name), node);
            }
        }
        prop_assert_eq!(assumed.len(), count);
        let on = |node: &Node| assumed.values().filter(|n| Some(*n) == node.metadata.name.as_ref()).count();
        let counts: Vec<_> = nodes.iter().map(on).collect();
        prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
    }
}
