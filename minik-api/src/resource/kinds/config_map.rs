//! ConfigMap.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::Value;

use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::validation::meta::{self, Scope};
use crate::resource::validation::names;
use crate::resource::{Column, KindInfo, Strategy, print};

pub(super) const INFO: KindInfo = KindInfo {
    kind: "ConfigMap",
    plural: "configmaps",
    singular: "configmap",
    short_names: &["cm"],
    schema: "io.k8s.api.core.v1.ConfigMap",
    ..super::CORE
};

/// Largest sum of the sizes of all values, in bytes.
const MOST_DATA: usize = 1024 * 1024;

const COLUMNS: &[Column] = &[
    print::NAME,
    print::text(
        "Data",
        0,
        "Data contains the configuration data. Each key must consist of alphanumeric characters, '-', '_' or '.'. Values with non-UTF-8 byte sequences must use the BinaryData field. The keys stored in Data must not overlap with the keys in the BinaryData field, this is enforced during validation process.",
    ),
    print::AGE,
];

/// How ConfigMaps behave.
pub(super) struct ConfigMaps;

impl Strategy for ConfigMaps {
    type Object = ConfigMap;

    fn default(&self, _object: &mut ConfigMap) {}

    fn validate(&self, object: &ConfigMap) -> FieldErrors {
        let mut errors = meta::validate(&object.metadata, Scope::Namespaced, names::dns_subdomain);
        errors.extend(contents(object));
        errors
    }

    fn validate_update(&self, new: &ConfigMap, old: &ConfigMap) -> FieldErrors {
        let mut errors = meta::contents(&new.metadata);
        if old.immutable == Some(true) {
            let detail = "field is immutable when `immutable` is set";
            if new.immutable != Some(true) {
                errors.push(FieldError::forbidden("immutable", detail));
            }
            if new.data != old.data {
                errors.push(FieldError::forbidden("data", detail));
            }
            if new.binary_data != old.binary_data {
                errors.push(FieldError::forbidden("binaryData", detail));
            }
        }
        errors.extend(contents(new));
        errors
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &ConfigMap, now: Timestamp) -> Vec<Value> {
        let keys = object.data.as_ref().map_or(0, |d| d.len()) + object.binary_data.as_ref().map_or(0, |d| d.len());
        vec![
            print::name(&object.metadata),
            Value::from(keys),
            print::age(&object.metadata, now),
        ]
    }
}

fn contents(object: &ConfigMap) -> FieldErrors {
    let mut errors = Vec::new();
    let mut total = 0;
    let binary: BTreeSet<&String> = object.binary_data.iter().flatten().map(|(key, _)| key).collect();
    for (key, value) in object.data.iter().flatten() {
        let field = format!("data[{key}]");
        errors.extend(FieldError::each(&field, key.as_str(), names::config_key(key)));
        if binary.contains(key) {
            errors.push(FieldError::invalid(
                field,
                key.as_str(),
                "duplicate of key present in binaryData",
            ));
        }
        total += value.len();
    }
    for (key, value) in object.binary_data.iter().flatten() {
        errors.extend(FieldError::each(
            &format!("binaryData[{key}]"),
            key.as_str(),
            names::config_key(key),
        ));
        total += value.0.len();
    }
    if total > MOST_DATA {
        errors.push(FieldError::too_long("", MOST_DATA));
    }
    errors
}
