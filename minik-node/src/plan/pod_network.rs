//! A Pod's network: which names, addresses and link-layer addresses its veth pair gets.
//!
//! Pods hang on point-to-point routed veths, each with the node's gateway address: no bridge, so
//! hairpin traffic needs no `hairpin_mode` and un-DNAT needs no `br_netfilter`.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use sha2::{Digest, Sha256};

use super::link::{LINK_NAME_MAX, LinkState, Mac, Route, everywhere, mac_of};

/// Name of every Pod's own end.
pub const POD_LINK: &str = "eth0";

/// Ethernet's; a veth pair could carry more, but what leaves the node's Pods must pass any link.
const MTU: u32 = 1500;

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
    pub fn new(cluster: &str, pod_uid: &str, address: Ipv4Addr, gateway: Ipv4Addr) -> Self {
        Self {
            netns: format!("minik.{cluster}.pod.{pod_uid}"),
            host_link: host_link(cluster, pod_uid),
            address,
            gateway,
            pod_mac: mac_of(address),
            host_mac: mac_of(gateway),
            mtu: MTU,
        }
    }

    /// What the node's end carries. The neighbour is permanent: no ARP, so nothing to wait for, nothing to
    /// expire, and no share of the machine-wide ARP table's limits, which namespaces cannot raise.
    /// The source makes the node's own connections to its Pods come from the gateway, as on a bridge.
    #[must_use]
    pub fn host_end(&self) -> LinkState {
        self.end(
            self.host_mac,
            self.gateway,
            [Route::direct(self.address.into()).from(self.gateway)].into(),
            (self.address, self.pod_mac),
        )
    }

    /// What the Pod's end carries: its address alone (/32), and everything else through the gateway.
    #[must_use]
    pub fn pod_end(&self) -> LinkState {
        self.end(
            self.pod_mac,
            self.address,
            [
                Route::direct(self.gateway.into()),
                Route::via(everywhere(), [self.gateway]),
            ]
            .into(),
            (self.gateway, self.host_mac),
        )
    }

    fn end(&self, mac: Mac, address: Ipv4Addr, routes: BTreeSet<Route>, neighbour: (Ipv4Addr, Mac)) -> LinkState {
        LinkState {
            mac,
            mtu: self.mtu,
            addresses: [Ipv4Net::from(address)].into(),
            routes,
            neighbours: [neighbour].into(),
        }
    }
}

/// `veth` and eight hexadecimal digits of a hash: the form people know from other clusters, within the
/// kernel's 15 bytes whatever the UID looks like.
fn host_link(cluster: &str, pod_uid: &str) -> String {
    // A cluster's name has no slash, so no two pairs hash alike by concatenation.
    let hash = Sha256::digest(format!("{cluster}/{pod_uid}"));
    let name = format!("veth{}", data_encoding::HEXLOWER.encode(&hash[..4]));
    debug_assert!(name.len() <= LINK_NAME_MAX);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str) -> PodNetwork {
        PodNetwork::new("minik", uid, [10, 244, 1, 2].into(), [10, 244, 1, 1].into())
    }

    #[test]
    fn names_fit_and_differ() {
        let a = pod("3f2c8a54-1111-4222-8333-944455566677");
        let b = pod("3f2c8a54-1111-4222-8333-944455566678");
        assert_eq!(a.netns, "minik.minik.pod.3f2c8a54-1111-4222-8333-944455566677");
        assert_eq!(a.host_link.len(), 12);
        assert!(a.host_link.starts_with("veth"));
        assert_ne!(a.host_link, b.host_link);
        let other = PodNetwork::new("other", "3f2c8a54-1111-4222-8333-944455566677", a.address, a.gateway);
        assert_ne!(a.host_link, other.host_link);
    }

    #[test]
    fn macs_are_local_unicast_and_spell_the_address() {
        let pod = pod("u");
        assert_eq!(pod.pod_mac, [0x0a, 0x58, 10, 244, 1, 2]);
        assert_eq!(pod.host_mac, [0x0a, 0x58, 10, 244, 1, 1]);
        for mac in [pod.pod_mac, pod.host_mac] {
            assert_eq!(mac[0] & 0b11, 0b10, "locally administered, not a group address");
        }
    }

    #[test]
    fn each_end_knows_the_other() {
        let pod = pod("u");
        let (host, inner) = (pod.host_end(), pod.pod_end());
        assert_eq!(host.neighbours, [(pod.address, inner.mac)].into());
        assert_eq!(inner.neighbours, [(pod.gateway, host.mac)].into());
        assert_eq!(host.addresses, ["10.244.1.1/32".parse().unwrap()].into());
        assert_eq!(inner.addresses, ["10.244.1.2/32".parse().unwrap()].into());
    }
}
