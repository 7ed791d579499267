//! The controllers against the API server itself, in one process over the in-process router: no
//! sockets, storage in memory, and a stand-in for the node agents that runs every bound Pod at once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

#[macro_use]
mod cluster;

mod addresses;
mod api_server;
mod daemonset;
mod endpoints;
mod jobs;
mod nodes;
mod rights;
mod scheduling;
mod statefulset;
mod storage;
mod workloads;

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Event, Namespace, Node, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, PropagationPolicy};
use serde_json::json;

use cluster::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_becomes_bound_pods_and_its_service_gets_endpoints() {
    let cluster = Cluster::start(&["worker1", "worker2"], true).await;
    cluster.expose("web").await;
    cluster.deploy("default", "web", 4).await;
    let pods = eventually!(cluster.pods("default").await, |pods: &Vec<Pod>| nodes_of(pods).len()
        == 4);
    assert_eq!(nodes_of(&pods), ["worker1", "worker1", "worker2", "worker2"]);
    let deployments = cluster.api::<Deployment>("default");
    let deployment = eventually!(deployments.get("web").await.unwrap(), |d: &Deployment| {
        d.status
            .as_ref()
            .is_some_and(|status| status.available_replicas == Some(4))
            && progressing(d).as_deref() == Some("NewReplicaSetAvailable")
    });
    assert_eq!(deployment.annotations()["deployment.kubernetes.io/revision"], "1");
    assert_eq!(
        deployment.status.unwrap().observed_generation,
        deployment.metadata.generation
    );

    let addresses = |endpoints: &Endpoints| {
        endpoints
            .subsets
            .iter()
            .flatten()
            .map(|subset| subset.addresses.iter().flatten().count())
            .sum::<usize>()
    };
    let endpoints = cluster.api::<Endpoints>("default");
    eventually!(endpoints.get("web").await.unwrap(), |e: &Endpoints| addresses(e) == 4);
    let slices = cluster.api::<EndpointSlice>("default");
    let of_web = ListParams::default().labels("kubernetes.io/service-name=web");
    let found = eventually!(slices.list(&of_web).await.unwrap().items, |slices: &Vec<
        EndpointSlice,
    >| {
        slices.len() == 1
            && slices[0]
                .endpoints
                .as_ref()
                .is_some_and(|endpoints| endpoints.len() == 4)
    });
    assert!(found[0].name_any().starts_with("web-"));
    let events = cluster.api::<Event>("default");
    let reasons = |events: &Vec<Event>| {
        let has = |reason: &str, count| events.iter().filter(|e| e.reason.as_deref() == Some(reason)).count() == count;
        has("ScalingReplicaSet", 1) && has("SuccessfulCreate", 4) && has("Scheduled", 4)
    };
    let events = eventually!(events.list(&ListParams::default()).await.unwrap().items, reasons);
    let scaled = events
        .iter()
        .find(|event| event.reason.as_deref() == Some("ScalingReplicaSet"))
        .unwrap();
    let replica_set = cluster
        .api::<ReplicaSet>("default")
        .list(&ListParams::default())
        .await
        .unwrap()
        .items
        .remove(0);
    assert_eq!(
        scaled.message,
        Some(format!("Scaled up replica set {} from 0 to 4", replica_set.name_any()))
    );
}

fn progressing(deployment: &Deployment) -> Option<String> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|condition| condition.type_ == "Progressing")?
        .reason
        .clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scaling_rolling_and_deleting_follow_through() {
    let cluster = Cluster::start(&["worker1", "worker2", "worker3"], true).await;
    let deployments = cluster.api::<Deployment>("default");
    cluster.deploy("default", "web", 5).await;
    let available =
        |count: i32| move |d: &Deployment| d.status.as_ref().and_then(|s| s.available_replicas) == Some(count);
    eventually!(deployments.get("web").await.unwrap(), available(5));

    let scale = Patch::Merge(json!({"spec": {"replicas": 2}}));
    deployments.patch("web", &PatchParams::default(), &scale).await.unwrap();
    eventually!(cluster.pods("default").await, |pods: &Vec<Pod>| pods.len() == 2);

    let image = json!({"spec": {"template": {"metadata": {"annotations": {"x": "2"}}}}});
    deployments
        .patch("web", &PatchParams::default(), &Patch::Merge(image))
        .await
        .unwrap();
    let rolled = |d: &Deployment| {
        d.status.as_ref().is_some_and(|s| {
            s.updated_replicas == Some(2) && s.replicas == Some(2) && s.observed_generation == d.metadata.generation
        })
    };
    let deployment = eventually!(deployments.get("web").await.unwrap(), rolled);
    assert_eq!(deployment.annotations()["deployment.kubernetes.io/revision"], "2");
    assert_eq!(
        cluster
            .api::<ReplicaSet>("default")
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .len(),
        2
    );

    deployments.delete("web", &DeleteParams::background()).await.unwrap();
    eventually!(cluster.pods("default").await, |pods: &Vec<Pod>| pods.is_empty());
    let replica_sets = cluster.api::<ReplicaSet>("default");
    eventually!(
        replica_sets.list(&ListParams::default()).await.unwrap().items,
        Vec::<ReplicaSet>::is_empty
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreground_deletion_keeps_the_owner_until_its_pods_are_gone() {
    let cluster = Cluster::start(&["worker1"], false).await;
    cluster.deploy("default", "web", 2).await;
    let bound = eventually!(cluster.pods("default").await, |pods: &Vec<Pod>| nodes_of(pods).len()
        == 2);
    let deployments = cluster.api::<Deployment>("default");
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Foreground),
        ..DeleteParams::default()
    };
    deployments.delete("web", &params).await.unwrap();
    let going = |pods: &Vec<Pod>| pods.iter().all(|pod| pod.metadata.deletion_timestamp.is_some());
    eventually!(cluster.pods("default").await, going);
    assert!(deployments.get("web").await.is_ok(), "no agent has let the Pods go yet");
    for pod in bound {
        let now = DeleteParams::default().grace_period(0);
        cluster
            .api::<Pod>("default")
            .delete(&pod.name_any(), &now)
            .await
            .unwrap();
    }
    eventually!(deployments.get_opt("web").await.unwrap(), Option::<Deployment>::is_none);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orphans_outlive_their_owner() {
    let cluster = Cluster::start(&["worker1"], true).await;
    cluster.deploy("default", "web", 1).await;
    eventually!(cluster.pods("default").await, |pods: &Vec<Pod>| nodes_of(pods).len()
        == 1);
    let deployments = cluster.api::<Deployment>("default");
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Orphan),
        ..DeleteParams::default()
    };
    deployments.delete("web", &params).await.unwrap();
    eventually!(deployments.get_opt("web").await.unwrap(), Option::<Deployment>::is_none);
    let replica_sets = cluster
        .api::<ReplicaSet>("default")
        .list(&ListParams::default())
        .await
        .unwrap()
        .items;
    assert_eq!(replica_sets.len(), 1);
    assert!(replica_sets[0].owner_references().is_empty());
    assert_eq!(cluster.pods("default").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_namespace_is_emptied_and_goes() {
    let cluster = Cluster::start(&["worker1"], true).await;
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    let namespace = serde_json::from_value(json!({"metadata": {"name": "lab"}})).unwrap();
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    let accounts = cluster.api::<ServiceAccount>("lab");
    eventually!(
        accounts.get_opt("default").await.unwrap(),
        Option::<ServiceAccount>::is_some
    );
    let map = serde_json::from_value(json!({"metadata": {"name": "m"}})).unwrap();
    cluster
        .api::<ConfigMap>("lab")
        .create(&PostParams::default(), &map)
        .await
        .unwrap();
    cluster.deploy("lab", "web", 3).await;
    eventually!(cluster.pods("lab").await, |pods: &Vec<Pod>| nodes_of(pods).len() == 3);
    namespaces.delete("lab", &DeleteParams::default()).await.unwrap();
    eventually!(namespaces.get_opt("lab").await.unwrap(), Option::<Namespace>::is_none);
    assert_eq!(cluster.pods("lab").await.len(), 0);
    assert_eq!(
        cluster
            .api::<ConfigMap>("lab")
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .len(),
        0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_fits_nowhere_says_why_and_is_bound_once_a_node_comes() {
    let cluster = Cluster::start(&[], false).await;
    let pod = serde_json::from_value(json!({
        "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "pause"}]},
    }));
    let pods = cluster.api::<Pod>("default");
    pods.create(&PostParams::default(), &pod.unwrap()).await.unwrap();
    let refused = |pod: &Pod| {
        let conditions = pod
            .status
            .as_ref()
            .and_then(|status| status.conditions.clone())
            .unwrap_or_default();
        conditions
            .iter()
            .any(|c| c.message.as_deref() == Some("no nodes available to schedule pods"))
    };
    eventually!(pods.get("p").await.unwrap(), refused);
    let node: Node = serde_json::from_value(json!({"metadata": {"name": "late"}})).unwrap();
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    nodes.create(&PostParams::default(), &node).await.unwrap();
    nodes
        .patch_status("late", &PatchParams::default(), &Patch::Merge(ready()))
        .await
        .unwrap();
    eventually!(pods.get("p").await.unwrap(), |pod: &Pod| pod
        .spec
        .as_ref()
        .unwrap()
        .node_name
        .as_deref()
        == Some("late"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_pods_is_spread_evenly() {
    let nodes = ["n1", "n2", "n3", "n4"];
    let cluster = Cluster::start(&nodes, false).await;
    cluster.deploy("default", "web", 200).await;
    let pods = eventually!(cluster.pods("default").await, |pods: &Vec<Pod>| nodes_of(pods).len()
        >= 200);
    assert_eq!(pods.len(), 200, "never more than asked for");
    for node in nodes {
        assert_eq!(nodes_of(&pods).iter().filter(|on| *on == node).count(), 50);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hand_written_endpoints_are_mirrored_and_follow() {
    let cluster = Cluster::start(&[], false).await;
    let service = serde_json::from_value(json!({"metadata": {"name": "ext-db"}, "spec": {"ports": [{"port": 3306}]}}));
    cluster
        .api::<Service>("default")
        .create(&PostParams::default(), &service.unwrap())
        .await
        .unwrap();
    let written = serde_json::from_value(json!({
        "metadata": {"name": "ext-db"},
        "subsets": [{"addresses": [{"ip": "192.0.2.42"}], "ports": [{"port": 3306, "protocol": "TCP"}]}],
    }));
    let endpoints = cluster.api::<Endpoints>("default");
    endpoints
        .create(&PostParams::default(), &written.unwrap())
        .await
        .unwrap();
    let slices = cluster.api::<EndpointSlice>("default");
    let of_db = ListParams::default().labels("kubernetes.io/service-name=ext-db");
    let found = eventually!(slices.list(&of_db).await.unwrap().items, |slices: &Vec<
        EndpointSlice,
    >| slices.len() == 1);
    assert_eq!(found[0].endpoints.as_ref().unwrap()[0].addresses, ["192.0.2.42"]);
    endpoints.delete("ext-db", &DeleteParams::default()).await.unwrap();
    eventually!(slices.list(&of_db).await.unwrap().items, Vec::<EndpointSlice>::is_empty);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_objects_are_there_and_the_api_servers_own_come_back() {
    let cluster = Cluster::start(&["control-plane"], false).await;
    let services = cluster.api::<Service>("default");
    assert_eq!(
        services
            .get("kubernetes")
            .await
            .unwrap()
            .spec
            .unwrap()
            .cluster_ip
            .as_deref(),
        Some("10.96.0.1")
    );
    let dns = cluster.api::<Service>("kube-system").get("kube-dns").await.unwrap();
    assert_eq!(dns.spec.unwrap().cluster_ip.as_deref(), Some("10.96.0.10"));
    let secret = cluster.api::<Secret>("kube-system").get("minik-dns").await.unwrap();
    assert_eq!(secret.data.unwrap()["kubeconfig"].0, b"kind: Config\n");
    eventually!(cluster.pods("kube-system").await, |pods: &Vec<Pod>| nodes_of(pods)
        .len()
        == 2);
    let slices = cluster.api::<EndpointSlice>("default");
    let before = slices.get("kubernetes").await.unwrap();
    slices.delete("kubernetes", &DeleteParams::default()).await.unwrap();
    let back = |slice: &Option<EndpointSlice>| {
        slice
            .as_ref()
            .is_some_and(|slice| slice.metadata.uid != before.metadata.uid)
    };
    eventually!(slices.get_opt("kubernetes").await.unwrap(), back);
}

/// Whatever was going on, it ends: once everything is as wanted, no controller writes again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settled_cluster_writes_nothing() {
    let cluster = Cluster::start(&["worker1", "worker2"], true).await;
    cluster.expose("web").await;
    cluster.deploy("default", "web", 3).await;
    let deployments = cluster.api::<Deployment>("default");
    let done = |d: &Deployment| progressing(d).as_deref() == Some("NewReplicaSetAvailable");
    eventually!(deployments.get("web").await.unwrap(), done);
    let dns = cluster.api::<Deployment>("kube-system");
    eventually!(dns.get("coredns").await.unwrap(), done);
    // A list shows the revision of the whole store, events included.
    let revision = || async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        deployments
            .list(&ListParams::default())
            .await
            .unwrap()
            .metadata
            .resource_version
    };
    let mut last = revision().await;
    let begun = Instant::now();
    loop {
        let now = revision().await;
        if now == last {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "still writing at revision {now:?}");
        last = now;
    }
    assert_eq!(revision().await, last);
}
