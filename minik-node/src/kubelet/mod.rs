//! The kubelet's HTTP endpoint on the node's path socket: logs, exec, attach, health.
//!
//! Owns `RUN_DIR/kubelet.sock`, which only root can open: whoever connects is the API server, which has decided
//! already who may ask. Paths and queries are the kubelet's own. Reads the Pod manager's [`Registry`].

mod attach;
mod channel;
mod dial;
mod exec;
mod logs;
mod stdio;

use std::path::{Path, PathBuf};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use crate::pods::Registry;
use crate::runtime::client::ShimClient;
use crate::runtime::protocol::Attempt;

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum KubeletError {
    /// The path socket.
    #[error("listen on {path}")]
    Listen {
        /// Socket path.
        path: PathBuf,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
}

/// An answer other than success: a status and a line of text, as the kubelet gives them.
#[derive(Debug)]
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}

/// Binds the socket and serves it until `shutdown`.
pub fn spawn(
    socket: &Path,
    registry: Registry,
    shutdown: CancellationToken,
) -> Result<tokio::task::JoinHandle<()>, KubeletError> {
    let listener = bind(socket).map_err(|source| KubeletError::Listen {
        path: socket.to_owned(),
        source,
    })?;
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
        .route("/containerLogs/{namespace}/{pod}/{container}", get(logs::logs))
        .route("/exec/{namespace}/{pod}/{container}", get(exec::exec))
        .route("/dial/{address}", get(dial::dial))
        .route("/attach/{namespace}/{pod}/{container}", get(attach::attach))
        .with_state(registry)
}

/// The shim of a Pod and the running attempt of one of its containers.
fn container(
    registry: &Registry,
    namespace: &str,
    pod: &str,
    container: &str,
) -> Result<(ShimClient, Attempt), Refusal> {
    let gone = || Refusal(StatusCode::NOT_FOUND, format!("container not found ({container:?})"));
    let facts = registry
        .get(namespace, pod)
        .ok_or_else(|| Refusal(StatusCode::NOT_FOUND, "pod does not exist".to_owned()))?;
    let facts = facts.borrow();
    let client = facts.client.clone().ok_or_else(gone)?;
    let state = facts.states.get(container).ok_or_else(gone)?;
    if state.current.ended.is_some() {
        return Err(gone());
    }
    Ok((client, state.current.clone()))
}

async fn pods(State(registry): State<Registry>) -> axum::Json<Vec<String>> {
    axum::Json(registry.names())
}

fn bind(path: &Path) -> std::io::Result<UnixListener> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}
