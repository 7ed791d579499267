//! What a cluster's network consists of before any agent runs: namespaces, links and what is on them.
//! Pure: names and addresses in, desired state out.
//!
//! ```text
//!  outside world            fabric                 node
//!  minik-1a2b3c4d ───── outside │ br0 │ worker1 ───── eth0      dead0 ── dead1
//!  172.30.0.1                                         172.30.0.11  default route, leads nowhere
//! ```

use std::net::Ipv4Addr;

use minik_node::kernel::sysctl::{NO_IPV6, Sysctl, sysctl, sysctl_if_any};
use minik_node::plan::link::{LinkState, Mac, Route, everywhere, mac_of};
use sha2::{Digest, Sha256};

use crate::cluster::{ClusterSpec, NodeSpec};

/// Ethernet's.
pub const MTU: u32 = 1500;

/// The bridge in the fabric namespace, and its link-layer address: nobody's, since it has no IP address.
pub const BRIDGE: &str = "br0";
pub const BRIDGE_MAC: Mac = mac_of(Ipv4Addr::new(169, 254, 0, 4));

/// The bridge's port towards the outside world; the others have their nodes' names.
pub const OUTSIDE_PORT: &str = "outside";

/// Every node's link to the fabric.
pub const NODE_LINK: &str = "eth0";

/// The two ends of every node's dead end.
pub const DEAD_END: [&str; 2] = ["dead0", "dead1"];
pub const DEAD_END_MACS: [Mac; 2] = [
    mac_of(Ipv4Addr::new(169, 254, 0, 2)),
    mac_of(Ipv4Addr::new(169, 254, 0, 3)),
];

/// The router at the dead end. Nobody has its link-layer address, so the other end drops what it is sent.
const NOWHERE: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 1);
const NOWHERE_MAC: Mac = [0x02, 0, 0, 0, 0, 0x01];

/// Parameters of a node's namespace. All are written, since a new namespace starts with the IPv4 values of the
/// machine's first one, whatever somebody made of those. `all` and `default` come before any link is made, and
/// links take theirs from `default`; loopback is older than both.
///
/// * `ip_forward`: Pods hang on links of their own, so a node routes.
/// * `route_localnet`: a NodePort answers on 127.0.0.1 too, as kube-proxy's iptables mode has it.
/// * `send_redirects`: Pod to Pod leaves by the link it came from when rules turn it round (hairpin).
/// * `rp_filter`: answers of a Service come from other ways than the packets went.
pub const NODE_SYSCTLS: [Sysctl; 10] = [
    NO_IPV6[0],
    NO_IPV6[1],
    sysctl("net.ipv4.ip_forward", "1"),
    sysctl("net.ipv4.conf.all.route_localnet", "1"),
    sysctl("net.ipv4.conf.all.send_redirects", "0"),
    sysctl("net.ipv4.conf.default.send_redirects", "0"),
    sysctl("net.ipv4.conf.lo.send_redirects", "0"),
    sysctl("net.ipv4.conf.all.rp_filter", "0"),
    sysctl("net.ipv4.conf.default.rp_filter", "0"),
    sysctl("net.ipv4.conf.lo.rp_filter", "0"),
];

/// Parameters of the fabric's namespace. Frames on its bridge must not pass through IP rules: a machine that
/// runs Docker has that on, and its rules drop what they do not know. For the same reason the bridge is not in
/// the outside world's namespace. A kernel without `br_netfilter` has no such switch.
pub const FABRIC_SYSCTLS: [Sysctl; 5] = [
    NO_IPV6[0],
    NO_IPV6[1],
    sysctl_if_any("net.bridge.bridge-nf-call-iptables", "0"),
    sysctl_if_any("net.bridge.bridge-nf-call-ip6tables", "0"),
    sysctl_if_any("net.bridge.bridge-nf-call-arptables", "0"),
];

/// Parameters of an outside world of our own: a host, not a router. The machine's own is left as it is.
pub const OUTSIDE_SYSCTLS: [Sysctl; 5] = [
    NO_IPV6[0],
    NO_IPV6[1],
    sysctl("net.ipv4.ip_forward", "0"),
    sysctl("net.ipv4.conf.all.rp_filter", "0"),
    sysctl("net.ipv4.conf.default.rp_filter", "0"),
];

/// Name of the outside world's link. In a namespace that is not ours it must say whose it is within 15 bytes,
/// whatever the cluster is called: a hash. People read the further name, [`outside_altname`].
pub fn outside_link(cluster: &str) -> String {
    let hash = Sha256::digest(cluster);
    format!("minik-{}", data_encoding::HEXLOWER.encode(&hash[..4]))
}

/// `minik.CLUSTER`
pub fn outside_altname(cluster: &str) -> String {
    format!("minik.{cluster}")
}

/// A node's link to the fabric: its address, and the way out of the machine where there is one. Routes to other
/// nodes' Pods are the agent's, which learns of the nodes from the API.
pub fn node_link(spec: &ClusterSpec, node: &NodeSpec) -> LinkState {
    let way_out = Route::via(everywhere(), [spec.outside_ip()]).from(node.ip);
    LinkState {
        addresses: [in_underlay(spec, node.ip)].into(),
        routes: spec.egress.then_some(way_out).into_iter().collect(),
        ..LinkState::bare(mac_of(node.ip), MTU)
    }
}

/// A node's dead end: the default route is a device on which nobody answers. With a way out of the machine, which
/// takes the default route, it is where cluster IPs and Pods' addresses end that nobody has.
///
/// Routing comes before the rules that know Services, so without a default route a connection to a cluster IP
/// is refused as unreachable before they see it, and `unreachable` and `blackhole` routes refuse it in their
/// own ways. With a route to the outside world, what is not the cluster's leaks out, and a ping of a cluster
/// IP goes round until its TTL ends. A link without a neighbour entry reports a host as unreachable after
/// three seconds. This way rules see everything, and what they leave alone is silence.
pub fn dead_end(spec: &ClusterSpec, node: &NodeSpec) -> LinkState {
    let destinations = if spec.egress {
        vec![spec.service_cidr.trunc(), spec.pod_network_cidr.trunc()]
    } else {
        vec![everywhere()]
    };
    let routes = destinations.into_iter().map(|destination| Route {
        onlink: true,
        ..Route::via(destination, [NOWHERE]).from(node.ip)
    });
    LinkState {
        routes: routes.collect(),
        neighbours: [(NOWHERE, NOWHERE_MAC)].into(),
        ..LinkState::bare(DEAD_END_MACS[0], MTU)
    }
}

/// The outside world's link: a router's view of the cluster. Cluster IPs go through every node, since one that
/// is dead must not take them along.
pub fn outside_state(spec: &ClusterSpec) -> LinkState {
    let pods = spec.nodes.iter().map(|node| Route::via(node.pod_cidr, [node.ip]));
    let services = Route::via(spec.service_cidr.trunc(), spec.nodes.iter().map(|node| node.ip));
    LinkState {
        addresses: [in_underlay(spec, spec.outside_ip())].into(),
        routes: pods.chain([services]).collect(),
        ..LinkState::bare(mac_of(spec.outside_ip()), MTU)
    }
}

/// Ports of the bridge, which stand for the links at their other end and need an address of their own: the
/// same with the group of private addresses in front changed.
pub fn port_mac(other_end: Mac) -> Mac {
    let [_, _, a, b, c, d] = other_end;
    [0x0e, 0x58, a, b, c, d]
}

fn in_underlay(spec: &ClusterSpec, address: Ipv4Addr) -> ipnet::Ipv4Net {
    ipnet::Ipv4Net::new_assert(address, spec.node_network_cidr.prefix_len())
}
