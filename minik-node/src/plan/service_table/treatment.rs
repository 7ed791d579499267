//! What happens to a packet at each way into a Service port, and why.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{NodeFacts, Pools};
use crate::model::{Service, ServicePort, ServiceType, TrafficPolicy};

/// Where a packet for a Service arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// The cluster IP.
    ClusterIp(Ipv4Addr),
    /// An address of `externalIPs`.
    ExternalIp(Ipv4Addr),
    /// An address that a load balancer assigned.
    LoadBalancerIp {
        /// The address.
        address: Ipv4Addr,
        /// Sources that may use it; `None` admits everybody. A node whose own address is admitted may also
        /// use it with the load balancer's address as source, since packets to a local address loop back so.
        sources: Option<Vec<Ipv4Net>>,
    },
    /// A port on each of the node's addresses.
    NodePort(u16),
}

/// Which packets of a way in get the node's address as their source, besides those that an endpoint sends
/// to itself, which always do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Masquerade {
    /// Those that no Pod sent: an endpoint on another node would answer past this one.
    OffCluster,
    /// All: the endpoint may be on another node, and the sender is outside.
    Always,
}

/// What happens there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// Balanced over the pool of this policy.
    Balance {
        /// `Cluster` or `Local`.
        policy: TrafficPolicy,
        /// Whose source changes.
        masquerade: Masquerade,
    },
    /// External traffic under policy `Local`: from outside to the local pool with its source kept, or dropped
    /// when that is empty; from Pods (source kept) and from the node itself (masqueraded) to the cluster pool.
    KeepSource {
        /// Whether the local pool has anything.
        local_endpoints: bool,
    },
    /// Refused with ICMP port-unreachable: there is no endpoint anywhere.
    Reject,
    /// Dropped: there are endpoints, but none on this node, and policy `Local` allows no other. Load balancers
    /// and clients try another node.
    Drop,
}

/// A way in and what happens there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WayIn {
    /// Where.
    pub way: Way,
    /// What.
    pub treatment: Treatment,
}

/// Both traffic policies, as far as they apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Policies {
    internal: TrafficPolicy,
    /// `None` when there is no way in from outside.
    external: Option<TrafficPolicy>,
}

impl Policies {
    pub fn of(service: &Service, port: &ServicePort) -> Self {
        let outside = port.node_port.is_some()
            || !service.external_ips.is_empty()
            || (service.kind == ServiceType::LoadBalancer && !service.load_balancer_ips.is_empty());
        Self {
            internal: service.internal_policy,
            external: outside.then_some(service.external_policy),
        }
    }

    /// Whether any traffic may go to all endpoints. From outside some always may, see [`Treatment::KeepSource`].
    pub fn uses_cluster(self) -> bool {
        self.internal == TrafficPolicy::Cluster || self.external.is_some()
    }

    /// Whether any traffic must stay on the node.
    pub fn uses_local(self) -> bool {
        self.internal == TrafficPolicy::Local || self.external == Some(TrafficPolicy::Local)
    }
}

/// All ways into a port.
pub(super) fn ways_in(
    service: &Service,
    port: &ServicePort,
    cluster_ip: Ipv4Addr,
    policies: Policies,
    pools: &Pools,
    node: &NodeFacts,
) -> Vec<WayIn> {
    let inside = WayIn {
        way: Way::ClusterIp(cluster_ip),
        treatment: internal(policies, pools),
    };
    let treatment = external(policies, pools);
    let outside = ways_from_outside(service, port, node).map(|way| WayIn { way, treatment });
    std::iter::once(inside).chain(outside).collect()
}

fn ways_from_outside(service: &Service, port: &ServicePort, node: &NodeFacts) -> impl Iterator<Item = Way> {
    let balanced = service.kind == ServiceType::LoadBalancer;
    let addresses = service.load_balancer_ips.iter().filter(move |_| balanced);
    let external = service.external_ips.iter().map(|address| Way::ExternalIp(*address));
    let load_balancer = addresses.map(|address| Way::LoadBalancerIp {
        address: *address,
        sources: sources(service, node),
    });
    external.chain(load_balancer).chain(port.node_port.map(Way::NodePort))
}

/// The ranges of the manifest, and the load balancer's own addresses when they admit this node.
fn sources(service: &Service, node: &NodeFacts) -> Option<Vec<Ipv4Net>> {
    let mut sources = service.source_ranges.clone();
    if sources.is_empty() {
        return None;
    }
    if sources.iter().any(|range| range.contains(&node.address)) {
        sources.extend(service.load_balancer_ips.iter().map(|address| Ipv4Net::from(*address)));
    }
    Some(sources)
}

fn internal(policies: Policies, pools: &Pools) -> Treatment {
    match policies.internal {
        _ if !pools.any => Treatment::Reject,
        TrafficPolicy::Local if pools.local.backends.is_empty() => Treatment::Drop,
        policy => Treatment::Balance {
            policy,
            masquerade: Masquerade::OffCluster,
        },
    }
}

fn external(policies: Policies, pools: &Pools) -> Treatment {
    match policies.external {
        _ if !pools.any => Treatment::Reject,
        Some(TrafficPolicy::Local) => Treatment::KeepSource {
            local_endpoints: !pools.local.backends.is_empty(),
        },
        _ => Treatment::Balance {
            policy: TrafficPolicy::Cluster,
            masquerade: Masquerade::Always,
        },
    }
}
