//! The registry's pure behaviour held against Kubernetes 1.36: what its API server answered to these
//! bodies, patches and objects. Nothing here touches HTTP or storage.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

mod decoding;
mod laws;
mod managed;
mod patching;
mod refusals;
mod tables;

use minik_api::resource::decode::{DecodeError, Decoded, FieldValidation, Format, decode};
use minik_api::resource::field::{FieldErrors, Reason};
use minik_api::resource::{Registered, Registry};
use serde_json::Value;

/// The row of a kind, by its kind name.
fn kind(registry: &Registry, name: &str) -> usize {
    registry
        .iter()
        .position(|k| k.info.kind == name)
        .unwrap_or_else(|| panic!("{name} is not served"))
}

fn row<'a>(registry: &'a Registry, name: &str) -> &'a Registered {
    registry.iter().nth(kind(registry, name)).unwrap()
}

/// A body decoded as strictly as kubectl asks for.
fn decode_strictly(kind: &Registered, body: &Value) -> Result<Decoded, DecodeError> {
    decode(
        body.to_string().as_bytes(),
        Format::Json,
        &kind.info,
        FieldValidation::Strict,
    )
}

/// A body as a new object: decoded, in namespace `demo`, with defaults, prepared.
fn prepared(kind: &Registered, body: &Value) -> Value {
    let mut object = decode_strictly(kind, body).unwrap().object;
    if kind.info.namespaced {
        object["metadata"]["namespace"] = "demo".into();
    }
    kind.strategy.default(&mut object).unwrap();
    kind.strategy.prepare_for_create(&mut object).unwrap();
    object
}

/// Field errors as the causes of a Status: field and message.
fn causes(errors: &FieldErrors) -> Vec<(String, String)> {
    errors
        .iter()
        .map(|error| (error.field.clone(), message(&error.reason, &error.detail)))
        .collect()
}

fn message(reason: &Reason, detail: &str) -> String {
    let head = match reason {
        Reason::Required => "Required value".to_owned(),
        Reason::Invalid(value) => format!("Invalid value: {value}"),
        Reason::Duplicate(value) => format!("Duplicate value: {value}"),
        Reason::DuplicateStruct(text) => format!("Duplicate value: {text}"),
        Reason::NotFound(value) => format!("Not found: {value}"),
        Reason::NotSupported(value) => format!("Unsupported value: {value}"),
        Reason::Forbidden => "Forbidden".to_owned(),
        Reason::TooLong => "Too long".to_owned(),
        Reason::TooMany => "Too many".to_owned(),
    };
    if detail.is_empty() {
        head
    } else {
        format!("{head}: {detail}")
    }
}
