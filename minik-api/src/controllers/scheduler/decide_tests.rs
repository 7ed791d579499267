use super::super::testing::{Paper, asking, control_plane, node, pod};
use super::*;
use crate::controllers::cache::Key;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

/// The message of a Pod for which making room would not help, as Kubernetes 1.36 composes it.
fn hopeless(nodes: usize, reasons: &str) -> String {
    format!(
        "0/{nodes} nodes are available: {reasons}. no new claims to deallocate, preemption: 0/{nodes} nodes are \
         available: {nodes} Preemption is not helpful for scheduling."
    )
}

/// The message of a Pod for which room could be made if anybody were less important.
fn crowded(nodes: usize, reasons: &str) -> String {
    format!(
        "0/{nodes} nodes are available: {reasons}. no new claims to deallocate, preemption: 0/{nodes} nodes are \
         available: {nodes} No preemption victims found for incoming pod."
    )
}

fn workers(count: usize) -> Vec<Node> {
    (1..=count).map(|n| node(&format!("worker{n}"), json!({}))).collect()
}

fn zoned(name: &str, zone: &str) -> Node {
    node(
        name,
        json!({"metadata": {"labels": {"topology.kubernetes.io/zone": zone}}}),
    )
}

fn spec(spec: Value) -> Value {
    json!({"spec": spec})
}

fn labelled(labels: Value) -> Value {
    json!({"metadata": {"labels": labels}})
}

#[test]
fn the_control_plane_takes_pods_only_when_it_is_tolerated() {
    let nodes = [control_plane(), node("worker1", json!({}))];
    assert_eq!(Paper::of(&nodes).place(&pod("p", json!({}))), "worker1");
    let toleration = json!({"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"});
    let dns = pod("dns", spec(json!({"tolerations": [toleration]})));
    assert_eq!(
        Paper::of(&nodes).running(pod("a", json!({})), "worker1").place(&dns),
        "control-plane"
    );
}

#[test]
fn the_message_counts_every_reason() {
    let nodes = [
        control_plane(),
        node("worker1", json!({"spec": {"unschedulable": true}})),
        node("worker2", json!({})),
    ];
    let picky = pod("p", spec(json!({"nodeSelector": {"disk": "ssd"}})));
    let reasons = "1 node(s) didn't match Pod's node affinity/selector, 1 node(s) had untolerated taint(s), \
                   1 node(s) were unschedulable";
    assert_eq!(Paper::of(&nodes).place(&picky), hopeless(3, reasons));
    assert_eq!(
        Paper::of(&[]).place(&pod("p", json!({}))),
        "no nodes available to schedule pods"
    );
}

#[test]
fn nodes_that_are_not_ready_or_not_executing_refuse() {
    let sick = node(
        "sick",
        json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}),
    );
    let taint = json!({"key": "k", "value": "v", "effect": "NoExecute"});
    let evicting = node("evicting", json!({"spec": {"taints": [taint]}}));
    let nodes = [sick, evicting];
    assert_eq!(
        Paper::of(&nodes).place(&pod("p", json!({}))),
        hopeless(2, "2 node(s) had untolerated taint(s)")
    );
    let tolerant = pod(
        "p",
        spec(json!({"tolerations": [{"key": "k", "operator": "Equal", "value": "v"}]})),
    );
    assert_eq!(Paper::of(&nodes).place(&tolerant), "evicting");
}

#[test]
fn node_affinity_required_and_preferred() {
    let ssd = |name: &str| node(name, labelled(json!({"disk": "ssd"})));
    let nodes = [node("a", json!({})), ssd("b")];
    let term = json!({"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]});
    let required = json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}});
    let wants = pod("p", spec(json!({"affinity": {"nodeAffinity": required}})));
    assert_eq!(Paper::of(&nodes).place(&wants), "b");
    assert_eq!(
        Paper::of(&nodes[..1]).place(&wants),
        hopeless(1, "1 node(s) didn't match Pod's node affinity/selector")
    );
    let preferred = json!([{"weight": 1, "preference": term}]);
    let likes = json!({"preferredDuringSchedulingIgnoredDuringExecution": preferred});
    let likes = pod("p", spec(json!({"affinity": {"nodeAffinity": likes}})));
    assert_eq!(Paper::of(&nodes).place(&likes), "b");
}

/// A DaemonSet's Pod names its node; the others are not even looked at.
#[test]
fn a_pod_that_names_its_node_is_told_of_the_plugin() {
    let field = json!({"key": "metadata.name", "operator": "In", "values": ["worker1"]});
    let terms = json!({"nodeSelectorTerms": [{"matchFields": [field]}]});
    let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}});
    let one = pod("p", spec(json!({"affinity": affinity})));
    assert_eq!(Paper::of(&workers(3)).place(&one), "worker1");
    let cordoned = node("worker1", json!({"spec": {"unschedulable": true}}));
    let nodes = [vec![cordoned], workers(3)[1..].to_vec()].concat();
    let reasons = "1 node(s) were unschedulable, 2 node(s) didn't satisfy plugin(s) [NodeAffinity]";
    assert_eq!(Paper::of(&nodes).place(&one), hopeless(3, reasons));
}

#[test]
fn resources_are_counted_and_all_that_lacks_is_named() {
    let nodes = workers(1);
    let requests = json!({"cpu": "3", "memory": "6Gi"});
    let large = |name| {
        pod(
            name,
            spec(json!({"containers": [{"name": "c", "resources": {"requests": requests}}]})),
        )
    };
    let mut paper = Paper::of(&nodes);
    assert_eq!(paper.place(&large("first")), "worker1");
    assert_eq!(
        paper.place(&large("second")),
        crowded(1, "1 Insufficient cpu, 1 Insufficient memory")
    );
    let huge = pod("huge", asking("5"));
    assert_eq!(Paper::of(&nodes).place(&huge), hopeless(1, "1 Insufficient cpu"));
    let full = (0..10).fold(Paper::of(&nodes), |paper, n| {
        paper.running(pod(&format!("p{n}"), json!({})), "worker1")
    });
    let mut full = full;
    assert_eq!(full.place(&pod("eleventh", json!({}))), crowded(1, "1 Too many pods"));
    let strange = pod(
        "gpu",
        spec(json!({"containers": [{"name": "c", "resources": {"requests": {"example.com/gpu": "1"}}}]})),
    );
    assert_eq!(
        Paper::of(&nodes).place(&strange),
        hopeless(1, "1 Insufficient example.com/gpu")
    );
}

/// sig-network: HostPort validates that there is no conflict between pods with same hostPort but different hostIP and
/// protocol.
#[test]
fn host_ports_conflict_by_address_protocol_and_number() {
    let with = |name: &str, ip: &str, protocol: &str| {
        let port = json!({"containerPort": 80, "hostPort": 8080, "hostIP": ip, "protocol": protocol});
        pod(name, spec(json!({"containers": [{"name": "c", "ports": [port]}]})))
    };
    let mut paper = Paper::of(&workers(1));
    assert_eq!(paper.place(&with("one", "127.0.0.1", "TCP")), "worker1");
    assert_eq!(paper.place(&with("other-address", "172.30.0.11", "TCP")), "worker1");
    assert_eq!(paper.place(&with("other-protocol", "127.0.0.1", "UDP")), "worker1");
    let refused = crowded(1, "1 node(s) didn't have free ports for the requested pod ports");
    assert_eq!(paper.place(&with("same", "127.0.0.1", "TCP")), refused);
    assert_eq!(paper.place(&with("any", "", "TCP")), refused);
}

fn near(side: &str, app: &str, key: &str) -> Value {
    let term = json!({"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key});
    json!({"affinity": {side: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}})
}

#[test]
fn pod_affinity_and_anti_affinity_hold_both_ways() {
    let nodes = [zoned("a", "one"), zoned("b", "one"), zoned("c", "two")];
    let db = || pod("db", labelled(json!({"app": "db"})));
    let zone = "topology.kubernetes.io/zone";
    let friend = pod("web", spec(near("podAffinity", "db", zone)));
    let placed = Paper::of(&nodes).running(db(), "a").place(&friend);
    assert!(placed == "a" || placed == "b", "{placed}");
    assert_eq!(
        Paper::of(&nodes).place(&friend),
        hopeless(3, "3 node(s) didn't match pod affinity rules")
    );
    let foe = pod("web", spec(near("podAntiAffinity", "db", zone)));
    assert_eq!(Paper::of(&nodes).running(db(), "a").place(&foe), "c");
    let everywhere = Paper::of(&nodes[..2]).running(db(), "a").place(&foe);
    assert_eq!(everywhere, crowded(2, "2 node(s) didn't match pod anti-affinity rules"));
    let existing = Paper::of(&nodes[..2]).running(foe, "a").place(&db());
    assert_eq!(
        existing,
        crowded(2, "2 node(s) didn't satisfy existing pods anti-affinity rules")
    );
}

#[test]
fn the_first_of_a_kind_is_its_own_company() {
    let mut own = near("podAffinity", "web", "kubernetes.io/hostname");
    own["containers"] = json!([{"name": "c"}]);
    let one = |name| {
        let mut pod = pod(name, labelled(json!({"app": "web"})));
        pod.spec = serde_json::from_value(own.clone()).unwrap();
        pod
    };
    let mut paper = Paper::of(&workers(3));
    let first = paper.place(&one("web-0"));
    assert_eq!(
        (paper.place(&one("web-1")), paper.place(&one("web-2"))),
        (first.clone(), first)
    );
}

#[test]
fn affinity_looks_into_the_namespaces_it_names() {
    let term = |extra: Value| {
        let mut term =
            json!({"labelSelector": {"matchLabels": {"app": "db"}}, "topologyKey": "kubernetes.io/hostname"});
        super::super::testing::merge(&mut term, extra);
        let side = json!({"requiredDuringSchedulingIgnoredDuringExecution": [term]});
        pod("web", spec(json!({"affinity": {"podAffinity": side}})))
    };
    let db = pod(
        "db",
        json!({"metadata": {"namespace": "data", "labels": {"app": "db"}}}),
    );
    let paper = || {
        let mut paper = Paper::of(&workers(2)).running(db.clone(), "worker2");
        paper
            .roster
            .see_namespace("data", Some([("team".to_owned(), "storage".to_owned())].into()));
        paper
    };
    assert!(paper().place(&term(json!({}))).starts_with("0/2"));
    assert_eq!(paper().place(&term(json!({"namespaces": ["data"]}))), "worker2");
    let selected = |team: &str| term(json!({"namespaceSelector": {"matchLabels": {"team": team}}}));
    assert_eq!(paper().place(&selected("storage")), "worker2");
    assert!(paper().place(&selected("web")).starts_with("0/2"));
    assert_eq!(paper().place(&term(json!({"namespaceSelector": {}}))), "worker2");
}

#[test]
fn keys_of_labels_narrow_affinity_to_one_revision() {
    let revision = |name: &str, hash: &str, keys: &str| {
        let term = json!({
            "labelSelector": {"matchLabels": {"app": "web"}}, keys: ["pod-template-hash"],
            "topologyKey": "kubernetes.io/hostname",
        });
        let side = json!({"requiredDuringSchedulingIgnoredDuringExecution": [term]});
        let mut pod = pod(name, labelled(json!({"app": "web", "pod-template-hash": hash})));
        let affinity = json!({"podAntiAffinity": side});
        pod.spec.as_mut().unwrap().affinity = serde_json::from_value(affinity).unwrap();
        pod
    };
    let old = || pod("old", labelled(json!({"app": "web", "pod-template-hash": "1"})));
    let paper = || Paper::of(&workers(1)).running(old(), "worker1");
    assert_eq!(paper().place(&revision("new", "2", "matchLabelKeys")), "worker1");
    assert!(
        paper()
            .place(&revision("new", "1", "matchLabelKeys"))
            .starts_with("0/1")
    );
    assert!(
        paper()
            .place(&revision("new", "2", "mismatchLabelKeys"))
            .starts_with("0/1")
    );
    assert_eq!(paper().place(&revision("new", "1", "mismatchLabelKeys")), "worker1");
}

#[test]
fn preferred_company_decides_between_equals() {
    let nodes = workers(3);
    let term = json!({"labelSelector": {"matchLabels": {"app": "db"}}, "topologyKey": "kubernetes.io/hostname"});
    let preferring = |side: &str| {
        let terms = json!([{"weight": 100, "podAffinityTerm": term}]);
        pod(
            "web",
            spec(json!({"affinity": {side: {"preferredDuringSchedulingIgnoredDuringExecution": terms}}})),
        )
    };
    let db = |name: &str| pod(name, labelled(json!({"app": "db"})));
    assert_eq!(
        Paper::of(&nodes)
            .running(db("db"), "worker3")
            .place(&preferring("podAffinity")),
        "worker3"
    );
    let mut away = Paper::of(&nodes)
        .running(db("one"), "worker1")
        .running(db("two"), "worker2");
    assert_eq!(away.place(&preferring("podAntiAffinity")), "worker3");
    // What is there has a say too.
    let mut drawn = Paper::of(&nodes).running(preferring("podAffinity"), "worker2");
    assert_eq!(drawn.place(&db("db")), "worker2");
}

fn spreading(name: &str, extra: Value) -> k8s_openapi::api::core::v1::Pod {
    let mut constraint = json!({
        "maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}},
    });
    super::super::testing::merge(&mut constraint, extra);
    let mut pod = pod(name, labelled(json!({"app": "web"})));
    pod.spec.as_mut().unwrap().topology_spread_constraints = serde_json::from_value(json!([constraint])).unwrap();
    pod
}

#[test]
fn topology_spread_keeps_the_skew() {
    let nodes = [zoned("a", "one"), zoned("b", "two"), node("c", json!({}))];
    let mut paper = Paper::of(&nodes);
    let places: Vec<_> = (0..4)
        .map(|n| paper.place(&spreading(&format!("w{n}"), json!({}))))
        .collect();
    assert_eq!(places.iter().filter(|place| *place == "a").count(), 2);
    assert_eq!(places.iter().filter(|place| *place == "b").count(), 2);
    // With one zone closed the other may run ahead by one.
    let nodes = [
        zoned("a", "one"),
        node(
            "b",
            json!({
                "metadata": {"labels": {"topology.kubernetes.io/zone": "two"}}, "spec": {"unschedulable": true},
            }),
        ),
    ];
    let mut paper = Paper::of(&nodes);
    assert_eq!(paper.place(&spreading("w0", json!({}))), "a");
    let refused = "0/2 nodes are available: 1 node(s) didn't match pod topology spread constraints, 1 node(s) were \
                   unschedulable. no new claims to deallocate, preemption: 0/2 nodes are available: 1 No preemption \
                   victims found for incoming pod, 1 Preemption is not helpful for scheduling.";
    assert_eq!(paper.place(&spreading("w1", json!({}))), refused);
    assert_eq!(
        Paper::of(&[node("c", json!({}))]).place(&spreading("w", json!({}))),
        hopeless(
            1,
            "1 node(s) didn't match pod topology spread constraints (missing required label)"
        )
    );
}

#[test]
fn topology_spread_minds_domains_and_policies() {
    let taint = json!([{"key": "k", "effect": "NoSchedule"}]);
    let closed = node(
        "b",
        json!({
            "metadata": {"labels": {"topology.kubernetes.io/zone": "two"}}, "spec": {"taints": taint},
        }),
    );
    let nodes = [zoned("a", "one"), closed];
    // The tainted zone counts unless taints are honoured.
    let two = |extra: Value| {
        let mut paper = Paper::of(&nodes);
        [
            paper.place(&spreading("w0", extra.clone())),
            paper.place(&spreading("w1", extra)),
        ]
    };
    assert!(two(json!({}))[1].starts_with("0/2"));
    assert_eq!(two(json!({"nodeTaintsPolicy": "Honor"})), ["a", "a"]);
    // With too few domains the smallest count is 0.
    let honest = json!({"nodeTaintsPolicy": "Honor", "minDomains": 2});
    assert!(two(honest)[1].starts_with("0/2"));
    // Nodes that the Pod cannot go to by its own wish do not count, unless told so.
    let selective = |extra: Value| {
        let mut pods = ["w0", "w1"].map(|name| spreading(name, extra.clone()));
        for pod in &mut pods {
            let wish = [("kubernetes.io/hostname".to_owned(), "a".to_owned())];
            pod.spec.as_mut().unwrap().node_selector = Some(wish.into());
        }
        let mut paper = Paper::of(&[zoned("a", "one"), zoned("b", "two")]);
        pods.map(|pod| paper.place(&pod))
    };
    assert_eq!(selective(json!({})), ["a", "a"]);
    assert!(selective(json!({"nodeAffinityPolicy": "Ignore"}))[1].starts_with("0/2"));
    // Only Pods of the same revision count.
    let mut paper = Paper::of(&[zoned("a", "one")]);
    let keyed = |name: &str, hash: &str| {
        let mut pod = spreading(name, json!({"matchLabelKeys": ["pod-template-hash"], "minDomains": 2}));
        let labels = pod.metadata.labels.as_mut().unwrap();
        labels.insert("pod-template-hash".to_owned(), hash.to_owned());
        pod
    };
    assert_eq!(paper.place(&keyed("old", "1")), "a");
    assert_eq!(paper.place(&keyed("new", "2")), "a");
    assert!(paper.place(&keyed("newer", "2")).starts_with("0/1"));
}

#[test]
fn spreading_anyway_prefers_and_does_not_insist() {
    let nodes = [zoned("a", "one"), zoned("b", "two")];
    let soft = |name: &str| spreading(name, json!({"whenUnsatisfiable": "ScheduleAnyway"}));
    let mut paper = Paper::of(&nodes).running(soft("x"), "a");
    assert_eq!(paper.place(&soft("y")), "b");
    let mut alone = Paper::of(&nodes[..1]).running(soft("x"), "a");
    assert_eq!(alone.place(&soft("y")), "a");
}

#[test]
fn taints_that_only_prefer_decide_between_equals() {
    let taint = json!([{"key": "k", "effect": "PreferNoSchedule"}]);
    let nodes = [node("a", json!({"spec": {"taints": taint}})), node("b", json!({}))];
    assert_eq!(Paper::of(&nodes).place(&pod("p", json!({}))), "b");
    assert_eq!(Paper::of(&nodes[..1]).place(&pod("p", json!({}))), "a");
}

#[test]
fn gated_pods_and_those_of_others_are_left_alone() {
    let mut paper = Paper::of(&workers(1));
    for (name, extra) in [
        ("gated", json!({"schedulingGates": [{"name": "example.com/wait"}]})),
        ("foreign", json!({"schedulerName": "other"})),
    ] {
        let pod = pod(name, spec(extra));
        paper.roster.see_pod(&Key::of(&pod), Some(&pod));
    }
    assert_eq!(paper.next(), None);
}

#[test]
fn claims_send_pods_to_their_volumes() {
    let mounting = pod(
        "p",
        spec(json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]})),
    );
    let with = |phase: &str, volume: Value, class: &str| {
        let mut paper = Paper::of(&workers(2));
        let claim = json!({
            "metadata": {"name": "data", "namespace": "default", "uid": "c"},
            "spec": {"volumeName": volume, "storageClassName": class, "accessModes": ["ReadWriteOnce"]},
            "status": {"phase": phase},
        });
        let terms =
            json!([{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["worker2"]}]}]);
        let there = json!({
            "metadata": {"name": "there"},
            "spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": terms}}},
        });
        let class = |name: &str, provisioner: &str, mode: &str| {
            let class = json!({"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode});
            Arc::new(serde_json::from_value(class).unwrap())
        };
        let make = |value: Value| Arc::new(serde_json::from_value(value).unwrap());
        paper.volumes.claims = [make(claim)].into_iter().collect();
        paper.volumes.volumes = [Arc::new(serde_json::from_value(there).unwrap())].into_iter().collect();
        let classes = [
            class("late", "example.com/p", "WaitForFirstConsumer"),
            class("none", "kubernetes.io/no-provisioner", "WaitForFirstConsumer"),
            class("early", "example.com/p", "Immediate"),
        ];
        paper.volumes.classes = classes.into_iter().collect();
        paper
    };
    assert_eq!(with("Bound", json!("there"), "").place(&mounting), "worker2");
    let gone = "2 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
    assert_eq!(with("Bound", json!("gone"), "").place(&mounting), hopeless(2, gone));
    let unbound = "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found";
    assert_eq!(with("Pending", Value::Null, "early").place(&mounting), unbound);
    let missing = "0/2 nodes are available: persistentvolumeclaim \"data\" not found. not found";
    assert_eq!(Paper::of(&workers(2)).place(&mounting), missing);
    let none = "2 node(s) didn't find available persistent volumes to bind";
    assert_eq!(with("Pending", Value::Null, "none").place(&mounting), hopeless(2, none));
    let Decision::Bind { claims, .. } = with("Pending", Value::Null, "late").decide(&mounting) else {
        panic!("a volume can be made anywhere")
    };
    assert_eq!(
        claims,
        [ClaimStep {
            claim: Key::new("default", "data"),
            volume: None
        }]
    );
}
