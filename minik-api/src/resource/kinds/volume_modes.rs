//! What PersistentVolumes and their claims have in common: access modes, volume modes, classes, protection.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::validation::names;

/// Access modes and their short forms, in the order in which they are shown.
const ACCESS: [(&str, &str); 4] = [
    ("ReadWriteOnce", "RWO"),
    ("ReadOnlyMany", "ROX"),
    ("ReadWriteMany", "RWX"),
    ("ReadWriteOncePod", "RWOP"),
];
const ACCESS_SORTED: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const MODES: [&str; 2] = ["Block", "Filesystem"];
const ALONE: &str = "ReadWriteOncePod";

/// Checks access modes.
pub(super) fn access(field: &str, modes: &[String]) -> FieldErrors {
    let unknown = modes.iter().filter(|mode| !ACCESS_SORTED.contains(&mode.as_str()));
    let mut errors: FieldErrors = unknown
        .map(|mode| FieldError::not_supported(field, mode.as_str(), &ACCESS_SORTED))
        .collect();
    let shared = |mode: &String| mode != ALONE && ACCESS_SORTED.contains(&mode.as_str());
    if modes.iter().any(|mode| mode == ALONE) && modes.iter().any(shared) {
        let detail = "may not use ReadWriteOncePod with other access modes";
        errors.push(FieldError::forbidden(field, detail));
    }
    errors
}

/// Access modes as `RWO,RWX`.
pub(super) fn abbreviated(modes: &[String]) -> String {
    let given = |(long, _): &(&str, &str)| modes.iter().any(|mode| mode == long);
    let short: Vec<&str> = ACCESS.into_iter().filter(given).map(|(_, short)| short).collect();
    short.join(",")
}

/// Checks a volume mode.
pub(super) fn mode(field: &str, mode: Option<&str>) -> Option<FieldError> {
    let mode = mode.filter(|mode| !MODES.contains(mode))?;
    Some(FieldError::not_supported(field, mode, &MODES))
}

/// Checks the name of a class; an empty one means none.
pub(super) fn class(field: &str, class: Option<&str>) -> FieldErrors {
    match class.unwrap_or_default() {
        "" => Vec::new(),
        class => FieldError::each(field, class, names::dns_subdomain(class)),
    }
}

/// The text, or `<unset>`.
pub(super) fn or_unset(text: Option<String>) -> Value {
    Value::from(text.unwrap_or_else(|| "<unset>".to_owned()))
}

/// Adds a finalizer that keeps an object while it is in use.
pub(super) fn protect(metadata: &mut ObjectMeta, finalizer: &str) {
    let finalizers = metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|f| f == finalizer) {
        finalizers.push(finalizer.to_owned());
    }
}
