//! Nodes as network namespaces: the fabric, the nodes' links and the outside world's one link.
//!
//! Works through `minik_node::kernel` only. Remembers nothing: everything it made is found again by name.

use futures::future::try_join_all;
use minik_node::kernel::link::LinkError;
use minik_node::kernel::netlink::{Netlink, NetlinkError};
use minik_node::kernel::netns::{NetNs, NetNsError};
use minik_node::kernel::route::RouteError;
use minik_node::kernel::sysctl::{self, SysctlError};
use minik_node::kernel::veth::{self, Pair, PairEnd, Place, PlaceError};
use minik_node::kernel::{netns_dir, process};
use minik_node::plan::link::{LinkState, Mac};

use super::egress::{self, EgressError};
use super::underlay::{
    BRIDGE, BRIDGE_MAC, DEAD_END, DEAD_END_MACS, FABRIC_SYSCTLS, MTU, NODE_LINK, NODE_SYSCTLS, OUTSIDE_PORT,
    OUTSIDE_SYSCTLS, dead_end, node_link, outside_altname, outside_link, outside_state, port_mac,
};
use crate::cluster::{ClusterSpec, NodeSpec};

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// A network namespace.
    #[error(transparent)]
    Namespace(#[from] NetNsError),
    /// A namespace's parameters, or the way into it.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// A netlink socket.
    #[error(transparent)]
    Socket(#[from] NetlinkError),
    /// A link.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Addresses and routes on one.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// A parameter of the outside world's link.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// The way out of the machine.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// The processes of the machine could not be listed.
    #[error("list processes")]
    Processes(#[source] std::io::Error),
    /// `/run/netns` could not be put back as it was.
    #[error("restore {}", netns_dir::RUN_NETNS)]
    Folder(#[source] std::io::Error),
}

/// Told the name of each part that is ready: `fabric`, `outside`, node names; in no order.
pub type Progress<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// Makes the namespaces of a cluster and joins them, or mends what of that is missing or wrong. What is right
/// stays, running Pods and connections included.
///
/// The outside world of a cluster that is not isolated is the namespace of the calling thread. Needs a tokio
/// runtime.
///
/// # Errors
/// What failed first; calling again goes on from there.
pub async fn provision(spec: &ClusterSpec, progress: Progress<'_>) -> Result<(), ProviderError> {
    let fabric = Place::open(NetNs::create(&spec.fabric_netns())?, &FABRIC_SYSCTLS)?;
    let bridge = ensure_bridge(&fabric).await?;
    progress("fabric");
    let fabric = Fabric { place: &fabric, bridge };
    let nodes = spec.nodes.iter().map(|node| async move {
        provision_node(spec, node, fabric).await?;
        progress(&node.name);
        Ok::<_, ProviderError>(())
    });
    let outside = async {
        provision_outside(spec, fabric).await?;
        progress("outside");
        Ok(())
    };
    tokio::try_join!(try_join_all(nodes), outside)?;
    Ok(())
}

/// Joins one node to the others again, as [`provision`] does.
///
/// # Errors
/// As there.
pub async fn plug(spec: &ClusterSpec, node: &NodeSpec) -> Result<(), ProviderError> {
    let fabric = Place::open(NetNs::create(&spec.fabric_netns())?, &FABRIC_SYSCTLS)?;
    let bridge = ensure_bridge(&fabric).await?;
    let fabric = Fabric { place: &fabric, bridge };
    provision_node(spec, node, fabric).await
}

/// Takes a node's link down: nothing reaches it, and nothing of it gets out.
///
/// # Errors
/// That of finding the namespace, or of the kernel.
pub async fn unplug(spec: &ClusterSpec, node: &NodeSpec) -> Result<(), ProviderError> {
    let netlink = Netlink::open_in(&node_netns(spec, &node.name)?)?;
    if let Some(link) = netlink.find_link(NODE_LINK).await? {
        netlink.set_down(link.index).await?;
    }
    Ok(())
}

/// The namespace of a node that is up.
///
/// # Errors
/// When there is none.
pub fn node_netns(spec: &ClusterSpec, node: &str) -> Result<NetNs, NetNsError> {
    NetNs::open(&spec.node_netns(node))
}

/// The outside world of a cluster that is up: its own namespace, or the calling thread's.
///
/// # Errors
/// When an isolated cluster has none.
pub fn outside_netns(spec: &ClusterSpec) -> Result<NetNs, NetNsError> {
    match spec.outside_netns() {
        Some(name) => NetNs::open(&name),
        None => NetNs::current(),
    }
}

/// The bridge's namespace.
#[derive(Debug, Clone, Copy)]
struct Fabric<'a> {
    place: &'a Place,
    bridge: u32,
}

impl Fabric<'_> {
    /// Joins a link elsewhere to the bridge. The port is up; the link is the caller's to raise.
    async fn join(&self, port: &str, place: &Place, link: &str, mac: Mac) -> Result<Pair, LinkError> {
        let port = PairEnd {
            bridge: Some(self.bridge),
            ..PairEnd::new(self.place, port, port_mac(mac))
        };
        let pair = veth::ensure(port, PairEnd::new(place, link, mac), MTU).await?;
        self.place.netlink.set_up(pair.near).await?;
        Ok(pair)
    }

    /// Lays a joined link and waits until packets pass through it and its port.
    async fn lay(&self, pair: Pair, place: &Place, state: &LinkState) -> Result<(), ProviderError> {
        place.netlink.lay(pair.far, state).await?;
        place.netlink.wait_operational(pair.far).await?;
        Ok(self.place.netlink.wait_operational(pair.near).await?)
    }
}

async fn ensure_bridge(fabric: &Place) -> Result<u32, LinkError> {
    let netlink = &fabric.netlink;
    if netlink.find_link(BRIDGE).await?.is_none() {
        netlink.add_bridge(BRIDGE, BRIDGE_MAC).await?;
    }
    let bridge = index_of(netlink, BRIDGE).await?;
    netlink.set_up(bridge).await?;
    Ok(bridge)
}

async fn provision_node(spec: &ClusterSpec, node: &NodeSpec, fabric: Fabric<'_>) -> Result<(), ProviderError> {
    let place = Place::open(NetNs::create(&spec.node_netns(&node.name))?, &NODE_SYSCTLS)?;
    let state = node_link(spec, node);
    let eth0 = fabric.join(&node.name, &place, NODE_LINK, state.mac).await?;
    fabric.lay(eth0, &place, &state).await?;
    // After eth0: the default route's source is its address.
    lay_dead_end(&place, &dead_end(spec, node)).await
}

async fn lay_dead_end(place: &Place, state: &LinkState) -> Result<(), ProviderError> {
    let [near, far] = std::array::from_fn(|end| PairEnd::new(place, DEAD_END[end], DEAD_END_MACS[end]));
    let pair = veth::ensure(near, far, MTU).await?;
    place.netlink.set_up(pair.far).await?;
    Ok(place.netlink.lay(pair.near, state).await?)
}

async fn provision_outside(spec: &ClusterSpec, fabric: Fabric<'_>) -> Result<(), ProviderError> {
    let place = match spec.outside_netns() {
        Some(name) => Place::open(NetNs::create(&name)?, &OUTSIDE_SYSCTLS)?,
        None => Place::open(NetNs::current()?, &[])?,
    };
    let name = outside_link(&spec.name);
    let state = outside_state(spec);
    let pair = fabric.join(OUTSIDE_PORT, &place, &name, state.mac).await?;
    // While it is down, or it has a link-local address already.
    place.netns.run(|| sysctl::disable_ipv6_on(&name))??;
    let altname = outside_altname(&spec.name);
    if place.netlink.find_link(&altname).await?.is_none() {
        place.netlink.add_altname(pair.far, &altname).await?;
    }
    fabric.lay(pair, &place, &state).await?;
    if spec.egress {
        egress::open(spec, &place).await?;
    }
    Ok(())
}

async fn index_of(netlink: &Netlink, name: &str) -> Result<u32, LinkError> {
    let link = netlink.find_link(name).await?;
    link.map(|link| link.index)
        .ok_or_else(|| LinkError::Vanished { name: name.to_owned() })
}

/// What [`remove`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Removed {
    /// What is gone: `network namespace minik.C.worker1`, `link minik-1a2b3c4d`.
    pub removed: Vec<String>,
    /// What is still there.
    pub left: Vec<Leftover>,
}

/// Something that could not be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// `network namespace minik.C.worker1`
    pub what: String,
    /// `process 4711 (nginx) is in it`
    pub why: String,
    /// The command after which it can be.
    pub command: String,
}

/// Removes everything that carries the cluster's name: its way out of the machine, the outside world's link with its
/// routes, and all namespaces, Pods' included. Needs nothing but the name, and can be repeated.
///
/// A namespace that processes still live in keeps its name, or nobody would find them again.
///
/// # Errors
/// When the machine cannot be looked at, or refuses for a reason other than that.
pub async fn remove(cluster: &str) -> Result<Removed, ProviderError> {
    let mut outcome = Removed::default();
    let link = outside_link(cluster);
    let prefix = format!("minik.{cluster}.");
    let names = NetNs::list(&prefix)?;
    outcome.removed.extend(egress::close(cluster)?);
    if remove_outside_link(&link, &format!("{prefix}fabric")).await? {
        outcome.removed.push(format!("link {link}"));
    }
    let inhabitants = process::by_netns().map_err(ProviderError::Processes)?;
    for name in names {
        let what = format!("network namespace {name}");
        // A name without a namespace is what a crash leaves.
        let id = NetNs::find(&name)?.map(|namespace| namespace.id()).transpose()?;
        match id.and_then(|id| inhabitants.get(&id)) {
            None => {
                NetNs::delete(&name)?;
                outcome.removed.push(what);
            }
            Some(processes) => outcome.left.push(leftover(what, processes)),
        }
    }
    netns_dir::restore().map_err(ProviderError::Folder)?;
    Ok(outcome)
}

fn leftover(what: String, processes: &[process::Process]) -> Leftover {
    let list = |each: fn(&process::Process) -> String, separator| {
        processes.iter().map(each).collect::<Vec<_>>().join(separator)
    };
    Leftover {
        what,
        why: format!(
            "still in it: {}",
            list(|process| format!("{} ({})", process.pid, process.name), ", ")
        ),
        command: format!("kill {}", list(|process| process.pid.to_string(), " ")),
    }
}

/// Removes it from here, and from the other side: it may have been made in another namespace than ours. Either
/// way the name is free afterwards, which the fabric's end alone would give only some time later.
async fn remove_outside_link(link: &str, fabric: &str) -> Result<bool, ProviderError> {
    let here = Netlink::open()?;
    let mut removed = here.find_link(link).await?.is_some();
    here.delete_link(link).await?;
    if let Some(fabric) = NetNs::find(fabric)? {
        let fabric = Netlink::open_in(&fabric)?;
        removed |= fabric.find_link(OUTSIDE_PORT).await?.is_some();
        fabric.delete_link(OUTSIDE_PORT).await?;
    }
    Ok(removed)
}

#[cfg(test)]
mod tests;
