//! Endpoints of a Service: the older spelling of the same facts, which `kubectl get endpoints` and old
//! lessons read. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::model::{Port, addresses, has_ports, hostname, is_headless, ports, publishes_not_ready, target};
use super::slices::HEADLESS;
use super::trigger::LAST_CHANGE;
use crate::controllers::pod::{is_ready, is_terminating, node_name};

/// Names the controller of Endpoints.
pub const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
/// Its value.
const MANAGER: &str = "endpoint-controller";
/// Says that addresses were left out.
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// The most addresses in one Endpoints object.
const MOST: usize = 1000;

/// The subsets of a Service: addresses that share all ports share a subset; addresses in order of
/// their numbers, ready ones apart from those that are not.
pub fn subsets(service: &Service, pods: &[Arc<Pod>]) -> Vec<EndpointSubset> {
    let mut offered: BTreeMap<(Ipv4Addr, String), (Arc<Pod>, BTreeSet<Port>)> = BTreeMap::new();
    for pod in pods
        .iter()
        .filter(|pod| publishes_not_ready(service) || !is_terminating(pod))
    {
        let Some(address) = addresses(pod).first().and_then(|ip| ip.parse().ok()) else {
            continue;
        };
        let ports: BTreeSet<Port> = ports(service, pod).into_iter().collect();
        if ports.is_empty() && (has_ports(service) || !is_headless(service)) {
            continue;
        }
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        offered
            .entry((address, uid))
            .or_insert_with(|| (pod.clone(), BTreeSet::new()))
            .1
            .extend(ports);
    }
    let mut groups: BTreeMap<BTreeSet<Port>, EndpointSubset> = BTreeMap::new();
    for ((ip, _), (pod, ports)) in offered {
        let subset = groups.entry(ports).or_default();
        let ready = publishes_not_ready(service) || is_ready(&pod);
        let list = if ready {
            &mut subset.addresses
        } else {
            &mut subset.not_ready_addresses
        };
        list.get_or_insert_default().push(EndpointAddress {
            ip: ip.to_string(),
            hostname: hostname(service, &pod),
            node_name: node_name(&pod).map(Into::into),
            target_ref: Some(target(&pod)),
        });
    }
    let with_ports = |(ports, subset): (BTreeSet<Port>, EndpointSubset)| {
        let ports: Vec<EndpointPort> = ports.into_iter().map(spell_port).collect();
        EndpointSubset {
            ports: Some(ports).filter(|ports| !ports.is_empty()),
            ..subset
        }
    };
    groups.into_iter().map(with_ports).collect()
}

fn spell_port(port: Port) -> EndpointPort {
    EndpointPort {
        name: Some(port.name).filter(|name| !name.is_empty()),
        port: port.port,
        protocol: Some(port.protocol),
        app_protocol: port.app_protocol,
    }
}

/// The Endpoints object to write, or `None` when `existing` says it already.
pub fn plan(
    service: &Service,
    pods: &[Arc<Pod>],
    existing: Option<&Endpoints>,
    last_change: Option<String>,
) -> Option<Endpoints> {
    let (subsets, truncated) = truncate(subsets(service, pods));
    let subsets = Some(subsets).filter(|subsets| !subsets.is_empty());
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if is_headless(service) {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels.insert(MANAGED_BY.into(), MANAGER.into());

    let mut metadata = existing.map_or_else(
        || ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        |existing| existing.metadata.clone(),
    );
    let annotations = metadata.annotations.get_or_insert_default();
    if truncated {
        annotations.insert(OVER_CAPACITY.into(), "truncated".into());
    } else {
        annotations.remove(OVER_CAPACITY);
    }
    let same = existing.is_some_and(|existing| {
        let noted = existing
            .metadata
            .annotations
            .as_ref()
            .is_some_and(|all| all.contains_key(OVER_CAPACITY));
        existing.subsets.clone().filter(|s| !s.is_empty()) == subsets
            && existing.metadata.labels.as_ref() == Some(&labels)
            && noted == truncated
    });
    if same {
        return None;
    }
    match last_change {
        Some(time) => annotations.insert(LAST_CHANGE.into(), time),
        None => annotations.remove(LAST_CHANGE),
    };
    metadata.annotations.take_if(|annotations| annotations.is_empty());
    metadata.labels = Some(labels);
    Some(Endpoints { metadata, subsets })
}

/// Keeps at most [`MOST`] addresses, ready ones first.
fn truncate(mut subsets: Vec<EndpointSubset>) -> (Vec<EndpointSubset>, bool) {
    let mut left = MOST;
    let mut truncated = false;
    let mut cut = |addresses: &mut Option<Vec<EndpointAddress>>| {
        if let Some(list) = addresses {
            truncated |= list.len() > left;
            list.truncate(left);
            left -= list.len();
        }
        addresses.take_if(|list| list.is_empty());
    };
    subsets.iter_mut().for_each(|subset| cut(&mut subset.addresses));
    subsets
        .iter_mut()
        .for_each(|subset| cut(&mut subset.not_ready_addresses));
    subsets.retain(|subset| subset.addresses.is_some() || subset.not_ready_addresses.is_some());
    (subsets, truncated)
}

#[cfg(test)]
#[path = "subsets_tests.rs"]
mod tests;
