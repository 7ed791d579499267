//! Service semantics, decided once: for every Service port and every way in, where packets go and how.
//!
//! Input is a [`ClusterView`] and the facts of a node; output is data that a proxy backend only has to spell.
//! Pure, and incremental by Service: updating the table costs what changed, and equals computing it anew.
//! Never names a chain, a set or a program.

mod pools;
mod treatment;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use imbl::OrdMap;
use ipnet::{AddrParseError, IpNet, Ipv4Net};

pub use pools::{Backend, HintsIgnored, LeftOut, Pool, PoolReason, Pools, Why};
pub use treatment::{Masquerade, Treatment, Way, WayIn};

use crate::model::{ObjectName, Service, ServicePort, ServicePortName};
use crate::view::{Changes, ClusterView};

/// What a node has to know of itself to decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// Its name, to tell local endpoints from others.
    pub name: String,
    /// Its own address; decides whether a load balancer's source ranges admit the node itself.
    pub address: Ipv4Addr,
    /// Addresses of all Pods. What comes from elsewhere is masqueraded on its way to a cluster IP, so that
    /// replies come back through this node.
    pub cluster_cidr: Ipv4Net,
    /// Its zone, for topology hints.
    pub zone: Option<String>,
    /// Where node ports are open (kube-proxy's `nodePortAddresses`).
    pub node_port_addresses: NodePortAddresses,
    /// Whether conntrack places TCP packets that are out of their window (`nf_conntrack_tcp_be_liberal`).
    pub conntrack_tcp_liberal: bool,
}

/// Addresses of the node at which its node ports are open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// All of them, those of loopback among them.
    All,
    /// These: what the ranges or the word `primary` of `nodePortAddresses` select on this node.
    Only(Vec<Ipv4Addr>),
}

impl NodePortAddresses {
    /// Reads `nodePortAddresses` as kube-proxy does: nothing means all, `primary` the node's own address, a range
    /// those of `present` (the addresses of the node's links) that it contains.
    ///
    /// # Errors
    /// The first value that is neither `primary` nor a range. Ranges of IPv6 select nothing here.
    pub fn select(values: &[String], primary: Ipv4Addr, present: &[Ipv4Addr]) -> Result<Self, AddrParseError> {
        let ranges = values
            .iter()
            .map(|value| match value.as_str() {
                "primary" => Ok(IpNet::from(IpAddr::V4(primary))),
                range => range.parse(),
            })
            .collect::<Result<Vec<IpNet>, _>>()?;
        if ranges.is_empty()
            || ranges
                .iter()
                .any(|range| range.addr().is_ipv4() && range.prefix_len() == 0)
        {
            return Ok(Self::All);
        }
        let mut chosen: Vec<Ipv4Addr> = std::iter::once(&primary)
            .chain(present)
            .filter(|address| ranges.iter().any(|range| range.contains(&IpAddr::V4(**address))))
            .copied()
            .collect();
        chosen.sort_unstable();
        chosen.dedup();
        Ok(Self::Only(chosen))
    }
}

/// Every Service that this node's proxy handles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceTable {
    /// The node for which it was decided.
    pub node: NodeFacts,
    /// Services with at least one address; headless, ExternalName and foreign-proxy ones are not here.
    pub services: OrdMap<ObjectName, Arc<ServiceEntry>>,
}

/// One Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceEntry {
    /// In the order of the manifest.
    pub ports: Vec<PortEntry>,
}

/// One port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortEntry {
    /// Its name.
    pub name: ServicePortName,
    /// Port number on cluster, external and load-balancer addresses.
    pub port: u16,
    /// Seconds for which a client keeps its endpoint.
    pub affinity_seconds: Option<u32>,
    /// The endpoints, by use.
    pub pools: Pools,
    /// Cluster IP first, then external addresses, load-balancer addresses and the node port.
    pub ways_in: Vec<WayIn>,
    /// Port on which load balancers ask this node how many endpoints it has.
    pub health_check_node_port: Option<u16>,
}

impl ServiceTable {
    /// Decides everything anew.
    #[must_use]
    pub fn full(view: &ClusterView, node: NodeFacts) -> Self {
        let services = view.services.values().filter_map(|service| {
            let entry = ServiceEntry::decide(view, service, &node)?;
            Some((service.name.clone(), Arc::new(entry)))
        });
        Self {
            services: services.collect(),
            node,
        }
    }

    /// Brings the table from an earlier view to `view`, given what lies between. Entries that come out equal
    /// keep their identity, so that comparing tables stays cheap.
    pub fn update(&mut self, view: &ClusterView, changes: &Changes, node: NodeFacts) {
        if node != self.node {
            *self = Self::full(view, node);
            return;
        }
        for name in &changes.services {
            let entry = view
                .services
                .get(name)
                .and_then(|service| ServiceEntry::decide(view, service, &node));
            match entry {
                Some(entry) if self.services.get(name).is_some_and(|old| **old == entry) => {}
                Some(entry) => drop(self.services.insert(name.clone(), Arc::new(entry))),
                None => drop(self.services.remove(name)),
            }
        }
    }

    /// All ports of all Services, in order.
    pub fn ports(&self) -> impl Iterator<Item = &PortEntry> {
        self.services.values().flat_map(|entry| &entry.ports)
    }
}

impl ServiceEntry {
    /// `None` for Services that no proxy of ours handles.
    fn decide(view: &ClusterView, service: &Service, node: &NodeFacts) -> Option<Self> {
        if !service.proxied || service.external_name().is_some() {
            return None;
        }
        let cluster_ip = service.cluster_ip?;
        let ports = service
            .ports
            .iter()
            .map(|port| PortEntry::decide(view, service, port, cluster_ip, node));
        Some(Self { ports: ports.collect() })
    }
}

impl PortEntry {
    fn decide(
        view: &ClusterView,
        service: &Service,
        port: &ServicePort,
        cluster_ip: Ipv4Addr,
        node: &NodeFacts,
    ) -> Self {
        let name = ServicePortName {
            service: service.name.clone(),
            port: port.name.clone(),
            protocol: port.protocol,
        };
        let policies = treatment::Policies::of(service, port);
        let pools = Pools::choose(&pools::candidates(view, &name), policies, node);
        Self {
            ways_in: treatment::ways_in(service, port, cluster_ip, policies, &pools, node),
            port: port.port,
            affinity_seconds: service.affinity_seconds,
            health_check_node_port: service.health_check_node_port,
            pools,
            name,
        }
    }
}
