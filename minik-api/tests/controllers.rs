//! The controllers against the API server itself, in one process over the in-process router: no
//! sockets, storage in memory, and a stand-in for the node agents that runs every bound Pod at once.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Event, Namespace, Node, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use minik_api::controllers::{ControllerConfig, bootstrap, run};
use minik_api::server::{ApiConfig, Identity, State, in_process_client};
use minik_api::storage::MemoryStorage;
use serde_json::json;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long anything may take; far more than it does.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running control plane; it stops when dropped.
struct Cluster {
    client: Client,
    _stop: DropGuard,
}

impl Cluster {
    /// Starts an empty control plane with these nodes, `agents` saying whether Pods run on them.
    async fn start(nodes: &[&str], agents: bool) -> Self {
        let advertise_address = Ipv4Addr::new(172, 30, 0, 10);
        let config = ApiConfig {
            service_cidr: "10.96.0.0/12".parse().unwrap(),
            pod_cidr: "10.244.0.0/16".parse().unwrap(),
            node_ports: 30000..=32767,
            cluster_domain: "cluster.local".into(),
            advertise_address,
            advertise_port: 6443,
            data_dir: "/nonexistent".into(),
            nodes_dir: "/nonexistent".into(),
        };
        let stop = CancellationToken::new();
        let state = State::new(config, Arc::new(MemoryStorage::default()), stop.clone()).unwrap();
        let client = in_process_client(&state, Identity::controllers());
        let config = ControllerConfig {
            service_cidr: "10.96.0.0/12".parse().unwrap(),
            pod_cidr: "10.244.0.0/16".parse().unwrap(),
            cluster_domain: "cluster.local".into(),
            cluster_dns: Ipv4Addr::new(10, 96, 0, 10),
            advertise_address,
            advertise_port: 6443,
            dns_kubeconfig: "kind: Config\n".into(),
        };
        bootstrap(&client, &config).await.unwrap();
        bootstrap(&client, &config)
            .await
            .expect("a second bootstrap finds everything there");
        for name in nodes {
            let node: Node = serde_json::from_value(json!({
                "metadata": {"name": name, "labels": {"kubernetes.io/os": "linux"}},
            }))
            .unwrap();
            let api: Api<Node> = Api::all(client.clone());
            api.create(&PostParams::default(), &node).await.unwrap();
            let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
            api.patch_status(name, &PatchParams::default(), &Patch::Merge(ready))
                .await
                .unwrap();
        }
        tokio::spawn(run(client.clone(), config, stop.clone()));
        if agents {
            tokio::spawn(run_pods(client.clone()));
        }
        Self {
            client,
            _stop: stop.drop_guard(),
        }
    }

    fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn deploy(&self, namespace: &str, name: &str, replicas: i32) -> Deployment {
        let deployment = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}},
                    "spec": {"containers": [{
                        "name": "web", "image": "nginx", "ports": [{"name": "http", "containerPort": 80}],
                    }]},
                },
            },
        }));
        self.api::<Deployment>(namespace)
            .create(&PostParams::default(), &deployment.unwrap())
            .await
            .unwrap()
    }

    async fn expose(&self, name: &str) {
        let service = serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": "http"}]},
        }));
        self.api::<Service>("default")
            .create(&PostParams::default(), &service.unwrap())
            .await
            .unwrap();
    }

    async fn pods(&self, namespace: &str) -> Vec<Pod> {
        self.api::<Pod>(namespace)
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
    }
}

/// What node agents do, as far as controllers can tell: a bound Pod gets an address and becomes
/// Ready, one that should go goes.
async fn run_pods(client: Client) {
    let mut next = 1;
    let mut pods =
        std::pin::pin!(watcher(Api::<Pod>::all(client.clone()), watcher::Config::default()).applied_objects());
    while let Ok(Some(pod)) = pods.try_next().await {
        let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap());
        let bound = pod.spec.as_ref().unwrap().node_name.is_some();
        let running = pod.status.as_ref().is_some_and(|status| status.pod_ip.is_some());
        if pod.metadata.deletion_timestamp.is_some() {
            let _ = api
                .delete(&pod.name_any(), &DeleteParams::default().grace_period(0))
                .await;
        } else if bound && !running {
            next += 1;
            let ip = format!("10.244.1.{next}");
            let status = json!({"status": {
                "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-21T01:58:36Z"}],
            }});
            let _ = api
                .patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(status))
                .await;
        }
    }
}

/// Asks until `test` is content with the answer. A poll, since what is awaited spans several kinds.
macro_rules! eventually {
    ($what:expr, $test:expr) => {{
        let begun = Instant::now();
        loop {
            let seen = $what;
            #[allow(clippy::redundant_closure_call)]
            if $test(&seen) {
                break seen;
            }
            assert!(begun.elapsed() < PATIENCE, "still {seen:#?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }};
}

fn nodes_of(pods: &[Pod]) -> Vec<String> {
    let mut nodes: Vec<_> = pods
        .iter()
        .filter_map(|pod| pod.spec.as_ref()?.node_name.clone())
        .collect();
    nodes.sort();
    nodes
}

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
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    nodes
        .patch_status("late", &PatchParams::default(), &Patch::Merge(ready))
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
