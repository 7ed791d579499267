//! `meta/v1` Status: the body of every failure, and of successes that leave no object.

use serde::Serialize;

use super::Resource;

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
    pub(super) fn of(resource: &Resource, name: &str) -> Self {
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

    /// The answer to a request that failed; `token` goes on with a list that expired.
    pub(super) fn failure(
        message: String,
        reason: &'static str,
        details: Option<Details>,
        code: u16,
        token: String,
    ) -> Self {
        Self {
            kind: "Status",
            api_version: "v1",
            metadata: StatusMetadata { token },
            status: "Failure",
            message,
            reason,
            details,
            code: Some(code),
        }
    }

    /// The answer to a Binding: success with a code and nothing else.
    #[must_use]
    pub fn created() -> Self {
        Self {
            details: None,
            code: Some(201),
            ..Self::success(Details::default())
        }
    }
}
