//! Field errors: what validation finds, in the words and the order of Kubernetes 1.36
//! (apimachinery `field.Error`). Pure data; `crate::error` turns them into a Status.

use serde_json::Value;

/// Why a field was refused; the names are the `reason` of a Status cause.
#[derive(Debug, Clone, PartialEq)]
pub enum Reason {
    /// `Required value[: detail]`
    Required,
    /// `Invalid value: VALUE: detail`
    Invalid(Value),
    /// `Duplicate value: VALUE`
    Duplicate(Value),
    /// `Unsupported value: VALUE: supported values: …`
    NotSupported(Value),
    /// `Forbidden: detail`
    Forbidden,
    /// `Too long: may not be more than N bytes`
    TooLong,
    /// `Too many: N: must have at most M items`
    TooMany,
}

/// One refused field.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldError {
    /// Path as Kubernetes writes it: `spec.ports[0].nodePort`.
    pub field: String,
    /// Why.
    pub reason: Reason,
    /// What should be there instead; may be empty.
    pub detail: String,
}

/// All refused fields of an object, in reporting order.
pub type FieldErrors = Vec<FieldError>;
