//! `metadata` of every object.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::Value;

use super::{labels, names};
use crate::resource::field::{FieldError, FieldErrors};

/// Largest sum of the sizes of all annotations, in bytes.
const ANNOTATIONS_SIZE: usize = 256 * 1024;

/// Finalizers that Kubernetes itself knows and that need no domain.
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

/// Where objects of a kind live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// In a namespace.
    Namespaced,
    /// In the cluster.
    Cluster,
}

/// Checks the metadata of an object whose name `check_name` judges.
#[must_use]
pub fn validate(metadata: &ObjectMeta, scope: Scope, check_name: fn(&str) -> Vec<String>) -> FieldErrors {
    let mut errors = Vec::new();
    if let Some(base) = metadata.generate_name.as_deref().filter(|n| !n.is_empty()) {
        errors.extend(FieldError::each(
            "metadata.generateName",
            base,
            check_name(&without_trailing_dash(base)),
        ));
    }
    match metadata.name.as_deref().unwrap_or_default() {
        "" => errors.push(FieldError::required(
            "metadata.name",
            "name or generateName is required",
        )),
        name => errors.extend(FieldError::each("metadata.name", name, check_name(name))),
    }
    match (scope, metadata.namespace.as_deref().unwrap_or_default()) {
        (Scope::Namespaced, "") => errors.push(FieldError::required("metadata.namespace", "")),
        (Scope::Namespaced, namespace) => {
            errors.extend(FieldError::each(
                "metadata.namespace",
                namespace,
                names::dns_label(namespace),
            ));
        }
        (Scope::Cluster, "") => {}
        (Scope::Cluster, _) => errors.push(FieldError::forbidden("metadata.namespace", "not allowed on this type")),
    }
    errors.extend(contents(metadata));
    errors
}

/// Checks what an update may bring into the metadata of an object that is stored already.
#[must_use]
pub fn contents(metadata: &ObjectMeta) -> FieldErrors {
    let mut errors = Vec::new();
    if let Some(map) = &metadata.labels {
        errors.extend(labels::map("metadata.labels", map));
    }
    if let Some(map) = &metadata.annotations {
        errors.extend(annotations("metadata.annotations", map));
    }
    errors.extend(owners(metadata.owner_references.as_deref().unwrap_or_default()));
    for finalizer in metadata.finalizers.iter().flatten() {
        errors.extend(finalizer_name("metadata.finalizers", finalizer));
    }
    errors
}

/// Checks an annotation map; keys are label keys in any case.
#[must_use]
pub fn annotations(field: &str, annotations: &BTreeMap<String, String>) -> FieldErrors {
    let mut errors = Vec::new();
    for key in annotations.keys() {
        errors.extend(FieldError::each(
            field,
            key.as_str(),
            names::qualified_name(&key.to_lowercase()),
        ));
    }
    if annotations.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>() > ANNOTATIONS_SIZE {
        errors.push(FieldError::too_long(field, ANNOTATIONS_SIZE));
    }
    errors
}

/// Checks the name of a finalizer.
#[must_use]
pub fn finalizer_name(field: &str, name: &str) -> FieldErrors {
    let mut errors = FieldError::each(field, name, names::qualified_name(name));
    if errors.is_empty() && !name.contains('/') && !STANDARD_FINALIZERS.contains(&name) {
        let detail = "name is neither a standard finalizer name nor is it fully qualified";
        errors.push(FieldError::invalid(field, name, detail));
    }
    errors
}

fn owners(owners: &[OwnerReference]) -> FieldErrors {
    const FIELD: &str = "metadata.ownerReferences";
    let mut errors = Vec::new();
    for owner in owners {
        let version = owner.api_version.rsplit('/').next().unwrap_or_default();
        let parts = [
            ("apiVersion", version, &owner.api_version, "version must not be empty"),
            ("kind", &owner.kind, &owner.kind, "must not be empty"),
            ("name", &owner.name, &owner.name, "must not be empty"),
            ("uid", &owner.uid, &owner.uid, "must not be empty"),
        ];
        for (child, part, whole, detail) in parts {
            if part.is_empty() {
                errors.push(FieldError::invalid(format!("{FIELD}.{child}"), whole.as_str(), detail));
            }
        }
    }
    let controllers: Vec<&OwnerReference> = owners.iter().filter(|o| o.controller == Some(true)).collect();
    if let [first, second, ..] = controllers[..] {
        let value = serde_json::to_value(owners).unwrap_or(Value::Null);
        let detail = format!(
            "Only one reference can have Controller set to true. Found \"true\" in references for {} and {}",
            first.name, second.name
        );
        errors.push(FieldError::invalid(FIELD, value, detail));
    }
    errors
}

/// A generated name continues after its base, so a dash at the end of the base is fine.
fn without_trailing_dash(base: &str) -> String {
    match base.strip_suffix('-') {
        Some(head) if !head.is_empty() => format!("{head}a"),
        _ => base.to_owned(),
    }
}
