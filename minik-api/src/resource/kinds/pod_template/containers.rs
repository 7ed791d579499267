//! Validation of containers: names, images, ports, environment, mounts, resources.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvFromSource, EnvVar, PodSpec, ResourceRequirements, VolumeMount,
};

use super::{probes, references, security};
use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::kinds::service::PROTOCOLS;
use crate::resource::validation::{names, paths, resources};

const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];
const RESTART_POLICIES: &[&str] = &["Always", "Never", "OnFailure"];
const MESSAGE_POLICIES: &[&str] = &["File", "FallbackToLogsOnError"];

/// What the checks of a container need to know of its Pod.
struct Surroundings<'a> {
    volumes: BTreeSet<&'a str>,
    grace: Option<i64>,
}

/// Checks all containers of a Pod spec with these sound volumes.
pub(super) fn validate(field: &str, spec: &PodSpec, volumes: BTreeSet<&str>) -> FieldErrors {
    let mut errors = Vec::new();
    let surroundings = Surroundings {
        volumes,
        grace: spec.termination_grace_period_seconds,
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
        errors.extend(probes::of_container(&at, container, surroundings.grace));
    }
    errors.extend(host_port_conflicts(&at, &spec.containers));
    for (index, container) in spec.init_containers.iter().flatten().enumerate() {
        let all = format!("{field}.initContainers");
        let at = format!("{all}[{index}]");
        errors.extend(common(&at, container, &surroundings));
        if !container.name.is_empty() && !taken.insert(container.name.as_str()) {
            errors.push(FieldError::duplicate(format!("{at}.name"), container.name.as_str()));
        }
        // They run one by one; Kubernetes calls each the first of its list.
        errors.extend(host_port_conflicts(&all, std::slice::from_ref(container)));
        errors.extend(probes::of_init_container(&at, container, surroundings.grace));
    }
    errors
}

/// Checks that in a network that is the node's a container's ports are the node's too.
pub(super) fn host_network(field: &str, spec: &PodSpec) -> FieldErrors {
    let mut errors = Vec::new();
    let containers = spec.containers.iter().enumerate();
    for (index, container) in containers.filter(|_| spec.host_network == Some(true)) {
        for (n, port) in container.ports.iter().flatten().enumerate() {
            if let Some(host) = port.host_port.filter(|host| *host != 0 && *host != port.container_port) {
                let at = format!("{field}.containers[{index}].ports[{n}].hostPort");
                let detail = "must match `containerPort` when `hostNetwork` is true";
                errors.push(FieldError::invalid(at, host, detail));
            }
        }
    }
    errors
}

/// Checks what is asked of the images of a Pod, and of no template's, which were once allowed more.
pub(in super::super) fn images(field: &str, spec: &PodSpec) -> FieldErrors {
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let lists = [("containers", spec.containers.as_slice()), ("initContainers", init)];
    let mut errors = Vec::new();
    for (child, containers) in lists {
        for (index, container) in containers.iter().enumerate() {
            let image = container.image.as_deref().unwrap_or_default();
            if image.trim() != image {
                let at = format!("{field}.{child}[{index}].image");
                let detail = "must not have leading or trailing whitespace";
                errors.push(FieldError::invalid(at, image, detail));
            }
        }
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
    if container.image.as_deref().unwrap_or_default().is_empty() {
        errors.push(FieldError::required(format!("{field}.image"), ""));
    }
    let policy = container.termination_message_policy.as_deref().unwrap_or_default();
    errors.extend(FieldError::one_of(
        &format!("{field}.terminationMessagePolicy"),
        policy,
        MESSAGE_POLICIES,
    ));
    errors.extend(ports(field, container.ports.as_deref().unwrap_or_default()));
    for (index, variable) in container.env.iter().flatten().enumerate() {
        errors.extend(environment(&format!("{field}.env[{index}]"), variable));
    }
    for (index, source) in container.env_from.iter().flatten().enumerate() {
        errors.extend(environment_source(&format!("{field}.envFrom"), index, source));
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

fn ports(field: &str, ports: &[ContainerPort]) -> FieldErrors {
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
    errors.extend(references::of_variable(&at, from));
    let sources = [
        from.field_ref.is_some(),
        from.resource_field_ref.is_some(),
        from.config_map_key_ref.is_some(),
        from.secret_key_ref.is_some(),
        from.file_key_ref.is_some(),
    ];
    let valued = variable.value.as_deref().is_some_and(|v| !v.is_empty());
    let problem = match sources.into_iter().filter(|given| *given).count() {
        0 => "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        _ if valued => "may not be specified when `value` is not empty",
        1 => return errors,
        _ => "may not have more than one field specified at a time",
    };
    errors.push(FieldError::invalid(at, "", problem));
    errors
}

/// Checks one of the sources in the list `all`; what is wrong with their number is said of the list.
fn environment_source(all: &str, index: usize, source: &EnvFromSource) -> FieldErrors {
    let field = format!("{all}[{index}]");
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
    let problem = match named.iter().filter(|(_, name)| name.is_some()).count() {
        0 => "must specify one of: `configMapRef` or `secretRef`",
        1 => return errors,
        _ => "may not have more than one field specified at a time",
    };
    errors.push(FieldError::invalid(all, "", problem));
    errors
}

fn volume_mounts(field: &str, mounts: &[VolumeMount], volumes: &BTreeSet<&str>) -> FieldErrors {
    let mut errors = Vec::new();
    let mut taken = BTreeSet::new();
    for (index, mount) in mounts.iter().enumerate() {
        let at = format!("{field}[{index}]");
        if mount.name.is_empty() {
            errors.push(FieldError::required(format!("{at}.name"), ""));
        }
        if !volumes.contains(mount.name.as_str()) {
            errors.push(FieldError::not_found(format!("{at}.name"), mount.name.as_str()));
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
        let expression = mount.sub_path_expr.as_deref().unwrap_or_default();
        let sub = mount.sub_path.as_deref().unwrap_or_default();
        // Kubernetes says of which container, and not of which mount.
        errors.extend(paths::descending(&format!("{field}.subPath"), sub));
        if !expression.is_empty() && !sub.is_empty() {
            let detail = "subPathExpr and subPath are mutually exclusive";
            errors.push(FieldError::invalid(format!("{at}.subPathExpr"), expression, detail));
        }
        errors.extend(paths::descending(&format!("{field}.subPathExpr"), expression));
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
