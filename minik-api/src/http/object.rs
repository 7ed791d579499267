//! Object metadata inside JSON objects: what the verbs read and set themselves, whatever the kind. Pure.

use jiff::Timestamp;
use serde_json::{Map, Value};

/// The text at a JSON pointer; empty when there is none.
#[must_use]
pub fn text<'o>(object: &'o Value, pointer: &str) -> &'o str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// `metadata`, made if it is not there. An object that is no JSON object becomes one.
pub fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    let fields = map(object);
    map(fields.entry("metadata").or_insert(Value::Null))
}

/// `value` as a map, made one if it is none.
pub fn map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("was just made an object"),
    }
}

/// `metadata.finalizers`.
#[must_use]
pub fn finalizers(object: &Value) -> Vec<String> {
    strings(object, "/metadata/finalizers")
}

/// The strings of the array at a JSON pointer.
#[must_use]
pub fn strings(object: &Value, pointer: &str) -> Vec<String> {
    let items = object.pointer(pointer).and_then(Value::as_array);
    items
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// Sets `metadata.finalizers`, or removes the field with the last of them.
pub fn set_finalizers(object: &mut Value, finalizers: &[String]) {
    if finalizers.is_empty() {
        metadata(object).remove("finalizers");
    } else {
        metadata(object).insert("finalizers".to_owned(), finalizers.into());
    }
}

/// Whether deletion has begun.
#[must_use]
pub fn is_deleting(object: &Value) -> bool {
    !text(object, "/metadata/deletionTimestamp").is_empty()
}

/// The grace that a begun deletion leaves, in seconds.
#[must_use]
pub fn deletion_grace(object: &Value) -> Option<i64> {
    object
        .pointer("/metadata/deletionGracePeriodSeconds")
        .and_then(Value::as_i64)
}

/// Whether nothing holds a deletion up any more: no grace, no finalizer of the object and, for a
/// Namespace, none of its contents.
#[must_use]
pub fn may_go(object: &Value) -> bool {
    let contents = text(object, "/kind") == "Namespace" && !strings(object, "/spec/finalizers").is_empty();
    finalizers(object).is_empty() && !contents
}

/// Metadata of a new object, after what the client sent: identity and birth are the server's.
pub fn begin(object: &mut Value, namespace: &str, now: Timestamp) {
    let uid = uuid::Uuid::new_v4().to_string();
    let metadata = metadata(object);
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
        metadata.remove(field);
    }
    if namespace.is_empty() {
        metadata.remove("namespace");
    } else {
        metadata.insert("namespace".to_owned(), namespace.into());
    }
    metadata.insert("uid".to_owned(), uid.into());
    metadata.insert("creationTimestamp".to_owned(), now.to_string().into());
}

/// Metadata that an update cannot change, from the stored object.
pub fn carry_over(new: &mut Value, old: &Value) {
    let kept: &[&str] = &[
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
    ];
    metadata(new).remove("selfLink");
    for field in kept {
        keep(new, old, field);
    }
}

/// Gives `new` the field of the metadata that `old` has, or takes it away.
pub fn keep(new: &mut Value, old: &Value, field: &str) {
    let metadata = metadata(new);
    match old.get("metadata").and_then(|metadata| metadata.get(field)) {
        Some(value) => metadata.insert(field.to_owned(), value.clone()),
        None => metadata.remove(field),
    };
}

/// Takes `metadata.managedFields` out; null when there are none.
pub fn take_managed_fields(object: &mut Value) -> Value {
    let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
    metadata
        .and_then(|metadata| metadata.remove("managedFields"))
        .unwrap_or_default()
}

/// Puts `metadata.managedFields` back, unless they are null.
pub fn set_managed_fields(object: &mut Value, managed_fields: Value) {
    if !managed_fields.is_null() {
        metadata(object).insert("managedFields".to_owned(), managed_fields);
    }
}

/// Raises `metadata.generation` where the kind has one.
pub fn bump_generation(object: &mut Value) {
    let generation = object
        .pointer("/metadata/generation")
        .and_then(Value::as_i64)
        .unwrap_or_default();
    if generation > 0 {
        metadata(object).insert("generation".to_owned(), (generation + 1).into());
    }
}
