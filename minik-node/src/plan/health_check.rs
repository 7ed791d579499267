//! What load balancers are told when they ask a node about a Service: pure, a view in, ports and counts out.
//!
//! Only Services of type LoadBalancer under `externalTrafficPolicy: Local` have such a port
//! (`spec.healthCheckNodePort`): only there does it matter which node a packet is sent to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use crate::model::{ObjectName, Service, ServiceType, TrafficPolicy};
use crate::view::ClusterView;

/// One Service's health check on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthCheck {
    /// Port on all of the node's addresses.
    pub port: u16,
    /// Different addresses of ready endpoints on this node. One that terminates is none, though it may still
    /// serve: load balancers are to go elsewhere before it ends (KEP-1669).
    pub local_endpoints: usize,
}

/// All health checks of the node that looks.
#[must_use]
pub fn health_checks(view: &ClusterView) -> BTreeMap<ObjectName, HealthCheck> {
    let check = |service: &Service| {
        let port = service.health_check_node_port?;
        let local = service.external_policy == TrafficPolicy::Local;
        let asked = service.proxied && local && service.kind == ServiceType::LoadBalancer;
        asked.then(|| HealthCheck {
            port,
            local_endpoints: local_ready(view, &service.name).len(),
        })
    };
    let services = view.services.values();
    services
        .filter_map(|service| Some((service.name.clone(), check(service)?)))
        .collect()
}

fn local_ready(view: &ClusterView, service: &ObjectName) -> BTreeSet<Ipv4Addr> {
    let here = view.node.as_deref();
    let endpoints = view
        .slices_of(service)
        .filter(|slice| slice.proxied)
        .flat_map(|slice| &slice.endpoints);
    endpoints
        .filter(|endpoint| endpoint.ready && endpoint.node.is_some() && endpoint.node.as_deref() == here)
        .map(|endpoint| endpoint.address)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::testing;

    const MANIFESTS: &str = "
kind: Service
metadata: {namespace: d, name: lb}
spec: {type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 30962, clusterIP: 10.96.0.1, ports: [{name: a, port: 80}, {name: b, port: 81}]}
---
kind: EndpointSlice
metadata: {namespace: d, name: lb-1, labels: {kubernetes.io/service-name: lb}}
addressType: IPv4
ports: [{name: a, port: 80, protocol: TCP}, {name: b, port: 81, protocol: TCP}]
endpoints:
- {addresses: [10.244.1.2], nodeName: n1}
- {addresses: [10.244.1.3], nodeName: n1, conditions: {ready: false, serving: true, terminating: true}}
- {addresses: [10.244.2.2], nodeName: n2}
- {addresses: [10.244.2.3]}
---
kind: EndpointSlice
metadata: {namespace: d, name: lb-2, labels: {kubernetes.io/service-name: lb}}
addressType: IPv4
ports: [{name: a, port: 80, protocol: TCP}]
endpoints: [{addresses: [10.244.1.2], nodeName: n1}]
";

    fn checks(manifests: &str) -> Vec<(u16, usize)> {
        let view = testing::view(Some("n1"), manifests);
        let checks = health_checks(&view);
        checks
            .values()
            .map(|check| (check.port, check.local_endpoints))
            .collect()
    }

    #[test]
    fn an_address_counts_once_and_only_when_it_is_ready_and_here() {
        assert_eq!(checks(MANIFESTS), [(30962, 1)]);
        assert_eq!(
            checks(&MANIFESTS.replace("nodeName: n1}", "nodeName: n3}")),
            [(30962, 0)],
            "a terminating endpoint alone is none"
        );
    }

    #[test]
    fn only_a_load_balancer_that_must_choose_a_node_asks() {
        assert_eq!(
            checks(&MANIFESTS.replace("externalTrafficPolicy: Local", "externalTrafficPolicy: Cluster")),
            []
        );
        assert_eq!(checks(&MANIFESTS.replace("type: LoadBalancer", "type: NodePort")), []);
        let others = "name: lb, labels: {service.kubernetes.io/service-proxy-name: x}}\nspec:";
        assert_eq!(
            checks(&MANIFESTS.replace("name: lb}\nspec:", others)),
            [],
            "another proxy's"
        );
    }
}
