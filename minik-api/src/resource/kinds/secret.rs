//! Secret.

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;

use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::validation::meta::{self, Scope};
use crate::resource::validation::names;
use crate::resource::{Column, KindInfo, Strategy, print};

pub(super) const INFO: KindInfo = KindInfo {
    kind: "Secret",
    plural: "secrets",
    singular: "secret",
    schema: "io.k8s.api.core.v1.Secret",
    ..super::CORE
};

/// Largest sum of the sizes of all values, in bytes.
const MOST_DATA: usize = 1024 * 1024;

/// Keys that a Secret of a type must have.
const REQUIRED_KEYS: &[(&str, &[&str])] = &[
    ("kubernetes.io/tls", &["tls.crt", "tls.key"]),
    ("kubernetes.io/dockerconfigjson", &[".dockerconfigjson"]),
];

const COLUMNS: &[Column] = &[
    print::NAME,
    print::text(
        "Type",
        0,
        "Used to facilitate programmatic handling of secret data. More info: https://kubernetes.io/docs/concepts/configuration/secret/#secret-types",
    ),
    print::text(
        "Data",
        0,
        "Data contains the secret data. Each key must consist of alphanumeric characters, '-', '_' or '.'. The serialized form of the secret data is a base64 encoded string, representing the arbitrary (possibly non-string) data value here. Described in https://tools.ietf.org/html/rfc4648#section-4",
    ),
    print::AGE,
];

/// How Secrets behave.
pub(super) struct Secrets;

impl Strategy for Secrets {
    type Object = Secret;

    fn default(&self, object: &mut Secret) {
        object.type_.get_or_insert_with(|| "Opaque".to_owned());
        for (key, text) in object.string_data.take().into_iter().flatten() {
            object
                .data
                .get_or_insert_default()
                .insert(key, ByteString(text.into_bytes()));
        }
    }

    fn validate(&self, object: &Secret) -> FieldErrors {
        let mut errors = meta::validate(&object.metadata, Scope::Namespaced, names::dns_subdomain);
        errors.extend(contents(object));
        errors
    }

    fn validate_update(&self, new: &Secret, old: &Secret) -> FieldErrors {
        let mut errors = meta::contents(&new.metadata);
        if new.type_ != old.type_ {
            errors.push(FieldError::immutable("type", new.type_.clone()));
        }
        if old.immutable == Some(true) {
            let detail = "field is immutable when `immutable` is set";
            if new.immutable != Some(true) {
                errors.push(FieldError::forbidden("immutable", detail));
            }
            if new.data != old.data {
                errors.push(FieldError::forbidden("data", detail));
            }
        }
        errors.extend(contents(new));
        errors
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &Secret, now: Timestamp) -> Vec<Value> {
        vec![
            print::name(&object.metadata),
            Value::from(object.type_.clone()),
            Value::from(object.data.as_ref().map_or(0, |data| data.len())),
            print::age(&object.metadata, now),
        ]
    }

    fn selectable_field(&self, object: &Secret, label: &str) -> Option<String> {
        (label == "type").then(|| object.type_.clone().unwrap_or_default())
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["type"]
    }
}

fn contents(object: &Secret) -> FieldErrors {
    let mut errors = Vec::new();
    let mut total = 0;
    for (key, value) in object.data.iter().flatten() {
        errors.extend(FieldError::each(
            &format!("data[{key}]"),
            key.as_str(),
            names::config_key(key),
        ));
        total += value.0.len();
    }
    if total > MOST_DATA {
        errors.push(FieldError::too_long("data", MOST_DATA));
    }
    let kind = object.type_.as_deref().unwrap_or_default();
    for key in REQUIRED_KEYS
        .iter()
        .find(|(k, _)| *k == kind)
        .map_or(&[][..], |(_, keys)| keys)
    {
        if !object.data.as_ref().is_some_and(|data| data.contains_key(*key)) {
            errors.push(FieldError::required(format!("data[{key}]"), ""));
        }
    }
    errors
}
