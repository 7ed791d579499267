//! Which options of a list or watch go together, as apimachinery's `ValidateListOptions` says. Pure.

use serde_json::json;

use crate::error::ApiError;
use crate::resource::field::{FieldError, FieldErrors, Reason};

use super::request::Options;

/// Checks the options of a list, or with `watch` of a watch.
///
/// # Errors
/// 422 that names every option that cannot be.
pub fn check(options: &Options, watch: bool) -> Result<(), ApiError> {
    let errors = if watch { for_watch(options) } else { for_list(options) };
    if errors.is_empty() {
        return Ok(());
    }
    Err(invalid(errors))
}

/// 422 about options.
#[must_use]
pub fn invalid(errors: FieldErrors) -> ApiError {
    ApiError::Invalid {
        kind: "ListOptions".to_owned(),
        group: "meta.k8s.io".to_owned(),
        name: String::new(),
        errors,
    }
}

fn for_list(options: &Options) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if let Some(matching) = options.get("resourceVersionMatch") {
        if options.get("resourceVersion").is_none() {
            errors.push(forbidden(
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            ));
        }
        if options.get("continue").is_some() {
            errors.push(forbidden("resourceVersionMatch is forbidden when continue is provided"));
        }
        if !matches!(matching, "Exact" | "NotOlderThan") {
            errors.push(unsupported(matching, "\"Exact\", \"NotOlderThan\", \"\""));
        }
        if matching == "Exact" && options.get("resourceVersion") == Some("0") {
            errors.push(forbidden(
                "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            ));
        }
    }
    if options.get("sendInitialEvents").is_some() {
        errors.push(FieldError {
            field: "sendInitialEvents".to_owned(),
            reason: Reason::Forbidden,
            detail: "sendInitialEvents is forbidden for list".to_owned(),
        });
    }
    errors
}

fn for_watch(options: &Options) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let initial = options.get("sendInitialEvents").is_some();
    let matching = options.get("resourceVersionMatch");
    if initial && matching != Some("NotOlderThan") {
        errors.push(forbidden(
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ));
    }
    if let Some(matching) = matching {
        if !initial {
            errors.push(forbidden(
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ));
        }
        if matching != "NotOlderThan" {
            errors.push(unsupported(matching, "\"NotOlderThan\""));
        }
        if options.get("continue").is_some() {
            errors.push(forbidden("resourceVersionMatch is forbidden when continue is provided"));
        }
    }
    errors
}

fn forbidden(detail: &str) -> FieldError {
    FieldError {
        field: "resourceVersionMatch".to_owned(),
        reason: Reason::Forbidden,
        detail: detail.to_owned(),
    }
}

fn unsupported(value: &str, supported: &str) -> FieldError {
    FieldError {
        field: "resourceVersionMatch".to_owned(),
        reason: Reason::NotSupported(json!(value).into()),
        detail: format!("supported values: {supported}"),
    }
}
