//! What a Service and its Pods say about endpoints, before it is spelt as Endpoints or
//! EndpointSlices. Pure.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::controllers::pod::{is_finished, is_ready, is_terminating};

/// A port that endpoints offer: what a Service port becomes at one Pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// Name of the Service's port; empty when it has none.
    pub name: String,
    /// Number at the Pod.
    pub port: i32,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// `spec.ports[].appProtocol`.
    pub app_protocol: Option<String>,
}

/// Whether endpoints are computed for this Service: it selects Pods and is no ExternalName, whose
/// endpoints are nobody's business.
pub fn is_selecting(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.is_some_and(|spec| {
        spec.type_.as_deref() != Some("ExternalName") && spec.selector.as_ref().is_some_and(|s| !s.is_empty())
    })
}

/// Whether the Service's selector matches the Pod's labels.
pub fn selects(service: &Service, pod: &Pod) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let labels = pod.metadata.labels.as_ref();
    is_selecting(service)
        && selector
            .into_iter()
            .flatten()
            .all(|(name, value)| labels.and_then(|labels| labels.get(name)) == Some(value))
}

/// Whether the Service has no cluster IP by request.
pub fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

/// Whether Pods are published before they are ready and while they go.
pub fn publishes_not_ready(service: &Service) -> bool {
    service
        .spec
        .as_ref()
        .and_then(|spec| spec.publish_not_ready_addresses)
        .unwrap_or(false)
}

/// The Pod's IPv4 addresses; one that has finished has none to offer.
pub fn addresses(pod: &Pod) -> Vec<String> {
    let Some(status) = pod.status.as_ref().filter(|_| !is_finished(pod)) else {
        return Vec::new();
    };
    let many = status.pod_ips.iter().flatten().map(|ip| ip.ip.clone());
    let one = status
        .pod_ip
        .iter()
        .filter(|_| status.pod_ips.as_ref().is_none_or(Vec::is_empty))
        .cloned();
    many.chain(one)
        .filter(|ip| ip.parse::<std::net::Ipv4Addr>().is_ok())
        .collect()
}

/// Everything about a Pod that an endpoint shows; while it stays the same, no Service need look.
#[derive(Debug, PartialEq)]
pub struct Relevant<'a> {
    addresses: Vec<String>,
    ready: bool,
    terminating: bool,
    node: Option<&'a str>,
    hostname: Option<&'a str>,
    subdomain: Option<&'a str>,
    labels: Option<&'a std::collections::BTreeMap<String, String>>,
}

/// See [`Relevant`].
pub fn relevant(pod: &Pod) -> Relevant<'_> {
    let spec = pod.spec.as_ref();
    Relevant {
        addresses: addresses(pod),
        ready: is_ready(pod),
        terminating: is_terminating(pod),
        node: crate::controllers::pod::node_name(pod),
        hostname: spec.and_then(|spec| spec.hostname.as_deref()),
        subdomain: spec.and_then(|spec| spec.subdomain.as_deref()),
        labels: pod.metadata.labels.as_ref(),
    }
}

/// The hostname under which the Service's zone knows the Pod: its own, where its subdomain names
/// the Service.
pub fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let named = spec.subdomain.is_some() && spec.subdomain == service.metadata.name;
    spec.hostname.clone().filter(|hostname| named && !hostname.is_empty())
}

/// A reference to the Pod behind an endpoint.
pub fn target(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".into()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

/// The ports of the Service as this Pod offers them; a named target port that no container of the
/// Pod declares is left out.
pub fn ports(service: &Service, pod: &Pod) -> Vec<Port> {
    let declared = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    declared.filter_map(|port| at_pod(port, pod)).collect()
}

/// Whether the Service declares any port.
pub fn has_ports(service: &Service) -> bool {
    service
        .spec
        .as_ref()
        .and_then(|spec| spec.ports.as_ref())
        .is_some_and(|ports| !ports.is_empty())
}

fn at_pod(port: &ServicePort, pod: &Pod) -> Option<Port> {
    let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
    let number = match &port.target_port {
        None | Some(IntOrString::Int(0)) => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => named_port(pod, name, &protocol)?,
    };
    Some(Port {
        name: port.name.clone().unwrap_or_default(),
        port: number,
        protocol,
        app_protocol: port.app_protocol.clone(),
    })
}

fn named_port(pod: &Pod, name: &str, protocol: &str) -> Option<i32> {
    let spec = pod.spec.as_ref()?;
    // A sidecar is an init container that goes on running; its ports count too.
    let is_sidecar = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let containers = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten().filter(is_sidecar));
    containers
        .flat_map(|container| container.ports.iter().flatten())
        .find(|p| p.name.as_deref() == Some(name) && p.protocol.as_deref().unwrap_or("TCP") == protocol)
        .map(|p| p.container_port)
}

/// The Pods of `pods` that the Service selects, by name.
pub fn selected<'a>(service: &Service, pods: impl Iterator<Item = &'a Arc<Pod>>) -> Vec<Arc<Pod>> {
    pods.filter(|pod| selects(service, pod)).cloned().collect()
}
