//! What a Service's type and policies call for. Questions only; nothing here changes or refuses anything.

use k8s_openapi::api::core::v1::ServiceSpec;

pub(super) const CLUSTER_IP: &str = "ClusterIP";
pub(super) const NODE_PORT: &str = "NodePort";
pub(super) const LOAD_BALANCER: &str = "LoadBalancer";
pub(super) const EXTERNAL_NAME: &str = "ExternalName";

/// The cluster IP of a Service that wants none.
pub(super) const HEADLESS: &str = "None";

/// Questions to a Service.
pub(super) trait Needs {
    /// The type, empty where there is none yet.
    fn kind(&self) -> &str;

    /// All cluster IPs, empty where there are none yet.
    fn addresses(&self) -> &[String];

    /// All IP families, empty where there are none yet.
    fn families(&self) -> &[String];

    /// Whether the Service has no virtual IP, by its own wish.
    fn is_headless(&self) -> bool;

    /// Whether somebody else provides the endpoints.
    fn is_selectorless(&self) -> bool;

    /// Whether traffic from outside the cluster can reach the Service, so that a policy for it has a meaning.
    fn is_externally_accessible(&self) -> bool;

    /// Whether a cluster IP belongs to the type; [`HEADLESS`] counts as one.
    fn needs_cluster_ip(&self) -> bool;

    /// Whether every port gets a node port.
    fn needs_node_ports(&self) -> bool;

    /// Whether nodes answer health checks for the Service.
    fn needs_health_check_port(&self) -> bool;
}

impl Needs for ServiceSpec {
    fn kind(&self) -> &str {
        self.type_.as_deref().unwrap_or_default()
    }

    fn addresses(&self) -> &[String] {
        self.cluster_ips.as_deref().unwrap_or_default()
    }

    fn families(&self) -> &[String] {
        self.ip_families.as_deref().unwrap_or_default()
    }

    fn is_headless(&self) -> bool {
        matches!(self.addresses(), [only] if only == HEADLESS)
    }

    fn is_selectorless(&self) -> bool {
        self.selector.as_ref().is_none_or(|selector| selector.is_empty())
    }

    fn is_externally_accessible(&self) -> bool {
        match self.kind() {
            NODE_PORT | LOAD_BALANCER => true,
            CLUSTER_IP => self.external_ips.as_ref().is_some_and(|ips| !ips.is_empty()),
            _ => false,
        }
    }

    fn needs_cluster_ip(&self) -> bool {
        [CLUSTER_IP, NODE_PORT, LOAD_BALANCER].contains(&self.kind())
    }

    fn needs_node_ports(&self) -> bool {
        match self.kind() {
            NODE_PORT => true,
            LOAD_BALANCER => self.allocate_load_balancer_node_ports != Some(false),
            _ => false,
        }
    }

    fn needs_health_check_port(&self) -> bool {
        self.kind() == LOAD_BALANCER && self.external_traffic_policy.as_deref() == Some("Local")
    }
}
