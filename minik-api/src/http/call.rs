//! One request about a resource, with everything its verb needs.

use http::HeaderMap;
use jiff::Timestamp;

use crate::error::ApiError;
use crate::resource::decode::FieldValidation;
use crate::resource::field::{FieldError, Reason};
use crate::resource::{KindInfo, Registered};
use crate::server::{Identity, SharedState};

use super::negotiate::Accepted;
use super::request::{Options, Target, key};

/// A request after routing, negotiation and authorization.
pub struct Call {
    /// The server.
    pub state: SharedState,
    /// What it is about.
    pub target: Target<'static>,
    /// Query parameters.
    pub options: Options,
    /// How to answer.
    pub accept: Accepted,
    /// Who asks.
    pub identity: Identity,
    /// The request's headers.
    pub headers: HeaderMap,
}

impl Call {
    /// The kind.
    #[must_use]
    pub fn kind(&self) -> &'static Registered {
        self.target.kind
    }

    /// The kind's names.
    #[must_use]
    pub fn info(&self) -> &'static KindInfo {
        &self.target.kind.info
    }

    /// Where the object named in the path is stored.
    #[must_use]
    pub fn key(&self) -> String {
        key(self.info(), &self.target.namespace, &self.target.name)
    }

    /// 404 about the object named in the path.
    #[must_use]
    pub fn not_found(&self) -> ApiError {
        ApiError::not_found(self.info(), &self.target.name)
    }

    /// Whether nothing may be stored.
    ///
    /// # Errors
    /// `dryRun` has a value other than `All`.
    pub fn dry_run(&self) -> Result<bool, ApiError> {
        dry_run(self.options.all("dryRun"))
    }

    /// What `fieldValidation` asks for.
    ///
    /// # Errors
    /// It has an unknown value.
    pub fn field_validation(&self) -> Result<FieldValidation, ApiError> {
        match self.options.get("fieldValidation") {
            None | Some("Warn") => Ok(FieldValidation::Warn),
            Some("Strict") => Ok(FieldValidation::Strict),
            Some("Ignore") => Ok(FieldValidation::Ignore),
            Some(other) => {
                let supported = "supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"";
                Err(invalid_option("CreateOptions", "fieldValidation", other, supported))
            }
        }
    }
}

/// Whether `directives` ask for a dry run.
///
/// # Errors
/// One of them is not `All`.
pub fn dry_run<'v>(directives: impl Iterator<Item = &'v str>) -> Result<bool, ApiError> {
    let mut dry = false;
    for directive in directives.filter(|directive| !directive.is_empty()) {
        if directive != "All" {
            return Err(invalid_option(
                "CreateOptions",
                "dryRun",
                directive,
                "supported values: \"All\"",
            ));
        }
        dry = true;
    }
    Ok(dry)
}

/// 422 about an option with a fixed set of values.
#[must_use]
pub fn invalid_option(kind: &str, field: &str, value: &str, supported: &str) -> ApiError {
    ApiError::Invalid {
        kind: kind.to_owned(),
        group: "meta.k8s.io".to_owned(),
        name: String::new(),
        errors: vec![FieldError {
            field: field.to_owned(),
            reason: Reason::NotSupported(value.into()),
            detail: supported.to_owned(),
        }],
    }
}

/// Now, to the second, as object metadata records it.
#[must_use]
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}
