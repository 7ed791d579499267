//! The three-way merge of `apply`: from what was applied last, what is to be applied and what is there, to a JSON
//! merge patch (RFC 7386). Pure.
//!
//! Fields that were applied and are no longer named are removed; fields that others set stay. A list is one value:
//! it is left alone while what is there says all that the manifest says (and maybe more, such as defaults), and
//! replaced as a whole otherwise. kubectl merges some lists by key; for manifests that own their lists the end is
//! the same.

use serde_json::{Map, Value, json};

/// Where the manifest as last applied is kept, as kubectl does, so that both may take turns.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The manifest with itself in its annotation.
#[must_use]
pub fn annotated(manifest: &Value) -> Value {
    let mut plain = manifest.clone();
    let annotations = annotations(&mut plain);
    annotations.remove(LAST_APPLIED);
    // kubectl ends it with a line break.
    let text = format!("{plain}\n");
    let mut whole = plain;
    self::annotations(&mut whole).insert(LAST_APPLIED.to_owned(), json!(text));
    whole
}

fn annotations(object: &mut Value) -> &mut Map<String, Value> {
    for step in ["/metadata", "/metadata/annotations"] {
        if !object.pointer(step).is_some_and(Value::is_object) {
            let (parent, key) = step.rsplit_once('/').unwrap_or(("", step));
            if let Some(parent) = object.pointer_mut(parent).and_then(Value::as_object_mut) {
                parent.insert(key.to_owned(), json!({}));
            }
        }
    }
    object["metadata"]["annotations"]
        .as_object_mut()
        .expect("was made an object")
}

/// The patch that turns `current` into what [`annotated`] `modified` wants; `None` if it is so already.
#[must_use]
pub fn patch(current: &Value, modified: &Value) -> Option<Value> {
    let original: Value = current["metadata"]["annotations"][LAST_APPLIED]
        .as_str()
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or(Value::Null);
    let patch = merge(&original, modified, current);
    let Value::Object(fields) = &patch else {
        return Some(patch);
    };
    (!fields.is_empty()).then_some(patch)
}

/// What differs, object by object.
fn merge(original: &Value, modified: &Value, current: &Value) -> Value {
    let empty = Map::new();
    let (Some(wanted), Some(there)) = (modified.as_object(), current.as_object()) else {
        return modified.clone();
    };
    let before = original.as_object().unwrap_or(&empty);
    let mut patch = Map::new();
    for (key, wanted) in wanted {
        match there.get(key) {
            Some(there) if covers(there, wanted) && !has_removals(before.get(key), wanted, there) => {}
            Some(there) if there.is_object() && wanted.is_object() => {
                let inner = merge(before.get(key).unwrap_or(&Value::Null), wanted, there);
                patch.insert(key.clone(), inner);
            }
            // A null asks for a field not to be there.
            None if wanted.is_null() => {}
            _ => drop(patch.insert(key.clone(), wanted.clone())),
        }
    }
    for key in before
        .keys()
        .filter(|key| !wanted.contains_key(*key) && there.contains_key(*key))
    {
        patch.insert(key.clone(), Value::Null);
    }
    Value::Object(patch)
}

/// Whether `there` says all that `wanted` says.
fn covers(there: &Value, wanted: &Value) -> bool {
    match (there, wanted) {
        (Value::Object(there), Value::Object(wanted)) => wanted
            .iter()
            .all(|(key, wanted)| there.get(key).map_or(wanted.is_null(), |there| covers(there, wanted))),
        (Value::Array(there), Value::Array(wanted)) => {
            there.len() == wanted.len() && there.iter().zip(wanted).all(|(there, wanted)| covers(there, wanted))
        }
        _ => there == wanted,
    }
}

/// Whether something that was applied is no longer wanted and still there, at any depth.
fn has_removals(before: Option<&Value>, wanted: &Value, there: &Value) -> bool {
    match (before, wanted, there) {
        (Some(Value::Object(before)), Value::Object(wanted), Value::Object(there)) => {
            before
                .iter()
                .any(|(key, before)| match (wanted.get(key), there.get(key)) {
                    (None, Some(_)) => true,
                    (Some(wanted), Some(there)) => has_removals(Some(before), wanted, there),
                    _ => false,
                })
        }
        (Some(Value::Array(before)), Value::Array(wanted), Value::Array(there)) => {
            let items = before.iter().zip(wanted).zip(there);
            items
                .into_iter()
                .any(|((before, wanted), there)| has_removals(Some(before), wanted, there))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(spec: impl Into<Value>) -> Value {
        let spec: Value = spec.into();
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec})
    }

    /// What a server makes of an applied manifest: defaults, and fields of its own.
    fn stored(manifest: &Value) -> Value {
        let mut object = annotated(manifest);
        object["metadata"]["uid"] = json!("u");
        object["spec"]["clusterIP"] = json!("10.96.0.7");
        if let Some(ports) = object["spec"]["ports"].as_array_mut() {
            ports.iter_mut().for_each(|port| port["protocol"] = json!("TCP"));
        }
        object["status"] = json!({"loadBalancer": {}});
        object
    }

    #[test]
    fn the_annotation_is_kubectls() {
        let with = annotated(&service(json!({"type": "ClusterIP"})));
        assert_eq!(
            with["metadata"]["annotations"][LAST_APPLIED],
            "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"annotations\":{},\"name\":\"web\"},\"spec\":{\"type\":\"ClusterIP\"}}\n"
        );
        assert_eq!(annotated(&with), with);
    }

    #[test]
    fn defaults_are_no_difference() {
        let manifest = service(json!({"ports": [{"port": 80}], "selector": {"app": "web"}}));
        assert_eq!(patch(&stored(&manifest), &annotated(&manifest)), None);
    }

    #[test]
    fn a_change_is_only_itself() {
        let before = service(json!({"type": "ClusterIP", "ports": [{"port": 80}]}));
        let after = service(json!({"type": "NodePort", "ports": [{"port": 80}]}));
        let mut patch = patch(&stored(&before), &annotated(&after)).unwrap();
        patch["metadata"] = Value::Null;
        assert_eq!(patch, json!({"metadata": null, "spec": {"type": "NodePort"}}));
    }

    #[test]
    fn what_is_no_longer_named_goes_and_what_others_set_stays() {
        let before = service(json!({"selector": {"app": "web", "tier": "front"}, "sessionAffinity": "ClientIP"}));
        let after = service(json!({"selector": {"app": "web"}}));
        let mut there = stored(&before);
        there["spec"]["selector"]["other"] = json!("theirs");
        let patch = patch(&there, &annotated(&after)).unwrap();
        assert_eq!(
            patch["spec"],
            json!({"selector": {"tier": null}, "sessionAffinity": null})
        );
    }

    #[test]
    fn a_list_is_replaced_as_a_whole() {
        let before = service(json!({"ports": [{"port": 80}, {"port": 81}]}));
        let after = service(json!({"ports": [{"port": 80}]}));
        let patch = patch(&stored(&before), &annotated(&after)).unwrap();
        assert_eq!(patch["spec"], json!({"ports": [{"port": 80}]}));
    }

    #[test]
    fn a_field_that_leaves_a_list_item_is_removed_with_the_list() {
        let before = service(json!({"ports": [{"port": 80, "name": "http"}]}));
        let after = service(json!({"ports": [{"port": 80}]}));
        let patch = patch(&stored(&before), &annotated(&after)).unwrap();
        assert_eq!(patch["spec"], json!({"ports": [{"port": 80}]}));
    }

    #[test]
    fn an_object_made_without_apply_keeps_its_fields() {
        let there = service(json!({"type": "ClusterIP", "selector": {"app": "old"}}));
        let patch = patch(&there, &annotated(&service(json!({"type": "ClusterIP"})))).unwrap();
        assert_eq!(patch.get("spec"), None);
        assert!(patch["metadata"]["annotations"][LAST_APPLIED].is_string());
    }
}
