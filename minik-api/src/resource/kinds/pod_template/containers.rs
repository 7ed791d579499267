//! Validation of containers: names, images, ports, environment, mounts, resources.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvFromSource, EnvVar, PodSpec, ResourceRequirements, VolumeMount,
};

use super::{probes, security};
use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::kinds::service::PROTOCOLS;
use crate::resource::validation::{names, resources};

const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];
const RESTART_POLICIES: &[&str] = &["Always", "Never", "OnFailure"];
const MESSAGE_POLICIES: &[&str] = &["FallbackToLogsOnError", "File"];

/// What the checks of a container need to know of its Pod.
struct Surroundings<'a> {
    volumes: BTreeSet<&'a str>,
    host_network: bool,
}

/// Checks all containers of a Pod spec.
pub(super) fn validate(field: &str, spec: &PodSpec) -> FieldErrors {
    let mut errors = Vec::new();
    let surroundings = Surroundings {
        volumes: spec.volumes.iter().flatten().map(|v| v.name.as_str()).collect(),
        host_network: spec.host_network == Some(true),
    };
    let at = format!("{field}.containers");
    if spec.containers.is_empty() {
        errors.push(FieldError::required(at.as_str(), ""));
    }
    let mut taken = BTreeSet::new();
    for (index, container) in spec.containers.iter().enumerate() {
        let at = format!("{at}[{index}]");
        errors.extend(common(&at, container, &surroundings));
        if !taken.insert(container.name.as_str()) {
            errors.push(FieldError::duplicate(format!("{at}.name"), container.name.as_str()));
        }
        errors.extend(probes::of_container(&at, container));
    }
    errors.extend(host_port_conflicts(&at, &spec.containers));
    for (index, container) in spec.init_containers.iter().flatten().enumerate() {
        let at = format!("{field}.initContainers[{index}]");
        errors.extend(common(&at, container, &surroundings));
        if !container.name.is_empty() && !taken.insert(container.name.as_str()) {
            errors.push(FieldError::duplicate(format!("{at}.name"), container.name.as_str()));
        }
        errors.extend(probes::of_init_container(&at, container));
    }
    errors
}

fn common(field: &str, container: &Container, surroundings: &Surroundings<'_>) -> FieldErrors {
    let mut errors = Vec::new();
    let at = format!("{field}.name");
    match container.name.as_str() {
        "" => errors.push(FieldError::required(at, "")),
        name => errors.extend(FieldError::each(&at, name, names::dns_label(name))),
    }
    let at = format!("{field}.image");
    match container.image.as_deref().unwrap_or_default() {
        "" => errors.push(FieldError::required(at, "")),
        image if image.trim() != image => {
            errors.push(FieldError::invalid(
                at,
                image,
                "must not have leading or trailing whitespace",
            ));
        }
        _ => {}
    }
    let policy = container.termination_message_policy.as_deref().unwrap_or_default();
    errors.extend(FieldError::one_of(
        &format!("{field}.terminationMessagePolicy"),
        policy,
        MESSAGE_POLICIES,
    ));
    errors.extend(ports(
        field,
        container.ports.as_deref().unwrap_or_default(),
        surroundings.host_network,
    ));
    for (index, variable) in container.env.iter().flatten().enumerate() {
        errors.extend(environment(&format!("{field}.env[{index}]"), variable));
    }
    for (index, source) in container.env_from.iter().flatten().enumerate() {
        errors.extend(environment_source(&format!("{field}.envFrom[{index}]"), source));
    }
    let mounts = container.volume_mounts.as_deref().unwrap_or_default();
    errors.extend(volume_mounts(
        &format!("{field}.volumeMounts"),
        mounts,
        &surroundings.volumes,
    ));
    let policy = container.image_pull_policy.as_deref().unwrap_or_default();
    errors.extend(FieldError::one_of(
        &format!("{field}.imagePullPolicy"),
        policy,
        PULL_POLICIES,
    ));
    if let Some(given) = &container.resources {
        errors.extend(resource_requirements(&format!("{field}.resources"), given));
    }
    if let Some(policy) = container.restart_policy.as_deref() {
        let at = format!("{field}.restartPolicy");
        errors.extend(FieldError::one_of(&at, policy, RESTART_POLICIES));
    }
    if let Some(context) = &container.security_context {
        errors.extend(security::of_container(&format!("{field}.securityContext"), context));
    }
    errors
}

fn ports(field: &str, ports: &[ContainerPort], host_network: bool) -> FieldErrors {
    let mut errors = Vec::new();
    let mut taken = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let at = format!("{field}.ports[{index}]");
        if let Some(name) = port.name.as_deref().filter(|n| !n.is_empty()) {
            let problems = names::port_name(name);
            if problems.is_empty() && !taken.insert(name) {
                errors.push(FieldError::duplicate(format!("{at}.name"), name));
            }
            errors.extend(FieldError::each(&format!("{at}.name"), name, problems));
        }
        let number = port.container_port;
        if number == 0 {
            errors.push(FieldError::required(format!("{at}.containerPort"), ""));
        } else {
            errors.extend(FieldError::each(
                &format!("{at}.containerPort"),
                number,
                names::port_number(number),
            ));
        }
        if let Some(host) = port.host_port.filter(|n| *n != 0) {
            errors.extend(FieldError::each(
                &format!("{at}.hostPort"),
                host,
                names::port_number(host),
            ));
            if host_network && host != number {
                let detail = "must match `containerPort` when `hostNetwork` is true";
                errors.push(FieldError::invalid(format!("{at}.hostPort"), host, detail));
            }
        }
        let protocol = port.protocol.as_deref().unwrap_or_default();
        errors.extend(FieldError::one_of(&format!("{at}.protocol"), protocol, PROTOCOLS));
    }
    errors
}

fn host_port_conflicts(field: &str, containers: &[Container]) -> FieldErrors {
    let mut errors = Vec::new();
    let mut taken = BTreeSet::new();
    for (index, container) in containers.iter().enumerate() {
        for (n, port) in container.ports.iter().flatten().enumerate() {
            let Some(host) = port.host_port.filter(|p| *p != 0) else {
                continue;
            };
            let protocol = port.protocol.as_deref().unwrap_or_default();
            let key = format!("{protocol}/{}/{host}", port.host_ip.as_deref().unwrap_or_default());
            if !taken.insert(key.clone()) {
                errors.push(FieldError::duplicate(
                    format!("{field}[{index}].ports[{n}].hostPort"),
                    key,
                ));
            }
        }
    }
    errors
}

fn environment(field: &str, variable: &EnvVar) -> FieldErrors {
    let mut errors = Vec::new();
    let at = format!("{field}.name");
    match variable.name.as_str() {
        "" => errors.push(FieldError::required(at, "")),
        name => errors.extend(FieldError::each(&at, name, names::env_name(name))),
    }
    let Some(from) = &variable.value_from else {
        return errors;
    };
    let at = format!("{field}.valueFrom");
    let sources = [
        from.field_ref.is_some(),
        from.resource_field_ref.is_some(),
        from.config_map_key_ref.is_some(),
        from.secret_key_ref.is_some(),
        from.file_key_ref.is_some(),
    ];
    match sources.into_iter().filter(|given| *given).count() {
        0 => {
            let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
            errors.push(FieldError::invalid(at.as_str(), "", detail));
        }
        1 => {}
        _ => errors.push(FieldError::invalid(
            at.as_str(),
            "",
            "may not have more than one field specified at a time",
        )),
    }
    if variable.value.as_deref().is_some_and(|v| !v.is_empty()) {
        errors.push(FieldError::invalid(
            at,
            "",
            "may not be specified when `value` is not empty",
        ));
    }
    errors
}

fn environment_source(field: &str, source: &EnvFromSource) -> FieldErrors {
    let mut errors = Vec::new();
    if let Some(prefix) = source.prefix.as_deref().filter(|p| !p.is_empty()) {
        errors.extend(FieldError::each(
            &format!("{field}.prefix"),
            prefix,
            names::env_name(prefix),
        ));
    }
    let named = [
        ("configMapRef", source.config_map_ref.as_ref().map(|r| &r.name)),
        ("secretRef", source.secret_ref.as_ref().map(|r| &r.name)),
    ];
    match named.iter().filter(|(_, name)| name.is_some()).count() {
        0 => errors.push(FieldError::invalid(
            field,
            "",
            "must specify one of: `configMapRef` or `secretRef`",
        )),
        1 => {}
        _ => errors.push(FieldError::invalid(
            field,
            "",
            "may not have more than one field specified at a time",
        )),
    }
    for (child, name) in named {
        match name.map(String::as_str) {
            None => {}
            Some("") => errors.push(FieldError::required(format!("{field}.{child}.name"), "")),
            Some(name) => {
                let at = format!("{field}.{child}.name");
                errors.extend(FieldError::each(&at, name, names::dns_subdomain(name)));
            }
        }
    }
    errors
}

fn volume_mounts(field: &str, mounts: &[VolumeMount], volumes: &BTreeSet<&str>) -> FieldErrors {
    let mut errors = Vec::new();
    let mut taken = BTreeSet::new();
    for (index, mount) in mounts.iter().enumerate() {
        let at = format!("{field}[{index}]");
        if mount.name.is_empty() {
            errors.push(FieldError::required(format!("{at}.name"), ""));
        } else if !volumes.contains(mount.name.as_str()) {
            let reason = crate::resource::field::Reason::NotFound(mount.name.as_str().into());
            errors.push(FieldError {
                field: format!("{at}.name"),
                reason,
                detail: String::new(),
            });
        }
        if mount.mount_path.is_empty() {
            errors.push(FieldError::required(format!("{at}.mountPath"), ""));
        }
        if !taken.insert(mount.mount_path.as_str()) {
            errors.push(FieldError::invalid(
                format!("{at}.mountPath"),
                mount.mount_path.as_str(),
                "must be unique",
            ));
        }
        let sub = mount.sub_path.as_deref().unwrap_or_default();
        if sub.starts_with('/') {
            errors.push(FieldError::invalid(
                format!("{at}.subPath"),
                sub,
                "must be a relative path",
            ));
        }
        if sub.split('/').any(|part| part == "..") {
            errors.push(FieldError::invalid(
                format!("{at}.subPath"),
                sub,
                "must not contain '..'",
            ));
        }
    }
    errors
}

fn resource_requirements(field: &str, given: &ResourceRequirements) -> FieldErrors {
    let mut errors = Vec::new();
    let (limits, requests) = (&given.limits, &given.requests);
    for (name, amount) in limits.iter().flatten() {
        let at = format!("{field}.limits[{name}]");
        errors.extend(resources::container_name(&at, name));
        errors.extend(resources::amount(&at, name, amount));
    }
    for (name, request) in requests.iter().flatten() {
        let at = format!("{field}.requests[{name}]");
        errors.extend(resources::container_name(&at, name));
        errors.extend(resources::amount(&at, name, request));
        let limit = limits.as_ref().and_then(|limits| limits.get(name));
        let shared = resources::may_be_overcommitted(name);
        let Some(limit) = limit else {
            if !shared {
                let detail = "Limit must be set for non overcommitable resources";
                errors.push(FieldError::required(format!("{field}.limits"), detail));
            }
            continue;
        };
        let (wanted, most) = (resources::nanos(request), resources::nanos(limit));
        let relation = match (shared, wanted.cmp(&most)) {
            (false, Ordering::Less | Ordering::Greater) => "equal to",
            (true, Ordering::Greater) => "less than or equal to",
            _ => continue,
        };
        let detail = format!("must be {relation} {name} limit of {}", limit.0);
        errors.push(FieldError::invalid(
            format!("{field}.requests"),
            request.0.as_str(),
            detail,
        ));
    }
    errors
}
