//! A status as the patch that brings it to the API: a strategic merge, so that conditions of others stay.

use k8s_openapi::api::core::v1::{PodCondition, PodStatus};
use serde_json::{Map, Value, json};

/// The patch from what the API has, as last told and as last heard, to what is. An error means that a status is no
/// JSON.
pub fn patch(uid: &str, before: [Option<&PodStatus>; 2], new: &PodStatus) -> Result<Value, serde_json::Error> {
    let olds = || before.into_iter().flatten();
    let heard = before[1].and_then(|old| old.conditions.as_deref()).unwrap_or_default();
    let mut status = serde_json::to_value(new)?;
    if let Value::Object(fields) = &mut status {
        clear(fields, olds().next().is_some());
        let conditions = fields.get_mut("conditions").and_then(Value::as_array_mut);
        for condition in conditions.into_iter().flatten().filter_map(Value::as_object_mut) {
            let mut conditions = olds().flat_map(|old| old.conditions.iter().flatten());
            let known = conditions.any(|old| condition["type"] == old.type_.as_str());
            clear(condition, known);
        }
        replace(
            fields,
            "podIPs",
            olds().any(|old| old.pod_ips.is_some() && old.pod_ips != new.pod_ips),
        );
        replace(
            fields,
            "hostIPs",
            olds().any(|old| old.host_ips.is_some() && old.host_ips != new.host_ips),
        );
        fields.insert("$setElementOrder/conditions".to_owned(), order(heard, new));
    }
    Ok(json!({"metadata": {"uid": uid}, "status": status}))
}

/// Whether the API has it all already: what an agent finds that was only started again.
pub fn is_known(api: &PodStatus, new: &PodStatus) -> Result<bool, serde_json::Error> {
    let own = new.conditions.as_deref().unwrap_or_default();
    let conditions = own.iter().filter_map(|own| {
        let mut conditions = api.conditions.iter().flatten();
        conditions.find(|condition| condition.type_ == own.type_).cloned()
    });
    let told = PodStatus {
        conditions: Some(conditions.collect()),
        // The API server's own.
        qos_class: None,
        ..api.clone()
    };
    // As JSON, in which times are whole seconds.
    Ok(serde_json::to_value(told)? == serde_json::to_value(new)?)
}

/// What is no longer said must be unsaid.
fn clear(fields: &mut Map<String, Value>, known: bool) {
    for name in ["reason", "message"].into_iter().filter(|_| known) {
        fields.entry(name).or_insert(Value::Null);
    }
}

/// A list whose entries are not to be merged with those that are there.
fn replace(fields: &mut Map<String, Value>, name: &str, changed: bool) {
    if let Some(Value::Array(list)) = fields.get_mut(name).filter(|_| changed) {
        list.insert(0, json!({"$patch": "replace"}));
    }
}

/// Others' conditions first, as the kubelet keeps them, then its own.
fn order(old: &[PodCondition], new: &PodStatus) -> Value {
    let own = new.conditions.as_deref().unwrap_or_default();
    let others = old.iter().filter(|old| !own.iter().any(|own| own.type_ == old.type_));
    others
        .chain(own)
        .map(|condition| json!({"type": condition.type_}))
        .collect()
}
