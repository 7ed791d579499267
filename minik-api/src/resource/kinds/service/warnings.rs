//! What 1.36 accepts in a Service but warns about.

use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use super::needs::Needs;
use super::{addresses, needs};

const HINTS: &str = "service.kubernetes.io/topology-aware-hints";

/// The texts, in Kubernetes' order.
pub(super) fn of(service: &Service) -> Vec<String> {
    let mut warnings = Vec::new();
    if service
        .metadata
        .annotations
        .as_ref()
        .is_some_and(|all| all.contains_key(HINTS))
    {
        warnings.push(format!(
            "annotation {HINTS} is deprecated, please use service.kubernetes.io/topology-mode instead"
        ));
    }
    if let Some(spec) = &service.spec {
        fields(spec, &mut warnings);
    }
    warnings
}

fn fields(spec: &ServiceSpec, warnings: &mut Vec<String>) {
    let headless = spec.kind() == needs::CLUSTER_IP && spec.is_headless();
    let by_name = spec.kind() == needs::EXTERNAL_NAME;
    let external_ips = spec.external_ips.as_deref().unwrap_or_default();
    let each_ip = |field: &str, all: &[String]| -> Vec<String> {
        let numbered = all.iter().enumerate();
        numbered
            .filter_map(|(index, ip)| addresses::ip_warning(&format!("{field}[{index}]"), ip))
            .collect()
    };
    warnings.extend(each_ip("spec.clusterIPs", spec.addresses()));
    let mut when = |condition: bool, text: &str| {
        if condition {
            warnings.push(text.to_owned());
        }
    };
    when(
        headless && spec.load_balancer_ip.is_some(),
        "spec.loadBalancerIP is ignored for headless services",
    );
    when(
        headless && !external_ips.is_empty(),
        "spec.externalIPs is ignored for headless services",
    );
    let sticky = spec.session_affinity.as_deref() != Some("None");
    when(
        headless && sticky,
        "spec.SessionAffinity is ignored for headless services",
    );
    warnings.extend(each_ip("spec.externalIPs", external_ips));
    if !external_ips.is_empty() && !headless && !by_name {
        warnings.push("spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned());
    }
    let balancer = spec.load_balancer_ip.as_deref();
    warnings.extend(balancer.and_then(|ip| addresses::ip_warning("spec.loadBalancerIP", ip)));
    for (index, range) in spec.load_balancer_source_ranges.iter().flatten().enumerate() {
        warnings.extend(addresses::cidr_warning(
            &format!("spec.loadBalancerSourceRanges[{index}]"),
            range,
        ));
    }
    if by_name && !external_ips.is_empty() {
        warnings.push(r#"spec.externalIPs is ignored when spec.type is "ExternalName""#.to_owned());
    }
    if !by_name && spec.external_name.is_some() {
        warnings.push(r#"spec.externalName is ignored when spec.type is not "ExternalName""#.to_owned());
    }
    if spec.traffic_distribution.as_deref() == Some("PreferClose") {
        warnings.push(r#"spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone""#.to_owned());
    }
}
