//! Validation of volumes: names, exactly one source each, and the sources that minik's nodes can mount.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{KeyToPath, Volume};
use serde_json::Value;

use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::validation::names;

/// Checks the volumes of a Pod spec.
pub(super) fn validate(field: &str, volumes: &[Volume]) -> FieldErrors {
    let mut errors = Vec::new();
    let mut taken = BTreeSet::new();
    for (index, volume) in volumes.iter().enumerate() {
        let at = format!("{field}[{index}]");
        errors.extend(source(&at, volume));
        match volume.name.as_str() {
            "" => errors.push(FieldError::required(format!("{at}.name"), "")),
            name => {
                errors.extend(FieldError::each(&format!("{at}.name"), name, names::dns_label(name)));
                if !taken.insert(name) {
                    errors.push(FieldError::duplicate(format!("{at}.name"), name));
                }
            }
        }
    }
    errors
}

fn source(field: &str, volume: &Volume) -> FieldErrors {
    let given = match serde_json::to_value(volume) {
        Ok(Value::Object(fields)) => fields
            .into_iter()
            .map(|(key, _)| key)
            .filter(|key| key != "name")
            .collect(),
        _ => Vec::new(),
    };
    let mut errors = Vec::new();
    if given.is_empty() {
        errors.push(FieldError::required(field, "must specify a volume type"));
    }
    for extra in given.iter().skip(1) {
        errors.push(FieldError::forbidden(
            format!("{field}.{extra}"),
            "may not specify more than 1 volume type",
        ));
    }
    if let Some(secret) = &volume.secret {
        let at = format!("{field}.secret");
        if secret.secret_name.as_deref().unwrap_or_default().is_empty() {
            errors.push(FieldError::required(format!("{at}.secretName"), ""));
        }
        errors.extend(items(&at, secret.items.as_deref().unwrap_or_default()));
    }
    if let Some(config) = &volume.config_map {
        let at = format!("{field}.configMap");
        if config.name.is_empty() {
            errors.push(FieldError::required(format!("{at}.name"), ""));
        }
        errors.extend(items(&at, config.items.as_deref().unwrap_or_default()));
    }
    if let Some(host) = &volume.host_path {
        let at = format!("{field}.hostPath.path");
        if host.path.is_empty() {
            errors.push(FieldError::required(at, ""));
        } else if host.path.split('/').any(|part| part == "..") {
            errors.push(FieldError::invalid(at, host.path.as_str(), "must not contain '..'"));
        }
    }
    errors
}

fn items(field: &str, items: &[KeyToPath]) -> FieldErrors {
    let mut errors = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let at = format!("{field}.items[{index}]");
        if item.key.is_empty() {
            errors.push(FieldError::required(format!("{at}.key"), ""));
        }
        let path_field = format!("{at}.path");
        let path = item.path.as_str();
        if path.is_empty() {
            errors.push(FieldError::required(path_field.as_str(), ""));
        }
        if path.starts_with('/') {
            errors.push(FieldError::invalid(
                path_field.as_str(),
                path,
                "must be a relative path",
            ));
        }
        if path.split('/').any(|part| part == "..") {
            errors.push(FieldError::invalid(path_field.as_str(), path, "must not contain '..'"));
        }
        if path.starts_with("..") {
            errors.push(FieldError::invalid(
                path_field.as_str(),
                path,
                "must not start with '..'",
            ));
        }
    }
    errors
}
