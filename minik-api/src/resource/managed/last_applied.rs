//! kubectl's way from client-side to server-side apply: what its annotation records as applied may be taken from
//! whoever is recorded as the owner, and the annotation is kept up to date for a way back.

use serde_json::Value;

use super::compare::Comparison;
use super::extract::{field_set, problems};
use super::{FieldSet, Shape, Writer};

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The only manager that is known to have written the annotation.
const KUBECTL: &str = "kubectl";
/// All annotations of an object may take this many bytes.
const ANNOTATIONS_LIMIT: usize = 256 * 1024;

fn annotation(object: &Value) -> Option<&str> {
    let text = object.get("metadata")?.get("annotations")?.get(ANNOTATION)?.as_str()?;
    (!text.is_empty()).then_some(text)
}

/// The fields of `live` that kubectl applied from the client's side and nobody changed since; none for other
/// managers, or when the annotation is not about such an object.
pub(super) fn allowed(writer: &Writer<'_>, shape: Shape<'_>, live: &Value) -> FieldSet {
    let applied = annotation(live).filter(|_| writer.name == KUBECTL);
    // An annotation that is no object of this version records nothing about it.
    let Some(Ok(applied)) = applied.map(serde_json::from_str::<Value>) else {
        return FieldSet::default();
    };
    let version = applied.get("apiVersion").and_then(Value::as_str);
    if version != Some(&*writer.info.api_version()) || !problems(shape, &applied).is_empty() {
        return FieldSet::default();
    }
    let change = Comparison::of(shape, &applied, live);
    field_set(shape, &applied)
        .difference(&change.modified)
        .difference(&change.added)
        .difference(&change.removed)
}

/// Writes what kubectl applied into the annotation, if the object has one.
pub(super) fn renew(writer: &Writer<'_>, object: &mut Value, config: &Value) {
    if writer.name != KUBECTL || annotation(object).is_none() {
        return;
    }
    let mut applied = config.clone();
    if let Some(annotations) = applied
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    {
        annotations.remove(ANNOTATION);
    }
    let text = format!("{applied}\n");
    let Some(annotations) = object
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    else {
        return;
    };
    annotations.insert(ANNOTATION.to_owned(), text.into());
    let size: usize = annotations
        .iter()
        .map(|(name, value)| name.len() + value.as_str().map_or(0, str::len))
        .sum();
    if size > ANNOTATIONS_LIMIT {
        annotations.insert(ANNOTATION.to_owned(), "".into());
    }
}
