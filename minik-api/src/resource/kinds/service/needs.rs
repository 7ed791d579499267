//! What a Service's type and policies call for. Questions only; nothing here changes or refuses anything.

use k8s_openapi::api::core::v1::ServiceSpec;

pub(super) const CLUSTER_IP: &str = "ClusterIP";
pub(super) const NODE_PORT: &str = "NodePort";
pub(super) const LOAD_BALANCER: &str = "LoadBalancer";
pub(super) const EXTERNAL_NAME: &str = "ExternalName";

/// The cluster IP of a headless Service.
pub(super) const NONE: &str = "None";

/// The type, empty where there is none yet.
pub(super) fn kind(spec: &ServiceSpec) -> &str {
    spec.type_.as_deref().unwrap_or_default()
}

/// All cluster IPs, empty where there are none yet.
pub(super) fn cluster_ips(spec: &ServiceSpec) -> &[String] {
    spec.cluster_ips.as_deref().unwrap_or_default()
}

/// All IP families, empty where there are none yet.
pub(super) fn families(spec: &ServiceSpec) -> &[String] {
    spec.ip_families.as_deref().unwrap_or_default()
}

/// Whether the Service has no virtual IP, by its own wish.
pub(super) fn headless(spec: &ServiceSpec) -> bool {
    matches!(cluster_ips(spec), [only] if only == NONE)
}

/// Whether somebody else provides the endpoints.
pub(super) fn selectorless(spec: &ServiceSpec) -> bool {
    spec.selector.as_ref().is_none_or(|selector| selector.is_empty())
}

/// Whether a cluster IP belongs to the type; `None` counts as one.
pub(super) fn cluster_ip(spec: &ServiceSpec) -> bool {
    [CLUSTER_IP, NODE_PORT, LOAD_BALANCER].contains(&kind(spec))
}

/// Whether every port gets a node port.
pub(super) fn node_ports(spec: &ServiceSpec) -> bool {
    match kind(spec) {
        NODE_PORT => true,
        LOAD_BALANCER => spec.allocate_load_balancer_node_ports != Some(false),
        _ => false,
    }
}

/// Whether nodes answer health checks for the Service.
pub(super) fn health_check_port(spec: &ServiceSpec) -> bool {
    kind(spec) == LOAD_BALANCER && spec.external_traffic_policy.as_deref() == Some("Local")
}

/// Whether traffic from outside the cluster can reach the Service, so that a policy for it has a meaning.
pub(super) fn externally_accessible(spec: &ServiceSpec) -> bool {
    match kind(spec) {
        NODE_PORT | LOAD_BALANCER => true,
        CLUSTER_IP => spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty()),
        _ => false,
    }
}
