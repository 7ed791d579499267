//! The fields that every Service has, whatever its client wrote. Looks at nothing but the object itself;
//! what needs the old object or the cluster's ranges is in `prepare` and in the allocators.

use k8s_openapi::api::core::v1::{ClientIPConfig, Service, ServicePort, ServiceSpec, SessionAffinityConfig};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::needs::{self, Needs};

/// How long a client stays with its Pod unless told otherwise, in seconds.
const AFFINITY_TIMEOUT: i32 = 10_800;

/// Fills in the defaults. Idempotent.
pub(super) fn fill(service: &mut Service) {
    let spec = service.spec.get_or_insert_default();
    omit_zero_values(spec);
    session_affinity(spec);
    spec.type_.get_or_insert_with(|| needs::CLUSTER_IP.to_owned());
    spec.ports.iter_mut().flatten().for_each(port);
    if spec.is_externally_accessible() {
        spec.external_traffic_policy.get_or_insert_with(|| "Cluster".to_owned());
    }
    if spec.needs_cluster_ip() {
        spec.internal_traffic_policy.get_or_insert_with(|| "Cluster".to_owned());
    }
    let balanced = spec.kind() == needs::LOAD_BALANCER;
    if balanced {
        spec.allocate_load_balancer_node_ports.get_or_insert(true);
    }
    let status = service
        .status
        .get_or_insert_default()
        .load_balancer
        .get_or_insert_default();
    for ingress in status.ingress.iter_mut().flatten().filter(|_| balanced) {
        if ingress.ip.as_ref().is_some_and(|ip| !ip.is_empty()) {
            ingress.ip_mode.get_or_insert_with(|| "VIP".to_owned());
        }
    }
}

/// Go cannot tell these fields' zero values from absence, and so never shows them.
fn omit_zero_values(spec: &mut ServiceSpec) {
    let texts = [
        &mut spec.cluster_ip,
        &mut spec.external_name,
        &mut spec.external_traffic_policy,
        &mut spec.load_balancer_ip,
        &mut spec.session_affinity,
        &mut spec.type_,
    ];
    for text in texts {
        text.take_if(|text| text.is_empty());
    }
    let lists = [
        &mut spec.cluster_ips,
        &mut spec.external_ips,
        &mut spec.ip_families,
        &mut spec.load_balancer_source_ranges,
    ];
    for list in lists {
        list.take_if(|list| list.is_empty());
    }
    spec.ports.take_if(|ports| ports.is_empty());
    spec.selector.take_if(|selector| selector.is_empty());
    spec.health_check_node_port.take_if(|port| *port == 0);
    spec.publish_not_ready_addresses.take_if(|publish| !*publish);
}

fn session_affinity(spec: &mut ServiceSpec) {
    match &**spec.session_affinity.get_or_insert_with(|| "None".to_owned()) {
        "None" => spec.session_affinity_config = None,
        "ClientIP" => {
            let config: &mut SessionAffinityConfig = spec.session_affinity_config.get_or_insert_default();
            let client: &mut ClientIPConfig = config.client_ip.get_or_insert_default();
            client.timeout_seconds.get_or_insert(AFFINITY_TIMEOUT);
        }
        _ => {}
    }
}

fn port(port: &mut ServicePort) {
    port.name.take_if(|name| name.is_empty());
    port.node_port.take_if(|number| *number == 0);
    port.protocol.take_if(|protocol| protocol.is_empty());
    port.protocol.get_or_insert_with(|| "TCP".to_owned());
    port.target_port.take_if(|target| match target {
        IntOrString::Int(number) => *number == 0,
        IntOrString::String(name) => name.is_empty(),
    });
    port.target_port.get_or_insert(IntOrString::Int(port.port));
}
