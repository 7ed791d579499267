//! Validation of what variables (and files) are taken from: a field of the Pod, a resource of a container, a key of a
//! ConfigMap, a Secret or a file.

use k8s_openapi::api::core::v1::{EnvVarSource, ObjectFieldSelector, ResourceFieldSelector};

use super::env_files;
use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::validation::names;
use crate::resource::validation::quantity::Quantity;

/// Fields that a variable can hold.
const FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields that have a name, and that no variable can hold.
const OTHER_FIELDS: [&str; 5] = [
    "metadata.annotations",
    "metadata.labels",
    "spec.restartPolicy",
    "spec.schedulerName",
    "status.phase",
];
/// Fields that a file can hold.
const FILE_FIELDS: [&str; 5] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];
/// Resources that a variable can hold, over huge pages.
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const HUGE_PAGES: [&str; 2] = ["limits.hugepages-", "requests.hugepages-"];
const DIVISORS: [&str; 13] = [
    "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
];

/// Checks what a variable is taken from.
pub(super) fn of_variable(field: &str, from: &EnvVarSource) -> FieldErrors {
    let mut errors = Vec::new();
    if let Some(reference) = &from.field_ref {
        errors.extend(pod_field(&format!("{field}.fieldRef"), reference, &FIELDS));
    }
    if let Some(reference) = &from.resource_field_ref {
        errors.extend(resource(&format!("{field}.resourceFieldRef"), reference));
    }
    if let Some(reference) = &from.file_key_ref {
        errors.extend(env_files::reference(&format!("{field}.fileKeyRef"), reference));
    }
    let keys = [
        (
            "configMapKeyRef",
            from.config_map_key_ref.as_ref().map(|r| (&r.name, &r.key)),
        ),
        ("secretKeyRef", from.secret_key_ref.as_ref().map(|r| (&r.name, &r.key))),
    ];
    for (child, reference) in keys {
        if let Some((name, key)) = reference {
            errors.extend(object_key(&format!("{field}.{child}"), name, key));
        }
    }
    errors
}

/// Checks the field that a file holds.
pub(super) fn of_file(field: &str, reference: &ObjectFieldSelector) -> FieldErrors {
    pod_field(field, reference, &FILE_FIELDS)
}

/// Checks the resource that a file holds, which has to say of which container.
pub(super) fn of_container(field: &str, reference: &ResourceFieldSelector) -> FieldErrors {
    if reference.container_name.as_deref().unwrap_or_default().is_empty() {
        let mut errors = vec![FieldError::required(format!("{field}.containerName"), "")];
        errors.extend(divisor(field, reference));
        return errors;
    }
    resource(field, reference)
}

fn pod_field(field: &str, reference: &ObjectFieldSelector, supported: &[&str]) -> FieldErrors {
    let at = format!("{field}.fieldPath");
    let path = reference.field_path.as_str();
    if path.is_empty() {
        return vec![FieldError::required(at, "")];
    }
    let subscripted = path.strip_suffix("']").and_then(|path| path.split_once("['"));
    let problem = match subscripted {
        Some(("metadata.labels", key)) => return FieldError::each(field, key, names::qualified_name(key)),
        Some(("metadata.annotations", key)) => {
            let key = key.to_lowercase();
            return FieldError::each(field, key.as_str(), names::qualified_name(&key));
        }
        Some(_) => "field label does not support subscript",
        None if supported.contains(&path) => return Vec::new(),
        None if FIELDS.contains(&path) || OTHER_FIELDS.contains(&path) => {
            return vec![FieldError::not_supported(at, path, supported)];
        }
        None => "field label not supported",
    };
    let detail = format!("error converting fieldPath: {problem}: {path}");
    vec![FieldError::invalid(at, path, detail)]
}

fn resource(field: &str, reference: &ResourceFieldSelector) -> FieldErrors {
    let name = reference.resource.as_str();
    let huge = HUGE_PAGES.iter().any(|prefix| name.starts_with(prefix));
    let at = format!("{field}.resource");
    let mut errors = Vec::new();
    if name.is_empty() {
        errors.push(FieldError::required(at, ""));
    } else if !RESOURCES.contains(&name) && !huge {
        errors.push(FieldError::not_supported(at, name, &RESOURCES));
    }
    errors.extend(divisor(field, reference));
    errors
}

fn divisor(field: &str, reference: &ResourceFieldSelector) -> Option<FieldError> {
    let given = Quantity::parse(&reference.divisor.as_ref()?.0).ok()?;
    if given.nanos() == 0 {
        return None;
    }
    let name = reference.resource.as_str();
    let (supported, detail): (&[&str], _) = match name.split_once('.')?.1 {
        "cpu" => (
            &["1m", "1"],
            "only divisor's values 1m and 1 are supported with the cpu resource".to_owned(),
        ),
        of => {
            let of = match of {
                "memory" => "memory",
                "ephemeral-storage" => "local ephemeral storage",
                of if of.starts_with("hugepages-") => "hugepages",
                _ => return None,
            };
            let listed = DIVISORS.join(", ");
            let detail = format!("only divisor's values {listed} are supported with the {of} resource");
            (&DIVISORS, detail)
        }
    };
    let known = supported.contains(&given.to_string().as_str());
    (!known).then(|| FieldError::invalid(format!("{field}.divisor"), name, detail))
}

fn object_key(field: &str, name: &str, key: &str) -> FieldErrors {
    let mut errors = FieldError::each(&format!("{field}.name"), name, names::dns_subdomain(name));
    let at = format!("{field}.key");
    match key {
        "" => errors.push(FieldError::required(at, "")),
        key => errors.extend(FieldError::each(&at, key, names::config_key(key))),
    }
    errors
}
