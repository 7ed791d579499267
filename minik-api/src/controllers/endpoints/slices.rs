//! EndpointSlices of a Service as they should be, and the fewest writes that make them so. Pure.
//!
//! The algorithm of Kubernetes' endpointslice reconciler: endpoints with the same ports share
//! slices; what is there stays where it is; room in slices that must be written anyway is used
//! first, then a slice that holds all the rest, then new ones.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::model::{Port, addresses, hostname, is_headless, ports, publishes_not_ready, target};
use super::trigger::LAST_CHANGE;
use crate::controllers::pod::{is_ready, is_terminating, node_name};

/// The most endpoints in one slice (`--max-endpoints-per-slice`).
pub const MOST: usize = 100;

/// Names the Service of a slice.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Names the controller of a slice.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Marks slices and Endpoints of headless Services.
pub const HEADLESS: &str = "service.kubernetes.io/headless";

const ZONE: &str = "topology.kubernetes.io/zone";

/// Endpoints that offer the same ports.
pub type Groups = BTreeMap<Vec<Port>, Vec<Endpoint>>;

/// What all slices of one object have in common.
#[derive(Debug, Clone)]
pub struct Frame {
    /// The object whose endpoints these are: a Service, or Endpoints when mirroring.
    pub owner: OwnerReference,
    /// Its namespace.
    pub namespace: String,
    /// Labels of every slice.
    pub labels: BTreeMap<String, String>,
    /// Annotations of every slice, beside [`LAST_CHANGE`].
    pub annotations: BTreeMap<String, String>,
    /// The time of the change, spelt for [`LAST_CHANGE`].
    pub last_change: Option<String>,
    /// `IPv4` or `IPv6`.
    pub address_type: &'static str,
    /// The most endpoints in one slice.
    pub most: usize,
    /// Whether an object without endpoints has one slice that says so.
    pub placeholder: bool,
}

/// What to write. Order within a list does not matter; creations go first.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// New slices; the server completes their names.
    pub create: Vec<EndpointSlice>,
    /// Slices to replace.
    pub update: Vec<EndpointSlice>,
    /// Slices to delete.
    pub delete: Vec<Arc<EndpointSlice>>,
}

/// The labels of a Service's slices: its own, and those that say whose they are.
pub fn labels(service: &Service, manager: &str) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    for reserved in [SERVICE_NAME, MANAGED_BY, HEADLESS] {
        labels.remove(reserved);
    }
    if is_headless(service) {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels.insert(SERVICE_NAME.into(), service.metadata.name.clone().unwrap_or_default());
    labels.insert(MANAGED_BY.into(), manager.into());
    labels
}

/// The endpoints of a Service, by the ports they offer. `node` finds a node by name.
pub fn endpoints<'a>(service: &Service, pods: &[Arc<Pod>], node: impl Fn(&str) -> Option<&'a Arc<Node>>) -> Groups {
    let mut groups = Groups::new();
    for pod in pods {
        let addresses = addresses(pod);
        if addresses.is_empty() {
            continue;
        }
        let (serving, terminating) = (is_ready(pod), is_terminating(pod));
        let host = node_name(pod);
        let known = host.and_then(&node);
        // Whoever collects Pods of nodes that are gone has not come by yet; nothing can be reached there.
        if known.is_none() && !publishes_not_ready(service) {
            continue;
        }
        let labels = known.and_then(|node| node.metadata.labels.as_ref());
        let mut endpoint = Endpoint {
            addresses,
            conditions: Some(EndpointConditions {
                ready: Some(publishes_not_ready(service) || (serving && !terminating)),
                serving: Some(serving),
                terminating: Some(terminating),
            }),
            hostname: hostname(service, pod),
            node_name: host.map(Into::into),
            target_ref: Some(target(pod)),
            zone: labels
                .and_then(|labels| labels.get(ZONE))
                .filter(|zone| !zone.is_empty())
                .cloned(),
            ..Endpoint::default()
        };
        endpoint.hints = hints(service, &endpoint);
        let mut ports = ports(service, pod);
        ports.sort();
        groups.entry(ports).or_default().push(endpoint);
    }
    groups
}

/// For whom a ready endpoint is meant, as `trafficDistribution` has it: its zone, and with `PreferSameNode` its node.
fn hints(service: &Service, endpoint: &Endpoint) -> Option<EndpointHints> {
    let distribution = service.spec.as_ref()?.traffic_distribution.as_deref()?;
    let by_node = match distribution {
        "PreferSameZone" | "PreferClose" => false,
        "PreferSameNode" => true,
        _ => return None,
    };
    let ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) == Some(true);
    let zone = endpoint.zone.clone().filter(|_| ready);
    let node = endpoint.node_name.clone().filter(|_| ready && by_node);
    let hints = EndpointHints {
        for_zones: zone.map(|name| vec![ForZone { name }]),
        for_nodes: node.map(|name| vec![ForNode { name }]),
    };
    (hints.for_zones.is_some() || hints.for_nodes.is_some()).then_some(hints)
}

/// The fewest writes that make `existing` show `wanted`.
pub fn plan(frame: &Frame, wanted: Groups, existing: &[Arc<EndpointSlice>]) -> Plan {
    let mut plan = Plan::default();
    let mut by_ports: BTreeMap<Vec<Port>, Vec<Arc<EndpointSlice>>> = BTreeMap::new();
    for slice in existing {
        // The address type of a slice cannot change, and one of a namesake goes with its owner.
        if slice.address_type == frame.address_type && is_owned(frame, slice) {
            by_ports.entry(slice_ports(slice)).or_default().push(slice.clone());
        } else {
            plan.delete.push(slice.clone());
        }
    }
    for (ports, endpoints) in wanted {
        let slices = by_ports.remove(&ports).unwrap_or_default();
        plan_group(frame, &ports, endpoints, &slices, &mut plan);
    }
    plan.delete.extend(by_ports.into_values().flatten());
    keep_placeholder(frame, existing, &mut plan);
    plan
}

/// A slice under change.
struct Draft {
    slice: Arc<EndpointSlice>,
    endpoints: Vec<Endpoint>,
    changed: bool,
}

fn plan_group(frame: &Frame, ports: &[Port], wanted: Vec<Endpoint>, slices: &[Arc<EndpointSlice>], plan: &mut Plan) {
    let mut left: Vec<(Identity, Endpoint)> = wanted.into_iter().map(|e| (identity(&e), e)).collect();
    let position: BTreeMap<Identity, usize> = left.iter().enumerate().map(|(i, (id, _))| (id.clone(), i)).collect();
    let mut placed = BTreeSet::new();
    let mut drafts = Vec::new();
    for slice in slices {
        let current = slice.endpoints.as_deref().unwrap_or_default();
        let mut kept = Vec::with_capacity(current.len());
        for endpoint in current {
            if let Some(&i) = position
                .get(&identity(endpoint))
                .filter(|i| !placed.contains(*i) && kept.len() < frame.most)
            {
                placed.insert(i);
                kept.push(left[i].1.clone());
            }
        }
        let changed = kept != current || !is_framed(frame, slice);
        drafts.push(Draft {
            slice: slice.clone(),
            endpoints: kept,
            changed,
        });
    }
    let mut index = 0;
    left.retain(|_| {
        index += 1;
        !placed.contains(&(index - 1))
    });
    let mut left: Vec<Endpoint> = left.into_iter().map(|(_, endpoint)| endpoint).collect();
    fill(&mut drafts, &mut left, frame.most);
    for draft in drafts {
        if draft.endpoints.is_empty() {
            plan.delete.push(draft.slice);
        } else if draft.changed {
            plan.update
                .push(framed(frame, ports, draft.endpoints, Some(&draft.slice)));
        }
    }
    while !left.is_empty() {
        let rest = left.split_off(left.len().min(frame.most));
        plan.create
            .push(framed(frame, ports, std::mem::replace(&mut left, rest), None));
    }
}

/// Finds room for `left`: in slices that change anyway, fullest first, and then in one unchanged
/// slice that can take all of the rest.
fn fill(drafts: &mut [Draft], left: &mut Vec<Endpoint>, most: usize) {
    let mut order: Vec<usize> = (0..drafts.len()).filter(|i| drafts[*i].changed).collect();
    order.sort_by_key(|i| std::cmp::Reverse(drafts[*i].endpoints.len()));
    for i in order {
        let room = most - drafts[i].endpoints.len();
        let rest = left.split_off(left.len().min(room));
        drafts[i].endpoints.append(left);
        *left = rest;
    }
    if left.is_empty() {
        return;
    }
    let fits = |draft: &&mut Draft| !draft.changed && draft.endpoints.len() + left.len() % most <= most;
    // Whole slices' worth become new slices; only the remainder looks for a home.
    let remainder = left.len() % most;
    let home = drafts.iter_mut().filter(fits).max_by_key(|draft| draft.endpoints.len());
    if let Some(home) = home.filter(|_| remainder > 0) {
        home.endpoints.extend(left.split_off(left.len() - remainder));
        home.changed = true;
    }
}

/// A Service without endpoints has one slice that says so.
fn keep_placeholder(frame: &Frame, existing: &[Arc<EndpointSlice>], plan: &mut Plan) {
    let remaining = existing.len() - plan.delete.len() + plan.create.len();
    if remaining > 0 || !frame.placeholder {
        return;
    }
    let usable = |slice: &Arc<EndpointSlice>| slice.address_type == frame.address_type && is_owned(frame, slice);
    match plan.delete.iter().position(usable) {
        None => plan.create.push(framed(frame, &[], Vec::new(), None)),
        Some(i) => {
            let slice = plan.delete.swap_remove(i);
            let has_nothing = slice.endpoints.as_ref().is_none_or(Vec::is_empty) && slice_ports(&slice).is_empty();
            if !has_nothing || !is_framed(frame, &slice) {
                plan.update.push(framed(frame, &[], Vec::new(), Some(&slice)));
            }
        }
    }
}

/// What makes an endpoint the same endpoint, so that it keeps its place while its conditions change.
type Identity = (Vec<String>, Option<String>);

fn identity(endpoint: &Endpoint) -> Identity {
    (
        endpoint.addresses.clone(),
        endpoint.target_ref.as_ref().and_then(|target| target.uid.clone()),
    )
}

fn slice_ports(slice: &EndpointSlice) -> Vec<Port> {
    let mut ports: Vec<_> = slice.ports.iter().flatten().map(from_port).collect();
    ports.sort();
    ports
}

fn from_port(port: &EndpointPort) -> Port {
    Port {
        name: port.name.clone().unwrap_or_default(),
        port: port.port.unwrap_or(0),
        protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
        app_protocol: port.app_protocol.clone(),
    }
}

fn to_port(port: &Port) -> EndpointPort {
    EndpointPort {
        name: Some(port.name.clone()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone()),
        app_protocol: port.app_protocol.clone(),
    }
}

fn is_owned(frame: &Frame, slice: &EndpointSlice) -> bool {
    let owners = slice.metadata.owner_references.iter().flatten();
    owners.into_iter().any(|owner| owner.uid == frame.owner.uid)
}

/// Whether labels, annotations and owner are as they should be; the time of the change apart.
fn is_framed(frame: &Frame, slice: &EndpointSlice) -> bool {
    let mut annotations = slice.metadata.annotations.clone().unwrap_or_default();
    annotations.remove(LAST_CHANGE);
    slice.metadata.labels.as_ref() == Some(&frame.labels)
        && annotations == frame.annotations
        && slice.metadata.owner_references.as_deref() == Some(std::slice::from_ref(&frame.owner))
}

fn framed(frame: &Frame, ports: &[Port], endpoints: Vec<Endpoint>, base: Option<&EndpointSlice>) -> EndpointSlice {
    let mut metadata = base.map_or_else(
        || ObjectMeta {
            generate_name: Some(format!("{}-", frame.owner.name)),
            namespace: Some(frame.namespace.clone()),
            ..ObjectMeta::default()
        },
        |slice| slice.metadata.clone(),
    );
    let mut annotations = frame.annotations.clone();
    annotations.extend(frame.last_change.clone().map(|time| (LAST_CHANGE.to_string(), time)));
    metadata.annotations = Some(annotations).filter(|all| !all.is_empty());
    metadata.labels = Some(frame.labels.clone());
    metadata.owner_references = Some(vec![frame.owner.clone()]);
    EndpointSlice {
        metadata,
        address_type: frame.address_type.into(),
        endpoints: Some(endpoints).filter(|endpoints| !endpoints.is_empty()),
        ports: Some(ports.iter().map(to_port).collect::<Vec<_>>()).filter(|ports| !ports.is_empty()),
    }
}

#[cfg(test)]
#[path = "slices_tests.rs"]
mod tests;
