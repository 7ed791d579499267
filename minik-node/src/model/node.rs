//! What the network needs to know of a Node.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1 as api;

/// A Node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// First IPv4 address of type `InternalIP`.
    pub internal_ip: Option<Ipv4Addr>,
    /// First IPv4 range of `spec.podCIDRs`.
    pub pod_cidr: Option<Ipv4Net>,
    /// Label `topology.kubernetes.io/zone`.
    pub zone: Option<String>,
    /// Whether it is here to stay: not being deleted, and not tainted by an autoscaler that is about to. Load
    /// balancers are to send others nothing new (KEP-3836).
    pub eligible: bool,
}

const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

impl Node {
    /// Takes over what matters of an API object.
    #[must_use]
    pub fn from_api(node: api::Node) -> Option<Self> {
        let spec = node.spec.unwrap_or_default();
        let leaving = spec.taints.iter().flatten().any(|taint| taint.key == TO_BE_DELETED);
        let ranges = spec.pod_cidr.iter().chain(spec.pod_cidrs.iter().flatten());
        let addresses = node.status.and_then(|status| status.addresses).unwrap_or_default();
        Some(Self {
            eligible: node.metadata.deletion_timestamp.is_none() && !leaving,
            name: node.metadata.name?,
            internal_ip: addresses
                .iter()
                .filter(|address| address.type_ == "InternalIP")
                .find_map(|address| address.address.parse().ok()),
            pod_cidr: ranges.into_iter().find_map(|range| range.parse().ok()),
            zone: node
                .metadata
                .labels
                .and_then(|mut labels| labels.remove("topology.kubernetes.io/zone")),
        })
    }
}
