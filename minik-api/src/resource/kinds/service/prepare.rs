//! What a write does to a Service before it is judged: allocated values that an update left out come back,
//! linked fields are made to agree, and fields that belonged to an old type go with it.
//!
//! Runs before the allocators, which take what is then still missing and give up what is gone.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use super::needs::Needs;
use super::{families, needs};

/// Prepares a new Service.
pub(super) fn create(service: &mut Service) {
    service.status = None;
    if let Some(spec) = &mut service.spec {
        if spec.cluster_ips.is_none() {
            spec.cluster_ips = spec.cluster_ip.clone().map(|ip| vec![ip]);
        }
        families::fill(spec, None);
    }
    // An empty status is shown, not left out.
    service
        .status
        .get_or_insert_default()
        .load_balancer
        .get_or_insert_default();
}

/// Prepares a changed Service.
pub(super) fn update(new: &mut Service, old: &Service) {
    new.status = old.status.clone();
    let (Some(spec), Some(before)) = (&mut new.spec, &old.spec) else {
        return;
    };
    keep_allocated(spec, before);
    link_cluster_ips(spec, before);
    families::fill(spec, Some(before));
    drop_what_the_type_lost(spec, before);
    if spec.kind() != needs::LOAD_BALANCER {
        new.status.get_or_insert_default().load_balancer = Some(Default::default());
    }
}

/// Puts back what the server once gave and the client did not repeat.
fn keep_allocated(new: &mut ServiceSpec, old: &ServiceSpec) {
    if old.needs_cluster_ip() && new.needs_cluster_ip() {
        if new.cluster_ip.is_none() {
            new.cluster_ip.clone_from(&old.cluster_ip);
        }
        if new.cluster_ips.is_none() && new.cluster_ip == old.cluster_ip {
            new.cluster_ips.clone_from(&old.cluster_ips);
        }
    }
    if old.needs_node_ports() && new.needs_node_ports() {
        keep_node_ports(new, old);
    }
    if old.needs_health_check_port() && new.needs_health_check_port() && new.health_check_node_port.is_none() {
        new.health_check_node_port = old.health_check_node_port;
    }
}

/// Gives ports without a node port the one that the port of the same name had, unless another has it now.
fn keep_node_ports(new: &mut ServiceSpec, old: &ServiceSpec) {
    let mut used: BTreeSet<i32> = node_ports(old).intersection(&node_ports(new)).copied().collect();
    let named: BTreeMap<Option<&str>, Option<i32>> = old
        .ports
        .iter()
        .flatten()
        .map(|port| (port.name.as_deref(), port.node_port))
        .collect();
    for port in new.ports.iter_mut().flatten().filter(|port| port.node_port.is_none()) {
        let before = named.get(&port.name.as_deref()).copied().flatten();
        port.node_port = before.filter(|number| used.insert(*number));
    }
}

/// Clients that know only `clusterIP` change that, and mean `clusterIPs` too.
fn link_cluster_ips(new: &mut ServiceSpec, old: &ServiceSpec) {
    if new.cluster_ip == old.cluster_ip {
        if new.cluster_ips.is_none() {
            new.cluster_ips.clone_from(&old.cluster_ips);
        }
    } else if new.cluster_ips == old.cluster_ips {
        new.cluster_ips = new.cluster_ip.clone().map(|ip| vec![ip]);
    }
}

/// Wipes what only the old type had a use for. What the client changed at the same time stays, for
/// validation to refuse.
fn drop_what_the_type_lost(new: &mut ServiceSpec, old: &ServiceSpec) {
    if old.needs_cluster_ip() && !new.needs_cluster_ip() {
        if new.cluster_ip == old.cluster_ip && new.cluster_ips == old.cluster_ips {
            new.cluster_ip = None;
            new.cluster_ips = None;
        }
        unless_changed(&mut new.ip_families, &old.ip_families);
        unless_changed(&mut new.ip_family_policy, &old.ip_family_policy);
    }
    if old.needs_node_ports() && !new.needs_node_ports() && node_ports(old).is_superset(&node_ports(new)) {
        new.ports.iter_mut().flatten().for_each(|port| port.node_port = None);
    }
    if old.needs_health_check_port() && !new.needs_health_check_port() {
        unless_changed(&mut new.health_check_node_port, &old.health_check_node_port);
    }
    if old.kind() == needs::LOAD_BALANCER && new.kind() != needs::LOAD_BALANCER {
        unless_changed(
            &mut new.allocate_load_balancer_node_ports,
            &old.allocate_load_balancer_node_ports,
        );
        unless_changed(&mut new.load_balancer_class, &old.load_balancer_class);
    }
    if old.is_externally_accessible() && !new.is_externally_accessible() {
        unless_changed(&mut new.external_traffic_policy, &old.external_traffic_policy);
    }
}

fn unless_changed<T: PartialEq>(new: &mut Option<T>, old: &Option<T>) {
    if new == old {
        *new = None;
    }
}

fn node_ports(spec: &ServiceSpec) -> BTreeSet<i32> {
    spec.ports.iter().flatten().filter_map(|port| port.node_port).collect()
}
