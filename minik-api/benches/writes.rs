//! What ownership costs a write: each write of a Pod through the whole API, and beside it the part of that which
//! managedFields take. `cargo bench -p minik-api --bench writes`.

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use divan::Bencher;
use http::Request;
use jiff::Timestamp;
use minik_api::account_tokens::AccountKey;
use minik_api::resource::Registry;
use minik_api::resource::managed::{Writer, apply, update};
use minik_api::server::{ApiConfig, Identity, SharedState, State, router};
use minik_api::storage::MemoryStorage;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

const PODS: &str = "/api/v1/namespaces/default/pods";

fn main() {
    divan::main();
}

fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "labels": {"app": "web", "tier": "front"}},
        "spec": {"containers": [{
            "name": "web", "image": "nginx:1.27",
            "ports": [{"containerPort": 80, "name": "http"}],
            "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
            "readinessProbe": {"httpGet": {"path": "/", "port": "http"}},
        }]},
    })
}

struct Server {
    runtime: tokio::runtime::Runtime,
    state: SharedState,
}

impl Server {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let config = ApiConfig {
            service_cidr: "10.96.0.0/12".parse().unwrap(),
            pod_cidr: "10.244.0.0/16".parse().unwrap(),
            node_ports: 30000..=32767,
            cluster_domain: "cluster.local".to_owned(),
            advertise_address: Ipv4Addr::new(172, 30, 0, 10),
            advertise_port: 6443,
            data_dir: PathBuf::new(),
            nodes_dir: PathBuf::new(),
            account_key: AccountKey::generate().unwrap(),
        };
        let state = State::new(config, Arc::new(MemoryStorage::default()), CancellationToken::new()).unwrap();
        let server = Self { runtime, state };
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}});
        server.send("POST", "/api/v1/namespaces", "application/json", &namespace);
        server
    }

    fn with_pod() -> Self {
        let server = Self::start();
        server.send("POST", PODS, "application/json", &pod());
        server
    }

    fn send(&self, method: &str, path: &str, media_type: &str, body: &Value) {
        let request = Request::builder().method(method).uri(path);
        let request = request
            .header("content-type", media_type)
            .header("user-agent", "kubectl/v1.36");
        let request = request.body(Body::from(body.to_string())).unwrap();
        let app = router(self.state.clone()).layer(Extension(Identity::admin()));
        let response = self.runtime.block_on(app.oneshot(request)).unwrap();
        assert!(response.status().is_success(), "{}", response.status());
    }
}

/// A defaulted Pod and its managedFields, as they stand in the store.
fn stored(registry: &Registry) -> (Value, Value) {
    let kind = registry.by_kind("", "Pod").unwrap();
    let mut object = pod();
    kind.strategy.default(&mut object).unwrap();
    let managed = update(&writer(registry), None, &object, &Value::Null, &Value::Null);
    (object, managed)
}

fn writer(registry: &Registry) -> Writer<'_> {
    Writer {
        info: &registry.by_kind("", "Pod").unwrap().info,
        name: "kubectl",
        subresource: "",
        now: Timestamp::from_second(1_800_000_000).unwrap(),
    }
}

#[divan::bench_group]
mod create {
    use super::*;

    #[divan::bench]
    fn whole(bencher: Bencher<'_, '_>) {
        let server = Server::start();
        let mut n = 0;
        bencher
            .with_inputs(|| {
                n += 1;
                let mut pod = pod();
                pod["metadata"]["name"] = format!("web-{n}").into();
                pod
            })
            .bench_local_refs(|pod| server.send("POST", PODS, "application/json", pod));
    }

    #[divan::bench]
    fn ownership(bencher: Bencher<'_, '_>) {
        let registry = Registry::standard();
        let (object, _) = stored(&registry);
        bencher.bench_local(|| update(&writer(&registry), None, &object, &Value::Null, &Value::Null));
    }
}

#[divan::bench_group]
mod patch {
    use super::*;

    #[divan::bench]
    fn whole(bencher: Bencher<'_, '_>) {
        let server = Server::with_pod();
        let mut n = 0;
        bencher
            .with_inputs(|| {
                n += 1;
                json!({"metadata": {"labels": {"n": n.to_string()}}})
            })
            .bench_local_refs(|patch| {
                server.send("PATCH", &format!("{PODS}/web"), "application/merge-patch+json", patch);
            });
    }

    #[divan::bench]
    fn ownership(bencher: Bencher<'_, '_>) {
        let registry = Registry::standard();
        let (object, managed) = stored(&registry);
        let mut changed = object.clone();
        changed["metadata"]["labels"]["n"] = "1".into();
        bencher.bench_local(|| update(&writer(&registry), Some(&object), &changed, &managed, &managed));
    }
}

#[divan::bench_group]
mod no_op {
    use super::*;

    #[divan::bench]
    fn whole(bencher: Bencher<'_, '_>) {
        let server = Server::with_pod();
        let patch = json!({"metadata": {"labels": {"app": "web"}}});
        bencher.bench_local(|| server.send("PATCH", &format!("{PODS}/web"), "application/merge-patch+json", &patch));
    }

    #[divan::bench]
    fn ownership(bencher: Bencher<'_, '_>) {
        let registry = Registry::standard();
        let (object, managed) = stored(&registry);
        bencher.bench_local(|| update(&writer(&registry), Some(&object), &object, &managed, &managed));
    }
}

#[divan::bench_group]
mod server_side_apply {
    use super::*;

    #[divan::bench]
    fn whole(bencher: Bencher<'_, '_>) {
        let server = Server::with_pod();
        let path = format!("{PODS}/web?fieldManager=me");
        bencher.bench_local(|| server.send("PATCH", &path, "application/apply-patch+yaml", &pod()));
    }

    #[divan::bench]
    fn ownership(bencher: Bencher<'_, '_>) {
        let registry = Registry::standard();
        let (object, managed) = stored(&registry);
        let config = pod();
        bencher.bench_local(|| apply(&writer(&registry), Some(&object), &managed, &config, false).unwrap());
    }
}
