//! Wires one node together: API client → view → planners → reconcilers, and shuts them down in order.
//!
//! Owns the node's Node object, its Lease and the kubelet socket. Decides nothing about packets.

mod client;
mod conditions;
mod disk;
mod links;
mod node;

pub use crate::config::AgentConfig;
pub use client::over_socket;

use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::{self, Clock};
use crate::kernel::monitor::MonitorError;
use crate::kernel::pod_network::{PodNetworkError, PodNetworks};
use crate::kernel::sysctl;
use crate::kubelet::{self, KubeletError};
use crate::plan::fabric::{self, Routes};
use crate::pods::events::Events;
use crate::pods::{self, NodeContext, Objects, Registry};
use crate::proxy::{self, ProxyConfig};
use crate::reconcile::fabric::{Fabric, FabricError};
use crate::reconcile::host_ports::HostPortTable;
use crate::reconcile::{self, Outcome, Status, Timing};
use crate::runtime::image::Images;
use crate::view::{self, ClusterView};

/// Routes are looked over as often as rules, and tried again as soon. They wait for a link that is being mended.
const FABRIC_TIMING: Timing = Timing {
    resync: Duration::from_secs(30),
    retry_min: Duration::from_millis(10),
    retry_max: Duration::from_secs(1),
};

/// What kept an agent from starting. Later failures are retried and reported, never fatal.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The node's netlink sockets.
    #[error("open the node's network")]
    Network(#[from] PodNetworkError),
    /// The fabric's netlink sockets.
    #[error("open the fabric's network")]
    Fabric(#[from] FabricError),
    /// The watch over Pods' links.
    #[error(transparent)]
    Links(#[from] MonitorError),
    /// The kubelet's socket.
    #[error("start the kubelet endpoint")]
    Kubelet(#[from] KubeletError),
    /// The directory of the node's state.
    #[error("make the node's state directory")]
    State(#[source] std::io::Error),
    /// The watch over the clock.
    #[error("listen for steps of the clock")]
    Clock(#[source] std::io::Error),
    /// Finding the program that shims are started from.
    #[error("find own program")]
    Program(#[source] std::io::Error),
}

/// Runs a node until `shutdown`. Must be called inside the node's network namespace. Pods, rules and routes
/// stay as they are when it returns. `kubelet` is the listening socket of the kubelet's endpoint, made by whoever outlives
/// the agent, so that a request of the API server's waits for the next agent instead of failing.
///
/// # Errors
/// When a socket of the node cannot be opened.
pub async fn run(config: AgentConfig, kubelet: UnixListener, shutdown: CancellationToken) -> Result<(), AgentError> {
    let client = client::over_socket(&config.api_socket);
    let registry = Registry::default();
    let endpoint = kubelet::spawn(kubelet, registry.clone(), shutdown.clone())?;
    let networks = PodNetworks::open()?;
    let program = std::env::current_exe().map_err(AgentError::Program)?;

    let view = view::spawn(client.clone(), config.node.clone(), shutdown.clone());
    let fabric = reconcile::spawn(
        Fabric::open()?,
        routes(view.clone(), config.node.clone()),
        FABRIC_TIMING,
        shutdown.clone(),
    );
    let proxy_config = proxy_config(&config);
    let proxy = proxy::spawn(view.clone(), proxy_config.clone(), shutdown.clone());
    let events = Events::spawn(client.clone(), "kube-proxy", config.node.clone());
    proxy::serve::spawn(&proxy_config, view.clone(), proxy.clone(), events, shutdown.clone());

    let events = Events::spawn(client.clone(), "kubelet", config.node.clone());
    std::fs::create_dir_all(&config.state_dir).map_err(AgentError::State)?;
    node::register(&client, &config, &events, &shutdown).await;
    let steps = clock::steps().map_err(AgentError::Clock)?;
    let lease = node::keep(client.clone(), config.clone(), events, steps.clone(), shutdown.clone());
    let lease = tokio::spawn(lease);
    tokio::select! {
        () = synced(proxy) => keep_connections_as_kube_proxy_does(),
        () = shutdown.cancelled() => {}
    }
    let images = Images::new(&config.image_dir);
    let links = links::keep(&config, networks.clone())?;
    let links = tokio::spawn(shutdown.clone().run_until_cancelled_owned(links));
    let objects = Objects::new(client.clone());
    let host_ports = HostPortTable::spawn(proxy_config.lock_file.clone(), shutdown.clone());
    let context = NodeContext {
        config,
        client,
        images,
        objects,
        host_ports,
        networks,
        view,
        program,
        clock: Clock::start(),
        steps,
    };
    let pods = pods::spawn(context, registry, shutdown.clone());

    shutdown.cancelled().await;
    if let Err(error) = links.await {
        tracing::error!(%error, "the watch over Pods' links died");
    }
    for task in [pods, lease, endpoint] {
        if let Err(error) = task.await {
            tracing::error!(%error, "a task of the agent died");
        }
    }
    drop(fabric);
    Ok(())
}

/// What the node's Service proxy is told.
#[must_use]
pub fn proxy_config(config: &AgentConfig) -> ProxyConfig {
    ProxyConfig {
        node: config.node.clone(),
        node_ip: config.node_ip,
        cluster_cidr: config.pod_cidr,
        lock_file: config.run_dir.join("xtables.lock"),
        conntrack_tcp_liberal: sysctl::get(proxy::CONNTRACK_TCP_LIBERAL).is_some_and(|value| value != "0"),
        metrics: Arc::default(),
    }
}

/// Waits for the first pass that left the kernel as desired: no Pod may start before Services work.
async fn synced(mut status: watch::Receiver<Status>) {
    let done = status
        .wait_for(|status| status.outcome == Some(Outcome::Synced))
        .await
        .is_ok();
    tracing::debug!(done, "service proxy synced");
}

/// Connection tracking of a namespace has parameters once there are rules that use it.
fn keep_connections_as_kube_proxy_does() {
    if let Err(error) = sysctl::set(&proxy::TIMEOUTS) {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "connections keep the kernel's timeouts"
        );
    }
}

/// Keeps the routes that other nodes' Pods need, for as long as anybody asks for them.
fn routes(mut view: watch::Receiver<Option<Arc<ClusterView>>>, own: String) -> watch::Receiver<Option<Arc<Routes>>> {
    let (sender, receiver) = watch::channel(None);
    tokio::spawn(async move {
        loop {
            let desired = view
                .borrow_and_update()
                .as_ref()
                .map(|view| fabric::routes(view.nodes.values().map(AsRef::as_ref), &own));
            sender.send_if_modified(|routes: &mut Option<Arc<Routes>>| {
                let changed = routes.as_deref() != desired.as_ref();
                if changed {
                    *routes = desired.map(Arc::new);
                }
                changed
            });
            tokio::select! {
                changed = view.changed() => if changed.is_err() { return },
                () = sender.closed() => return,
            }
        }
    });
    receiver
}
