//! The API server as a whole: configuration, the router, and the listeners that say who is asking.
//!
//! Listeners are handed in already bound (the supervisor holds them across restarts), so that this
//! crate never touches a network namespace and tests need no ports.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use ipnet::Ipv4Net;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::controllers::{BootstrapError, ControllerConfig, bootstrap};
use crate::alloc::Allocators;
use crate::error::ApiError;
use crate::http::openapi::Documents;
use crate::pki;
use crate::resource::{KindInfo, Registry};
use crate::storage::{Entry, OpenError, SledStorage, Storage};

/// How long open requests may take to end at shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client may take to agree on TLS.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Requests at once on one HTTP/2 connection; informers hold one each for every kind they watch.
const MAX_STREAMS: u32 = 250;

/// Who is asking. Decided by the listener (path socket) or the TLS client certificate
/// (`CN` is the user, every `O` a group); carried as a request extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `kubernetes-admin`, `system:node:worker1`, `system:anonymous` …
    pub user: String,
    /// `system:masters`, `system:nodes`, `system:authenticated` …
    pub groups: Vec<String>,
}

/// What a cluster's API server needs to know.
#[derive(Debug, Clone)]
pub struct ApiConfig {
    /// Range of cluster IPs; its first address is Service `kubernetes`, its tenth `kube-dns`.
    pub service_cidr: Ipv4Net,
    /// Range of Pod addresses of the whole cluster.
    pub pod_cidr: Ipv4Net,
    /// Ports that NodePort Services may use.
    pub node_ports: RangeInclusive<u16>,
    /// `cluster.local`.
    pub cluster_domain: String,
    /// The address that Service `kubernetes` points to: the control-plane node's.
    pub advertise_address: Ipv4Addr,
    /// The port beside it, 6443.
    pub advertise_port: u16,
    /// Directory of the durable log.
    pub data_dir: PathBuf,
    /// Where each node's agent serves logs and exec: `NODES_DIR/NODE/kubelet.sock`.
    pub nodes_dir: PathBuf,
}

impl Identity {
    /// Whoever gave no name.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::new("system:anonymous", &["system:unauthenticated"])
    }

    /// Root of this machine, over the cluster's own socket.
    #[must_use]
    pub fn admin() -> Self {
        Self::new("kubernetes-admin", &["system:masters", "system:authenticated"])
    }

    /// The agent of `node`, over the node's socket.
    #[must_use]
    pub fn node(node: &str) -> Self {
        Self::new(&format!("system:node:{node}"), &["system:nodes", "system:authenticated"])
    }

    /// The controllers in this process.
    #[must_use]
    pub fn controllers() -> Self {
        Self::new("system:kube-controller-manager", &["system:masters", "system:authenticated"])
    }

    fn new(user: &str, groups: &[&str]) -> Self {
        Self { user: user.to_owned(), groups: groups.iter().map(|group| (*group).to_owned()).collect() }
    }
}

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

/// What every request shares.
pub struct State {
    /// The served kinds.
    pub registry: &'static Registry,
    /// Where objects are.
    pub storage: Arc<dyn Storage>,
    /// Cluster IPs and node ports in use.
    pub allocators: Allocators,
    /// The cluster's facts.
    pub config: ApiConfig,
    /// Cancelled when the server stops: streams end, nothing new begins.
    pub shutdown: CancellationToken,
    ready: AtomicBool,
    openapi: OnceLock<Documents>,
}

/// [`State`], as handlers hold it.
pub type SharedState = Arc<State>;

/// Why the API server could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The durable log does not open.
    #[error("opening the cluster's state")]
    Storage(#[source] OpenError),
    /// A stored Service cannot be read.
    #[error("reading the stored Service {key}")]
    Service {
        /// Where it is stored.
        key: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The objects every cluster has could not be made.
    #[error("making the cluster's first objects")]
    Bootstrap(#[source] BootstrapError),
    /// The in-process client could not be made.
    #[error("setting up the in-process client")]
    Client(#[source] kube::Error),
}

impl State {
    /// A server over `storage`: allocators adopt what the stored Services hold.
    ///
    /// # Errors
    /// A stored Service is damaged.
    pub fn new(
        config: ApiConfig,
        storage: Arc<dyn Storage>,
        shutdown: CancellationToken,
    ) -> Result<SharedState, StartError> {
        let allocators = Allocators::new(config.service_cidr, config.node_ports.clone());
        for entry in storage.cache().snapshot().range("core/services/", None) {
            serde_json::from_slice(&entry.value)
                .and_then(|service| allocators.adopt(&service))
                .map_err(|source| StartError::Service { key: entry.key.to_string(), source })?;
        }
        Ok(Arc::new(Self {
            registry: standard_registry(),
            storage,
            allocators,
            config,
            shutdown,
            ready: AtomicBool::new(false),
            openapi: OnceLock::new(),
        }))
    }

    /// Whether `/readyz` says so.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Says that the objects every cluster has are there.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// The OpenAPI documents, built when first asked for.
    ///
    /// # Errors
    /// They could not be built.
    pub fn openapi(&self) -> Result<&Documents, ApiError> {
        if let Some(documents) = self.openapi.get() {
            return Ok(documents);
        }
        let built = Documents::build(self.registry).map_err(|error| ApiError::Internal(error.to_string()))?;
        Ok(self.openapi.get_or_init(|| built))
    }

    /// Gives back what a deleted object held.
    pub fn forget(&self, info: &KindInfo, last: &Entry) {
        if info.kind != "Service" {
            return;
        }
        let released = serde_json::from_slice(&last.value).and_then(|last| self.allocators.release(&last));
        if let Err(error) = released {
            tracing::error!(key = &*last.key, %error, "a deleted Service is damaged");
        }
    }
}

fn standard_registry() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(Registry::standard)
}

/// The API as a service. Requests carry their [`Identity`] as an extension; without one they are anonymous.
#[must_use]
pub fn router(state: SharedState) -> Router {
    crate::http::router(state)
}

/// A client that calls the router directly, as `identity`: no socket, no TLS, no bytes copied twice.
#[must_use]
pub fn in_process_client(state: &SharedState, identity: Identity) -> kube::Client {
    kube::Client::new(router(state.clone()).layer(Extension(identity)), "default")
}

/// Runs the API server and its controllers until `shutdown`: opens the durable log, serves, makes the objects
/// every cluster has, stops cleanly.
///
/// # Errors
/// It could not start.
pub async fn run(
    config: ApiConfig,
    listeners: Listeners,
    controllers: ControllerConfig,
    shutdown: CancellationToken,
) -> Result<(), StartError> {
    let storage = SledStorage::open(&config.data_dir).map_err(StartError::Storage)?;
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
    let client = in_process_client(&state, Identity::controllers());
    bootstrap(&client, &controllers).await.map_err(StartError::Bootstrap)?;
    state.set_ready();
    crate::controllers::run(client, controllers, shutdown).await;
    servers.join_all().await;
    Ok(())
}

/// Serves a path socket: whoever can connect is `identity`. Ends on shutdown, after open requests.
pub async fn serve_unix(state: SharedState, listener: UnixListener, identity: Identity) {
    let app = router(state.clone()).layer(Extension(identity));
    let connections = Connections::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = state.shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => connections.serve(stream, app.clone()),
            Err(error) => refused(&error).await,
        }
    }
    connections.finish().await;
}

/// Serves a TCP socket with TLS: the client certificate says who is asking. Ends on shutdown, after open
/// requests.
pub async fn serve_tls(state: SharedState, listener: TcpListener, tls: Arc<rustls::ServerConfig>) {
    let acceptor = TlsAcceptor::from(tls);
    let app = router(state.clone());
    let connections = Connections::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = state.shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => connections.handshake(stream, acceptor.clone(), app.clone()),
            Err(error) => refused(&error).await,
        }
    }
    connections.finish().await;
}

/// Accepting fails when the process is out of descriptors, and would fail again at once.
async fn refused(error: &std::io::Error) {
    tracing::warn!(%error, "a connection was not accepted");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// The open connections of one listener.
struct Connections {
    graceful: GracefulShutdown,
}

impl Connections {
    fn new() -> Self {
        Self { graceful: GracefulShutdown::new() }
    }

    fn serve(&self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, app: Router) {
        let watcher = self.graceful.watcher();
        tokio::spawn(async move { serve_connection(stream, app, watcher).await });
    }

    fn handshake(&self, stream: TcpStream, acceptor: TlsAcceptor, app: Router) {
        let watcher = self.graceful.watcher();
        tokio::spawn(async move {
            let nodelay = stream.set_nodelay(true);
            let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
            let stream = match (nodelay, handshake) {
                (Ok(()), Ok(Ok(stream))) => stream,
                (Err(error), _) | (_, Ok(Err(error))) => {
                    return tracing::debug!(%error, "a TLS handshake failed");
                }
                (_, Err(_)) => return tracing::debug!("a TLS handshake took too long"),
            };
            let certificates = stream.get_ref().1.peer_certificates();
            let identity = certificates.and_then(|chain| pki::identity(chain.first()?));
            let app = app.layer(Extension(identity.unwrap_or_else(Identity::anonymous)));
            serve_connection(stream, app, watcher).await;
        });
    }

    async fn finish(self) {
        if tokio::time::timeout(DRAIN_TIMEOUT, self.graceful.shutdown()).await.is_err() {
            tracing::warn!("connections were still open at shutdown");
        }
    }
}

async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    app: Router,
    watcher: Watcher,
) {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http2().max_concurrent_streams(MAX_STREAMS);
    let service = TowerToHyperService::new(app);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(error = &*error, "a connection broke off");
    }
}
