//! Strategic merge patch: objects merge field by field, lists as the schema says. The directives are
//! `$patch`, `$retainKeys`, `$setElementOrder/FIELD` and `$deleteFromPrimitiveList/FIELD`
//! (sig-api-machinery's strategic-merge-patch.md).

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::PatchError;
use crate::resource::decode::go_value;
use crate::resource::schema::{Field, ListPatch, Schema, StructId, Type};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const SET_ORDER: &str = "$setElementOrder/";

type Object = Map<String, Value>;

/// `current` after `patch`, both being objects of the struct `shape` (unknown shapes merge as plain maps).
pub(super) fn merge(
    schema: &Schema,
    shape: Option<StructId>,
    current: Object,
    patch: &Object,
) -> Result<Object, PatchError> {
    Merger { schema }.object(shape, current, patch)
}

struct Merger<'a> {
    schema: &'a Schema,
}

/// What a patch says about one list, gathered from its up to three fields.
#[derive(Default)]
struct ListChange<'a> {
    items: Option<&'a Vec<Value>>,
    delete: Option<&'a Vec<Value>>,
    order: Option<&'a Vec<Value>>,
}

impl Merger<'_> {
    fn object(&self, shape: Option<StructId>, mut current: Object, patch: &Object) -> Result<Object, PatchError> {
        match directive(patch)? {
            Some("replace") => return Ok(without_directives(patch)),
            Some("delete") => return Ok(Object::new()),
            _ => {}
        }
        if let Some(retain) = patch.get(RETAIN_KEYS) {
            let keys = list("retainKeys", retain)?;
            let mut said = patch
                .iter()
                .filter(|(key, value)| !key.starts_with('$') && !value.is_null());
            if !said.all(|(key, _)| keys.iter().any(|k| k.as_str() == Some(key))) {
                return Err(PatchError::Malformed("invalid patch format of retainKeys".to_owned()));
            }
            current.retain(|key, _| keys.iter().any(|k| k.as_str() == Some(key)));
        }
        let mut lists: BTreeMap<&str, ListChange<'_>> = BTreeMap::new();
        for (key, value) in patch {
            if key == PATCH || key == RETAIN_KEYS {
                continue;
            }
            if let Some(name) = key.strip_prefix(DELETE_FROM) {
                lists.entry(name).or_default().delete = Some(list("primitive list", value)?);
            } else if let Some(name) = key.strip_prefix(SET_ORDER) {
                lists.entry(name).or_default().order = Some(list("setElementOrder list", value)?);
            } else if let (Value::Array(items), ListPatch::Merge(_)) = (value, self.list_patch(shape, key)) {
                lists.entry(key).or_default().items = Some(items);
            } else {
                self.field(shape, &mut current, key, value)?;
            }
        }
        for (name, change) in lists {
            let had = current.get(name).is_some_and(Value::is_array);
            let before = match current.remove(name) {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            };
            let after = self.list(shape, name, before, &change)?;
            if had || change.items.is_some() {
                current.insert(name.to_owned(), Value::Array(after));
            }
        }
        Ok(current)
    }

    /// A field that is no merging list.
    fn field(&self, shape: Option<StructId>, current: &mut Object, key: &str, value: &Value) -> Result<(), PatchError> {
        match value {
            Value::Null => {
                current.remove(key);
            }
            Value::Object(patch) => {
                let inner = self.inner(shape, key);
                if directive(patch)? == Some("delete") {
                    current.remove(key);
                    return Ok(());
                }
                let before = match current.remove(key) {
                    Some(Value::Object(before)) => before,
                    _ => Object::new(),
                };
                let after = self.object(inner, before, patch)?;
                current.insert(key.to_owned(), Value::Object(after));
            }
            other => {
                current.insert(key.to_owned(), other.clone());
            }
        }
        Ok(())
    }

    fn list(
        &self,
        shape: Option<StructId>,
        name: &str,
        before: Vec<Value>,
        change: &ListChange<'_>,
    ) -> Result<Vec<Value>, PatchError> {
        let ListPatch::Merge(key) = self.list_patch(shape, name) else {
            return Err(PatchError::Malformed(
                "strategic merge patch format is not supported".to_owned(),
            ));
        };
        let merged = match key {
            Some(key) => self.list_of_objects(self.item(shape, name), &key, before, change)?,
            None => list_of_scalars(before, change),
        };
        Ok(merged)
    }

    fn list_of_objects(
        &self,
        item: Option<StructId>,
        key: &str,
        before: Vec<Value>,
        change: &ListChange<'_>,
    ) -> Result<Vec<Value>, PatchError> {
        let patch = change.items.map_or(&[][..], Vec::as_slice);
        let mut result = before.clone();
        if patch
            .iter()
            .any(|p| p.get(PATCH).and_then(Value::as_str) == Some("replace"))
        {
            let keep = patch.iter().filter(|p| p.get(PATCH).is_none());
            return Ok(keep
                .map(|p| {
                    p.as_object()
                        .map_or_else(|| p.clone(), |o| Value::Object(without_directives(o)))
                })
                .collect());
        }
        for element in patch {
            let element = element
                .as_object()
                .ok_or_else(|| PatchError::Strategic("expected a map, but received a different type".to_owned()))?;
            let id = element.get(key).ok_or_else(|| {
                let map = go_value(&Value::Object(element.clone()));
                PatchError::Strategic(format!("map: {map} does not contain declared merge key: {key}"))
            })?;
            let place = result.iter().position(|existing| existing.get(key) == Some(id));
            if directive(element)? == Some("delete") {
                result.retain(|existing| existing.get(key) != Some(id));
                continue;
            }
            match place {
                Some(at) => {
                    let existing = match result[at].take() {
                        Value::Object(existing) => existing,
                        _ => Object::new(),
                    };
                    result[at] = Value::Object(self.object(item, existing, element)?);
                }
                None => result.push(Value::Object(self.object(item, Object::new(), element)?)),
            }
        }
        if let Some(order) = change.order {
            let order: Vec<&Value> = order.iter().filter_map(|o| o.get(key)).collect();
            let original: Vec<&Value> = before.iter().filter_map(|b| b.get(key)).collect();
            result = ordered(result, &order, &original, |value| value.get(key));
        }
        Ok(result)
    }

    fn known(&self, shape: Option<StructId>, key: &str) -> Option<&Field> {
        self.schema.get(shape?).field(key)
    }

    fn list_patch(&self, shape: Option<StructId>, key: &str) -> ListPatch {
        self.known(shape, key)
            .filter(|f| matches!(f.ty, Type::List(_)))
            .map_or(ListPatch::Replace, |f| f.list_patch.clone())
    }

    fn inner(&self, shape: Option<StructId>, key: &str) -> Option<StructId> {
        match self.known(shape, key)?.ty {
            Type::Struct(id) => Some(id),
            _ => None,
        }
    }

    fn item(&self, shape: Option<StructId>, key: &str) -> Option<StructId> {
        match &self.known(shape, key)?.ty {
            Type::List(item) => match **item {
                Type::Struct(id) => Some(id),
                _ => None,
            },
            _ => None,
        }
    }
}

fn list_of_scalars(before: Vec<Value>, change: &ListChange<'_>) -> Vec<Value> {
    let original = before.clone();
    let mut result = before;
    if let Some(delete) = change.delete {
        result.retain(|value| !delete.contains(value));
    }
    for value in change.items.into_iter().flatten() {
        if !result.contains(value) {
            result.push(value.clone());
        }
    }
    if let Some(order) = change.order {
        let order: Vec<&Value> = order.iter().collect();
        let original: Vec<&Value> = original.iter().collect();
        result = ordered(result, &order, &original, |value| Some(value));
    }
    result
}

/// `items` in the patch's order; elements that the order does not name keep their place relative to the
/// elements that stood before them on the server.
fn ordered(
    items: Vec<Value>,
    order: &[&Value],
    original: &[&Value],
    id: impl Fn(&Value) -> Option<&Value>,
) -> Vec<Value> {
    let rank = |value: &Value| order.iter().position(|o| id(value) == Some(*o));
    let (mut named, unnamed): (Vec<Value>, Vec<Value>) = items.into_iter().partition(|value| rank(value).is_some());
    named.sort_by_key(|value| rank(value));
    let place = |value: &Value| original.iter().position(|o| id(value) == Some(*o));
    let mut merged = Vec::with_capacity(named.len() + unnamed.len());
    let mut named = named.into_iter().peekable();
    for value in unnamed {
        while let Some(next) = named.peek() {
            let goes_first = match (place(next), place(&value)) {
                (Some(next), Some(this)) => next < this,
                (None, Some(_)) => false,
                (_, None) => true,
            };
            if !goes_first {
                break;
            }
            merged.extend(named.next());
        }
        merged.push(value);
    }
    merged.extend(named);
    merged
}

fn directive(patch: &Object) -> Result<Option<&str>, PatchError> {
    match patch.get(PATCH) {
        None => Ok(None),
        Some(Value::String(text)) if matches!(text.as_str(), "replace" | "delete" | "merge") => Ok(Some(text)),
        Some(other) => Err(PatchError::Strategic(format!(
            "unknown patch type: {} in map: {}",
            go_value(other),
            go_value(&Value::Object(patch.clone()))
        ))),
    }
}

fn without_directives(patch: &Object) -> Object {
    patch
        .iter()
        .filter(|(key, _)| *key != PATCH)
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}

fn list<'a>(what: &str, value: &'a Value) -> Result<&'a Vec<Value>, PatchError> {
    let malformed = || PatchError::Malformed(format!("invalid patch format of {what}"));
    value.as_array().ok_or_else(malformed)
}
