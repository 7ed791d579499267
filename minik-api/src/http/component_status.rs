//! GET of ComponentStatuses: how the scheduler, the controllers and the store are, at this moment. All three run in this
//! process, so what is asked is what `/readyz` asks.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::storage::{Document, Entry};

use super::call::Call;
use super::list_meta::ListMeta;
use super::respond;
use super::select::Selection;
use super::state::State;

/// The components by name, with the address that a kube-apiserver asks when they are processes of their own.
const COMPONENTS: [(&str, &str); 3] = [
    ("controller-manager", "127.0.0.1:10257"),
    ("scheduler", "127.0.0.1:10259"),
    ("etcd-0", ""),
];

/// Answers with every component.
///
/// # Errors
/// A selector does not parse.
pub fn list(call: &Call) -> Result<Response, ApiError> {
    let selection = Selection::parse(call.kind(), &call.options)?;
    let mut entries = COMPONENTS
        .iter()
        .map(|component| entry(&call.state, component))
        .collect::<Result<Vec<_>, _>>()?;
    entries.retain(|entry| selection.matches(call.kind(), entry));
    respond::list(call, &entries, &ListMeta::default())
}

/// Answers with the component in the path.
///
/// # Errors
/// There is none of that name: an error of no class, as in Kubernetes.
pub fn get(call: &Call) -> Result<Response, ApiError> {
    let name = &call.target.name;
    let known = COMPONENTS.iter().find(|(component, _)| component == name);
    let known = known.ok_or_else(|| ApiError::Unclassified(format!("Component not found: {name}")))?;
    respond::object(call, StatusCode::OK, &entry(&call.state, known)?.value, &[])
}

fn entry(state: &State, component: &(&'static str, &str)) -> Result<Arc<Entry>, ApiError> {
    let (name, address) = *component;
    // The store answers, or nothing of this would; the others begin when the cluster's first objects are there.
    let condition = if address.is_empty() || state.is_ready() {
        json!({"type": "Healthy", "status": "True", "message": "ok"})
    } else {
        let message = format!("Get \"https://{address}/healthz\": dial tcp {address}: connect: connection refused");
        json!({"type": "Healthy", "status": "False", "message": message})
    };
    let object: Value = json!({
        "metadata": {"name": name, "creationTimestamp": null},
        "conditions": [condition],
    });
    let mut document = serde_json::from_slice::<Value>(&Document::encode(&object)?.stamp(0))?;
    document["metadata"]
        .as_object_mut()
        .map(|metadata| metadata.remove("resourceVersion"));
    let bytes = serde_json::to_vec(&document)?.into();
    Ok(Arc::new(Entry::new(name.into(), 0, bytes)))
}
