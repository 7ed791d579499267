//! Patches as pure functions over JSON: JSON patch (RFC 6902), merge patch (RFC 7396) and Kubernetes'
//! strategic merge patch, guided by the schema's merge keys. The outcome may not fit the schema;
//! `decode::check` says so.

mod strategic;

use serde_json::Value;

use super::{KindInfo, schema};

/// Why a patch was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch is no patch (400).
    #[error("error decoding patch: {0}")]
    Decode(String),
    /// A JSON patch does not apply to this object (422).
    #[error("the server rejected our request due to an error in our request")]
    Inapplicable(#[source] InapplicableOperation),
    /// A strategic merge patch contradicts the schema or itself (422).
    #[error("{0}")]
    Strategic(String),
}

/// The operation of a JSON patch that failed, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InapplicableOperation(String);

impl PatchError {
    /// The HTTP status: 400 or 422.
    #[must_use]
    pub fn status_code(&self) -> u16 {
        match self {
            Self::Decode(_) => 400,
            Self::Inapplicable(_) | Self::Strategic(_) => 422,
        }
    }
}

/// A JSON patch may hold at most this many operations, as 1.36 limits it.
const MOST_OPERATIONS: usize = 10_000;

/// `current` after a JSON patch (`application/json-patch+json`).
///
/// # Errors
/// A malformed patch, or one whose operations do not apply.
pub fn json_patch(current: &Value, patch: &[u8]) -> Result<Value, PatchError> {
    let patch: json_patch::Patch =
        serde_json::from_slice(patch).map_err(|error| PatchError::Decode(error.to_string()))?;
    if patch.0.len() > MOST_OPERATIONS {
        return Err(PatchError::Decode(format!(
            "The allowed maximum operations in a JSON patch is {MOST_OPERATIONS}, got {}",
            patch.0.len()
        )));
    }
    let mut patched = current.clone();
    json_patch::patch(&mut patched, &patch)
        .map_err(|error| PatchError::Inapplicable(InapplicableOperation(error.to_string())))?;
    Ok(patched)
}

/// `current` after a merge patch (`application/merge-patch+json`).
///
/// # Errors
/// A patch that is no JSON.
pub fn merge_patch(current: &Value, patch: &[u8]) -> Result<Value, PatchError> {
    let patch: Value = serde_json::from_slice(patch).map_err(|error| PatchError::Decode(error.to_string()))?;
    let mut patched = current.clone();
    json_patch::merge(&mut patched, &patch);
    Ok(patched)
}

/// `current` after a strategic merge patch (`application/strategic-merge-patch+json`) for the kind.
///
/// # Errors
/// A patch that is no JSON object, or one that its own directives or the schema contradict.
pub fn strategic_patch(current: &Value, patch: &[u8], info: &KindInfo) -> Result<Value, PatchError> {
    let patch: Value = serde_json::from_slice(patch).map_err(|error| PatchError::Decode(error.to_string()))?;
    let (Value::Object(current), Value::Object(patch)) = (current, patch) else {
        return Err(PatchError::Decode("the patch is not a JSON object".to_owned()));
    };
    let schema = schema::standard();
    let root = schema.named(info.schema);
    strategic::merge(schema, root, current.clone(), &patch)
        .map(Value::Object)
        .map_err(PatchError::Strategic)
}
