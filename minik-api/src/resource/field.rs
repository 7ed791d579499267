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
    /// `Invalid value: detail`, where the value says nothing.
    Malformed,
    /// `Duplicate value: VALUE`
    Duplicate(Value),
    /// `Duplicate value: TEXT`, where the value is a Go struct whose fields stand in Go's order, which a
    /// JSON object of ours does not keep.
    DuplicateStruct(String),
    /// `Not found: VALUE`
    NotFound(Value),
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

impl FieldError {
    /// A field that has to be there.
    pub fn required(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: Reason::Required,
            detail: detail.into(),
        }
    }

    /// A value that is not acceptable.
    pub fn invalid(field: impl Into<String>, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: Reason::Invalid(value.into()),
            detail: detail.into(),
        }
    }

    /// A value that is not acceptable and too large or too empty to be shown.
    pub fn invalid_without_value(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: Reason::Malformed,
            detail: detail.into(),
        }
    }

    /// A value that occurs twice where it may not.
    pub fn duplicate(field: impl Into<String>, value: impl Into<Value>) -> Self {
        Self {
            field: field.into(),
            reason: Reason::Duplicate(value.into()),
            detail: String::new(),
        }
    }

    /// A value outside a closed set; `supported` is listed in the order given (1.36 sorts it).
    pub fn not_supported(field: impl Into<String>, value: impl Into<Value>, supported: &[&str]) -> Self {
        let listed: Vec<String> = supported.iter().map(|value| format!("{value:?}")).collect();
        let detail = format!("supported values: {}", listed.join(", "));
        Self {
            field: field.into(),
            reason: Reason::NotSupported(value.into()),
            detail,
        }
    }

    /// Required, and one of `supported`; `None` when it is.
    pub fn one_of(field: &str, given: &str, supported: &[&str]) -> Option<Self> {
        match given {
            "" => Some(Self::required(field, "")),
            given if supported.contains(&given) => None,
            given => Some(Self::not_supported(field, given, supported)),
        }
    }

    /// A field that may not be set, or not now.
    pub fn forbidden(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: Reason::Forbidden,
            detail: detail.into(),
        }
    }

    /// A text or blob of more than `most` bytes.
    pub fn too_long(field: impl Into<String>, most: usize) -> Self {
        let detail = format!("may not be more than {most} bytes");
        Self {
            field: field.into(),
            reason: Reason::TooLong,
            detail,
        }
    }

    /// A list of `count` items where `most` are allowed.
    pub fn too_many(field: impl Into<String>, count: usize, most: usize) -> Self {
        let detail = format!("{count}: must have at most {most} items");
        Self {
            field: field.into(),
            reason: Reason::TooMany,
            detail,
        }
    }

    /// A field of a stored object that no update may change.
    pub fn immutable(field: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::invalid(field, value, "field is immutable")
    }

    /// One `Invalid value` for each text.
    pub fn each(field: &str, value: impl Into<Value>, problems: Vec<String>) -> FieldErrors {
        let value = value.into();
        problems
            .into_iter()
            .map(|problem| Self::invalid(field, value.clone(), problem))
            .collect()
    }
}
