//! What 1.36's admission plugins fill in from, or refuse because of, other objects: Priority, RuntimeClass,
//! DefaultIngressClass, DefaultStorageClass. What needs no other object is the kind's own strategy's.

use std::cmp::Reverse;

use serde_json::Value;

use crate::error::ApiError;
use crate::resource::volume_class;

use super::call::Call;
use super::object::{self, text};

const INGRESS_CLASSES: &str = "networking.k8s.io/ingressclasses/";
const PRIORITY_CLASSES: &str = "scheduling.k8s.io/priorityclasses/";
const STORAGE_CLASSES: &str = "storage.k8s.io/storageclasses/";
/// The annotation that named an Ingress's class before the field did.
const OLD_CLASS: &str = "kubernetes.io/ingress.class";
const PREEMPTING: &str = "PreemptLowerPriority";

/// Admits a new object.
///
/// # Errors
/// A Pod names a priority class or a runtime class that is not there, or a priority of its own; a second default priority
/// class.
pub fn admit(call: &Call, new: &mut Value) -> Result<(), ApiError> {
    match call.info().kind {
        "Pod" => priority(call, new).and_then(|()| runtime_class(call, new)),
        "PriorityClass" => only_default(call, new),
        "Ingress" => ingress_class(call, new),
        "PersistentVolumeClaim" => storage_class(call, new),
        _ => Ok(()),
    }
}

fn stored(call: &Call, prefix: &str) -> Result<Vec<Value>, ApiError> {
    let snapshot = call.state.storage.cache().snapshot();
    let entries = snapshot.range(prefix, None);
    Ok(entries
        .map(|entry| serde_json::from_slice(&entry.value))
        .collect::<Result<_, _>>()?)
}

fn forbidden(call: &Call, object: &Value, reason: String) -> ApiError {
    ApiError::Forbidden {
        resource: call.info().into(),
        name: text(object, "/metadata/name").to_owned(),
        reason,
        causes: Vec::new(),
    }
}

/// A Pod's priority is that of its class, or of the class that is everyone's.
fn priority(call: &Call, pod: &mut Value) -> Result<(), ApiError> {
    let named = text(pod, "/spec/priorityClassName").to_owned();
    let classes = stored(call, PRIORITY_CLASSES)?;
    let value = |class: &Value| class["value"].as_i64().unwrap_or_default();
    let class = if named.is_empty() {
        let defaults = classes.iter().filter(|class| class["globalDefault"] == true);
        defaults.min_by_key(|class| value(class))
    } else {
        let class = classes.iter().find(|class| text(class, "/metadata/name") == named);
        let missing = || forbidden(call, pod, format!("no PriorityClass with name {named} was found"));
        Some(class.ok_or_else(missing)?)
    };
    let computed = class.map(value).unwrap_or_default();
    let policy = class
        .map(|class| text(class, "/preemptionPolicy"))
        .filter(|policy| !policy.is_empty());
    let policy = policy.unwrap_or(PREEMPTING);
    let from = "from the given PriorityClass name";
    if let Some(given) = pod
        .pointer("/spec/priority")
        .and_then(Value::as_i64)
        .filter(|given| *given != computed)
    {
        let reason = format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {computed} {from}"
        );
        return Err(forbidden(call, pod, reason));
    }
    let given = text(pod, "/spec/preemptionPolicy");
    if !given.is_empty() && given != policy {
        let reason = format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} {from}"
        );
        return Err(forbidden(call, pod, reason));
    }
    let spec = object::map(&mut pod["spec"]);
    if let Some(class) = class {
        spec.insert("priorityClassName".to_owned(), text(class, "/metadata/name").into());
    }
    spec.insert("priority".to_owned(), computed.into());
    spec.insert("preemptionPolicy".to_owned(), policy.into());
    Ok(())
}

/// A Pod runs as its RuntimeClass says. There is none here: nodes have one runtime, and the kind is not served.
fn runtime_class(call: &Call, pod: &Value) -> Result<(), ApiError> {
    match pod.pointer("/spec/runtimeClassName").and_then(Value::as_str) {
        None => Ok(()),
        Some(named) => Err(forbidden(
            call,
            pod,
            format!("pod rejected: RuntimeClass {named:?} not found"),
        )),
    }
}

fn only_default(call: &Call, new: &Value) -> Result<(), ApiError> {
    if new["globalDefault"] != true {
        return Ok(());
    }
    let name = text(new, "/metadata/name");
    let classes = stored(call, PRIORITY_CLASSES)?;
    let other = classes
        .iter()
        .filter(|class| class["globalDefault"] == true)
        .map(|class| text(class, "/metadata/name"))
        .find(|other| *other != name);
    match other {
        Some(other) => {
            let reason = format!("PriorityClass {other} is already marked as default. Only one default can exist");
            Err(forbidden(call, new, reason))
        }
        None => Ok(()),
    }
}

fn ingress_class(call: &Call, ingress: &mut Value) -> Result<(), ApiError> {
    let annotated = ingress["metadata"]["annotations"].get(OLD_CLASS).is_some();
    if annotated || ingress["spec"].get("ingressClassName").is_some() {
        return Ok(());
    }
    let classes = stored(call, INGRESS_CLASSES)?;
    if let Some(name) = default_class(&classes, &["ingressclass.kubernetes.io/is-default-class"]) {
        object::map(&mut ingress["spec"]).insert("ingressClassName".to_owned(), name.into());
    }
    Ok(())
}

fn storage_class(call: &Call, claim: &mut Value) -> Result<(), ApiError> {
    let annotated = claim["metadata"]["annotations"].get(volume_class::ANNOTATION).is_some();
    if annotated || claim["spec"].get("storageClassName").is_some() {
        return Ok(());
    }
    let marks = [
        "storageclass.kubernetes.io/is-default-class",
        "storageclass.beta.kubernetes.io/is-default-class",
    ];
    if let Some(name) = default_class(&stored(call, STORAGE_CLASSES)?, &marks) {
        object::map(&mut claim["spec"]).insert("storageClassName".to_owned(), name.into());
    }
    Ok(())
}

/// The youngest of the classes that are marked as default, the first by name among those of one age.
fn default_class(classes: &[Value], marks: &[&str]) -> Option<String> {
    let marked = classes.iter().filter(|class| {
        let annotations = class.pointer("/metadata/annotations");
        marks.iter().any(|mark| {
            annotations
                .and_then(|all| all.get(*mark))
                .is_some_and(|value| value == "true")
        })
    });
    marked
        .min_by_key(|class| {
            (
                Reverse(text(class, "/metadata/creationTimestamp")),
                text(class, "/metadata/name"),
            )
        })
        .map(|class| text(class, "/metadata/name").to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::default_class;

    #[test]
    fn the_youngest_default_wins_and_then_the_first_by_name() {
        let class = |name: &str, born: &str, default: &str| json!({"metadata": {"name": name, "creationTimestamp": born, "annotations": {"default": default}}});
        let (old, new) = ("2026-11-21T02:00:00Z", "2026-11-21T03:00:00Z");
        let mut classes = vec![class("d", new, "false"), class("a", old, "true")];
        assert_eq!(default_class(&classes, &["default"]).as_deref(), Some("a"));
        classes.extend([class("c", new, "true"), class("b", new, "true")]);
        assert_eq!(default_class(&classes, &["default"]).as_deref(), Some("b"));
        assert_eq!(default_class(&classes, &["other"]), None);
    }
}
