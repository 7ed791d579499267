//! What the scheduler's decisions cost: 500 Pods that wait for three nodes, plain and choosy, and 500 that fit nowhere
//! asked again. `cargo bench -p minik-api --bench scheduling`.

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use divan::Bencher;
use k8s_openapi::api::core::v1::{Node, Pod};
use minik_api::controllers::scheduling::{Key, Roster, Volumes};
use serde_json::{Value, json};

const PODS: usize = 500;

fn main() {
    divan::main();
}

fn nodes() -> Vec<Node> {
    let node = |name: &str| {
        let node = json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": name}},
            "status": {
                "allocatable": {"cpu": "64", "memory": "64Gi", "pods": "250"},
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        });
        serde_json::from_value(node).unwrap()
    };
    ["worker1", "worker2", "worker3"].map(node).into()
}

fn pods(spec: &Value) -> Vec<Pod> {
    let pod = |number: usize| {
        let mut pod = json!({
            "metadata": {
                "name": format!("web-{number:03}"), "namespace": "default", "uid": format!("{number}"),
                "labels": {"app": "web", "pod-template-hash": "6d4cf56db6"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "rs", "controller": true}],
            },
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}]},
        });
        for (key, value) in spec.as_object().unwrap() {
            pod["spec"][key] = value.clone();
        }
        serde_json::from_value(pod).unwrap()
    };
    (0..PODS).map(pod).collect()
}

/// Learns of all Pods, decides for each.
fn place_all(bencher: Bencher<'_, '_>, spec: &Value, bound: bool) {
    let (nodes, pods, volumes) = (nodes(), pods(spec), Volumes::default());
    bencher.bench(|| {
        let mut roster = Roster::default();
        for node in &nodes {
            roster.see_node(node.metadata.name.as_deref().unwrap(), Some(node));
        }
        for pod in &pods {
            roster.see_pod(&Key::of(pod), Some(pod));
        }
        let mut decided = 0;
        while roster.next(&volumes, &[]).is_some() {
            decided += 1;
        }
        assert_eq!(decided, PODS);
        assert!(!bound || roster.is_idle());
        roster
    });
}

#[divan::bench]
fn plain(bencher: Bencher<'_, '_>) {
    place_all(bencher, &json!({}), true);
}

#[divan::bench]
fn spread_over_zones(bencher: Bencher<'_, '_>) {
    let constraint = json!({
        "maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}},
    });
    place_all(bencher, &json!({"topologySpreadConstraints": [constraint]}), true);
}

#[divan::bench]
fn keeping_away_from_each_other(bencher: Bencher<'_, '_>) {
    let term = json!({"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": "kubernetes.io/hostname"});
    let side = json!({"requiredDuringSchedulingIgnoredDuringExecution": [term]});
    place_all(bencher, &json!({"affinity": {"podAntiAffinity": side}}), false);
}

#[divan::bench]
fn refused_by_all(bencher: Bencher<'_, '_>) {
    place_all(bencher, &json!({"nodeSelector": {"disk": "ssd"}}), false);
}
