//! Lays a running Pod's link again when other hands took it, or part of it, away. The kernel tells; nothing is polled.
//!
//! A Pod that ends loses its link too, but after its shim: a link without a living shim is nobody's to mend.

use std::collections::BTreeSet;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::config::AgentConfig;
use crate::kernel::monitor::{Change, Monitor, MonitorError};
use crate::kernel::pod_network::PodNetworks;
use crate::plan::pod_network::PodNetwork;
use crate::pods::ipam::Ipam;
use crate::runtime::client::ShimClient;
use crate::runtime::spec::{SOCKET_FILE, SandboxSpec};

/// Prefix length of the route to a Pod.
const HOST_ROUTE: u8 = 32;

/// Watches the namespace of the calling thread, which is the node's; ends only when it cannot be watched any more.
///
/// # Errors
/// [`MonitorError`]
pub fn keep(
    config: &AgentConfig,
    networks: PodNetworks,
) -> Result<impl Future<Output = ()> + Send + 'static, MonitorError> {
    let monitor = Monitor::open()?;
    let (cluster, gateway) = (config.cluster.clone(), Ipam::gateway(config.node_pod_cidr));
    let pods = config.run_dir.join("pods");
    Ok(async move {
        loop {
            match monitor.changes().await {
                Ok(changes) if changes.iter().any(is_about_pods) => {
                    let changes = changes.into_iter().collect();
                    mend(&changes, &pods, &networks, |pod| {
                        PodNetwork::new(&cluster, &pod.pod_uid, pod.address, gateway)
                    })
                    .await;
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "changes of Pods' links are not noticed any more");
                    return;
                }
            }
        }
    })
}

fn is_about_pods(change: &Change) -> bool {
    match change {
        Change::Link(name) | Change::Address(name) => name.starts_with("veth"),
        Change::Route(destination, _) => destination.prefix_len() == HOST_ROUTE,
        Change::Unknown => true,
        Change::Parameter => false,
    }
}

fn concerns(change: &Change, network: &PodNetwork) -> bool {
    match change {
        Change::Link(name) | Change::Address(name) => *name == network.host_link,
        Change::Route(destination, _) => destination.addr() == network.address,
        Change::Unknown => true,
        Change::Parameter => false,
    }
}

async fn mend(
    changes: &BTreeSet<Change>,
    pods: &Path,
    networks: &PodNetworks,
    network: impl Fn(&SandboxSpec) -> PodNetwork,
) {
    for dir in sandboxes(pods) {
        let Ok((_, spec)) = ShimClient::adopt(&dir) else {
            continue;
        };
        let network = network(&spec);
        if spec.netns.is_none() || !changes.iter().any(|change| concerns(change, &network)) {
            continue;
        }
        let lives = || UnixStream::connect(dir.join(SOCKET_FILE)).is_ok();
        match networks.is_attached(&network).await {
            Ok(true) => {}
            Ok(false) if !lives() => {}
            Ok(false) => {
                let mended = networks.attach(&network).await;
                let error = mended.as_ref().err().map(|error| error as &dyn std::error::Error);
                tracing::warn!(
                    pod = format!("{}/{}", spec.pod_namespace, spec.pod_name),
                    link = network.host_link,
                    error,
                    "laid a Pod's link again that other hands had changed"
                );
            }
            Err(error) => tracing::debug!(
                link = network.host_link,
                error = &error as &dyn std::error::Error,
                "look at a link"
            ),
        }
    }
}

fn sandboxes(pods: &Path) -> Vec<PathBuf> {
    // No Pod has run yet where there is no folder.
    let entries = std::fs::read_dir(pods).into_iter().flatten();
    entries.filter_map(Result::ok).map(|entry| entry.path()).collect()
}
