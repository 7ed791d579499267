//! A control plane in one process, with a stand-in for the node agents that runs every bound Pod at once.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::TryStreamExt;
use http_body_util::BodyExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use minik_api::account_tokens::AccountKey;
use minik_api::controllers::{ControllerConfig, bootstrap, run};
use minik_api::server::{ApiConfig, Identity, SharedState, State, in_process_client};
use minik_api::storage::MemoryStorage;
use serde_json::json;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long anything may take; far more than it does.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The status of a node that is ready, with room for many Pods.
pub fn ready() -> serde_json::Value {
    json!({"status": {
        "conditions": [{"type": "Ready", "status": "True"}],
        "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "250"},
    }})
}

/// A running control plane; it stops when dropped.
pub struct Cluster {
    pub client: Client,
    /// What controllers were forbidden, which must be nothing: each acts with no more than the bootstrap policy gives it.
    forbidden: Arc<Mutex<Vec<String>>>,
    _stop: DropGuard,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let forbidden = self.forbidden.lock().unwrap();
        assert!(std::thread::panicking() || forbidden.is_empty(), "{forbidden:#?}");
    }
}

/// A client that acts as `identity`, and notes what it may not.
fn watched(state: &SharedState, identity: Identity, forbidden: &Arc<Mutex<Vec<String>>>) -> Client {
    let (user, noted) = (identity.user.clone(), forbidden.clone());
    let inner = in_process_client(state, identity);
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let asked = format!("{user}: {} {}", request.method(), request.uri());
        let (inner, noted) = (inner.clone(), noted.clone());
        async move {
            let answer = inner.send(request).await?;
            if answer.status() != http::StatusCode::FORBIDDEN {
                return Ok(answer);
            }
            let (head, body) = answer.into_parts();
            let body = body.collect().await?.to_bytes();
            let text = String::from_utf8_lossy(&body);
            // Admission forbids too, in a namespace that is going, say.
            if text.contains("cannot") {
                noted.lock().unwrap().push(format!("{asked}: {text}"));
            }
            Ok::<_, kube::Error>(http::Response::from_parts(head, body.to_vec().into()))
        }
    });
    Client::new(service, "default")
}

impl Cluster {
    /// Starts an empty control plane with these nodes, `agents` saying whether Pods run on them.
    pub async fn start(nodes: &[&str], agents: bool) -> Self {
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
            account_key: AccountKey::generate().unwrap(),
        };
        let stop = CancellationToken::new();
        let state = State::new(config, Arc::new(MemoryStorage::default()), stop.clone()).unwrap();
        let client = in_process_client(&state, Identity::api_server());
        let forbidden = Arc::new(Mutex::new(Vec::new()));
        let config = ControllerConfig {
            service_cidr: "10.96.0.0/12".parse().unwrap(),
            pod_cidr: "10.244.0.0/16".parse().unwrap(),
            cluster_domain: "cluster.local".into(),
            cluster_dns: Ipv4Addr::new(10, 96, 0, 10),
            advertise_address,
            advertise_port: 6443,
            dns_kubeconfig: "kind: Config\n".into(),
            volumes_dir: "/nonexistent".into(),
            root_ca_pem: "a certificate".into(),
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
            api.patch_status(name, &PatchParams::default(), &Patch::Merge(ready()))
                .await
                .unwrap();
        }
        let (noted, ends) = (forbidden.clone(), stop.clone());
        tokio::spawn(async move {
            let acting = |identity| watched(&state, identity, &noted);
            run(&acting, config, ends).await;
        });
        if agents {
            tokio::spawn(run_pods(client.clone()));
        }
        Self {
            client,
            forbidden,
            _stop: stop.drop_guard(),
        }
    }

    /// What controllers were forbidden since this was asked last.
    pub fn take_forbidden(&self) -> Vec<String> {
        std::mem::take(&mut *self.forbidden.lock().unwrap())
    }

    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub async fn deploy(&self, namespace: &str, name: &str, replicas: i32) -> Deployment {
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

    pub async fn expose(&self, name: &str) {
        let service = serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": "http"}]},
        }));
        self.api::<Service>("default")
            .create(&PostParams::default(), &service.unwrap())
            .await
            .unwrap();
    }

    pub async fn pods(&self, namespace: &str) -> Vec<Pod> {
        self.api::<Pod>(namespace)
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
    }
}

/// What node agents do, as far as controllers can tell: a bound Pod gets an address and becomes
/// Ready, one that should go goes.
pub async fn run_pods(client: Client) {
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
            #[allow(clippy::redundant_closure_call, reason = "the test may be a closure or a function")]
            if $test(&seen) {
                break seen;
            }
            assert!(begun.elapsed() < PATIENCE, "still {seen:#?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }};
}

pub fn nodes_of(pods: &[Pod]) -> Vec<String> {
    let mut nodes: Vec<_> = pods
        .iter()
        .filter_map(|pod| pod.spec.as_ref()?.node_name.clone())
        .collect();
    nodes.sort();
    nodes
}
