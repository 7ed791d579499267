//! From rules on paper to packets in a kernel.

mod kernel;
mod kube_proxy;
mod laws;
mod packets;

use super::compile::Compiler;
use super::ruleset::Ruleset;
use crate::plan::service_table::{NodeFacts, NodePortAddresses, ServiceTable};
use crate::view::testing;

/// Node facts in short.
fn node(name: &str, address: &str, cluster_cidr: &str) -> NodeFacts {
    NodeFacts {
        name: name.to_owned(),
        address: address.parse().expect("an address"),
        cluster_cidr: cluster_cidr.parse().expect("a range"),
        zone: None,
        node_port_addresses: NodePortAddresses::All,
        conntrack_tcp_liberal: false,
    }
}

/// The rules for some manifests on some node.
fn compile(manifests: &str, node: NodeFacts) -> Ruleset {
    let view = testing::view(Some(&node.name), manifests);
    Compiler::default().compile(&ServiceTable::full(&view, node))
}
