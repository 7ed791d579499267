//! What a Service asks for.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1 as api;

use super::{ObjectName, Protocol, left_to_others};

/// `spec.type`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceType {
    /// An address inside the cluster, or none (headless).
    ClusterIp,
    /// The same and a port on every node.
    NodePort,
    /// The same and addresses outside.
    LoadBalancer,
    /// Only a name for another name.
    ExternalName(String),
}

/// Which endpoints traffic may go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrafficPolicy {
    /// All of the cluster's.
    Cluster,
    /// Those on the node that takes the traffic.
    Local,
}

/// One port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Name, empty when it has none.
    pub name: String,
    /// Protocol.
    pub protocol: Protocol,
    /// Port on the Service's addresses.
    pub port: u16,
    /// Port on every node, when allocated.
    pub node_port: Option<u16>,
}

/// A Service, IPv4 only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub name: ObjectName,
    /// Its type, and an ExternalName's target.
    pub kind: ServiceType,
    /// First cluster address; `None` when headless, ExternalName, or not yet allocated.
    pub cluster_ip: Option<Ipv4Addr>,
    /// `clusterIP: None`.
    pub headless: bool,
    /// `externalIPs`.
    pub external_ips: Vec<Ipv4Addr>,
    /// `status.loadBalancer.ingress[].ip`, but for those with `ipMode: Proxy`.
    pub load_balancer_ips: Vec<Ipv4Addr>,
    /// `loadBalancerSourceRanges`; empty admits everybody.
    pub source_ranges: Vec<Ipv4Net>,
    /// In the order of the manifest.
    pub ports: Vec<ServicePort>,
    /// Seconds for which a client keeps its endpoint (`sessionAffinity: ClientIP`).
    pub affinity_seconds: Option<u32>,
    /// For traffic to the cluster IP.
    pub internal_policy: TrafficPolicy,
    /// For traffic to node ports, external and load-balancer addresses.
    pub external_policy: TrafficPolicy,
    /// Port of the health check that load balancers ask, on every node.
    pub health_check_node_port: Option<u16>,
    /// Whether names list endpoints that are not ready.
    pub publish_not_ready: bool,
    /// Whether the cluster's own proxy handles it.
    pub proxied: bool,
}

impl Service {
    /// Takes over what matters of an API object; `None` without a name, which the API never sends.
    #[must_use]
    pub fn from_api(service: api::Service) -> Option<Self> {
        let name = ObjectName::new(service.metadata.namespace?, service.metadata.name?);
        let proxied = !left_to_others(service.metadata.labels.as_ref());
        let spec = service.spec.unwrap_or_default();
        let kind = match spec.type_.as_deref() {
            Some("NodePort") => ServiceType::NodePort,
            Some("LoadBalancer") => ServiceType::LoadBalancer,
            Some("ExternalName") => ServiceType::ExternalName(spec.external_name.clone().unwrap_or_default()),
            _ => ServiceType::ClusterIp,
        };
        Some(Self {
            headless: spec.cluster_ip.as_deref() == Some("None"),
            cluster_ip: first_ipv4(&spec),
            external_ips: parse_all(spec.external_ips.as_deref()),
            load_balancer_ips: load_balancer_ips(service.status.as_ref()),
            source_ranges: parse_all(spec.load_balancer_source_ranges.as_deref()),
            affinity_seconds: affinity_seconds(&spec),
            internal_policy: policy(spec.internal_traffic_policy.as_deref()),
            external_policy: policy(spec.external_traffic_policy.as_deref()),
            health_check_node_port: spec.health_check_node_port.and_then(port),
            publish_not_ready: spec.publish_not_ready_addresses.unwrap_or(false),
            ports: spec
                .ports
                .unwrap_or_default()
                .into_iter()
                .filter_map(ServicePort::from_api)
                .collect(),
            name,
            kind,
            proxied,
        })
    }

    /// Whether it is an ExternalName, which has no addresses and no endpoints.
    #[must_use]
    pub fn external_name(&self) -> Option<&str> {
        match &self.kind {
            ServiceType::ExternalName(target) => Some(target),
            _ => None,
        }
    }
}

impl ServicePort {
    fn from_api(from: api::ServicePort) -> Option<Self> {
        Some(Self {
            name: from.name.unwrap_or_default(),
            protocol: Protocol::from_api(from.protocol.as_deref())?,
            port: port(from.port)?,
            node_port: from.node_port.and_then(port),
        })
    }
}

/// A port number; 0 means that there is none.
fn port(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|number| *number != 0)
}

fn policy(text: Option<&str>) -> TrafficPolicy {
    if text == Some("Local") {
        TrafficPolicy::Local
    } else {
        TrafficPolicy::Cluster
    }
}

fn first_ipv4(spec: &api::ServiceSpec) -> Option<Ipv4Addr> {
    let listed = spec.cluster_ips.iter().flatten();
    spec.cluster_ip.iter().chain(listed).find_map(|text| text.parse().ok())
}

fn affinity_seconds(spec: &api::ServiceSpec) -> Option<u32> {
    const DEFAULT: i32 = 10_800;
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let client_ip = spec
        .session_affinity_config
        .as_ref()
        .and_then(|config| config.client_ip.as_ref());
    u32::try_from(
        client_ip
            .and_then(|client_ip| client_ip.timeout_seconds)
            .unwrap_or(DEFAULT),
    )
    .ok()
}

fn load_balancer_ips(status: Option<&api::ServiceStatus>) -> Vec<Ipv4Addr> {
    let ingress = status
        .and_then(|status| status.load_balancer.as_ref())
        .and_then(|lb| lb.ingress.as_ref());
    let ours = ingress
        .into_iter()
        .flatten()
        .filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"));
    ours.filter_map(|ingress| ingress.ip.as_deref()?.parse().ok()).collect()
}

/// The IPv4 ones among addresses or ranges; the others belong to a cluster of another family.
fn parse_all<T: std::str::FromStr>(texts: Option<&[String]>) -> Vec<T> {
    texts
        .into_iter()
        .flatten()
        .filter_map(|text| text.trim().parse().ok())
        .collect()
}
