//! What the subresources of a Pod may change in its spec: `/ephemeralcontainers` adds containers to look at others
//! (KEP-277), `/resize` changes what containers may use (KEP-1287). Neither reaches anything else.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, PodSpec, ResourceRequirements};
use serde_json::Value;

use super::{pod_template, qos};
use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::validation::names;

const EPHEMERAL: &str = "spec.ephemeralContainers";
/// Fields of a container that make no sense for one that is not meant to stay.
const FOREIGN: [&str; 8] = [
    "lifecycle",
    "livenessProbe",
    "ports",
    "readinessProbe",
    "resizePolicy",
    "resources",
    "restartPolicyRules",
    "startupProbe",
];
/// What a resize may change.
const RESIZABLE: [&str; 2] = ["cpu", "memory"];

/// Checks a spec that differs from `old` by one of the two parts at most.
pub(super) fn validate(new: &PodSpec, old: &PodSpec) -> FieldErrors {
    if new.ephemeral_containers != old.ephemeral_containers {
        return ephemeral(new, old);
    }
    resize(new, old)
}

fn ephemeral(new: &PodSpec, old: &PodSpec) -> FieldErrors {
    let containers = new.ephemeral_containers.as_deref().unwrap_or_default();
    let regular: BTreeSet<&str> = all(new).map(|c| c.name.as_str()).collect();
    let mut taken = regular.clone();
    let mut errors = Vec::new();
    for (index, container) in containers.iter().enumerate() {
        let at = format!("{EPHEMERAL}[{index}]");
        errors.extend(added(&at, container, &regular));
        if !container.name.is_empty() && !taken.insert(&container.name) {
            errors.push(FieldError::duplicate(format!("{at}.name"), container.name.as_str()));
        }
    }
    for before in old.ephemeral_containers.iter().flatten() {
        let name = &before.name;
        match containers.iter().find(|c| c.name == *name) {
            None => {
                let detail = format!("existing ephemeral containers {name:?} may not be removed\n");
                errors.push(FieldError::forbidden(EPHEMERAL, detail));
            }
            Some(now) if now != before => {
                let detail = format!("existing ephemeral containers {name:?} may not be changed\n");
                errors.push(FieldError::forbidden(EPHEMERAL, detail));
            }
            Some(_) => {}
        }
    }
    errors
}

fn added(field: &str, container: &EphemeralContainer, regular: &BTreeSet<&str>) -> FieldErrors {
    let mut errors = Vec::new();
    match container.name.as_str() {
        "" => errors.push(FieldError::required(format!("{field}.name"), "")),
        name => errors.extend(FieldError::each(&format!("{field}.name"), name, names::dns_label(name))),
    }
    if container.image.as_deref().unwrap_or_default().is_empty() {
        errors.push(FieldError::required(format!("{field}.image"), ""));
    }
    let target = container.target_container_name.as_deref().unwrap_or_default();
    if !target.is_empty() && !regular.contains(target) {
        errors.push(FieldError::not_found(format!("{field}.targetContainerName"), target));
    }
    let given = serde_json::to_value(container).unwrap_or_default();
    let said = |child: &&str| -> bool {
        given
            .get(*child)
            .is_some_and(|value| *value != Value::Null && *value != Value::Object(Default::default()))
    };
    errors.extend(
        FOREIGN
            .into_iter()
            .filter(said)
            .map(|child| FieldError::forbidden(format!("{field}.{child}"), "cannot be set for an Ephemeral Container")),
    );
    errors
}

fn all(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.containers.iter().chain(spec.init_containers.iter().flatten())
}

fn resize(new: &PodSpec, old: &PodSpec) -> FieldErrors {
    let mut errors = pod_template::validate_spec("spec", new);
    if qos::class(new) != qos::class(old) {
        let detail = "Pod QOS Class may not change as a result of resizing";
        errors.push(FieldError::invalid("spec", qos::class(new), detail));
    }
    let fixed = |container: &Container| {
        let mut resources = container.resources.clone().unwrap_or_default();
        let keep = |amounts: &mut Option<std::collections::BTreeMap<String, _>>| {
            amounts
                .get_or_insert_default()
                .retain(|name, _| !RESIZABLE.contains(&name.as_str()));
        };
        let ResourceRequirements { limits, requests, .. } = &mut resources;
        keep(limits);
        keep(requests);
        resources
    };
    if all(new).map(fixed).ne(all(old).map(fixed)) {
        errors.push(FieldError::forbidden(
            "spec",
            "only cpu and memory resources are mutable",
        ));
    }
    errors
}
