//! What a request can fail with, and the Status that says so, in the words of Kubernetes 1.36.
//!
//! Every failure of `http` ends here; texts of single fields come from `resource`.

use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::resource::KindInfo;
use crate::resource::decode::DecodeError;
use crate::resource::field::{FieldError, FieldErrors, Reason};
use crate::resource::patch::PatchError;
use crate::storage::{Compacted, StorageError};

/// A failed request.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// 400: the request itself makes no sense.
    #[error("{0}")]
    BadRequest(String),
    /// 400: the body does not decode.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// 400 or 422: the patch does not apply.
    #[error(transparent)]
    Patch(#[from] PatchError),
    /// 401.
    #[error("Unauthorized")]
    Unauthorized,
    /// 403 about a path outside the API.
    #[error("{0}")]
    ForbiddenPath(String),
    /// 403.
    #[error("{} is forbidden: {reason}", object(resource, name))]
    Forbidden {
        /// What was asked for.
        resource: Resource,
        /// Its name, empty for a collection.
        name: String,
        /// Why not.
        reason: String,
        /// Machine-readable reasons.
        causes: Vec<Cause>,
    },
    /// 404 about an object.
    #[error("{resource} \"{name}\" not found")]
    NotFound {
        /// Its resource.
        resource: Resource,
        /// Its name.
        name: String,
    },
    /// 404 about a resource.
    #[error("the server could not find the requested resource")]
    NoSuchResource,
    /// 404 about a path outside the API.
    #[error("404 page not found")]
    NoSuchPath,
    /// 405.
    #[error("the server does not allow this method on the requested resource")]
    MethodNotAllowed,
    /// 406.
    #[error("406: Not Acceptable\n\nAvailable representations: {0}")]
    NotAcceptable(&'static str),
    /// 409 on creation.
    #[error("{resource} \"{name}\" already exists")]
    AlreadyExists {
        /// Its resource.
        resource: Resource,
        /// Its name.
        name: String,
    },
    /// 409 on a change.
    #[error("Operation cannot be fulfilled on {resource} \"{name}\": {reason}")]
    Conflict {
        /// Its resource.
        resource: Resource,
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
    /// 410.
    #[error(transparent)]
    Expired(#[from] Compacted),
    /// 410 of a paged list, with a token to go on regardless.
    #[error("{message}")]
    ContinueExpired {
        /// The text for people.
        message: &'static str,
        /// The token that goes on from a newer state.
        token: String,
    },
    /// 413.
    #[error("Request entity too large: limit is {0}")]
    TooLarge(usize),
    /// 415.
    #[error("the body of the request was in an unknown format - accepted media types include: {0}")]
    UnsupportedMediaType(&'static str),
    /// 422.
    #[error("{} \"{name}\" is invalid: {}", kind_group(kind, group), aggregate(errors))]
    Invalid {
        /// Kind of the object.
        kind: String,
        /// Its group.
        group: String,
        /// Its name.
        name: String,
        /// What is wrong with it.
        errors: FieldErrors,
    },
    /// 500.
    #[error("{0}")]
    Internal(String),
    /// 503: the agent of a node does not answer.
    #[error("{0}")]
    Unavailable(String),
    /// 504: a list asked for a revision that is not there yet.
    #[error("Too large resource version: {requested}, current: {current}")]
    FutureVersion {
        /// What was asked for.
        requested: u64,
        /// What there is.
        current: u64,
    },
    /// 500 or 503 of the store.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// 500: a stored or defaulted object does not fit its own type.
    #[error("the object does not fit its type")]
    Encoding(#[from] serde_json::Error),
}

/// A resource as errors name it: `services`, `deployments.apps`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resource {
    /// API group.
    pub group: &'static str,
    /// Plural name.
    pub plural: &'static str,
}

impl From<&KindInfo> for Resource {
    fn from(info: &KindInfo) -> Self {
        Self { group: info.group, plural: info.plural }
    }
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.plural)?;
        if self.group.is_empty() { Ok(()) } else { write!(f, ".{}", self.group) }
    }
}

/// One machine-readable reason of a Status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// `FieldValueInvalid`, `NamespaceTerminating` …
    #[serde(skip_serializing_if = "str::is_empty")]
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// Path of the field.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// The body of every failure, and of successes without an object.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    kind: &'static str,
    api_version: &'static str,
    metadata: StatusMetadata,
    status: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
}

#[derive(Debug, Default, Serialize)]
struct StatusMetadata {
    #[serde(rename = "continue", skip_serializing_if = "String::is_empty")]
    token: String,
}

/// What a Status is about.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    /// Name of the object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Its plural (its kind when the object was invalid).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Its uid.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Machine-readable reasons.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// When asking again makes sense, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
}

impl Details {
    fn of(resource: &Resource, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            group: resource.group.to_owned(),
            kind: resource.plural.to_owned(),
            ..Self::default()
        }
    }
}

impl Status {
    /// The answer to a change that leaves no object, such as a deletion.
    #[must_use]
    pub fn success(details: Details) -> Self {
        Self {
            kind: "Status",
            api_version: "v1",
            metadata: StatusMetadata::default(),
            status: "Success",
            message: String::new(),
            reason: "",
            details: Some(details),
            code: None,
        }
    }

    /// The answer to a Binding: success with a code and nothing else.
    #[must_use]
    pub fn created() -> Self {
        Self { details: None, code: Some(201), ..Self::success(Details::default()) }
    }
}

impl ApiError {
    /// 422 about an object of this kind.
    #[must_use]
    pub fn invalid(info: &KindInfo, name: &str, errors: FieldErrors) -> Self {
        let (kind, group) = (info.kind.to_owned(), info.group.to_owned());
        Self::Invalid { kind, group, name: name.to_owned(), errors }
    }

    /// 404 about an object of this kind.
    #[must_use]
    pub fn not_found(info: &KindInfo, name: &str) -> Self {
        Self::NotFound { resource: info.into(), name: name.to_owned() }
    }

    /// 409 about an object of this kind.
    #[must_use]
    pub fn conflict(info: &KindInfo, name: &str, reason: impl Into<String>) -> Self {
        Self::Conflict { resource: info.into(), name: name.to_owned(), reason: reason.into() }
    }

    /// The HTTP status.
    #[must_use]
    pub fn code(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) | Self::Decode(_) => StatusCode::BAD_REQUEST,
            Self::Patch(error) => {
                StatusCode::from_u16(error.status_code()).unwrap_or(StatusCode::BAD_REQUEST)
            }
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden { .. } | Self::ForbiddenPath(_) => StatusCode::FORBIDDEN,
            Self::NotFound { .. } | Self::NoSuchResource | Self::NoSuchPath => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotAcceptable(_) => StatusCode::NOT_ACCEPTABLE,
            Self::AlreadyExists { .. } | Self::Conflict { .. } => StatusCode::CONFLICT,
            Self::Expired(_) | Self::ContinueExpired { .. } => StatusCode::GONE,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Invalid { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Storage(StorageError::Conflict(_)) => StatusCode::CONFLICT,
            Self::Unavailable(_) | Self::Storage(StorageError::Closed) => StatusCode::SERVICE_UNAVAILABLE,
            Self::FutureVersion { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::Internal(_) | Self::Encoding(_) | Self::Storage(StorageError::Failed(_)) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::AlreadyExists { .. } => "AlreadyExists",
            Self::Patch(_) if self.code() == StatusCode::UNPROCESSABLE_ENTITY => "Invalid",
            _ => match self.code() {
                StatusCode::BAD_REQUEST => "BadRequest",
                StatusCode::UNAUTHORIZED => "Unauthorized",
                StatusCode::FORBIDDEN => "Forbidden",
                StatusCode::NOT_FOUND => "NotFound",
                StatusCode::METHOD_NOT_ALLOWED => "MethodNotAllowed",
                StatusCode::NOT_ACCEPTABLE => "NotAcceptable",
                StatusCode::CONFLICT => "Conflict",
                StatusCode::GONE => "Expired",
                StatusCode::PAYLOAD_TOO_LARGE => "RequestEntityTooLarge",
                StatusCode::UNSUPPORTED_MEDIA_TYPE => "UnsupportedMediaType",
                StatusCode::UNPROCESSABLE_ENTITY => "Invalid",
                StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
                StatusCode::GATEWAY_TIMEOUT => "Timeout",
                _ => "InternalError",
            },
        }
    }

    fn details(&self) -> Option<Details> {
        match self {
            Self::NotFound { resource, name }
            | Self::AlreadyExists { resource, name }
            | Self::Conflict { resource, name, .. } => Some(Details::of(resource, name)),
            Self::Forbidden { resource, name, causes, .. } => {
                Some(Details { causes: causes.clone(), ..Details::of(resource, name) })
            }
            Self::Invalid { kind, group, name, errors } => Some(Details {
                name: name.clone(),
                group: group.clone(),
                kind: kind.clone(),
                causes: errors.iter().map(cause).collect(),
                ..Details::default()
            }),
            Self::FutureVersion { .. } => Some(Details {
                causes: vec![Cause {
                    reason: "ResourceVersionTooLarge",
                    message: "Too large resource version".to_owned(),
                    field: String::new(),
                }],
                retry_after_seconds: Some(1),
                ..Details::default()
            }),
            Self::NoSuchResource
            | Self::ForbiddenPath(_)
            | Self::MethodNotAllowed
            | Self::NotAcceptable(_) => Some(Details::default()),
            _ => None,
        }
    }

    /// The Status that tells the client.
    #[must_use]
    pub fn status(&self) -> Status {
        let token = match self {
            Self::ContinueExpired { token, .. } => token.clone(),
            _ => String::new(),
        };
        Status {
            kind: "Status",
            api_version: "v1",
            metadata: StatusMetadata { token },
            status: "Failure",
            message: self.to_string(),
            reason: self.reason(),
            details: self.details(),
            code: Some(self.code().as_u16()),
        }
    }
}

impl axum::response::IntoResponse for ApiError {
    fn into_response(self) -> axum::response::Response {
        let code = self.code();
        if code.is_server_error() {
            tracing::warn!(error = &self as &dyn std::error::Error, "a request failed");
        }
        if matches!(self, Self::NoSuchPath) {
            let plain = [(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"))];
            return (code, plain, "404 page not found\n").into_response();
        }
        (code, axum::Json(self.status())).into_response()
    }
}

fn object(resource: &Resource, name: &str) -> String {
    if name.is_empty() { resource.to_string() } else { format!("{resource} \"{name}\"") }
}

fn kind_group(kind: &str, group: &str) -> String {
    if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") }
}

/// All messages of a 422: one stands alone, several in brackets, equal ones once.
fn aggregate(errors: &[FieldError]) -> String {
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

fn cause(error: &FieldError) -> Cause {
    let reason = match error.reason {
        Reason::Required => "FieldValueRequired",
        Reason::Invalid(_) => "FieldValueInvalid",
        Reason::Duplicate(_) => "FieldValueDuplicate",
        Reason::NotSupported(_) => "FieldValueNotSupported",
        Reason::Forbidden => "FieldValueForbidden",
        Reason::TooLong => "FieldValueTooLong",
        Reason::TooMany => "FieldValueTooMany",
    };
    Cause { reason, message: body(error), field: error.field.clone() }
}

/// The message of one field without the field, apimachinery's `Error.ErrorBody`.
fn body(error: &FieldError) -> String {
    let (label, value) = match &error.reason {
        Reason::Required => ("Required value", None),
        Reason::Invalid(value) => ("Invalid value", Some(value)),
        Reason::Duplicate(value) => ("Duplicate value", Some(value)),
        Reason::NotSupported(value) => ("Unsupported value", Some(value)),
        Reason::Forbidden => ("Forbidden", None),
        Reason::TooLong => ("Too long", None),
        Reason::TooMany => ("Too many", None),
    };
    let mut text = label.to_owned();
    if let Some(value) = value {
        text.push_str(": ");
        text.push_str(&value.to_string());
    }
    if !error.detail.is_empty() {
        text.push_str(": ");
        text.push_str(&error.detail);
    }
    text
}
