//! POST of a Binding: a scheduler gives a Pod its node, at the Pod's `binding` or, as the first version of the API had it,
//! at the namespace's `bindings`.

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use k8s_openapi::api::core::v1::Binding;
use serde_json::{Value, json};

use crate::error::{ApiError, Resource, Status};
use crate::resource::KindInfo;
use crate::resource::decode::{Format, decode};
use crate::storage::{Change, Document, guaranteed_update};

use super::call::{Call, now};
use super::delete::check_identity;
use super::document;
use super::object::{self, text};
use super::request::key;
use super::respond;

/// Binds the Pod in the path, or the one that `body` names, to the node in `body`.
///
/// # Errors
/// The Binding is none, or the Pod is not there, going away, not to be scheduled yet, or bound already.
pub async fn bind(call: &Call, body: &Bytes, format: Format) -> Result<Response, ApiError> {
    let options = call.write_options(false)?;
    let kind = |name: &str| call.state.registry.by_kind("", name).ok_or(ApiError::NoSuchResource);
    let (bindings, pods) = (kind("Binding")?, &kind("Pod")?.info);
    let decoded = decode(body, format, &bindings.info, options.validation)?;
    let errors = bindings.strategy.validate(&decoded.object)?;
    let binding: Binding = serde_json::from_value(decoded.object)?;
    let sent = binding.metadata.name.as_deref().unwrap_or_default();
    let name = match call.target.name.as_str() {
        "" => sent,
        name => name,
    };
    if name != sent {
        let reason = "name in URL does not match name in Binding object";
        return Err(ApiError::BadRequest(reason.to_owned()));
    }
    let namespace = binding.metadata.namespace.as_deref().unwrap_or_default();
    if !namespace.is_empty() && namespace != call.target.namespace {
        let reason = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(ApiError::BadRequest(reason.to_owned()));
    }
    if !errors.is_empty() {
        return Err(ApiError::unclassified(&errors));
    }
    guaranteed_update(
        &*call.state.storage,
        &key(pods, &call.target.namespace, name),
        |entry| {
            let entry = entry.ok_or_else(|| ApiError::not_found(pods, name))?;
            let old = document::parse(pods, &entry.value)?;
            let metadata = &binding.metadata;
            check_identity(
                pods,
                name,
                &old,
                metadata.uid.as_deref(),
                metadata.resource_version.as_deref(),
            )?;
            let new = Document::encode(&bound(pods, name, &old, &binding)?)?;
            Ok::<_, ApiError>((
                if options.dry_run {
                    Change::Keep
                } else {
                    Change::Put(new)
                },
                (),
            ))
        },
    )
    .await?;
    respond::status(call.accept, StatusCode::CREATED, &Status::created(), &decoded.warnings)
}

/// The Pod with the node that a Binding gives it, and with the Binding's annotations and labels.
fn bound(pods: &KindInfo, name: &str, old: &Value, binding: &Binding) -> Result<Value, ApiError> {
    let conflict = |reason: String| ApiError::Conflict {
        resource: Resource {
            group: pods.group,
            plural: "pods/binding",
        },
        name: name.to_owned(),
        reason,
    };
    if object::is_deleting(old) {
        return Err(conflict(format!(
            "pod {name} is being deleted, cannot be assigned to a host"
        )));
    }
    let taken = text(old, "/spec/nodeName");
    if !taken.is_empty() {
        return Err(conflict(format!("pod {name} is already assigned to node {taken:?}")));
    }
    let gates = old.pointer("/spec/schedulingGates").and_then(Value::as_array);
    if gates.is_some_and(|gates| !gates.is_empty()) {
        return Err(conflict(format!("pod {name} has non-empty .spec.schedulingGates")));
    }
    let mut new = old.clone();
    for (field, given) in [
        ("annotations", &binding.metadata.annotations),
        ("labels", &binding.metadata.labels),
    ] {
        if let Some(given) = given.as_ref().filter(|given| !given.is_empty()) {
            let all = object::map(object::metadata(&mut new).entry(field).or_insert(Value::Null));
            all.extend(given.iter().map(|(key, value)| (key.clone(), value.as_str().into())));
        }
    }
    let node = binding.target.name.clone().unwrap_or_default();
    object::map(&mut new["spec"]).insert("nodeName".to_owned(), node.into());
    let status = object::map(&mut new["status"]);
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    if let Some(conditions) = conditions.as_array_mut() {
        conditions.retain(|condition| text(condition, "/type") != "PodScheduled");
        conditions.push(json!({
            "type": "PodScheduled",
            "status": "True",
            "lastProbeTime": null,
            "lastTransitionTime": now().to_string(),
        }));
    }
    Ok(new)
}
