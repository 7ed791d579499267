//! The kubelet's HTTP endpoint on the node's path socket: logs, exec, attach, port-forward, health, metrics.
//!
//! Only root can open the socket: whoever connects is the API server, which has decided already who may ask. Paths and
//! queries are the kubelet's own. Reads the Pod manager's [`Registry`]; what is asked before an agent that has just been
//! started knows its Pods waits until it does.

mod attach;
mod channel;
mod dial;
mod exec;
mod logs;
mod port_forward;
pub mod spdy;
mod stdio;
mod upgrade;

use std::os::unix::net::UnixListener as StdListener;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::pods::metrics::Metrics;
use crate::pods::{Facts, Registry};
use crate::runtime::client::ShimClient;
use crate::runtime::protocol::Attempt;

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum KubeletError {
    /// The path socket.
    #[error("listen on the kubelet's socket")]
    Listen(#[source] std::io::Error),
}

/// An answer other than success: a status and a line of text, as the kubelet gives them.
#[derive(Debug)]
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}

/// Serves a socket until `shutdown`.
pub fn spawn(
    listener: StdListener,
    registry: Registry,
    shutdown: CancellationToken,
) -> Result<tokio::task::JoinHandle<()>, KubeletError> {
    listener.set_nonblocking(true).map_err(KubeletError::Listen)?;
    let listener = UnixListener::from_std(listener).map_err(KubeletError::Listen)?;
    let served = axum::serve(listener, router(registry)).with_graceful_shutdown(shutdown.cancelled_owned());
    Ok(tokio::spawn(async move {
        if let Err(error) = served.await {
            tracing::error!(%error, "kubelet endpoint");
        }
    }))
}

/// The endpoint as a service, for tests that need no socket.
pub fn router(registry: Registry) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/pods", get(pods))
        .route(
            "/metrics",
            get(|State(registry): State<Registry>| async move { exposition(&registry, Metrics::text) }),
        )
        .route(
            "/metrics/probes",
            get(|State(registry): State<Registry>| async move { exposition(&registry, Metrics::probes_text) }),
        )
        .route("/containerLogs/{namespace}/{pod}/{container}", get(logs::logs))
        .route("/exec/{namespace}/{pod}/{container}", get(exec::exec).post(exec::exec))
        .route("/dial/{address}", get(dial::dial))
        .route(
            "/attach/{namespace}/{pod}/{container}",
            get(attach::attach).post(attach::attach),
        )
        .route(
            "/portForward/{namespace}/{pod}",
            get(port_forward::port_forward).post(port_forward::port_forward),
        )
        .with_state(registry)
}

/// How long an agent may take to find the Pods of the one before.
const PODS_KNOWN: Duration = Duration::from_secs(10);

/// A Pod, once the agent knows which there are; `None` if there is none of that name.
async fn find(registry: &Registry, namespace: &str, pod: &str) -> Option<watch::Receiver<Facts>> {
    let late = tokio::time::timeout(PODS_KNOWN, registry.complete()).await.is_err();
    if late {
        tracing::warn!(namespace, pod, "asked for before the Pods of this node are known");
    }
    registry.get(namespace, pod)
}

/// The shim of a Pod and the running attempt of one of its containers.
async fn container(
    registry: &Registry,
    namespace: &str,
    pod: &str,
    container: &str,
) -> Result<(ShimClient, Attempt), Refusal> {
    let gone = || Refusal(StatusCode::NOT_FOUND, format!("container not found ({container:?})"));
    let facts = find(registry, namespace, pod)
        .await
        .ok_or_else(|| Refusal(StatusCode::NOT_FOUND, "pod does not exist".to_owned()))?;
    let facts = facts.borrow();
    let client = facts.client.clone().ok_or_else(gone)?;
    let state = facts.states.get(container).ok_or_else(gone)?;
    if state.current.ended.is_some() {
        return Err(gone());
    }
    Ok((client, state.current.clone()))
}

fn exposition(registry: &Registry, text: fn(&Metrics) -> prometheus::Result<String>) -> Response {
    match text(registry.metrics()) {
        Ok(text) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn pods(State(registry): State<Registry>) -> axum::Json<Vec<String>> {
    axum::Json(registry.names())
}
