//! Lays and removes a Pod's veth pair as planned by `plan::pod_network`, over netlink sockets that live
//! in the two namespaces; facts about why it is shaped so are at the plan.

use std::os::fd::AsFd;

use super::link::{LinkError, VethEnd};
use super::netlink::{Netlink, NetlinkError};
use super::netns::{NetNs, NetNsError};
use super::route::RouteError;
use super::sysctl::{self, NO_IPV6, Sysctl, SysctlError, sysctl};
use crate::plan::pod_network::{POD_LINK, PodNetwork};

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum PodNetworkError {
    /// The Pod's network namespace.
    #[error(transparent)]
    Namespace(#[from] NetNsError),
    /// A netlink socket in one of the two namespaces.
    #[error(transparent)]
    Socket(#[from] NetlinkError),
    /// The veth pair.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// What one of its ends carries.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// A parameter of the Pod's namespace.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// The end that was just made is not there: somebody else removed it.
    #[error("link {0} vanished")]
    Vanished(String),
}

/// What a Pod's namespace is told before it has a link. IPv4 values would otherwise be those of the machine's
/// first namespace. Without reverse-path filtering, answers may come from any address a Service gave its
/// name to. The last two are what containerd gives its Pods: every user may ping and bind port 80.
const POD_SYSCTLS: [Sysctl; 4] = [
    sysctl("net.ipv4.conf.all.rp_filter", "0"),
    sysctl("net.ipv4.conf.default.rp_filter", "0"),
    sysctl("net.ipv4.ping_group_range", "0 2147483647"),
    sysctl("net.ipv4.ip_unprivileged_port_start", "0"),
];

/// Handle on the node's side of all its Pods' links; cheap to clone.
#[derive(Debug, Clone)]
pub struct PodNetworks {
    node: Netlink,
}

impl PodNetworks {
    /// Opens a netlink socket in the namespace the process is in (the node's). Needs a tokio runtime.
    ///
    /// # Errors
    /// [`PodNetworkError::Socket`].
    pub fn open() -> Result<Self, PodNetworkError> {
        Ok(Self { node: Netlink::open()? })
    }

    /// The same for a node that is not the calling thread's namespace.
    ///
    /// # Errors
    /// [`PodNetworkError::Socket`].
    pub fn open_in(node: &NetNs) -> Result<Self, PodNetworkError> {
        Ok(Self { node: Netlink::open_in(node)? })
    }

    /// Makes the namespace, the pair, addresses, routes and permanent neighbours. Idempotent: what is there
    /// and right is kept, what is there and wrong is replaced.
    ///
    /// # Errors
    /// What failed first; calling again goes on from there.
    pub async fn attach(&self, pod: &PodNetwork) -> Result<(), PodNetworkError> {
        let namespace = NetNs::create(&pod.netns)?;
        let inside = enter(&namespace)?;
        match self.add_pair(pod, &namespace).await {
            Ok(()) => {}
            Err(LinkError::AddVeth { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => {
                if self.is_laid(pod, &inside).await? {
                    return Ok(());
                }
                // Either name may be taken, and not by one pair: a Pod that came back after a crash.
                self.node.delete_link(&pod.host_link).await?;
                inside.delete_link(POD_LINK).await?;
                self.add_pair(pod, &namespace).await?;
            }
            Err(error) => return Err(error.into()),
        }
        let (host, inner) =
            tokio::try_join!(index_of(&self.node, &pod.host_link), index_of(&inside, POD_LINK))?;
        let (host_end, pod_end) = (pod.host_end(), pod.pod_end());
        inside.set_up(inner).await?;
        tokio::try_join!(self.node.lay(host, &host_end), inside.lay(inner, &pod_end))?;
        Ok(())
    }

    /// Removes the pair and the namespace's name, and waits until the link's name is free again.
    /// What is missing is no error.
    ///
    /// # Errors
    /// [`PodNetworkError::Link`], [`PodNetworkError::Namespace`].
    pub async fn detach(&self, pod: &PodNetwork) -> Result<(), PodNetworkError> {
        // The link first: with the namespace alone gone, the kernel would free the link's name some time later.
        self.node.delete_link(&pod.host_link).await?;
        Ok(NetNs::delete(&pod.netns)?)
    }

    /// Whether both ends are there, belong together and carry what is planned, no more and no less.
    ///
    /// # Errors
    /// [`PodNetworkError::Route`], [`PodNetworkError::Namespace`] …; a missing namespace is just not attached.
    pub async fn is_attached(&self, pod: &PodNetwork) -> Result<bool, PodNetworkError> {
        match NetNs::find(&pod.netns)? {
            Some(namespace) => self.is_laid(pod, &Netlink::open_in(&namespace)?).await,
            None => Ok(false),
        }
    }

    async fn add_pair(&self, pod: &PodNetwork, namespace: &NetNs) -> Result<(), LinkError> {
        let host = VethEnd {
            name: &pod.host_link,
            mac: pod.host_mac,
            mtu: pod.mtu,
            netns: None,
            bridge: None,
        };
        let inner = VethEnd {
            name: POD_LINK,
            mac: pod.pod_mac,
            mtu: pod.mtu,
            netns: Some(namespace.as_fd()),
            bridge: None,
        };
        self.node.add_veth(host, inner).await
    }

    async fn is_laid(&self, pod: &PodNetwork, inside: &Netlink) -> Result<bool, PodNetworkError> {
        let (host, inner) = tokio::try_join!(self.node.observe(&pod.host_link), inside.observe(POD_LINK))?;
        Ok(match (host, inner) {
            (Some((host_link, host)), Some((inner_link, inner))) => {
                host_link.peer == Some(inner_link.index)
                    && inner_link.peer == Some(host_link.index)
                    && host == pod.host_end()
                    && inner == pod.pod_end()
            }
            _ => false,
        })
    }
}

/// One visit does both: sets the parameters and opens the socket that does the rest from outside.
fn enter(namespace: &NetNs) -> Result<Netlink, PodNetworkError> {
    let runtime = tokio::runtime::Handle::current();
    namespace.run(|| {
        sysctl::set(&POD_SYSCTLS)?;
        sysctl::set(&NO_IPV6)?;
        let _runtime = runtime.enter();
        Ok(Netlink::open()?)
    })?
}

async fn index_of(netlink: &Netlink, name: &str) -> Result<u32, PodNetworkError> {
    let link = netlink.find_link(name).await?;
    link.map(|link| link.index).ok_or_else(|| PodNetworkError::Vanished(name.to_owned()))
}
