//! The load balancer's part of a Service's status, as a controller writes it.

use k8s_openapi::api::core::v1::{LoadBalancerIngress, Service};

use super::needs::Needs;
use super::{addresses, needs};
use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::validation::names;

const IP_MODES: &[&str] = &["Proxy", "VIP"];

const INGRESS: &str = "status.loadBalancer.ingress";

/// Everything wrong with the addresses that a load balancer reports.
pub(super) fn refusals(service: &Service) -> FieldErrors {
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let all = balancer
        .and_then(|balancer| balancer.ingress.as_deref())
        .unwrap_or_default();
    let balanced = service
        .spec
        .as_ref()
        .is_some_and(|spec| spec.kind() == needs::LOAD_BALANCER);
    if !balanced && !all.is_empty() {
        return vec![FieldError::forbidden(
            INGRESS,
            "may only be used when `spec.type` is 'LoadBalancer'",
        )];
    }
    all.iter()
        .enumerate()
        .flat_map(|(index, one)| ingress(&format!("{INGRESS}[{index}]"), one))
        .collect()
}

fn ingress(at: &str, ingress: &LoadBalancerIngress) -> FieldErrors {
    let ip = ingress.ip.as_deref().unwrap_or_default();
    let hostname = ingress.hostname.as_deref().unwrap_or_default();
    let mut errors = FieldErrors::new();
    if !ip.is_empty() {
        errors.extend(addresses::ip(&format!("{at}.ip"), ip, &[]));
    }
    let field = format!("{at}.ipMode");
    match ingress.ip_mode.as_deref() {
        None if !ip.is_empty() => errors.push(FieldError::required(field, "must be specified when `ip` is set")),
        None => {}
        Some(_) if ip.is_empty() => {
            errors.push(FieldError::forbidden(
                field,
                "may not be specified when `ip` is not set",
            ));
        }
        Some(mode) if !IP_MODES.contains(&mode) => errors.push(FieldError::not_supported(field, mode, IP_MODES)),
        Some(_) => {}
    }
    if !hostname.is_empty() {
        let field = format!("{at}.hostname");
        errors.extend(FieldError::each(&field, hostname, names::dns_subdomain(hostname)));
        if hostname.parse::<std::net::IpAddr>().is_ok() {
            errors.push(FieldError::invalid(
                field,
                hostname,
                "must be a DNS name, not an IP address",
            ));
        }
    }
    errors
}
