//! The registry's pure behaviour held against Kubernetes 1.36: what its API server answered to these
//! bodies, patches and objects. Nothing here touches HTTP or storage.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

mod decoding;
#[path = "../support/examples.rs"]
#[expect(dead_code, reason = "views are for random objects, of which there are none here")]
mod examples;
mod found;
mod laws;
mod managed;
mod networking;
mod patching;
mod pods;
mod policies;
mod refusals;
mod selectors;
mod tables;
mod volumes;
mod workloads;

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
        Reason::Malformed => "Invalid value".to_owned(),
        Reason::Duplicate(value) => format!("Duplicate value: {value}"),
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

/// What is wrong with a body as a new object, one `field: message` each.
fn refusals(kind: &str, body: &Value) -> Vec<String> {
    let registry = Registry::standard();
    let kind = row(&registry, kind);
    lines(&kind.strategy.validate(&prepared(kind, body)).unwrap())
}

/// What is wrong with replacing a valid body by another, and what the object is then.
fn replaced(kind: &str, old: &Value, new: &Value) -> (Value, Vec<String>) {
    let registry = Registry::standard();
    let kind = row(&registry, kind);
    let old = prepared(kind, old);
    assert_eq!(lines(&kind.strategy.validate(&old).unwrap()), [""; 0]);
    let mut new = decode_strictly(kind, new).unwrap().object;
    new["metadata"]["namespace"] = old["metadata"]["namespace"].clone();
    kind.strategy.default(&mut new).unwrap();
    kind.strategy.prepare_for_update(&mut new, &old).unwrap();
    let errors = lines(&kind.strategy.validate_update(&new, &old).unwrap());
    (new, errors)
}

fn lines(errors: &FieldErrors) -> Vec<String> {
    causes(errors)
        .into_iter()
        .map(|(field, message)| format!("{field}: {message}"))
        .collect()
}

/// The cells of a new object 24 seconds after its creation.
fn cells(kind: &str, body: &Value) -> Vec<Value> {
    let registry = Registry::standard();
    let kind = row(&registry, kind);
    let mut object = prepared(kind, body);
    object["metadata"]["creationTimestamp"] = "2026-11-21T02:55:53Z".into();
    kind.strategy
        .row(&object, "2026-11-21T02:56:17Z".parse().unwrap())
        .unwrap()
}
