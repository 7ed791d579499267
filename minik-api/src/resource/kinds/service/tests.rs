//! Services as Kubernetes 1.36 defaults, refuses, warns about and prints them.

mod accepted;
mod refused;
mod updated;

use serde_json::{Value, json};

use super::*;
use crate::resource::field::{FieldError, Reason};

/// A Service of this spec as its client wrote it.
fn written(spec: Value) -> Service {
    named("s", spec)
}

fn named(name: &str, spec: Value) -> Service {
    let object = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "demo"},
        "spec": spec,
    });
    serde_json::from_value(object).expect("a Service")
}

/// The same, after everything that precedes validation on a create.
fn created(spec: Value) -> Service {
    prepared(written(spec))
}

fn prepared(mut service: Service) -> Service {
    Services.default(&mut service);
    Services.prepare_for_create(&mut service);
    service
}

/// A Service with its numbers, as the allocators would leave it.
fn stored(mut spec: Value) -> Service {
    if spec["type"] != "ExternalName" && spec["clusterIP"].is_null() {
        spec["clusterIP"] = json!("10.96.0.7");
    }
    let service = created(spec);
    assert_eq!(texts(&Services.validate(&service)), [""; 0]);
    service
}

/// `old` after a PUT of `spec`, just before the allocators, and what is wrong with it.
fn put(old: &Service, spec: Value) -> (Service, Vec<String>) {
    let mut new = written(spec);
    Services.default(&mut new);
    Services.prepare_for_update(&mut new, old);
    let errors = texts(&Services.validate_update(&new, old));
    (new, errors)
}

/// `old` after a merge patch of its spec.
fn patch(old: &Service, changes: Value) -> (Service, Vec<String>) {
    let mut spec = spec_of(old);
    for (field, value) in changes.as_object().expect("fields") {
        spec[field] = value.clone();
    }
    put(old, spec)
}

fn spec_of(service: &Service) -> Value {
    serde_json::to_value(service).expect("JSON")["spec"].clone()
}

/// Errors as a Status shows them, one text each.
fn texts(errors: &[FieldError]) -> Vec<String> {
    errors.iter().map(text).collect()
}

fn text(error: &FieldError) -> String {
    let problem = match &error.reason {
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
    let detail = if error.detail.is_empty() {
        String::new()
    } else {
        format!(": {}", error.detail)
    };
    format!("{}: {problem}{detail}", error.field)
}
