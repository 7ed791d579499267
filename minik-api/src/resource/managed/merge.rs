//! Laying an applied configuration over the stored object, and taking fields out of an object.

use serde_json::{Map, Value};

use super::compare::is_hollow;
use super::shape::{Indexed, Parts, Shape};
use super::{Element, FieldSet};

/// `live` with all that `config` says.
pub(super) fn merged(shape: Shape<'_>, live: &Value, config: &Value) -> Value {
    merge(shape, Some(live), Some(config)).unwrap_or_default()
}

fn merge(shape: Shape<'_>, live: Option<&Value>, config: Option<&Value>) -> Option<Value> {
    let present = config.or(live)?;
    let parts = shape.parts(present);
    if matches!(parts, Parts::Whole) || live.is_none_or(is_hollow) && config.is_none_or(is_hollow) {
        return Some(present.clone());
    }
    match parts {
        Parts::Whole => None,
        Parts::Struct(definition) => merge_fields(|name| shape.field_or_untyped(definition, name), live, config),
        Parts::Map(value) => merge_fields(|_| value, live, config),
        Parts::List(item, keys) => {
            let items = |value: Option<&'_ Value>| match value {
                Some(Value::Array(items)) => items.clone(),
                _ => Vec::new(),
            };
            let (live, config) = (items(live), items(config));
            let merged = merge_items(item, &item.index(keys, &live), &item.index(keys, &config));
            (!merged.is_empty()).then_some(Value::Array(merged))
        }
    }
}

fn merge_fields<'a>(place: impl Fn(&str) -> Shape<'a>, live: Option<&Value>, config: Option<&Value>) -> Option<Value> {
    let nothing = Map::new();
    let [live, config] = [live, config].map(|value| value.and_then(Value::as_object).unwrap_or(&nothing));
    let added = config.keys().filter(|name| !live.contains_key(*name));
    let names = live.keys().chain(added);
    let merged: Map<String, Value> = names
        .filter_map(|name| Some((name.clone(), merge(place(name), live.get(name), config.get(name))?)))
        .collect();
    (!merged.is_empty()).then_some(Value::Object(merged))
}

/// The items of both lists. Where both name the same items, the configuration's order wins; items that only
/// the stored list has stay behind those that they stood behind.
fn merge_items(item: Shape<'_>, live: &Indexed<'_>, config: &Indexed<'_>) -> Vec<Value> {
    let mut merged = Vec::with_capacity(live.order.len() + config.order.len());
    let mut shared = config.order.iter().filter(|element| live.items.contains_key(element));
    let mut next_shared = shared.next();
    let (mut from_live, mut from_config) = (live.order.iter().peekable(), config.order.iter().peekable());
    let mut take = |element: &Element| {
        let (old, new) = (live.items.get(element), config.items.get(element));
        match (old.map(Vec::as_slice), new.map(Vec::as_slice)) {
            (Some([old]), new) => merged.extend(merge(item, Some(old), new.and_then(|new| new.first().copied()))),
            // Duplicates of the stored list are replaced together, or stay together.
            (Some(old), None) => merged.extend(old.iter().map(|old| (*old).clone())),
            (_, new) => merged.extend(new.and_then(|new| new.first()).map(|new| (*new).clone())),
        }
    };
    loop {
        match (from_live.peek().copied(), from_config.peek().copied()) {
            (None, None) => return merged,
            (Some(left), Some(right)) if left == right => {
                take(left);
                from_live.next();
                from_config.next();
                next_shared = shared.next();
            }
            // A shared item, but its turn in the configuration's order is another.
            (Some(left), Some(_))
                if config.items.contains_key(left) && next_shared.is_some_and(|next| next != left) =>
            {
                from_live.next();
            }
            (Some(left), _) if !config.items.contains_key(left) => {
                take(left);
                from_live.next();
            }
            (left, Some(right)) => {
                // What is left of the stored list and shared has been taken with the configuration's.
                if left.is_some() && next_shared.is_none() {
                    from_live.next();
                }
                take(right);
                from_config.next();
                if next_shared == Some(right) {
                    next_shared = shared.next();
                }
            }
            (Some(_), None) => {
                from_live.next();
            }
        }
    }
}

/// `object` without the fields of `set`.
pub(super) fn removed(shape: Shape<'_>, object: &Value, set: &FieldSet) -> Value {
    match (shape.parts(object), object) {
        (_, Value::Object(fields)) if fields.is_empty() => Value::Null,
        (Parts::Struct(definition), Value::Object(fields)) => {
            remove_fields(|name| shape.field_or_untyped(definition, name), fields, set)
        }
        (Parts::Map(value), Value::Object(fields)) => remove_fields(|_| value, fields, set),
        (Parts::List(item, keys), Value::Array(items)) => {
            let kept = items.iter().filter_map(|value| {
                let Some(node) = item.element(keys, value).ok().and_then(|element| set.get(&element)) else {
                    return Some(value.clone());
                };
                (!node.member).then(|| removed(item, value, &node.children))
            });
            let kept: Vec<Value> = kept.collect();
            if kept.is_empty() {
                Value::Null
            } else {
                Value::Array(kept)
            }
        }
        _ => object.clone(),
    }
}

fn remove_fields<'a>(place: impl Fn(&str) -> Shape<'a>, fields: &Map<String, Value>, set: &FieldSet) -> Value {
    let kept = fields.iter().filter_map(|(name, value)| {
        let kept = match set.get(&Element::field(name)) {
            None => value.clone(),
            Some(node) if node.member => return None,
            Some(node) => removed(place(name), value, &node.children),
        };
        Some((name.clone(), kept))
    });
    let kept: Map<String, Value> = kept.collect();
    if kept.is_empty() {
        Value::Null
    } else {
        Value::Object(kept)
    }
}
