//! Which tracked flows lead to where no Service leads any more: pure, flows and Services in, a verdict out.
//!
//! A UDP client that keeps its port keeps its flow, and a tracked flow never sees the rules again: replaced
//! Pods would leave it talking to nobody, and a flow that began before there was a rule for it would stay
//! untranslated. Those flows have to go, so that the next packet is balanced anew. TCP is left alone: its
//! connections end by themselves or are being finished on purpose.
//!
//! As kube-proxy's conntrack reconciler: a flow is compared with the endpoints that *serve*, whatever the
//! traffic policies, the topology or readiness say, since they choose for new flows only and an endpoint that
//! terminates gracefully keeps what it has. A Service without endpoints has no stale flows. Stricter in one
//! point: a node port counts only at an address of the node, so that no Pod's own traffic to such a port of
//! something else is cut.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};

use super::service_table::{PortEntry, ServiceTable, Way};
use crate::model::{ObjectName, Protocol, ServicePortName, Slice};
use crate::view::ClusterView;

/// A tracked flow, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// UDP or SCTP.
    pub protocol: Protocol,
    /// Who began it.
    pub source: SocketAddrV4,
    /// Where its first packet was sent to.
    pub destination: SocketAddrV4,
    /// Who answers: an endpoint where it was translated, `destination` itself where it was not.
    pub answers_from: SocketAddrV4,
    /// The kernel's own number for it; a flow that begins anew between the same ends has another.
    pub id: u32,
}

/// Where new flows may lead, by where they are sent to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Destinations {
    addresses: BTreeMap<(Protocol, SocketAddrV4), BTreeSet<SocketAddrV4>>,
    node_ports: BTreeMap<(Protocol, u16), BTreeSet<SocketAddrV4>>,
}

impl Destinations {
    /// Protocols without a connection to finish.
    pub const PROTOCOLS: [Protocol; 2] = [Protocol::Udp, Protocol::Sctp];

    /// Those of every Service in the table.
    #[must_use]
    pub fn all(view: &ClusterView, table: &ServiceTable) -> Self {
        Self::of(view, table, table.services.keys())
    }

    /// Those of the named Services, as far as the table has them.
    #[must_use]
    pub fn of<'a>(
        view: &ClusterView,
        table: &ServiceTable,
        services: impl IntoIterator<Item = &'a ObjectName>,
    ) -> Self {
        let mut destinations = Self::default();
        let entries = services.into_iter().filter_map(|name| table.services.get(name));
        for port in entries.flat_map(|entry| &entry.ports) {
            if Self::PROTOCOLS.contains(&port.name.protocol) {
                destinations.add(port, &serving(view, &port.name));
            }
        }
        destinations
    }

    fn add(&mut self, port: &PortEntry, serving: &BTreeSet<SocketAddrV4>) {
        let protocol = port.name.protocol;
        for way_in in port.ways_in.iter().filter(|_| !serving.is_empty()) {
            // Two Services may claim one external address; what leads to either is no stale flow.
            let endpoints = match &way_in.way {
                Way::NodePort(number) => self.node_ports.entry((protocol, *number)).or_default(),
                Way::ClusterIp(address) | Way::ExternalIp(address) | Way::LoadBalancerIp { address, .. } => {
                    let destination = SocketAddrV4::new(*address, port.port);
                    self.addresses.entry((protocol, destination)).or_default()
                }
            };
            endpoints.extend(serving);
        }
    }

    /// Protocols of which there is anything to compare.
    pub fn protocols(&self) -> impl Iterator<Item = Protocol> {
        let has = |protocol: &Protocol| {
            self.addresses.keys().any(|(of, _)| of == protocol) || self.node_ports.keys().any(|(of, _)| of == protocol)
        };
        Self::PROTOCOLS.into_iter().filter(has)
    }

    /// Whether a flow was sent to one of these and leads to none of its endpoints. `local` are the node's own
    /// addresses, all of loopback apart.
    #[must_use]
    pub fn is_stale(&self, flow: &Flow, local: &BTreeSet<Ipv4Addr>) -> bool {
        let at_node = || {
            let address = flow.destination.ip();
            (address.is_loopback() || local.contains(address))
                .then(|| self.node_ports.get(&(flow.protocol, flow.destination.port())))
                .flatten()
        };
        self.addresses
            .get(&(flow.protocol, flow.destination))
            .or_else(at_node)
            .is_some_and(|serving| !serving.contains(&flow.answers_from))
    }
}

/// Every endpoint of a Service port that serves, the terminating ones included.
fn serving(view: &ClusterView, name: &ServicePortName) -> BTreeSet<SocketAddrV4> {
    let slices = view.slices_of(&name.service).filter(|slice| slice.proxied);
    let of_slice = |slice: &Slice| {
        let ports = slice.ports.iter();
        let numbers = ports.filter(|port| port.name == name.port && port.protocol == name.protocol);
        let numbers: Vec<u16> = numbers.filter_map(|port| port.port).collect();
        let endpoints = slice.endpoints.iter().filter(|endpoint| endpoint.serving);
        endpoints
            .flat_map(|endpoint| {
                numbers
                    .iter()
                    .map(|number| SocketAddrV4::new(endpoint.address, *number))
            })
            .collect::<Vec<_>>()
    };
    slices.flat_map(|slice| of_slice(slice)).collect()
}

#[cfg(test)]
mod tests;
