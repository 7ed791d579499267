//! Lays and removes a Pod's veth pair as planned by `plan::pod_network`, over netlink sockets that live
//! in the two namespaces; facts about why it is shaped so are at the plan.

use super::link::LinkError;
use super::netlink::{Netlink, NetlinkError};
use super::netns::{NetNs, NetNsError};
use super::route::RouteError;
use super::sysctl::{NO_IPV6, Sysctl, sysctl};
use super::veth::{self, Pair, PairEnd, Place, PlaceError};
use crate::plan::pod_network::{POD_LINK, PodNetwork};

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum PodNetworkError {
    /// The Pod's network namespace.
    #[error(transparent)]
    Namespace(#[from] NetNsError),
    /// A netlink socket.
    #[error(transparent)]
    Socket(#[from] NetlinkError),
    /// The veth pair.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// What one of its ends carries.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// A parameter of the Pod's namespace, or the way into it.
    #[error(transparent)]
    Place(#[from] PlaceError),
}

/// What a Pod's namespace is told before it has a link. IPv4 values would otherwise be those of the machine's
/// first namespace. Without reverse-path filtering, answers may come from any address a Service gave its
/// name to. The last two are what containerd gives its Pods: every user may ping and bind port 80.
const POD_SYSCTLS: [Sysctl; 6] = [
    NO_IPV6[0],
    NO_IPV6[1],
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
        Ok(Self {
            node: Netlink::open_in(node)?,
        })
    }

    /// Makes the namespace, the pair, addresses, routes and permanent neighbours; afterwards packets flow.
    /// Idempotent: what is there
    /// and right is kept, what is there and wrong is replaced.
    ///
    /// # Errors
    /// What failed first; calling again goes on from there.
    pub async fn attach(&self, pod: &PodNetwork) -> Result<(), PodNetworkError> {
        let place = Place::open(NetNs::create(&pod.netns)?, &POD_SYSCTLS)?;
        let mut pair = self.ensure_pair(pod, &place).await?;
        if pair.kept {
            if self.is_laid(pod, &place.netlink).await? {
                return Ok(());
            }
            // Which of it is too much is not worth finding out: nothing runs on a Pod's link that would notice.
            self.node.delete_link(&pod.host_link).await?;
            pair = self.ensure_pair(pod, &place).await?;
        }
        let (host_end, pod_end) = (pod.host_end(), pod.pod_end());
        tokio::try_join!(
            self.node.lay(pair.near, &host_end),
            place.netlink.lay(pair.far, &pod_end)
        )?;
        let inside = &place.netlink;
        tokio::try_join!(self.node.wait_operational(pair.near), inside.wait_operational(pair.far))?;
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

    async fn ensure_pair(&self, pod: &PodNetwork, place: &Place) -> Result<Pair, LinkError> {
        let host = PairEnd {
            netlink: &self.node,
            netns: None,
            name: &pod.host_link,
            mac: pod.host_mac,
            bridge: None,
        };
        veth::ensure(host, PairEnd::new(place, POD_LINK, pod.pod_mac), pod.mtu).await
    }

    /// For a pair that is known to be one: the node's end and the Pod's.
    async fn is_laid(&self, pod: &PodNetwork, inside: &Netlink) -> Result<bool, PodNetworkError> {
        let (host, inner) = tokio::try_join!(self.node.observe(&pod.host_link), inside.observe(POD_LINK))?;
        Ok(host == Some(pod.host_end()) && inner == Some(pod.pod_end()))
    }
}
