//! Patches as pure functions over JSON: JSON patch (RFC 6902), merge patch (RFC 7396) and Kubernetes'
//! strategic merge patch, guided by the schema's merge keys. The outcome may not fit the schema;
//! `decode::check` says so.

mod strategic;

use serde_json::Value;

use super::{KindInfo, decode, schema};

/// Why a patch was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch is no patch (400).
    #[error("error decoding patch: {0}")]
    Decode(String),
    /// A strategic merge patch is no patch (400).
    #[error("{0}")]
    Malformed(String),
    /// A JSON patch of too many operations (413).
    #[error("Request entity too large: The allowed maximum operations in a JSON patch is {MOST_OPERATIONS}, got {0}")]
    TooManyOperations(usize),
    /// A JSON patch does not apply to this object (422).
    #[error("the server rejected our request due to an error in our request")]
    Inapplicable(#[source] InapplicableOperation),
    /// A strategic merge patch contradicts the schema or itself (500, as Kubernetes has it).
    #[error("{0}")]
    Strategic(String),
}

/// The operation of a JSON patch that failed, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InapplicableOperation(String);

impl PatchError {
    /// The HTTP status: 400, 413, 422 or 500.
    #[must_use]
    pub fn status_code(&self) -> u16 {
        match self {
            Self::Decode(_) | Self::Malformed(_) => 400,
            Self::TooManyOperations(_) => 413,
            Self::Inapplicable(_) => 422,
            Self::Strategic(_) => 500,
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
    let body = decode::json(patch).map_err(PatchError::Decode)?;
    if !body.is_array() {
        let problem = format!(
            "json: cannot unmarshal {} into Go value of type []handlers.jsonPatchOp",
            json_kind(&body)
        );
        return Err(PatchError::Decode(problem));
    }
    let inapplicable = |problem: String| PatchError::Inapplicable(InapplicableOperation(problem));
    let patch: json_patch::Patch = serde_json::from_value(body).map_err(|error| inapplicable(error.to_string()))?;
    if patch.0.len() > MOST_OPERATIONS {
        return Err(PatchError::TooManyOperations(patch.0.len()));
    }
    let mut patched = current.clone();
    json_patch::patch(&mut patched, &patch).map_err(|error| inapplicable(error.to_string()))?;
    Ok(patched)
}

/// A patch that has to be an object; the error is Go's.
fn object(patch: &[u8]) -> Result<Value, String> {
    match decode::json(patch)? {
        Value::Null => Ok(Value::Object(serde_json::Map::new())),
        object @ Value::Object(_) => Ok(object),
        other => Err(format!(
            "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            json_kind(&other)
        )),
    }
}

/// A value's kind as Go's decoder calls it.
fn json_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// `current` after a merge patch (`application/merge-patch+json`).
///
/// # Errors
/// A patch that is no JSON.
pub fn merge_patch(current: &Value, patch: &[u8]) -> Result<Value, PatchError> {
    let patch = object(patch).map_err(PatchError::Decode)?;
    let mut patched = current.clone();
    json_patch::merge(&mut patched, &patch);
    Ok(patched)
}

/// `current` after a strategic merge patch (`application/strategic-merge-patch+json`) for the kind.
///
/// # Errors
/// A patch that is no JSON object, or one that its own directives or the schema contradict.
pub fn strategic_patch(current: &Value, patch: &[u8], info: &KindInfo) -> Result<Value, PatchError> {
    let patch = object(patch).map_err(PatchError::Malformed)?;
    let (Value::Object(current), Value::Object(patch)) = (current, patch) else {
        return Err(PatchError::Malformed("invalid JSON document".to_owned()));
    };
    let schema = schema::standard();
    let root = schema.named(info.schema);
    strategic::merge(schema, root, current.clone(), &patch).map(Value::Object)
}
