//! networking.k8s.io/v1 NetworkPolicy: which traffic selected Pods may receive and send.
//!
//! Stored and shown; enforcing one is the node's business.

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use super::service::addresses;
use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::validation::meta::{self, Scope};
use crate::resource::validation::{labels, names};
use crate::resource::{Column, KindInfo, Strategy, print};

pub(super) const INFO: KindInfo = KindInfo {
    group: "networking.k8s.io",
    kind: "NetworkPolicy",
    plural: "networkpolicies",
    singular: "networkpolicy",
    short_names: &["netpol"],
    schema: "io.k8s.api.networking.v1.NetworkPolicy",
    ..super::CORE
};

const TYPES: &[&str] = &["Ingress", "Egress"];
const PROTOCOLS: &[&str] = &["TCP", "UDP", "SCTP"];

const COLUMNS: &[Column] = &[
    print::NAME,
    print::text(
        "Pod-Selector",
        0,
        "podSelector selects the pods to which this NetworkPolicy object applies. The array of rules is applied to any pods selected by this field. An empty selector matches all pods in the policy's namespace. Multiple network policies can select the same set of pods. In this case, the ingress rules for each are combined additively. This field is optional. If it is not specified, it defaults to an empty selector.",
    ),
    print::AGE,
];

/// How NetworkPolicies behave.
pub(super) struct NetworkPolicies;

impl Strategy for NetworkPolicies {
    type Object = NetworkPolicy;

    fn default(&self, object: &mut NetworkPolicy) {
        let spec = object.spec.get_or_insert_default();
        spec.pod_selector.get_or_insert_default();
        let ingress = spec.ingress.iter_mut().flatten().filter_map(|rule| rule.ports.as_mut());
        let egress = spec.egress.iter_mut().flatten().filter_map(|rule| rule.ports.as_mut());
        for port in ingress.chain(egress).flatten() {
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
        if spec.policy_types.as_ref().is_none_or(|types| types.is_empty()) {
            let sends = spec.egress.as_ref().is_some_and(|rules| !rules.is_empty());
            let kept = if sends { TYPES } else { &TYPES[..1] };
            spec.policy_types = Some(kept.iter().map(ToString::to_string).collect());
        }
    }

    fn prepare_for_create(&self, object: &mut NetworkPolicy) {
        object.metadata.generation = Some(1);
    }

    fn prepare_for_update(&self, new: &mut NetworkPolicy, old: &NetworkPolicy) {
        new.metadata.generation = super::next_generation(&old.metadata, new.spec == old.spec);
    }

    fn validate(&self, object: &NetworkPolicy) -> FieldErrors {
        let mut errors = meta::validate(&object.metadata, Scope::Namespaced, names::dns_subdomain);
        errors.extend(object.spec.iter().flat_map(|given| spec(given, &[])));
        errors
    }

    fn validate_update(&self, new: &NetworkPolicy, old: &NetworkPolicy) -> FieldErrors {
        let existing: Vec<String> = old.spec.iter().flat_map(ranges).collect();
        let mut errors = meta::contents(&new.metadata);
        errors.extend(new.spec.iter().flat_map(|given| spec(given, &existing)));
        errors
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &NetworkPolicy, now: Timestamp) -> Vec<Value> {
        let selector = object.spec.as_ref().and_then(|spec| spec.pod_selector.clone());
        vec![
            print::name(&object.metadata),
            Value::from(print::selector(&selector.unwrap_or_default())),
            print::age(&object.metadata, now),
        ]
    }
}

/// Every address range of a policy, whether or not it is well written.
fn ranges(spec: &NetworkPolicySpec) -> Vec<String> {
    let from = spec
        .ingress
        .iter()
        .flatten()
        .flat_map(|rule| rule.from.iter().flatten());
    let to = spec.egress.iter().flatten().flat_map(|rule| rule.to.iter().flatten());
    from.chain(to)
        .filter_map(|peer| peer.ip_block.as_ref())
        .flat_map(|block| std::iter::once(&block.cidr).chain(block.except.iter().flatten()))
        .cloned()
        .collect()
}

fn spec(spec: &NetworkPolicySpec, existing: &[String]) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if let Some(selector) = &spec.pod_selector {
        errors.extend(labels::selector("spec.podSelector", selector));
    }
    for (index, rule) in spec.ingress.iter().flatten().enumerate() {
        let at = format!("spec.ingress[{index}]");
        errors.extend(ports(&at, rule.ports.as_deref()));
        errors.extend(peers(&format!("{at}.from"), rule.from.as_deref(), existing));
    }
    for (index, rule) in spec.egress.iter().flatten().enumerate() {
        let at = format!("spec.egress[{index}]");
        errors.extend(ports(&at, rule.ports.as_deref()));
        errors.extend(peers(&format!("{at}.to"), rule.to.as_deref(), existing));
    }
    let types = spec.policy_types.as_deref().unwrap_or_default();
    if types.len() > TYPES.len() {
        let detail = "may not specify more than two policyTypes";
        errors.push(FieldError::invalid("spec.policyTypes", json!(types), detail));
        return errors;
    }
    for (index, given) in types.iter().enumerate() {
        if !TYPES.contains(&given.as_str()) {
            let at = format!("spec.policyTypes[{index}]");
            errors.push(FieldError::not_supported(at, given.as_str(), TYPES));
        }
    }
    errors
}

fn ports(rule: &str, ports: Option<&[NetworkPolicyPort]>) -> FieldErrors {
    let ports = ports.unwrap_or_default().iter().enumerate();
    ports
        .flat_map(|(index, given)| port(&format!("{rule}.ports[{index}]"), given))
        .collect()
}

fn port(field: &str, port: &NetworkPolicyPort) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if let Some(protocol) = port.protocol.as_deref()
        && !PROTOCOLS.contains(&protocol)
    {
        let at = format!("{field}.protocol");
        errors.push(FieldError::not_supported(at, protocol, PROTOCOLS));
    }
    let (at, end) = (format!("{field}.port"), format!("{field}.endPort"));
    match (&port.port, port.end_port) {
        (Some(IntOrString::Int(number)), last) => {
            errors.extend(FieldError::each(&at, *number, names::port_number(*number)));
            if let Some(last) = last {
                if last < *number {
                    let detail = "must be greater than or equal to `port`";
                    errors.push(FieldError::invalid(end.as_str(), last, detail));
                }
                errors.extend(FieldError::each(&end, last, names::port_number(last)));
            }
        }
        (Some(IntOrString::String(name)), last) => {
            if let Some(last) = last {
                let detail = "may not be specified when `port` is non-numeric";
                errors.push(FieldError::invalid(end, last, detail));
            }
            errors.extend(FieldError::each(&at, name.as_str(), names::port_name(name)));
        }
        (None, Some(last)) => {
            let detail = "may not be specified when `port` is not specified";
            errors.push(FieldError::invalid(end, last, detail));
        }
        (None, None) => {}
    }
    errors
}

fn peers(field: &str, peers: Option<&[NetworkPolicyPeer]>, existing: &[String]) -> FieldErrors {
    let peers = peers.unwrap_or_default().iter().enumerate();
    peers
        .flat_map(|(index, given)| peer(&format!("{field}[{index}]"), given, existing))
        .collect()
}

fn peer(field: &str, peer: &NetworkPolicyPeer, existing: &[String]) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if let Some(selector) = &peer.pod_selector {
        errors.extend(labels::selector(&format!("{field}.podSelector"), selector));
    }
    if let Some(selector) = &peer.namespace_selector {
        errors.extend(labels::selector(&format!("{field}.namespaceSelector"), selector));
    }
    if let Some(given) = &peer.ip_block {
        errors.extend(block(&format!("{field}.ipBlock"), given, existing));
    }
    let selects = peer.pod_selector.is_some() || peer.namespace_selector.is_some();
    match (selects, peer.ip_block.is_some()) {
        (false, false) => errors.push(FieldError::required(field, "must specify a peer")),
        (true, true) => {
            errors.push(FieldError::forbidden(
                field,
                "may not specify both ipBlock and another peer",
            ));
        }
        _ => {}
    }
    errors
}

fn block(field: &str, block: &IPBlock, existing: &[String]) -> FieldErrors {
    let at = format!("{field}.cidr");
    if block.cidr.is_empty() {
        return vec![FieldError::required(at, "")];
    }
    let mut errors = addresses::cidr(&at, &block.cidr, existing);
    let Ok(whole) = block.cidr.parse::<ipnet::IpNet>() else {
        return errors;
    };
    for (index, text) in block.except.iter().flatten().enumerate() {
        let at = format!("{field}.except[{index}]");
        errors.extend(addresses::cidr(&at, text, existing));
        let Ok(part) = text.parse::<ipnet::IpNet>() else {
            continue;
        };
        if !whole.contains(&part.network()) || whole.prefix_len() >= part.prefix_len() {
            errors.push(FieldError::invalid(
                at,
                text.as_str(),
                "must be a strict subset of `cidr`",
            ));
        }
    }
    errors
}
