//! A server in memory, and two ways to talk to it: kube-rs, and raw requests.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::{Extension, Router};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use minik_api::account_tokens::AccountKey;
use minik_api::server::{ApiConfig, Identity, SharedState, State, in_process_client, router};
use minik_api::storage::MemoryStorage;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// What a raw request got back.
pub struct Answer {
    pub code: StatusCode,
    pub headers: http::HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_owned()
    }
}

/// A server with the namespaces `default` and `demo`.
pub struct Server {
    pub state: SharedState,
}

impl Server {
    pub async fn start() -> Self {
        Self::with_nodes_dir(PathBuf::from("/nonexistent")).await
    }

    pub async fn with_nodes_dir(nodes_dir: PathBuf) -> Self {
        let config = ApiConfig {
            service_cidr: "10.96.0.0/12".parse().expect("is a range"),
            pod_cidr: "10.244.0.0/16".parse().expect("is a range"),
            node_ports: 30000..=32767,
            cluster_domain: "cluster.local".to_owned(),
            advertise_address: Ipv4Addr::new(172, 30, 0, 10),
            advertise_port: 6443,
            data_dir: PathBuf::new(),
            nodes_dir,
            account_key: AccountKey::generate().expect("makes a key"),
        };
        let storage = Arc::new(MemoryStorage::default());
        let state = State::new(config, storage, CancellationToken::new()).expect("starts");
        let server = Self { state };
        for name in ["default", "demo"] {
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            let made = server.post("/api/v1/namespaces", &namespace).await;
            assert_eq!(
                made.code,
                StatusCode::CREATED,
                "{}",
                String::from_utf8_lossy(&made.body)
            );
            // As the ServiceAccount controller does.
            let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
            let made = server
                .post(&format!("/api/v1/namespaces/{name}/serviceaccounts"), &account)
                .await;
            assert_eq!(made.code, StatusCode::CREATED);
        }
        server
    }

    pub fn client(&self) -> kube::Client {
        in_process_client(&self.state, Identity::api_server())
    }

    pub fn app(&self, identity: Identity) -> Router {
        router(self.state.clone()).layer(Extension(identity))
    }

    pub async fn send(&self, identity: Identity, request: Request<Body>) -> Answer {
        let Ok(response) = self.app(identity).oneshot(request).await;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("is read").to_bytes().to_vec();
        Answer {
            code: parts.status,
            headers: parts.headers,
            body,
        }
    }

    pub async fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: String) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(Identity::admin(), request.body(body.into()).expect("is a request"))
            .await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], String::new()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.request("POST", path, &[("content-type", "application/json")], body.to_string())
            .await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.request("PUT", path, &[("content-type", "application/json")], body.to_string())
            .await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.request("DELETE", path, &[], String::new()).await
    }
}

/// A ConfigMap.
pub fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "b"}})
}

/// A Pod, bound to `node` unless that is empty.
pub fn pod(name: &str, node: &str) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "a", "image": "nginx"}]},
    });
    if !node.is_empty() {
        pod["spec"]["nodeName"] = node.into();
    }
    pod
}
