//! What must hold between an object before a write, the write, and the object after it. Pure; each law says what broke.

use minik_api::resource::decode::check;
use minik_api::resource::validation::quantity::Quantity;
use minik_api::resource::{KindInfo, Subresource};
use serde_json::{Map, Value};

/// A broken promise.
pub type Broken = String;

/// Metadata that the server writes, whatever a client sends.
const SYSTEM: &[&str] = &[
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
];

/// The path through which a write came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// The object's own.
    Main,
    /// `/status`.
    Status,
}

/// The text at a JSON pointer.
pub fn text<'o>(object: &'o Value, pointer: &str) -> &'o str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The revision of an object.
pub fn version(object: &Value) -> u64 {
    text(object, "/metadata/resourceVersion")
        .parse()
        .expect("revisions are numbers")
}

/// A write that changed `before` to `after`, of a kind that `counts` its changes or does not.
pub fn changed(info: &KindInfo, counts: bool, door: Door, before: &Value, after: &Value) -> Result<(), Broken> {
    if version(after) <= version(before) {
        return Err(format!("the revision did not grow: {before} {after}"));
    }
    for field in ["uid", "creationTimestamp", "name", "namespace"] {
        let pointer = format!("/metadata/{field}");
        if before.pointer(&pointer) != after.pointer(&pointer) {
            return Err(format!("{field} changed: {before} {after}"));
        }
    }
    let has_status = info.subresources.contains(&Subresource::Status);
    match door {
        Door::Main if has_status && before.get("status") != after.get("status") => {
            return Err(format!("status changed by a write to the object: {before} {after}"));
        }
        Door::Status if wish(before) != wish(after) => {
            return Err(format!("more than status changed by a write to it: {before} {after}"));
        }
        _ => {}
    }
    // Where a kind does not count, a generation is what a client wrote there.
    if counts {
        generation(info, before, after)
    } else {
        Ok(())
    }
}

/// The generation counts the changes of what is wished for, and nothing else.
fn generation(info: &KindInfo, before: &Value, after: &Value) -> Result<(), Broken> {
    let of = |object: &Value| object.pointer("/metadata/generation").and_then(Value::as_i64);
    let (was, is) = (of(before), of(after));
    // A Deployment's annotations count as a wish, since its controller copies them to ReplicaSets.
    let annotations =
        info.kind == "Deployment" && before.pointer("/metadata/annotations") != after.pointer("/metadata/annotations");
    let ending = before.pointer("/metadata/deletionTimestamp") != after.pointer("/metadata/deletionTimestamp");
    // What of a PriorityClass matters cannot change.
    let fixed = info.kind == "PriorityClass";
    let counts = |differs: bool| i64::from((differs || annotations) && !fixed || ending);
    let (exactly, in_go) = (wish(before) != wish(after), pruned(wish(before)) != pruned(wish(after)));
    match (was, is) {
        (None, None) => Ok(()),
        (Some(was), Some(is)) if is == was + counts(exactly) || is == was + counts(in_go) => Ok(()),
        _ => Err(format!("generation went from {was:?} to {is:?}: {before} {after}")),
    }
}

/// Without what Go takes for absent.
fn pruned(mut fields: Map<String, Value>) -> Map<String, Value> {
    fields.retain(|_, value| !is_empty(value));
    fields
}

/// What a client wishes for: everything but status and metadata.
fn wish(object: &Value) -> Map<String, Value> {
    let mut fields = object.as_object().cloned().unwrap_or_default();
    fields.remove("metadata");
    fields.remove("status");
    fields
}

/// What is kept is what Go would write of it: laid over the schema once more it is the same.
pub fn settled(info: &KindInfo, stored: &Value) -> Result<(), Broken> {
    match check(stored, info) {
        Ok((fitted, unknown)) if fitted == *stored && unknown.is_empty() => Ok(()),
        Ok((fitted, unknown)) => Err(format!(
            "{stored} is kept, of which Go would write {fitted} {unknown:?}"
        )),
        Err(why) => Err(format!("{stored} is kept and fits no schema: {why}")),
    }
}

/// What was sent and accepted is there, but for what the server keeps to itself and what the kind does not keep.
pub fn kept(info: &KindInfo, sent: &Value, stored: &Value) -> Result<(), Broken> {
    let mut sent = sent.clone();
    if let Some(metadata) = sent["metadata"].as_object_mut() {
        SYSTEM.iter().for_each(|field| drop(metadata.remove(*field)));
        // What belongs to the cluster is told so.
        if !info.namespaced {
            metadata.remove("namespace");
        }
    }
    if let (Some(fields), true) = (sent.as_object_mut(), info.subresources.contains(&Subresource::Status)) {
        fields.remove("status");
    }
    contained(info, "", &sent, stored)
}

/// Fields that a kind takes and does not keep as they were, with the reason in Kubernetes.
const NOT_KEPT: &[(&str, &str)] = &[
    // Folded into data.
    ("Secret", ".stringData"),
    // The server counts it.
    (
        "DaemonSet",
        ".metadata.annotations.deprecated.daemonset.template.generation",
    ),
    // Only `/finalize` writes them.
    ("Namespace", ".spec.finalizers"),
    // Writable in v1beta1 only.
    ("EndpointSlice", ".endpoints.deprecatedTopology"),
    // What the Service's type has no use for.
    ("Service", ".spec."),
];

fn contained(info: &KindInfo, path: &str, sent: &Value, stored: &Value) -> Result<(), Broken> {
    if NOT_KEPT
        .iter()
        .any(|(kind, field)| *kind == info.kind && path.starts_with(field))
    {
        return Ok(());
    }
    let same = match (sent, stored) {
        (Value::Object(sent), Value::Object(stored)) => {
            for (name, value) in sent.iter().filter(|(_, value)| !is_empty(value)) {
                let path = format!("{path}.{name}");
                contained(info, &path, value, stored.get(name).unwrap_or(&Value::Null))?;
            }
            true
        }
        // Admission gives Pods a volume, its mounts and tolerations.
        (Value::Array(sent), Value::Array(stored))
            if sent.len() == stored.len() || info.kind == "Pod" && sent.len() < stored.len() =>
        {
            for (sent, stored) in sent.iter().zip(stored) {
                contained(info, path, sent, stored)?;
            }
            true
        }
        // A null in a list is Go's zero value.
        (Value::Null, _) => true,
        (Value::String(one), Value::String(other)) => one == other || same_amount(one, other) || same_time(one, other),
        // A number where a Quantity is due is one.
        (Value::Number(number), Value::String(text)) => same_amount(&number.to_string(), text),
        (one, other) => one == other,
    };
    if same {
        Ok(())
    } else {
        Err(format!("{path} was sent as {sent} and is kept as {stored}"))
    }
}

/// Whether Go would leave the value out, or the field is not known to anybody.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty) || fields.contains_key("unknown"),
    }
}

fn same_amount(one: &str, other: &str) -> bool {
    let amount = |text: &str| Quantity::parse(text).map(Quantity::nanos).ok();
    amount(one).is_some() && amount(one) == amount(other)
}

fn same_time(one: &str, other: &str) -> bool {
    let second = |text: &str| text.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_second).ok();
    second(one).is_some() && second(one) == second(other)
}

/// The manager of an apply owns all that it said, as far as the door it came through leads.
pub fn owned(info: &KindInfo, door: Door, manager: &str, sent: &Value, stored: &Value) -> Result<(), Broken> {
    let mut sent = sent.clone();
    let beyond = match door {
        Door::Main if info.subresources.contains(&Subresource::Status) => "status",
        Door::Main => "",
        Door::Status => "spec",
    };
    sent.as_object_mut().map(|fields| fields.remove(beyond));
    let entries = stored.pointer("/metadata/managedFields").and_then(Value::as_array);
    let own = entries.into_iter().flatten().find(|entry| {
        let subresource = entry["subresource"] == "status";
        entry["manager"] == manager && entry["operation"] == "Apply" && subresource == (door == Door::Status)
    });
    // Who said nothing owns nothing, and is no manager.
    let nothing = Map::new();
    let own = own.and_then(|entry| entry["fieldsV1"].as_object()).unwrap_or(&nothing);
    covers("", &sent, own)
}

/// Fields that nobody owns: they tell what the object is.
const IDENTITY: &[&str] = &[".apiVersion", ".kind", ".metadata.name", ".metadata.namespace"];

fn covers(path: &str, sent: &Value, set: &Map<String, Value>) -> Result<(), Broken> {
    for (name, value) in sent.as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let system = path
            .strip_prefix(".metadata.")
            .is_some_and(|field| SYSTEM.contains(&field));
        if system || IDENTITY.contains(&path.as_str()) || value.is_null() || is_empty(value) {
            continue;
        }
        match set.get(&format!("f:{name}")).and_then(Value::as_object) {
            // An empty set below a field: its whole value is owned.
            Some(below) if below.is_empty() => {}
            Some(below) => covers(&path, value, below)?,
            None if path == ".metadata" => {}
            None => return Err(format!("{path} was applied and is not owned: {set:?}")),
        }
    }
    Ok(())
}
