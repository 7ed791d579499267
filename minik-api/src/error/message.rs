//! Refused fields in the words of apimachinery's `field.Error`.

use super::Cause;
use crate::resource::field::{FieldError, Reason};

/// All messages of a 422: one stands alone, several in brackets, equal ones once.
pub fn aggregate(errors: &[FieldError]) -> String {
    let mut messages: Vec<String> = Vec::new();
    for error in errors {
        let message = format!("{}: {}", error.field, body(error));
        if !messages.contains(&message) {
            messages.push(message);
        }
    }
    match messages.as_slice() {
        [one] => one.clone(),
        several => format!("[{}]", several.join(", ")),
    }
}

/// The machine-readable form of one refused field.
pub fn cause(error: &FieldError) -> Cause {
    let reason = match error.reason {
        Reason::Required => "FieldValueRequired",
        Reason::Invalid(_) | Reason::Malformed => "FieldValueInvalid",
        Reason::Duplicate(_) => "FieldValueDuplicate",
        Reason::NotFound(_) => "FieldValueNotFound",
        Reason::NotSupported(_) => "FieldValueNotSupported",
        Reason::Forbidden => "FieldValueForbidden",
        Reason::TooLong => "FieldValueTooLong",
        Reason::TooMany => "FieldValueTooMany",
    };
    Cause {
        reason,
        message: body(error),
        field: error.field.clone(),
    }
}

/// The message of one field without the field, apimachinery's `Error.ErrorBody`.
fn body(error: &FieldError) -> String {
    let (label, value) = match &error.reason {
        Reason::Required => ("Required value", None),
        Reason::Invalid(value) => ("Invalid value", Some(value.to_string())),
        Reason::Malformed => ("Invalid value", None),
        Reason::Duplicate(value) => ("Duplicate value", Some(value.to_string())),
        Reason::NotFound(value) => ("Not found", Some(value.to_string())),
        Reason::NotSupported(value) => ("Unsupported value", Some(value.to_string())),
        Reason::Forbidden => ("Forbidden", None),
        Reason::TooLong => ("Too long", None),
        Reason::TooMany => ("Too many", None),
    };
    let detail = Some(error.detail.clone()).filter(|detail| !detail.is_empty());
    let parts: Vec<String> = std::iter::once(label.to_owned()).chain(value).chain(detail).collect();
    parts.join(": ")
}
