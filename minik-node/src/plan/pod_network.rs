//! A Pod's network: which names, addresses and link-layer addresses its veth pair gets.
//!
//! Pods hang on point-to-point routed veths, each with the node's gateway address: no bridge, so
//! hairpin traffic needs no `hairpin_mode` and un-DNAT needs no `br_netfilter`.

use std::net::Ipv4Addr;

/// Everything `kernel::pod_network` needs to lay one Pod's link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodNetwork {
    /// Name of the Pod's network namespace, `minik.CLUSTER.pod.UID`.
    pub netns: String,
    /// Name of the node's end, at most 15 bytes, derived from the Pod's UID.
    pub host_link: String,
    /// The Pod's address.
    pub address: Ipv4Addr,
    /// The node's address on every Pod link: the first of the node's Pod range.
    pub gateway: Ipv4Addr,
    /// Link-layer address of the Pod's end.
    pub pod_mac: [u8; 6],
    /// Link-layer address of the node's end.
    pub host_mac: [u8; 6],
    /// Maximum transmission unit of both ends.
    pub mtu: u32,
}

impl PodNetwork {
    /// Derives all names and link-layer addresses from the cluster, the Pod's UID and its address.
    #[must_use]
    pub fn new(_cluster: &str, _pod_uid: &str, _address: Ipv4Addr, _gateway: Ipv4Addr) -> Self {
        todo!()
    }
}
