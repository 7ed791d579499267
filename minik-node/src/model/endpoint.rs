//! What an EndpointSlice offers.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use k8s_openapi::api::discovery::v1 as api;

use super::{ObjectName, Protocol, left_to_others};

/// An IPv4 EndpointSlice that belongs to a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// Namespace and name of the slice itself.
    pub name: ObjectName,
    /// The Service that the label `kubernetes.io/service-name` points to.
    pub service: ObjectName,
    /// Ports that every endpoint listens on.
    pub ports: Vec<SlicePort>,
    /// In the order of the slice.
    pub endpoints: Vec<Endpoint>,
    /// Whether the cluster's own proxy handles it.
    pub proxied: bool,
    /// When what led to its newest content happened, as whoever wrote it says in the annotation
    /// `endpoints.kubernetes.io/last-change-trigger-time`.
    pub triggered: Option<Timestamp>,
}

/// A port of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlicePort {
    /// Name, empty when it has none.
    pub name: String,
    /// Protocol.
    pub protocol: Protocol,
    /// Port that the endpoints listen on; `None` stands for all ports, which no proxy can balance.
    pub port: Option<u16>,
}

/// An endpoint of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its first address; the API treats further ones as fungible.
    pub address: Ipv4Addr,
    /// `conditions.ready`, true when unset.
    pub ready: bool,
    /// `conditions.serving`, true when unset.
    pub serving: bool,
    /// `conditions.terminating`, false when unset.
    pub terminating: bool,
    /// Name of its own under the Service's name.
    pub hostname: Option<String>,
    /// Node that it runs on.
    pub node: Option<String>,
    /// Zones that should use it (`hints.forZones`).
    pub for_zones: Vec<String>,
    /// Nodes that should use it (`hints.forNodes`).
    pub for_nodes: Vec<String>,
}

impl Slice {
    /// Takes over what matters of an API object; `None` for other address families and slices of no Service.
    #[must_use]
    pub fn from_api(slice: api::EndpointSlice) -> Option<Self> {
        if slice.address_type != "IPv4" {
            return None;
        }
        let labels = slice.metadata.labels.as_ref();
        let service = labels?
            .get("kubernetes.io/service-name")
            .filter(|name| !name.is_empty())?
            .clone();
        let annotations = slice.metadata.annotations.as_ref();
        let triggered = annotations.and_then(|all| all.get("endpoints.kubernetes.io/last-change-trigger-time"));
        let namespace = slice.metadata.namespace?;
        Some(Self {
            triggered: triggered.and_then(|time| time.parse().ok()),
            proxied: !left_to_others(labels),
            service: ObjectName::new(namespace.clone(), service),
            name: ObjectName::new(namespace, slice.metadata.name?),
            ports: slice
                .ports
                .into_iter()
                .flatten()
                .filter_map(SlicePort::from_api)
                .collect(),
            endpoints: slice
                .endpoints
                .into_iter()
                .flatten()
                .filter_map(Endpoint::from_api)
                .collect(),
        })
    }
}

impl SlicePort {
    fn from_api(from: api::EndpointPort) -> Option<Self> {
        Some(Self {
            name: from.name.unwrap_or_default(),
            protocol: Protocol::from_api(from.protocol.as_deref())?,
            port: from.port.and_then(|port| u16::try_from(port).ok()),
        })
    }
}

impl Endpoint {
    fn from_api(from: api::Endpoint) -> Option<Self> {
        let conditions = from.conditions.unwrap_or_default();
        let hints = from.hints.unwrap_or_default();
        Some(Self {
            address: from.addresses.first()?.parse().ok()?,
            ready: conditions.ready.unwrap_or(true),
            serving: conditions.serving.unwrap_or(true),
            terminating: conditions.terminating.unwrap_or(false),
            hostname: from.hostname.filter(|hostname| !hostname.is_empty()),
            node: from.node_name,
            for_zones: hints.for_zones.into_iter().flatten().map(|zone| zone.name).collect(),
            for_nodes: hints.for_nodes.into_iter().flatten().map(|node| node.name).collect(),
        })
    }
}
