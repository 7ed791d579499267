//! POST of a Binding: the scheduler gives a Pod its node.

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::{ApiError, Resource, Status};
use crate::resource::decode::Format;
use crate::storage::{Change, Document, guaranteed_update};

use super::call::{Call, now};
use super::document;
use super::object::{self, text};
use super::respond;

#[derive(Deserialize)]
struct Binding {
    target: Target,
}

#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[derive(Default)]
struct Target {
    kind: String,
    name: String,
}

/// Binds the Pod in the path to the node in `body`.
///
/// # Errors
/// The Pod is not there, going away, or bound already.
pub async fn bind(call: &Call, body: &Bytes, format: Format) -> Result<Response, ApiError> {
    let bad = |error: &dyn std::fmt::Display| ApiError::BadRequest(error.to_string());
    let binding: Binding = match format {
        Format::Json => serde_json::from_slice(body).map_err(|e| bad(&e))?,
        Format::Yaml => serde_saphyr::from_slice(body).map_err(|e| bad(&e))?,
    };
    if binding.target.name.is_empty() || !matches!(binding.target.kind.as_str(), "" | "Node") {
        return Err(ApiError::BadRequest(
            "a Binding needs the name of a Node as its target".to_owned(),
        ));
    }
    let dry_run = call.write_options(false)?.dry_run;
    guaranteed_update(&*call.state.storage, &call.key(), |entry| {
        let entry = entry.ok_or_else(|| call.not_found())?;
        let old = document::parse(call.info(), &entry.value)?;
        let new = Document::encode(&bound(call, &old, &binding.target.name)?)?;
        Ok::<_, ApiError>((if dry_run { Change::Keep } else { Change::Put(new) }, ()))
    })
    .await?;
    respond::status(call.accept, StatusCode::CREATED, &Status::created(), &[])
}

fn bound(call: &Call, old: &Value, node: &str) -> Result<Value, ApiError> {
    let name = &call.target.name;
    let conflict = |reason: String| ApiError::Conflict {
        resource: Resource {
            group: "",
            plural: "pods/binding",
        },
        name: name.clone(),
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
    let mut new = old.clone();
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
