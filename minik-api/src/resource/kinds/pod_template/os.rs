//! The operating system that a Pod says it is for (KEP-2802), and what it may not ask of that one.

use k8s_openapi::api::core::v1::PodSpec;
use serde_json::Value;

use crate::resource::field::{FieldError, FieldErrors};

const SYSTEMS: [&str; 2] = ["linux", "windows"];
/// What Windows has nothing of: fields of the Pod, of its security context, of its containers' security contexts.
const OF_POD: [&str; 4] = ["hostUsers", "hostPID", "hostIPC", "shareProcessNamespace"];
const OF_CONTEXT: [&str; 10] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
];
const OF_CONTAINER: [&str; 10] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];

/// Checks what a Pod spec says for its system.
pub(super) fn validate(field: &str, spec: &PodSpec) -> FieldErrors {
    let Some(os) = &spec.os else { return Vec::new() };
    match os.name.as_str() {
        "" => vec![FieldError::required(format!("{field}.os.name"), "cannot be empty")],
        "linux" => forbidden(
            field,
            spec,
            [&[], &["windowsOptions"], &["windowsOptions"]],
            "windows options cannot be set for a linux pod",
        ),
        "windows" => forbidden(
            field,
            spec,
            [&OF_POD, &OF_CONTEXT, &OF_CONTAINER],
            "cannot be set for a windows pod",
        ),
        other => vec![FieldError::not_supported(format!("{field}.os"), other, &SYSTEMS)],
    }
}

/// Refuses what is given of these fields: of the Pod, its security context, and its containers'.
fn forbidden(field: &str, spec: &PodSpec, fields: [&[&str]; 3], detail: &str) -> FieldErrors {
    let spec = serde_json::to_value(spec).unwrap_or_default();
    let given = |at: String, object: &Value, fields: &[&str]| -> FieldErrors {
        let given = fields.iter().filter(|child| is_given(&object[**child]));
        given
            .map(|child| FieldError::forbidden(format!("{at}.{child}"), detail))
            .collect()
    };
    let mut errors = given(format!("{field}.securityContext"), &spec["securityContext"], fields[1]);
    errors.extend(given(field.to_owned(), &spec, fields[0]));
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for (index, container) in spec[list].as_array().into_iter().flatten().enumerate() {
            let at = format!("{field}.{list}[{index}].securityContext");
            errors.extend(given(at, &container["securityContext"], fields[2]));
        }
    }
    errors
}

/// Whether Go's zero value is not all there is. Of booleans behind a pointer, `false` is something; those that are not
/// behind one vanish when they are decoded.
fn is_given(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        _ => true,
    }
}
