//! The fields that an applied configuration names, and what keeps it from being one.

use std::fmt::Write as _;

use serde_json::Value;

use super::shape::{MISSING_KEY, Parts, Shape};
use super::{Element, FieldSet, Node};
use crate::resource::decode::go_value;
use crate::resource::schema::Type;

/// The fields that `object` says something about.
pub(super) fn field_set(shape: Shape<'_>, object: &Value) -> FieldSet {
    extract(shape, object).children
}

/// The node of the value at one place; whether the place itself is a member depends on what it is part of.
fn extract(shape: Shape<'_>, value: &Value) -> Node {
    let mut node = Node::default();
    match (shape.parts(value), value) {
        (Parts::Whole, _) => node.member = true,
        (Parts::Struct(definition), Value::Object(fields)) => {
            for (name, value) in fields {
                let place = shape.field(definition, name);
                let mut below = extract(place.unwrap_or_else(|| shape.field_or_untyped(definition, name)), value);
                below.member |= place.is_none() || is_bare(value);
                node.children.attach(|| Element::field(name), below);
            }
        }
        (Parts::Map(place), Value::Object(fields)) => {
            for (name, value) in fields {
                let mut below = extract(place, value);
                below.member = true;
                node.children.attach(|| Element::field(name), below);
            }
        }
        (Parts::List(item, keys), Value::Array(items)) => {
            let indexed = item.index(keys, items);
            for (element, items) in indexed.items {
                // Of duplicates, nothing but their common element can be owned.
                let mut below = match items.as_slice() {
                    [only] => extract(item, only),
                    _ => Node::default(),
                };
                below.member = true;
                node.children.attach(|| element, below);
            }
        }
        _ => {}
    }
    node
}

fn is_bare(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// Everything that keeps `object` from being laid over the schema, in the words of structured-merge-diff; empty
/// when nothing does.
pub(super) fn problems(shape: Shape<'_>, object: &Value) -> String {
    let mut found = Vec::new();
    check(shape, object, &mut Vec::new(), &mut found);
    match found.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        several => several.iter().fold("errors:".to_owned(), |mut text, problem| {
            // Writing to a String cannot fail.
            let _infallible = write!(text, "\n  {problem}");
            text
        }),
    }
}

fn check(shape: Shape<'_>, value: &Value, path: &mut Vec<String>, found: &mut Vec<String>) {
    let mut report = |path: &[String], text: String| {
        let place = path.concat();
        found.push(if place.is_empty() {
            text
        } else {
            format!("{place}: {text}")
        });
    };
    match (shape.ty(), value) {
        (_, Value::Null) | (Type::Any, _) => {}
        (Type::Struct(id), Value::Object(fields)) => {
            let definition = shape.schema().get(*id);
            for (name, value) in fields {
                path.push(format!(".{name}"));
                match shape.field(definition, name) {
                    Some(place) => check(place, value, path, found),
                    None => {
                        found.push(format!("{}: field not declared in schema", path.concat()));
                        path.pop();
                        // As structured-merge-diff: what comes after an unknown field is not looked at.
                        return;
                    }
                }
                path.pop();
            }
        }
        (Type::Map(_), Value::Object(fields)) => {
            let place = shape.values();
            for (name, value) in fields {
                path.push(format!(".{name}"));
                check(place, value, path, found);
                path.pop();
            }
        }
        (Type::Struct(_) | Type::Map(_), other) => report(path, format!("expected map, got &{{{}}}", go_value(other))),
        (Type::List(_), Value::Array(items)) => check_items(shape, items, path, found),
        (Type::List(_), other) => report(path, format!("expected list, got &{{{}}}", go_value(other))),
        (ty, value) => {
            if let Some(text) = mismatch(ty, value) {
                report(path, text);
            }
        }
    }
}

fn check_items(shape: Shape<'_>, items: &[Value], path: &mut Vec<String>, found: &mut Vec<String>) {
    let keyed = match shape.parts(&Value::Null) {
        Parts::List(_, keys) => Some(keys),
        _ => None,
    };
    let place = shape.values();
    let mut seen = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let step = match keyed.map(|keys| (keys, place.element(keys, item))) {
            None => format!("[{index}]"),
            Some((keys, Err(problem))) => {
                let problem = match place.missing_key(keys, item) {
                    Some(key) if problem == MISSING_KEY => {
                        format!("{problem} {key:?} (and doesn't have default value)")
                    }
                    _ => problem.to_owned(),
                };
                found.push(format!("{}: element {index}: {problem}", path.concat()));
                return;
            }
            Some((_, Ok(element))) => {
                if seen.contains(&element) {
                    found.push(format!("{}: duplicate entries for key {element}", path.concat()));
                }
                let step = element.to_string();
                seen.push(element);
                step
            }
        };
        path.push(step);
        check(place, item, path, found);
        path.pop();
    }
}

/// What is wrong with a scalar.
fn mismatch(ty: &Type, value: &Value) -> Option<String> {
    let go_type = match value {
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Array(_) => "[]interface {}",
        _ => "map[string]interface {}",
    };
    match (ty, value) {
        (Type::Int32 | Type::Int64 | Type::Float64, Value::Number(_))
        | (Type::String | Type::Bytes | Type::Time | Type::MicroTime, Value::String(_))
        | (Type::Bool, Value::Bool(_))
        | (Type::IntOrString | Type::Quantity, Value::Number(_) | Value::String(_) | Value::Bool(_)) => None,
        (Type::Int32 | Type::Int64 | Type::Float64, _) => {
            Some(format!("expected numeric (int or float), got {go_type}"))
        }
        (Type::Bool, other) => Some(format!("expected boolean, got &{{{}}}", go_value(other))),
        (Type::IntOrString | Type::Quantity, other) => {
            Some(format!("expected any scalar, got &{{{}}}", go_value(other)))
        }
        (_, other) => Some(format!(
            "expected string, got &value.valueUnstructured{{Value:{}}}",
            go_literal(other)
        )),
    }
}

/// A value as Go's `%#v` prints it.
fn go_literal(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(go_literal).collect();
            format!("[]interface {{}}{{{}}}", items.join(", "))
        }
        Value::Object(fields) => {
            let pairs = fields
                .iter()
                .map(|(name, value)| format!("{name:?}:{}", go_literal(value)));
            format!("map[string]interface {{}}{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
        Value::Null => "interface {}(nil)".to_owned(),
        scalar => scalar.to_string(),
    }
}
