//! The printed form of Services.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Service, ServicePort};
use serde_json::Value;

use super::needs::{self, Needs};
use crate::resource::{Column, print};

pub(super) const COLUMNS: &[Column] = &[
    print::NAME,
    print::text(
        "Type",
        0,
        "type determines how the Service is exposed. Defaults to ClusterIP. Valid options are ExternalName, ClusterIP, NodePort, and LoadBalancer. \"ClusterIP\" allocates a cluster-internal IP address for load-balancing to endpoints. Endpoints are determined by the selector or if that is not specified, by manual construction of an Endpoints object or EndpointSlice objects. If clusterIP is \"None\", no virtual IP is allocated and the endpoints are published as a set of endpoints rather than a virtual IP. \"NodePort\" builds on ClusterIP and allocates a port on every node which routes to the same endpoints as the clusterIP. \"LoadBalancer\" builds on NodePort and creates an external load-balancer (if supported in the current cloud) which routes to the same endpoints as the clusterIP. \"ExternalName\" aliases this service to the specified externalName. Several other fields do not apply to ExternalName services. More info: https://kubernetes.io/docs/concepts/services-networking/service/#publishing-services-service-types",
    ),
    print::text(
        "Cluster-IP",
        0,
        "clusterIP is the IP address of the service and is usually assigned randomly. If an address is specified manually, is in-range (as per system configuration), and is not in use, it will be allocated to the service; otherwise creation of the service will fail. This field may not be changed through updates unless the type field is also being changed to ExternalName (which requires this field to be blank) or the type field is being changed from ExternalName (in which case this field may optionally be specified, as describe above).  Valid values are \"None\", empty string (\"\"), or a valid IP address. Setting this to \"None\" makes a \"headless service\" (no virtual IP), which is useful when direct endpoint connections are preferred and proxying is not required.  Only applies to types ClusterIP, NodePort, and LoadBalancer. If this field is specified when creating a Service of type ExternalName, creation will fail. This field will be wiped when updating a Service to type ExternalName. More info: https://kubernetes.io/docs/concepts/services-networking/service/#virtual-ips-and-service-proxies",
    ),
    print::text(
        "External-IP",
        0,
        "externalIPs is a list of IP addresses for which nodes in the cluster will also accept traffic for this service.  These IPs are not managed by Kubernetes.  The user is responsible for ensuring that traffic arrives at a node with this IP.  A common example is external load-balancers that are not part of the Kubernetes system.",
    ),
    print::text(
        "Port(s)",
        0,
        "The list of ports that are exposed by this service. More info: https://kubernetes.io/docs/concepts/services-networking/service/#virtual-ips-and-service-proxies",
    ),
    print::AGE,
    print::text(
        "Selector",
        1,
        "Route service traffic to pods with label keys and values matching this selector. If empty or not present, the service is assumed to have an external process managing its endpoints, which Kubernetes will not modify. Only applies to types ClusterIP, NodePort, and LoadBalancer. Ignored if type is ExternalName. More info: https://kubernetes.io/docs/concepts/services-networking/service/",
    ),
];

/// One cell for each of [`COLUMNS`].
pub(super) fn row(service: &Service, now: Timestamp) -> Vec<Value> {
    let spec = service.spec.as_ref();
    let ports = spec.and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    vec![
        print::name(&service.metadata),
        Value::from(spec.map(Needs::kind).unwrap_or_default()),
        print::or_none(spec.and_then(|spec| spec.addresses().first()).map(String::as_str)),
        Value::from(external_ip(service)),
        print::or_none(Some(&ports.iter().map(port).collect::<Vec<_>>().join(","))),
        print::age(&service.metadata, now),
        Value::from(print::labels(spec.and_then(|spec| spec.selector.as_ref()))),
    ]
}

/// How the outside reaches the Service.
fn external_ip(service: &Service) -> String {
    let spec = service.spec.as_ref();
    let external = || spec.and_then(|spec| spec.external_ips.clone()).unwrap_or_default();
    let joined = |all: Vec<String>, empty: &str| {
        if all.is_empty() {
            empty.to_owned()
        } else {
            all.join(",")
        }
    };
    match spec.map(Needs::kind).unwrap_or_default() {
        needs::CLUSTER_IP | needs::NODE_PORT => joined(external(), "<none>"),
        needs::LOAD_BALANCER => joined(balanced(service).into_iter().chain(external()).collect(), "<pending>"),
        needs::EXTERNAL_NAME => spec.and_then(|spec| spec.external_name.clone()).unwrap_or_default(),
        _ => "<unknown>".to_owned(),
    }
}

/// Addresses or names that the load balancer has reported, each once.
fn balanced(service: &Service) -> BTreeSet<String> {
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer
        .and_then(|balancer| balancer.ingress.as_ref())
        .into_iter()
        .flatten();
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    ingress
        .filter_map(|ingress| given(&ingress.ip).or_else(|| given(&ingress.hostname)))
        .collect()
}

/// `80/TCP`, `80:30080/TCP`.
fn port(port: &ServicePort) -> String {
    let protocol = port.protocol.as_deref().unwrap_or_default();
    match port.node_port {
        Some(node_port) if node_port > 0 => format!("{}:{node_port}/{protocol}", port.port),
        _ => format!("{}/{protocol}", port.port),
    }
}
