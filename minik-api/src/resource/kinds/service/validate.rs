//! What 1.36 refuses in a Service, in its order and words. Defaults have run, so what they fill is never
//! missing; the allocators have not, so cluster IPs and node ports may be.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;

use super::needs::Needs;
use super::{PROTOCOLS, addresses, families, needs, status};
use crate::resource::field::{FieldError, FieldErrors, Shown};
use crate::resource::validation::{ip, labels, meta, names};

const TYPES: &[&str] = &[
    needs::CLUSTER_IP,
    needs::EXTERNAL_NAME,
    needs::LOAD_BALANCER,
    needs::NODE_PORT,
];
const AFFINITIES: &[&str] = &["ClientIP", "None"];
const TRAFFIC_POLICIES: &[&str] = &["Cluster", "Local"];
const DISTRIBUTIONS: &[&str] = &["PreferClose", "PreferSameNode", "PreferSameZone"];

/// Longest session affinity, in seconds: a day.
const AFFINITY_MAX: i32 = 86_400;

const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

const ONLY_BALANCED: &str = "may only be used when `type` is 'LoadBalancer'";

/// Everything wrong with a new Service.
pub(super) fn create(service: &Service) -> FieldErrors {
    let Some(spec) = &service.spec else {
        return vec![FieldError::required("spec.ports", "")];
    };
    let refusals = families::refusals(spec, None);
    if refusals.is_empty() {
        whole(service, spec, None)
    } else {
        refusals
    }
}

/// Everything wrong with a changed Service.
pub(super) fn update(new: &Service, old: &Service) -> FieldErrors {
    let (Some(spec), Some(before)) = (&new.spec, &old.spec) else {
        return create(new);
    };
    let refusals = families::refusals(spec, Some(before));
    if !refusals.is_empty() {
        return refusals;
    }
    let mut errors = families::immutable(spec, before);
    let balanced = |spec: &ServiceSpec| spec.kind() == needs::LOAD_BALANCER;
    if balanced(spec) && balanced(before) && spec.load_balancer_class != before.load_balancer_class {
        let class = json!(spec.load_balancer_class);
        errors.push(FieldError::invalid(
            "spec.loadBalancerClass",
            class,
            "may not change once set",
        ));
    }
    if spec.needs_health_check_port()
        && before.needs_health_check_port()
        && spec.health_check_node_port != before.health_check_node_port
    {
        errors.push(FieldError::forbidden("spec.healthCheckNodePort", "field is immutable"));
    }
    errors.extend(whole(new, spec, Some(old)));
    if new.status != old.status {
        errors.extend(status::refusals(new));
    }
    errors
}

fn whole(service: &Service, spec: &ServiceSpec, old: Option<&Service>) -> FieldErrors {
    let mut errors = meta::validate(&service.metadata, meta::Scope::Namespaced, names::dns_label);
    errors.extend(topology(service));
    errors.extend(type_fields(spec));
    let ports = spec.ports.as_deref().unwrap_or_default();
    errors.extend(each_port(ports));
    if let Some(selector) = &spec.selector {
        errors.extend(labels::map("spec.selector", selector));
    }
    errors.extend(session_affinity(spec));
    errors.extend(external_ips(spec, old));
    if !TYPES.contains(&spec.kind()) {
        errors.push(FieldError::not_supported("spec.type", spec.kind(), TYPES));
    }
    if spec.kind() == needs::CLUSTER_IP {
        for (index, _) in ports.iter().enumerate().filter(|(_, port)| port.node_port.is_some()) {
            let detail = "may not be used when `type` is 'ClusterIP'";
            errors.push(FieldError::forbidden(format!("spec.ports[{index}].nodePort"), detail));
        }
    }
    errors.extend(duplicate_ports(ports));
    errors.extend(source_ranges(service, spec, old));
    errors.extend(load_balancer(spec));
    errors.extend(external_traffic(spec));
    if let Some(policy) = spec
        .internal_traffic_policy
        .as_deref()
        .filter(|policy| !TRAFFIC_POLICIES.contains(policy))
    {
        errors.push(FieldError::not_supported(
            "spec.internalTrafficPolicy",
            policy,
            TRAFFIC_POLICIES,
        ));
    }
    if let Some(wish) = spec
        .traffic_distribution
        .as_deref()
        .filter(|wish| !DISTRIBUTIONS.contains(wish))
    {
        errors.push(FieldError::not_supported(
            "spec.trafficDistribution",
            wish,
            DISTRIBUTIONS,
        ));
    }
    errors
}

fn topology(service: &Service) -> Option<FieldError> {
    let (mode, hints) = (annotation(service, TOPOLOGY_MODE)?, annotation(service, HINTS)?);
    (mode != hints).then(|| {
        let detail = format!("must match annotations[{HINTS}] when both are specified");
        FieldError::invalid(format!("metadata.annotations[{TOPOLOGY_MODE}]"), mode, detail)
    })
}

/// What the type asks for and what it excludes.
fn type_fields(spec: &ServiceSpec) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let kind = spec.kind();
    if spec.ports.as_ref().is_none_or(|ports| ports.is_empty()) && !spec.is_headless() && kind != needs::EXTERNAL_NAME {
        errors.push(FieldError::required("spec.ports", ""));
    }
    if [needs::LOAD_BALANCER, needs::NODE_PORT].contains(&kind) && spec.is_headless() {
        let detail = format!("may not be set to 'None' for {kind} services");
        errors.push(FieldError::invalid("spec.clusterIPs[0]", needs::HEADLESS, detail));
    }
    if kind != needs::EXTERNAL_NAME {
        return errors;
    }
    for (field, given) in [
        ("spec.clusterIPs", !spec.addresses().is_empty()),
        ("spec.ipFamilies", !spec.families().is_empty()),
        ("spec.ipFamilyPolicy", spec.ip_family_policy.is_some()),
    ] {
        if given {
            errors.push(FieldError::forbidden(field, "may not be set for ExternalName services"));
        }
    }
    let name = spec.external_name.as_deref().unwrap_or_default();
    // A dot at the end marks the name as fully qualified.
    match name.strip_suffix('.').unwrap_or(name) {
        "" => errors.push(FieldError::required("spec.externalName", "")),
        name => errors.extend(FieldError::each("spec.externalName", name, names::dns_subdomain(name))),
    }
    errors
}

fn each_port(ports: &[ServicePort]) -> FieldErrors {
    let mut seen = BTreeSet::new();
    let mut errors = FieldErrors::new();
    for (index, port) in ports.iter().enumerate() {
        let at = |field: &str| format!("spec.ports[{index}].{field}");
        match port.name.as_deref() {
            None if ports.len() > 1 => errors.push(FieldError::required(at("name"), "")),
            None => {}
            Some(name) => {
                errors.extend(FieldError::each(&at("name"), name, names::dns_label(name)));
                if !seen.insert(name) {
                    errors.push(FieldError::duplicate(at("name"), name));
                }
            }
        }
        errors.extend(FieldError::each(&at("port"), port.port, names::port_number(port.port)));
        let protocol = port.protocol.as_deref().unwrap_or_default();
        if !PROTOCOLS.contains(&protocol) {
            errors.push(FieldError::not_supported(at("protocol"), protocol, PROTOCOLS));
        }
        match &port.target_port {
            Some(IntOrString::Int(number)) => {
                errors.extend(FieldError::each(
                    &at("targetPort"),
                    *number,
                    names::port_number(*number),
                ));
            }
            Some(IntOrString::String(name)) => {
                errors.extend(FieldError::each(
                    &at("targetPort"),
                    name.as_str(),
                    names::port_name(name),
                ));
            }
            None => {}
        }
        if let Some(name) = port.app_protocol.as_deref() {
            errors.extend(FieldError::each(&at("appProtocol"), name, names::qualified_name(name)));
        }
    }
    errors
}

/// Two ports may share a number only across protocols; so may two node ports.
fn duplicate_ports(ports: &[ServicePort]) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        if let Some(number) = port.node_port
            && !seen.insert((&port.protocol, number))
        {
            errors.push(FieldError::duplicate(format!("spec.ports[{index}].nodePort"), number));
        }
    }
    seen.clear();
    for (index, port) in ports.iter().enumerate() {
        if !seen.insert((&port.protocol, port.port)) {
            let field = format!("spec.ports[{index}]");
            errors.push(FieldError::duplicate_shown(field, port_key(port)));
        }
    }
    errors
}

/// The two fields that identify a port, in Kubernetes' internal struct with all others empty.
fn port_key(port: &ServicePort) -> Shown {
    Shown::go([
        ("Name", json!("").into()),
        ("Protocol", json!(port.protocol).into()),
        ("AppProtocol", json!(null).into()),
        ("Port", json!(port.port).into()),
        ("TargetPort", json!(0).into()),
        ("NodePort", json!(0).into()),
    ])
}

fn session_affinity(spec: &ServiceSpec) -> Option<FieldError> {
    let affinity = spec.session_affinity.as_deref().unwrap_or_default();
    if !AFFINITIES.contains(&affinity) {
        return Some(FieldError::not_supported("spec.sessionAffinity", affinity, AFFINITIES));
    }
    let timeout = spec
        .session_affinity_config
        .as_ref()?
        .client_ip
        .as_ref()?
        .timeout_seconds?;
    (!(1..=AFFINITY_MAX).contains(&timeout)).then(|| {
        let field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
        FieldError::invalid(
            field,
            timeout,
            format!("must be greater than 0 and less than {AFFINITY_MAX}"),
        )
    })
}

fn external_ips(spec: &ServiceSpec, old: Option<&Service>) -> FieldErrors {
    let old = old
        .and_then(|old| old.spec.as_ref()?.external_ips.as_deref())
        .unwrap_or_default();
    let mut errors = FieldErrors::new();
    for (index, text) in spec.external_ips.iter().flatten().enumerate() {
        let at = format!("spec.externalIPs[{index}]");
        let malformed = addresses::ip(&at, text, old);
        errors.extend(if malformed.is_empty() {
            ip::not_special(&at, text)
        } else {
            malformed
        });
    }
    errors
}

/// Ranges in the field, or where that is empty in the annotation that came before it.
fn source_ranges(service: &Service, spec: &ServiceSpec, old: Option<&Service>) -> FieldErrors {
    let balanced = spec.kind() == needs::LOAD_BALANCER;
    let mut errors = FieldErrors::new();
    let mut misplaced = |field: &str| {
        if !balanced {
            errors.push(FieldError::forbidden(field, ONLY_BALANCED));
        }
    };
    if let Some(ranges) = &spec.load_balancer_source_ranges {
        // The capital letter is Kubernetes' own.
        let field = "spec.LoadBalancerSourceRanges";
        misplaced(field);
        let old = old
            .and_then(|old| old.spec.as_ref()?.load_balancer_source_ranges.as_deref())
            .unwrap_or_default();
        for (index, range) in ranges.iter().enumerate() {
            errors.extend(addresses::cidr(&format!("{field}[{index}]"), range.trim(), old));
        }
    } else if let Some(ranges) = annotation(service, SOURCE_RANGES) {
        let field = format!("metadata.annotations[{SOURCE_RANGES}]");
        misplaced(&field);
        let unchanged = old.is_some_and(|old| annotation(old, SOURCE_RANGES) == Some(ranges));
        if !unchanged && !ranges.trim().is_empty() {
            errors.extend(
                ranges
                    .split(',')
                    .flat_map(|range| addresses::cidr(&field, range.trim(), &[])),
            );
        }
    }
    errors
}

fn load_balancer(spec: &ServiceSpec) -> FieldErrors {
    let balanced = spec.kind() == needs::LOAD_BALANCER;
    let mut errors = FieldErrors::new();
    if !balanced && spec.allocate_load_balancer_node_ports.is_some() {
        errors.push(FieldError::forbidden(
            "spec.allocateLoadBalancerNodePorts",
            ONLY_BALANCED,
        ));
    }
    match spec.load_balancer_class.as_deref() {
        Some(class) if balanced => {
            errors.extend(FieldError::each(
                "spec.loadBalancerClass",
                class,
                names::qualified_name(class),
            ));
        }
        Some(_) => errors.push(FieldError::forbidden("spec.loadBalancerClass", ONLY_BALANCED)),
        None => {}
    }
    errors
}

fn external_traffic(spec: &ServiceSpec) -> FieldErrors {
    let field = "spec.externalTrafficPolicy";
    let mut errors = FieldErrors::new();
    match spec.external_traffic_policy.as_deref() {
        Some(policy) if !spec.is_externally_accessible() => {
            errors.push(FieldError::invalid(
                field,
                policy,
                "may only be set for externally-accessible services",
            ));
        }
        Some(policy) if !TRAFFIC_POLICIES.contains(&policy) => {
            errors.push(FieldError::not_supported(field, policy, TRAFFIC_POLICIES));
        }
        _ => {}
    }
    let field = "spec.healthCheckNodePort";
    match spec.health_check_node_port {
        Some(port) if spec.needs_health_check_port() => {
            errors.extend(FieldError::each(field, port, names::port_number(port)));
        }
        Some(port) => {
            let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.push(FieldError::invalid(field, port, detail));
        }
        None => {}
    }
    errors
}

fn annotation<'a>(service: &'a Service, key: &str) -> Option<&'a str> {
    service.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}
