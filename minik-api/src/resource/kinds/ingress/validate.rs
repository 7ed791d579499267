//! What 1.36 refuses in an Ingress, in its order and words.

use k8s_openapi::api::core::v1::TypedLocalObjectReference;
use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, Ingress, IngressBackend, IngressRule, IngressServiceBackend, IngressSpec, IngressTLS,
};
use serde_json::{Value, json};

use super::CLASS_ANNOTATION;
use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::kinds::service::addresses;
use crate::resource::validation::meta::{self, Scope};
use crate::resource::validation::names;

const PATH_TYPES: &[&str] = &["Exact", "ImplementationSpecific", "Prefix"];
const NO_IP: &str = "must be a DNS name, not an IP address";

/// Everything wrong with a new Ingress.
pub(super) fn create(ingress: &Ingress) -> FieldErrors {
    let mut errors = whole(ingress);
    let annotated = ingress
        .metadata
        .annotations
        .as_ref()
        .and_then(|a| a.get(CLASS_ANNOTATION));
    let named = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_ref());
    if let (Some(annotated), Some(named)) = (annotated, named)
        && annotated != named
    {
        // The path is Kubernetes' own: without `metadata`.
        errors.push(FieldError::invalid(
            format!("annotations.{CLASS_ANNOTATION}"),
            annotated.as_str(),
            "must match `ingressClassName` when both are specified",
        ));
    }
    errors
}

/// Everything wrong with a changed Ingress.
pub(super) fn update(new: &Ingress, old: &Ingress) -> FieldErrors {
    if new.status != old.status {
        let mut errors = meta::contents(&new.metadata);
        errors.extend(status(new, old));
        return errors;
    }
    whole(new)
}

fn whole(ingress: &Ingress) -> FieldErrors {
    let mut errors = meta::validate(&ingress.metadata, Scope::Namespaced, names::dns_subdomain);
    errors.extend(spec(&ingress.spec.clone().unwrap_or_default()));
    errors
}

fn spec(spec: &IngressSpec) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let rules = spec.rules.as_deref().unwrap_or_default();
    if rules.is_empty() && spec.default_backend.is_none() {
        let rules = spec.rules.as_ref().map_or(Value::Null, |_| json!([]));
        let detail = "either `defaultBackend` or `rules` must be specified";
        errors.push(FieldError::invalid("spec", rules, detail));
    }
    if let Some(given) = &spec.default_backend {
        errors.extend(backend("spec.defaultBackend", given));
    }
    for (index, given) in rules.iter().enumerate() {
        errors.extend(rule(&format!("spec.rules[{index}]"), given));
    }
    for (index, given) in spec.tls.iter().flatten().enumerate() {
        errors.extend(tls(&format!("spec.tls[{index}]"), given));
    }
    if let Some(class) = spec.ingress_class_name.as_deref() {
        errors.extend(FieldError::each(
            "spec.ingressClassName",
            class,
            names::dns_subdomain(class),
        ));
    }
    errors
}

fn host(field: &str, host: &str) -> FieldErrors {
    let problems = if host.contains('*') {
        names::wildcard_subdomain(host)
    } else {
        names::dns_subdomain(host)
    };
    FieldError::each(field, host, problems)
}

fn tls(field: &str, tls: &IngressTLS) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (index, name) in tls.hosts.iter().flatten().enumerate() {
        errors.extend(host(&format!("{field}.hosts[{index}]"), name));
    }
    if let Some(secret) = tls.secret_name.as_deref().filter(|name| !name.is_empty()) {
        let problems = names::dns_subdomain(secret);
        errors.extend(FieldError::each(&format!("{field}.secretName"), secret, problems));
    }
    errors
}

fn rule(field: &str, rule: &IngressRule) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if let Some(name) = rule.host.as_deref().filter(|host| !host.is_empty()) {
        let at = format!("{field}.host");
        if name.parse::<std::net::IpAddr>().is_ok() {
            errors.push(FieldError::invalid(at.as_str(), name, NO_IP));
        }
        errors.extend(host(&at, name));
    }
    let Some(http) = &rule.http else { return errors };
    if http.paths.is_empty() {
        errors.push(FieldError::required(format!("{field}.http.paths"), ""));
    }
    for (index, given) in http.paths.iter().enumerate() {
        errors.extend(path(&format!("{field}.http.paths[{index}]"), given));
    }
    errors
}

fn path(field: &str, path: &HTTPIngressPath) -> FieldErrors {
    let at = format!("{field}.path");
    let text = path.path.as_deref().unwrap_or_default();
    let mut errors = FieldErrors::new();
    let mut refuse = |detail: String| errors.push(FieldError::invalid(at.as_str(), text, detail));
    let absolute = "must be an absolute path".to_owned();
    match path.path_type.as_str() {
        "" => {
            let detail = "pathType must be specified";
            return vec![FieldError::required(format!("{field}.pathType"), detail)];
        }
        "Exact" | "Prefix" => {
            if !text.starts_with('/') {
                refuse(absolute);
            }
            for part in ["//", "/./", "/../", "%2f", "%2F"] {
                if text.contains(part) {
                    refuse(format!("must not contain '{part}'"));
                }
            }
            for end in ["/..", "/."] {
                if text.ends_with(end) {
                    refuse(format!("cannot end with '{end}'"));
                }
            }
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && !text.starts_with('/') {
                refuse(absolute);
            }
        }
        other => {
            errors.push(FieldError::not_supported(
                format!("{field}.pathType"),
                other,
                PATH_TYPES,
            ));
        }
    }
    errors.extend(backend(&format!("{field}.backend"), &path.backend));
    errors
}

fn backend(field: &str, backend: &IngressBackend) -> FieldErrors {
    match (&backend.resource, &backend.service) {
        (Some(_), Some(_)) => {
            let detail = "cannot set both resource and service backends";
            vec![FieldError::invalid(field, "", detail)]
        }
        (Some(given), None) => resource(&format!("{field}.resource"), given),
        (None, Some(given)) => service(field, given),
        (None, None) => vec![FieldError::invalid(
            field,
            "",
            "resource or service backend is required",
        )],
    }
}

fn service(field: &str, service: &IngressServiceBackend) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let at = format!("{field}.service.name");
    if service.name.is_empty() {
        errors.push(FieldError::required(at, ""));
    } else {
        let problems = names::dns_label(&service.name);
        errors.extend(FieldError::each(&at, service.name.as_str(), problems));
    }
    let port = service.port.clone().unwrap_or_default();
    let name = port.name.as_deref().filter(|name| !name.is_empty());
    match (name, port.number.filter(|number| *number != 0)) {
        (Some(_), Some(_)) => {
            errors.push(FieldError::invalid(
                field,
                "",
                "cannot set both port name & port number",
            ));
        }
        (Some(name), None) => {
            let at = format!("{field}.service.port.name");
            errors.extend(FieldError::each(&at, name, names::port_name(name)));
        }
        (None, Some(number)) => {
            let at = format!("{field}.service.port.number");
            errors.extend(FieldError::each(&at, number, names::port_number(number)));
        }
        (None, None) => errors.push(FieldError::required(field, "port name or number is required")),
    }
    errors
}

fn resource(field: &str, resource: &TypedLocalObjectReference) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if let Some(group) = resource.api_group.as_deref() {
        let at = format!("{field}.apiGroup");
        errors.extend(FieldError::each(&at, group, names::dns_subdomain(group)));
    }
    errors.extend(required_segment(&format!("{field}.kind"), &resource.kind));
    errors.extend(required_segment(&format!("{field}.name"), &resource.name));
    errors
}

/// A text that has to be there and stands as one segment of a path.
pub(in crate::resource::kinds) fn required_segment(field: &str, text: &str) -> FieldErrors {
    if text.is_empty() {
        return vec![FieldError::required(field, "")];
    }
    FieldError::each(field, text, names::path_segment(text))
}

fn status(new: &Ingress, old: &Ingress) -> FieldErrors {
    let points = |ingress: &Ingress| {
        let status = ingress.status.clone().unwrap_or_default();
        status.load_balancer.unwrap_or_default().ingress.unwrap_or_default()
    };
    let existing: Vec<String> = points(old).into_iter().filter_map(|point| point.ip).collect();
    let mut errors = FieldErrors::new();
    for (index, point) in points(new).into_iter().enumerate() {
        let at = format!("status.loadBalancer.ingress[{index}]");
        if let Some(ip) = point.ip.filter(|ip| !ip.is_empty()) {
            errors.extend(addresses::ip(&format!("{at}.ip"), &ip, &existing));
        }
        if let Some(name) = point.hostname.filter(|name| !name.is_empty()) {
            let at = format!("{at}.hostname");
            errors.extend(FieldError::each(&at, name.as_str(), names::dns_subdomain(&name)));
            if name.parse::<std::net::IpAddr>().is_ok() {
                errors.push(FieldError::invalid(at, name, NO_IP));
            }
        }
    }
    errors
}
