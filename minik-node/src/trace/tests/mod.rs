//! The tracer by hand ([`rules`]), against the kernel ([`kernel`]), against what the service table decides
//! ([`differential`]), and as a witness for scenarios ([`scenarios`]).

mod clusters;
mod differential;
mod kernel;
mod oracle;
mod paper;
mod rules;
mod scenarios;

use std::net::Ipv4Addr;

use super::{Host, HostLink, HostRoute};
use crate::plan::service_table::{NodeFacts, NodePortAddresses};

/// Addresses of node `n1`, on which everything here happens, and of its neighbour `n2`.
const NODE: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 11);
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 12);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 1);

/// Node `n1` as minik lays it out: two Pods, another node's Pods behind that node, and the dead end.
fn host() -> Host {
    let link = |name: &str, addresses: &[&str]| HostLink {
        name: name.to_owned(),
        addresses: addresses.iter().map(|text| text.parse().expect("an address")).collect(),
    };
    let route = |destination: &str, gateway: Option<&str>, link: &str, source: Option<Ipv4Addr>| HostRoute {
        destination: destination.parse().expect("a range"),
        gateway: gateway.map(|text| text.parse().expect("an address")),
        link: Some(link.to_owned()),
        source,
    };
    Host {
        links: vec![
            link("lo", &["127.0.0.1/8"]),
            link("eth0", &["172.30.0.11/24"]),
            link("dead0", &[]),
            link("veth-a", &["10.244.1.1/32"]),
            link("veth-b", &["10.244.1.1/32"]),
        ],
        routes: vec![
            route("10.244.1.2/32", None, "veth-a", Some(GATEWAY)),
            route("10.244.1.3/32", None, "veth-b", Some(GATEWAY)),
            route("10.244.2.0/24", Some("172.30.0.12"), "eth0", None),
            route("0.0.0.0/0", Some("169.254.0.1"), "dead0", Some(NODE)),
        ],
    }
}

fn facts() -> NodeFacts {
    NodeFacts {
        name: "n1".to_owned(),
        address: NODE,
        cluster_cidr: "10.244.0.0/16".parse().expect("a range"),
        zone: Some("east".to_owned()),
        node_port_addresses: NodePortAddresses::All,
        conntrack_tcp_liberal: false,
    }
}
