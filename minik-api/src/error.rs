//! What a request can fail with, and the Status that says so, in the words of Kubernetes 1.36.
//!
//! Every failure of `http` ends here; texts of single fields come from `resource`.

mod message;
mod status;

use http::StatusCode;

use crate::resource::KindInfo;
use crate::resource::decode::DecodeError;
use crate::resource::field::FieldErrors;
use crate::resource::managed::{ApplyError, Conflict, Conflicts};
use crate::resource::patch::PatchError;
use crate::storage::{Compacted, StorageError};

use message::{aggregate, cause};
pub use status::{Cause, Details, Status};

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
    /// 409 on creation, by whichever name was generated.
    #[error("{resource} \"{name}\" already exists, the server was not able to generate a unique name for the object")]
    NoUniqueName {
        /// Its resource.
        resource: Resource,
        /// The last name that was tried.
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
    /// 409 of a server-side apply.
    #[error(transparent)]
    ApplyConflicts(#[from] Conflicts),
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
    /// 429: not now.
    #[error("{message}")]
    TooManyRequests {
        /// The text for people.
        message: String,
        /// Machine-readable reasons.
        causes: Vec<Cause>,
        /// When asking again makes sense, in seconds.
        retry_after_seconds: Option<u32>,
    },
    /// 500.
    #[error("{0}")]
    Internal(String),
    /// 500 without a reason, as Kubernetes answers with errors of no class.
    #[error("{0}")]
    Unclassified(String),
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
        Self {
            group: info.group,
            plural: info.plural,
        }
    }
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.plural)?;
        if self.group.is_empty() {
            Ok(())
        } else {
            write!(f, ".{}", self.group)
        }
    }
}

impl ApiError {
    /// 500 about fields that Kubernetes refuses without saying what class of error that is.
    #[must_use]
    pub fn unclassified(errors: &FieldErrors) -> Self {
        Self::Unclassified(aggregate(errors))
    }

    /// 422 about an object of this kind.
    #[must_use]
    pub fn invalid(info: &KindInfo, name: &str, errors: FieldErrors) -> Self {
        let (kind, group) = (info.kind.to_owned(), info.group.to_owned());
        Self::Invalid {
            kind,
            group,
            name: name.to_owned(),
            errors,
        }
    }

    /// 404 about an object of this kind.
    #[must_use]
    pub fn not_found(info: &KindInfo, name: &str) -> Self {
        Self::NotFound {
            resource: info.into(),
            name: name.to_owned(),
        }
    }

    /// 409 about an object of this kind.
    #[must_use]
    pub fn conflict(info: &KindInfo, name: &str, reason: impl Into<String>) -> Self {
        Self::Conflict {
            resource: info.into(),
            name: name.to_owned(),
            reason: reason.into(),
        }
    }

    /// The HTTP status.
    #[must_use]
    pub fn code(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) | Self::Decode(_) => StatusCode::BAD_REQUEST,
            Self::Patch(error) => StatusCode::from_u16(error.status_code()).unwrap_or(StatusCode::BAD_REQUEST),
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden { .. } | Self::ForbiddenPath(_) => StatusCode::FORBIDDEN,
            Self::NotFound { .. } | Self::NoSuchResource | Self::NoSuchPath => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotAcceptable(_) => StatusCode::NOT_ACCEPTABLE,
            Self::AlreadyExists { .. }
            | Self::NoUniqueName { .. }
            | Self::Conflict { .. }
            | Self::ApplyConflicts(_) => StatusCode::CONFLICT,
            Self::Expired(_) | Self::ContinueExpired { .. } => StatusCode::GONE,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Invalid { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooManyRequests { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Storage(StorageError::Conflict(_)) => StatusCode::CONFLICT,
            Self::Unavailable(_) | Self::Storage(StorageError::Closed) => StatusCode::SERVICE_UNAVAILABLE,
            Self::FutureVersion { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::Internal(_) | Self::Unclassified(_) | Self::Encoding(_) | Self::Storage(StorageError::Failed(_)) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::AlreadyExists { .. } | Self::NoUniqueName { .. } => "AlreadyExists",
            Self::Unclassified(_) => "",
            Self::Patch(PatchError::Strategic(_)) => "",
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
                StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
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
            Self::Forbidden {
                resource, name, causes, ..
            } => Some(Details {
                causes: causes.clone(),
                ..Details::of(resource, name)
            }),
            Self::Invalid {
                kind,
                group,
                name,
                errors,
            } => Some(Details {
                name: name.clone(),
                group: group.clone(),
                kind: kind.clone(),
                causes: errors.iter().map(cause).collect(),
                ..Details::default()
            }),
            Self::TooManyRequests {
                causes,
                retry_after_seconds,
                ..
            } => Some(Details {
                causes: causes.clone(),
                retry_after_seconds: *retry_after_seconds,
                ..Details::default()
            }),
            Self::NoUniqueName { resource, name } => Some(Details {
                retry_after_seconds: Some(1),
                ..Details::of(resource, name)
            }),
            Self::ApplyConflicts(conflicts) => Some(Details {
                causes: conflicts.0.iter().map(conflict).collect(),
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
            Self::Patch(PatchError::Inapplicable(_))
            | Self::NoSuchResource
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
        Status::failure(
            self.to_string(),
            self.reason(),
            self.details(),
            self.code().as_u16(),
            token,
        )
    }
}

impl From<ApplyError> for ApiError {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Conflicts(conflicts) => Self::ApplyConflicts(conflicts),
            ApplyError::Type(_) | ApplyError::ManagedFields => Self::BadRequest(error.to_string()),
            ApplyError::Schema { .. } => Self::Unclassified(error.to_string()),
            // The one place where the source stands in the message: it is all that the client gets.
            ApplyError::Stored(ref source) => Self::Unclassified(format!("{error}: {source}")),
        }
    }
}

fn conflict(conflict: &Conflict) -> Cause {
    Cause {
        reason: "FieldManagerConflict",
        message: conflict.message(),
        field: conflict.field(),
    }
}

fn object(resource: &Resource, name: &str) -> String {
    if name.is_empty() {
        resource.to_string()
    } else {
        format!("{resource} \"{name}\"")
    }
}

fn kind_group(kind: &str, group: &str) -> String {
    if group.is_empty() {
        kind.to_owned()
    } else {
        format!("{kind}.{group}")
    }
}
