//! The API server as a whole: the router, the controllers beside it, and the listeners that say who is asking.
//!
//! Listeners are handed in already bound (the supervisor holds them across restarts), so that this
//! crate never touches a network namespace and tests need no ports.

mod serve;

use std::sync::Arc;

use axum::{Extension, Router};
use http::{HeaderValue, header};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::util::MapRequestLayer;

use crate::controllers::{BootstrapError, ControllerConfig, bootstrap};
use crate::storage::{OpenError, SledStorage};

pub use crate::config::ApiConfig;
pub use crate::http::state::{SharedState, State, StateError};
pub use crate::identity::Identity;
pub use serve::{serve_tls, serve_unix};

/// The sockets to serve, already bound.
pub struct Listeners {
    /// For root of this machine.
    pub admin: UnixListener,
    /// One for each node's agent, by node.
    pub nodes: Vec<(String, UnixListener)>,
    /// For everyone else, with TLS.
    pub tls: Vec<TcpListener>,
    /// How TLS is spoken; without it `tls` is not served.
    pub tls_config: Option<Arc<rustls::ServerConfig>>,
}

/// Why the API server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The durable log does not open.
    #[error("opening the cluster's state")]
    Storage(#[source] OpenError),
    /// The durable log failed while serving.
    #[error("the durable log failed")]
    Failed,
    /// What is stored, or the key of tokens, is damaged.
    #[error(transparent)]
    State(#[from] StateError),
    /// The objects every cluster has could not be made.
    #[error("making the cluster's first objects")]
    Bootstrap(#[source] BootstrapError),
    /// The in-process client could not be made.
    #[error("setting up the in-process client")]
    Client(#[source] kube::Error),
}

/// The API as a service. Requests carry their [`Identity`] as an extension; without one they are anonymous.
pub fn router(state: SharedState) -> Router {
    crate::http::router(state)
}

/// What in-process clients call themselves; who owns the fields that controllers write is told by it.
const COMPONENT: HeaderValue = HeaderValue::from_static("kube-controller-manager/v1.36 (minik)");

/// A client that calls the router directly, as `identity`: no socket, no TLS, no bytes copied twice.
#[must_use]
pub fn in_process_client(state: &SharedState, identity: Identity) -> kube::Client {
    let named = MapRequestLayer::new(|mut request: axum::extract::Request| {
        request.headers_mut().entry(header::USER_AGENT).or_insert(COMPONENT);
        request
    });
    kube::Client::new(router(state.clone()).layer(Extension(identity)).layer(named), "default")
}

/// Runs the API server and its controllers until `shutdown`: opens the durable log, serves, makes the objects
/// every cluster has, stops cleanly.
///
/// # Errors
/// It could not start, or could not store any more.
pub async fn run(
    config: ApiConfig,
    listeners: Listeners,
    controllers: ControllerConfig,
    shutdown: CancellationToken,
) -> Result<(), StartError> {
    let storage = SledStorage::open(&config.data_dir).map_err(StartError::Storage)?;
    // A server that cannot store anything ends, so that its supervisor starts one that can.
    let (failed, shutdown) = (storage.failed(), shutdown.child_token());
    let (lost, stop) = (failed.clone(), shutdown.clone());
    let guard = tokio::spawn(async move {
        lost.cancelled().await;
        stop.cancel();
    });
    let state = State::new(config, Arc::new(storage), shutdown.clone())?;
    let mut servers = JoinSet::new();
    servers.spawn(serve_unix(state.clone(), listeners.admin, Identity::admin()));
    for (node, listener) in listeners.nodes {
        servers.spawn(serve_unix(state.clone(), listener, Identity::node(&node)));
    }
    if let Some(tls) = listeners.tls_config {
        for listener in listeners.tls {
            servers.spawn(serve_tls(state.clone(), listener, tls.clone()));
        }
    }
    let acting = |identity| in_process_client(&state, identity);
    bootstrap(&acting(Identity::api_server()), &controllers)
        .await
        .map_err(StartError::Bootstrap)?;
    state.set_ready();
    crate::controllers::run(&acting, controllers, shutdown).await;
    servers.join_all().await;
    guard.abort();
    if failed.is_cancelled() {
        Err(StartError::Failed)
    } else {
        Ok(())
    }
}
