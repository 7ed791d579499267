//! Field errors: what validation finds, in the words and the order of Kubernetes 1.36
//! (apimachinery `field.Error`). Pure data; `crate::error` turns them into a Status.

use std::fmt;

use serde_json::Value;

/// A value as an error shows it.
#[derive(Debug, Clone, PartialEq)]
pub enum Shown {
    /// As JSON.
    Json(Value),
    /// A struct of Kubernetes' internal types: its fields under their Go names and in Go's order, which a JSON object of
    /// ours does not keep.
    Struct(String),
}

impl Shown {
    /// The struct with these fields.
    #[must_use]
    pub fn go<const N: usize>(fields: [(&str, Self); N]) -> Self {
        let fields = fields.map(|(name, value)| format!("{name:?}:{value}"));
        Self::Struct(format!("{{{}}}", fields.join(",")))
    }

    /// A struct behind a pointer.
    #[must_use]
    pub fn pointer(target: Option<Self>) -> Self {
        target.unwrap_or(Self::Json(Value::Null))
    }
}

impl From<Value> for Shown {
    fn from(value: Value) -> Self {
        Self::Json(value)
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(value) => value.fmt(f),
            Self::Struct(text) => f.write_str(text),
        }
    }
}

/// Why a field was refused; the names are the `reason` of a Status cause.
#[derive(Debug, Clone, PartialEq)]
pub enum Reason {
    /// `Required value[: detail]`
    Required,
    /// `Invalid value: VALUE: detail`
    Invalid(Shown),
    /// `Invalid value: detail`, where the value says nothing.
    Malformed,
    /// `Duplicate value: VALUE`
    Duplicate(Shown),
    /// `Not found: VALUE`
    NotFound(Shown),
    /// `Unsupported value: VALUE: supported values: …`
    NotSupported(Shown),
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
        Self::invalid_shown(field, value.into().into(), detail)
    }

    /// [`FieldError::invalid`] of a struct.
    pub fn invalid_shown(field: impl Into<String>, value: Shown, detail: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: Reason::Invalid(value),
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
        Self::duplicate_shown(field, value.into().into())
    }

    /// [`FieldError::duplicate`] of a struct.
    pub fn duplicate_shown(field: impl Into<String>, value: Shown) -> Self {
        Self {
            field: field.into(),
            reason: Reason::Duplicate(value),
            detail: String::new(),
        }
    }

    /// A value that names what is not there.
    pub fn not_found(field: impl Into<String>, value: impl Into<Value>) -> Self {
        Self {
            field: field.into(),
            reason: Reason::NotFound(value.into().into()),
            detail: String::new(),
        }
    }

    /// A value outside a closed set; `supported` is listed in the order given, which is that of 1.36: sorted where it
    /// keeps a set, as declared where it keeps a list.
    pub fn not_supported(field: impl Into<String>, value: impl Into<Value>, supported: &[&str]) -> Self {
        Self::not_supported_shown(field, value.into().into(), supported)
    }

    /// [`FieldError::not_supported`] of a struct.
    pub fn not_supported_shown(field: impl Into<String>, value: Shown, supported: &[&str]) -> Self {
        let listed: Vec<String> = supported.iter().map(|value| format!("{value:?}")).collect();
        let detail = format!("supported values: {}", listed.join(", "));
        Self {
            field: field.into(),
            reason: Reason::NotSupported(value),
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
