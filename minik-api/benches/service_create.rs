//! What creating a Service costs when there are many already: allocation, IPAddress and all, over the
//! in-process router and storage in memory. It must not grow with the number of Services.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use axum::{Extension, Router};
use divan::Bencher;
use http::{Request, StatusCode};
use minik_api::account_tokens::AccountKey;
use minik_api::server::{ApiConfig, Identity, State, router};
use minik_api::storage::MemoryStorage;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

fn main() {
    divan::main();
}

#[divan::bench(args = [10, 1_000, 10_000], sample_count = 50)]
fn create(bencher: Bencher<'_, '_>, existing: usize) {
    let runtime = Runtime::new().expect("a runtime starts");
    let app = server();
    runtime.block_on(async {
        post(&app, "/api/v1/namespaces", &json!({"metadata": {"name": "bench"}})).await;
        for index in 0..existing {
            post_service(&app, index).await;
        }
    });
    let next = AtomicUsize::new(existing);
    bencher.bench(|| {
        let index = next.fetch_add(1, Ordering::Relaxed);
        runtime.block_on(post_service(&app, index));
    });
}

fn server() -> Router {
    let config = ApiConfig {
        service_cidr: "10.96.0.0/12".parse().expect("is a range"),
        pod_cidr: "10.244.0.0/16".parse().expect("is a range"),
        node_ports: 30000..=32767,
        cluster_domain: "cluster.local".to_owned(),
        advertise_address: Ipv4Addr::new(172, 30, 0, 10),
        advertise_port: 6443,
        data_dir: "/nonexistent".into(),
        nodes_dir: "/nonexistent".into(),
        account_key: AccountKey::generate().expect("makes a key"),
    };
    let storage = Arc::new(MemoryStorage::default());
    let state = State::new(config, storage, CancellationToken::new()).expect("starts");
    router(state).layer(Extension(Identity::admin()))
}

async fn post_service(app: &Router, index: usize) {
    let service = json!({"metadata": {"name": format!("s{index}")}, "spec": {"ports": [{"port": 80}]}});
    post(app, "/api/v1/namespaces/bench/services", &service).await;
}

async fn post(app: &Router, path: &str, object: &Value) {
    let request = Request::post(path).header("content-type", "application/json");
    let request = request.body(Body::from(object.to_string())).expect("is a request");
    let Ok(response) = app.clone().oneshot(request).await;
    assert_eq!(response.status(), StatusCode::CREATED, "{path}");
}
