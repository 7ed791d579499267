//! The API server as a whole: configuration, the router, and the listeners that say who is asking.
//!
//! Listeners are handed in already bound (the supervisor holds them across restarts), so that this
//! crate never touches a network namespace and tests need no ports.

mod serve;

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use axum::{Extension, Router};
use http::{HeaderValue, header};
use ipnet::Ipv4Net;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::util::MapRequestLayer;

use crate::account_tokens::{AccountKey, AccountTokens, TokenError};
use crate::alloc::Allocators;
use crate::controllers::{BootstrapError, ControllerConfig, bootstrap};
use crate::error::ApiError;
use crate::http::addresses;
use crate::http::auth::PolicyCache;
use crate::http::openapi::Documents;
use crate::resource::{KindInfo, Registry};
use crate::storage::{Entry, OpenError, SledStorage, Storage};

pub use serve::{serve_tls, serve_unix};

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
    /// Signs the tokens of ServiceAccounts.
    pub account_key: AccountKey,
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
        Self::new(
            &format!("system:node:{node}"),
            &["system:nodes", "system:authenticated"],
        )
    }

    /// The controllers in this process.
    #[must_use]
    pub fn controllers() -> Self {
        Self::new(
            "system:kube-controller-manager",
            &["system:masters", "system:authenticated"],
        )
    }

    fn new(user: &str, groups: &[&str]) -> Self {
        Self {
            user: user.to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        }
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
    /// The stored roles, as they were last read.
    pub policies: PolicyCache,
    /// Tokens of ServiceAccounts.
    pub account_tokens: AccountTokens,
    /// The cluster's facts.
    pub config: ApiConfig,
    /// Cancelled when the server stops: streams end, nothing new begins.
    pub shutdown: CancellationToken,
    ready: AtomicBool,
    openapi: OnceLock<Documents>,
}

/// [`State`], as handlers hold it.
pub type SharedState = Arc<State>;

/// Why the API server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The durable log does not open.
    #[error("opening the cluster's state")]
    Storage(#[source] OpenError),
    /// The durable log failed while serving.
    #[error("the durable log failed")]
    Failed,
    /// A stored Service cannot be read.
    #[error("reading the stored Service {key}")]
    Service {
        /// Where it is stored.
        key: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The key of service account tokens is damaged.
    #[error("reading the key of service account tokens")]
    AccountKey(#[source] TokenError),
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
    /// A stored Service, or the key of tokens, is damaged.
    pub fn new(
        config: ApiConfig,
        storage: Arc<dyn Storage>,
        shutdown: CancellationToken,
    ) -> Result<SharedState, StartError> {
        let allocators = Allocators::new(config.service_cidr, config.node_ports.clone());
        for entry in storage.cache().snapshot().range("core/services/", None) {
            serde_json::from_slice(&entry.value)
                .and_then(|service| allocators.adopt(&service))
                .map_err(|source| StartError::Service {
                    key: entry.key.to_string(),
                    source,
                })?;
        }
        let account_tokens =
            AccountTokens::new(&config.account_key, &config.cluster_domain).map_err(StartError::AccountKey)?;
        Ok(Arc::new(Self {
            account_tokens,
            registry: standard_registry(),
            storage,
            allocators,
            policies: PolicyCache::default(),
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

    /// Notes what a new object of any client holds.
    pub fn remember(&self, info: &KindInfo, name: &str) {
        if info.kind == "IPAddress"
            && let Ok(address) = name.parse()
        {
            self.allocators.hold_address(address);
        }
    }

    /// Gives back what a deleted object held.
    pub async fn forget(&self, info: &KindInfo, last: &Entry) {
        let released = match info.kind {
            "Service" => match serde_json::from_slice(&last.value) {
                Ok(service) => addresses::release(self, &service).await,
                Err(error) => Err(error),
            },
            "IPAddress" => {
                let name = last.key.rsplit('/').next().unwrap_or_default();
                if let Ok(address) = name.parse() {
                    self.allocators.free_address(address);
                }
                Ok(())
            }
            _ => Ok(()),
        };
        if let Err(error) = released {
            tracing::error!(key = &*last.key, %error, "a deleted object is damaged");
        }
    }
}

fn standard_registry() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(Registry::standard)
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
    let client = in_process_client(&state, Identity::controllers());
    bootstrap(&client, &controllers).await.map_err(StartError::Bootstrap)?;
    state.set_ready();
    crate::controllers::run(client, controllers, shutdown).await;
    servers.join_all().await;
    guard.abort();
    if failed.is_cancelled() {
        Err(StartError::Failed)
    } else {
        Ok(())
    }
}
