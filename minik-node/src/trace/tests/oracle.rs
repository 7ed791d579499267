//! What must become of a packet, from the service table and the shape of node `n1` alone. Knows no chain and
//! no rule: written from the meaning of [`Treatment`], [`Masquerade`] and [`Way`], so that rules which say
//! something else than the table are found out.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use super::super::{Origin, Packet, Protocol};
use super::{GATEWAY, NODE};
use crate::model::{self, ServicePortName, TrafficPolicy};
use crate::plan::service_table::{Masquerade, Pool, PortEntry, ServiceTable, Treatment, Way};

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fate {
    /// It arrives: by which link (`None` for a process on the node), where, and from whom.
    Arrives {
        link: Option<&'static str>,
        to: SocketAddrV4,
        from: Ipv4Addr,
    },
    Refused,
    Dropped,
}

/// What may become of it, equally likely each; and the endpoint's memory that the choice leaves.
pub(super) type Choices = Vec<(Fate, Option<Seen>)>;

/// An endpoint that a client has used.
pub(super) type Seen = (ServicePortName, SocketAddrV4, Ipv4Addr);

/// When each client used each endpoint of a port with affinity.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory(BTreeMap<Seen, Duration>);

impl Memory {
    pub fn note(&mut self, seen: Seen, now: Duration) {
        self.0.insert(seen, now);
    }

    /// An endpoint that a Service no longer sends to is forgotten with it.
    pub fn keep_what_lives(&mut self, table: &ServiceTable) {
        let lives = |(name, target, _): &Seen| {
            let port = table.ports().find(|port| port.name == *name);
            port.is_some_and(|port| {
                port.affinity_seconds.is_some()
                    && port.pools.reachable().iter().any(|backend| backend.target == *target)
            })
        };
        self.0.retain(|seen, _| lives(seen));
    }
}

/// What must become of `packet`.
pub(super) fn decide(
    table: &ServiceTable,
    memory: &Memory,
    now: Duration,
    origin: &Origin,
    packet: &Packet,
) -> Choices {
    let question = Question {
        table,
        memory,
        now,
        here: *origin == Origin::Local,
        source: if packet.source.is_unspecified() {
            own_source(packet.destination)
        } else {
            packet.source
        },
        target: SocketAddrV4::new(packet.destination, packet.destination_port),
        protocol: match packet.protocol {
            Protocol::Tcp => model::Protocol::Tcp,
            Protocol::Udp => model::Protocol::Udp,
            _ => model::Protocol::Sctp,
        },
    };
    question.answer()
}

struct Question<'a> {
    table: &'a ServiceTable,
    memory: &'a Memory,
    now: Duration,
    /// Whether a process on the node asks.
    here: bool,
    source: Ipv4Addr,
    target: SocketAddrV4,
    protocol: model::Protocol,
}

impl Question<'_> {
    fn answer(&self) -> Choices {
        let ways = || {
            let of_port = |port: &'_ PortEntry| port.name.protocol == self.protocol;
            let ports = self.table.ports().filter(move |port| of_port(port));
            ports.flat_map(|port| port.ways_in.iter().map(move |way_in| (port, way_in)))
        };
        // A Service's own address wins over a node port on the same address.
        let own = ways().find(|(port, way_in)| port.port == self.target.port() && self.is_address(&way_in.way));
        let found = own.or_else(|| ways().find(|(_, way_in)| self.is_node_port(&way_in.way)));
        match found {
            Some((port, way_in)) => self.treat(port, &way_in.way, way_in.treatment),
            None => self.unhandled(),
        }
    }

    fn is_address(&self, way: &Way) -> bool {
        match way {
            Way::ClusterIp(address) | Way::ExternalIp(address) | Way::LoadBalancerIp { address, .. } => {
                address == self.target.ip()
            }
            Way::NodePort(_) => false,
        }
    }

    fn is_node_port(&self, way: &Way) -> bool {
        matches!(way, Way::NodePort(number) if *number == self.target.port()) && is_own(*self.target.ip())
    }

    fn treat(&self, port: &PortEntry, way: &Way, treatment: Treatment) -> Choices {
        if let Way::LoadBalancerIp {
            sources: Some(sources), ..
        } = way
            && treatment != Treatment::Reject
            && !sources.iter().any(|range| range.contains(&self.source))
        {
            return vec![(Fate::Dropped, None)];
        }
        let is_pod = self.table.node.cluster_cidr.contains(&self.source);
        // kube-proxy refuses a node's own clients at cluster IPs and at addresses of the node; their packets
        // to any other address without endpoints leave the node.
        let refuses = !self.here || matches!(way, Way::ClusterIp(_)) || is_own(*self.target.ip());
        match treatment {
            // Loopback's range is closed to the network before anybody asks who listens there.
            Treatment::Reject if refuses && self.is_intruder() => vec![(Fate::Dropped, None)],
            Treatment::Reject if refuses => vec![(Fate::Refused, None)],
            Treatment::Drop if refuses => vec![(Fate::Dropped, None)],
            Treatment::Reject | Treatment::Drop => self.unhandled(),
            Treatment::Balance { policy, masquerade } => {
                let pool = match policy {
                    TrafficPolicy::Cluster => &port.pools.cluster,
                    TrafficPolicy::Local => &port.pools.local,
                };
                self.balance(port, pool, masquerade == Masquerade::Always || !is_pod)
            }
            Treatment::KeepSource { .. } if is_pod => self.balance(port, &port.pools.cluster, false),
            Treatment::KeepSource { .. } if is_own(self.source) => self.balance(port, &port.pools.cluster, true),
            Treatment::KeepSource { local_endpoints: true } => self.balance(port, &port.pools.local, false),
            Treatment::KeepSource { local_endpoints: false } => vec![(Fate::Dropped, None)],
        }
    }

    fn balance(&self, port: &PortEntry, pool: &Pool, masquerade: bool) -> Choices {
        let seen = |target: SocketAddrV4| (port.name.clone(), target, self.source);
        let remembered = port.affinity_seconds.and_then(|seconds| {
            let lately = |at: &Duration| *at + Duration::from_secs(seconds.into()) >= self.now;
            let used = |target| self.memory.0.get(&seen(target)).is_some_and(lately);
            pool.backends.iter().find(|backend| used(backend.target))
        });
        let chosen = match remembered {
            Some(backend) => std::slice::from_ref(backend),
            None => pool.backends.as_slice(),
        };
        let choice = |target: SocketAddrV4| {
            // An endpoint that reaches itself would otherwise answer itself past the node.
            let masquerade = masquerade || *target.ip() == self.source;
            (
                self.arrive(target, masquerade),
                port.affinity_seconds.map(|_| seen(target)),
            )
        };
        chosen.iter().map(|backend| choice(backend.target)).collect()
    }

    /// No Service's: it goes where it would go without any, but for loopback's range, which nobody outside
    /// may reach.
    fn unhandled(&self) -> Choices {
        let fate = if self.is_intruder() {
            Fate::Dropped
        } else {
            self.arrive(self.target, false)
        };
        vec![(fate, None)]
    }

    fn is_intruder(&self) -> bool {
        self.target.ip().is_loopback() && !self.source.is_loopback()
    }

    fn arrive(&self, to: SocketAddrV4, masquerade: bool) -> Fate {
        let link = link_to(*to.ip());
        let from = match link {
            // Only what leaves the node, or what the node sends itself, is ever masqueraded.
            None if !self.here => self.source,
            _ if !masquerade => self.source,
            Some("veth-a" | "veth-b") => GATEWAY,
            _ => NODE,
        };
        Fate::Arrives { link, to, from }
    }
}

fn is_own(address: Ipv4Addr) -> bool {
    address == NODE || address == GATEWAY || address.is_loopback()
}

/// The address with which a process on the node asks.
fn own_source(destination: Ipv4Addr) -> Ipv4Addr {
    match link_to(destination) {
        None => destination,
        Some("veth-a" | "veth-b") => GATEWAY,
        Some(_) => NODE,
    }
}

fn link_to(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets() {
        _ if is_own(address) => None,
        [10, 244, 1, 2] => Some("veth-a"),
        [10, 244, 1, 3] => Some("veth-b"),
        [10, 244, 2, _] | [172, 30, 0, _] => Some("eth0"),
        _ => Some("dead0"),
    }
}
