//! Works inside a node's network namespace, and reads there what the tracer needs. Decides nothing.

use anyhow::{Context, bail};
use minik_node::kernel::netlink::Netlink;
use minik_node::proxy::iptables::kernel::Kernel;
use minik_node::trace::{Host, HostLink, HostRoute};

use crate::cluster::{ClusterSpec, NodeSpec};
use crate::provider::netns::node_netns;

/// The node of that name.
///
/// # Errors
/// When there is none, with the names that there are.
pub fn find<'a>(spec: &'a ClusterSpec, name: &str) -> anyhow::Result<&'a NodeSpec> {
    match spec.node(name) {
        Some(node) => Ok(node),
        None => {
            let names: Vec<&str> = spec.nodes.iter().map(|node| node.name.as_str()).collect();
            bail!("node {name:?} not found: there are {}", names.join(", "))
        }
    }
}

/// Runs a future on a thread inside the node's namespace, where programs that it starts and sockets that it opens
/// belong.
///
/// # Errors
/// When the namespace cannot be entered, and what the future itself says.
pub fn inside<T: Send>(
    spec: &ClusterSpec,
    node: &str,
    work: impl AsyncFnOnce() -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    node_netns(spec, node)?
        .run(|| crate::cmd::runtime()?.block_on(work()))
        .with_context(|| format!("enter node {node}"))?
}

/// All rules of the node, as `iptables-save` prints them.
///
/// # Errors
/// When they cannot be read.
pub async fn rules(spec: &ClusterSpec, node: &NodeSpec) -> anyhow::Result<String> {
    let lock = spec.node_run_dir(&node.name).join("xtables.lock");
    Ok(Kernel::probe(lock).await?.print().await?)
}

/// Links, addresses and routes of the namespace that the calling thread is in.
///
/// # Errors
/// When they cannot be read.
pub async fn host() -> anyhow::Result<Host> {
    let netlink = Netlink::open()?;
    let (links, mut addresses) = (netlink.links().await?, netlink.addresses().await?);
    let routes = netlink.routes().await?.into_iter().map(|(link, route)| HostRoute {
        destination: route.destination,
        gateway: route.gateways.first().copied(),
        link: links.get(&link).map(|link| link.name.clone()),
        source: route.source,
    });
    Ok(Host {
        routes: routes.collect(),
        links: links
            .values()
            .map(|link| HostLink {
                name: link.name.clone(),
                addresses: addresses.remove(&link.index).unwrap_or_default().into_iter().collect(),
            })
            .collect(),
    })
}
