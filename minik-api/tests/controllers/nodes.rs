//! What becomes of nodes that are not ready, of their Pods, and of the Services that those stand behind.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Event, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::cluster::*;

async fn say_ready(cluster: &Cluster, node: &str, status: &str) {
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let condition =
        json!({"type": "Ready", "status": status, "reason": "Test", "lastHeartbeatTime": "2026-11-21T10:00:00Z"});
    let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
    nodes.patch_status(node, &PatchParams::default(), &patch).await.unwrap();
}

async fn taints(cluster: &Cluster, node: &str) -> Vec<String> {
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let node = nodes.get(node).await.unwrap();
    let taints = node.spec.unwrap().taints.unwrap_or_default();
    taints
        .into_iter()
        .map(|taint| format!("{}:{}", taint.key, taint.effect))
        .collect()
}

async fn create(cluster: &Cluster, name: &str, tolerations: Value) {
    let pod = json!({
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {
            "nodeSelector": {"here": "yes"}, "tolerations": tolerations,
            "containers": [{"name": "c", "image": "nginx", "ports": [{"containerPort": 80}]}],
        },
    });
    let pod = serde_json::from_value(pod).unwrap();
    cluster
        .api::<Pod>("default")
        .create(&PostParams::default(), &pod)
        .await
        .unwrap();
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}

async fn told(cluster: &Cluster, name: &str, reason: &str) -> Vec<String> {
    let fields = format!("involvedObject.name={name},reason={reason}");
    let params = ListParams::default().fields(&fields);
    let events = cluster.api::<Event>("default").list(&params).await.unwrap().items;
    events.into_iter().filter_map(|event| event.message).collect()
}

/// How many endpoints of Service `web` are ready.
async fn ready_endpoints(cluster: &Cluster) -> usize {
    let params = ListParams::default().labels("kubernetes.io/service-name=web");
    let slices = cluster
        .api::<EndpointSlice>("default")
        .list(&params)
        .await
        .unwrap()
        .items;
    let endpoints = slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
    endpoints
        .filter(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) == Some(true))
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_node_is_tainted_its_pods_leave_the_services_and_then_the_node() {
    let cluster = Cluster::start(&["worker1", "worker2"], true).await;
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let label = Patch::Merge(json!({"metadata": {"labels": {"here": "yes"}}}));
    nodes.patch("worker1", &PatchParams::default(), &label).await.unwrap();
    let service = json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
    let service: Service = serde_json::from_value(service).unwrap();
    cluster
        .api("default")
        .create(&PostParams::default(), &service)
        .await
        .unwrap();
    let unreachable = |seconds: Value| json!([{"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}]);
    create(&cluster, "patient", unreachable(Value::Null)).await;
    create(&cluster, "brief", unreachable(json!(1))).await;
    create(&cluster, "usual", json!([])).await;
    eventually!(ready_endpoints(&cluster).await, |count: &usize| *count == 3);
    let usual = cluster.api::<Pod>("default").get("usual").await.unwrap();
    let seconds: Vec<_> = usual
        .spec
        .unwrap()
        .tolerations
        .unwrap()
        .iter()
        .map(|t| t.toleration_seconds)
        .collect();
    assert_eq!(seconds, [Some(300), Some(300)], "DefaultTolerationSeconds");

    say_ready(&cluster, "worker1", "Unknown").await;
    let lost = [
        "node.kubernetes.io/unreachable:NoSchedule",
        "node.kubernetes.io/unreachable:NoExecute",
    ];
    eventually!(taints(&cluster, "worker1").await, |seen: &Vec<String>| *seen == lost);
    eventually!(ready_endpoints(&cluster).await, |count: &usize| *count == 0);
    let pods = cluster.api::<Pod>("default");
    assert!(!is_ready(&pods.get("patient").await.unwrap()));
    let text = ["Node worker1 status is now: NodeNotReady"];
    eventually!(
        told(&cluster, "worker1", "NodeNotReady").await,
        |seen: &Vec<String>| *seen == text
    );
    eventually!(
        told(&cluster, "patient", "NodeNotReady").await,
        |seen: &Vec<String>| *seen == ["Node is not ready"]
    );
    let text = ["Marking for deletion Pod default/brief"];
    eventually!(told(&cluster, "brief", "TaintManagerEviction").await, |seen: &Vec<
        String,
    >| *seen
        == text);
    eventually!(pods.get_opt("brief").await.unwrap(), Option::<Pod>::is_none);

    say_ready(&cluster, "worker1", "True").await;
    eventually!(taints(&cluster, "worker1").await, Vec::<String>::is_empty);
    let text = ["Cancelling deletion of Pod default/usual"];
    eventually!(told(&cluster, "usual", "TaintManagerEviction").await, |seen: &Vec<
        String,
    >| *seen
        == text);
    assert!(pods.get("usual").await.unwrap().metadata.deletion_timestamp.is_none());
    assert!(told(&cluster, "patient", "TaintManagerEviction").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cordoned_node_and_one_tainted_by_hand() {
    let cluster = Cluster::start(&["worker1", "worker2"], true).await;
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    eventually!(told(&cluster, "worker1", "RegisteredNode").await, |seen: &Vec<
        String,
    >| {
        *seen == ["Node worker1 event: Registered Node worker1 in Controller"]
    });
    let cordon = |on: bool| Patch::Merge(json!({"spec": {"unschedulable": on}}));
    nodes
        .patch("worker1", &PatchParams::default(), &cordon(true))
        .await
        .unwrap();
    let cordoned = ["node.kubernetes.io/unschedulable:NoSchedule"];
    eventually!(taints(&cluster, "worker1").await, |seen: &Vec<String>| *seen
        == cordoned);
    nodes
        .patch("worker1", &PatchParams::default(), &cordon(false))
        .await
        .unwrap();
    eventually!(taints(&cluster, "worker1").await, Vec::<String>::is_empty);

    cluster.deploy("default", "web", 4).await;
    eventually!(cluster.pods("default").await, |pods: &Vec<Pod>| nodes_of(pods).len()
        == 4);
    let taint = Patch::Merge(json!({"spec": {"taints": [{"key": "maintenance", "effect": "NoExecute"}]}}));
    nodes.patch("worker2", &PatchParams::default(), &taint).await.unwrap();
    eventually!(cluster.pods("default").await, |pods: &Vec<Pod>| nodes_of(pods)
        == ["worker1"; 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_counts_its_pods_and_evictions_ask_it() {
    let cluster = Cluster::start(&["worker1"], true).await;
    let budgets = cluster.api::<PodDisruptionBudget>("default");
    let budget = json!({
        "metadata": {"name": "web"},
        "spec": {"maxUnavailable": "34%", "selector": {"matchLabels": {"app": "web"}}},
    });
    let budget = serde_json::from_value(budget).unwrap();
    budgets.create(&PostParams::default(), &budget).await.unwrap();
    cluster.deploy("default", "web", 3).await;
    let counted = |allowed: i32| {
        move |budget: &PodDisruptionBudget| {
            let status = budget.status.as_ref();
            status.is_some_and(|status| {
                (status.current_healthy, status.expected_pods, status.disruptions_allowed)
                    == (Some(3), Some(3), Some(allowed))
            })
        }
    };
    let seen = eventually!(budgets.get("web").await.unwrap(), counted(2));
    let conditions = seen.status.unwrap().conditions.unwrap();
    assert_eq!(
        (conditions[0].type_.as_str(), conditions[0].reason.as_str()),
        ("DisruptionAllowed", "SufficientPods")
    );
    let strict = Patch::Merge(json!({"spec": {"maxUnavailable": 0}}));
    budgets.patch("web", &PatchParams::default(), &strict).await.unwrap();
    eventually!(budgets.get("web").await.unwrap(), counted(0));
    let pods = cluster.api::<Pod>("default");
    let name = cluster.pods("default").await.remove(0).metadata.name.unwrap();
    let refused = pods.evict(&name, &kube::api::EvictParams::default()).await.unwrap_err();
    assert!(
        refused.to_string().contains("violate the pod's disruption budget"),
        "{refused}"
    );
}
