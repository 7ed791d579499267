//! PATCH with an apply configuration: makes the object, or gives the stored one what the configuration says.

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

use crate::error::ApiError;
use crate::resource::decode::{FieldValidation, check, configuration, warning};
use crate::resource::managed;

use super::auth;
use super::call::{Call, WriteOptions};
use super::create;
use super::object::{self, text};
use super::request::Verb;
use super::respond;
use super::update::{Part, change};
use super::write::{Done, Wanted};

/// The media type of an apply configuration, which JSON is too.
pub const MEDIA_TYPE: &str = "application/apply-patch+yaml";
/// How often the object may come and go between the look at it and the write.
const MOST_ATTEMPTS: usize = 5;

/// Applies the configuration in `body` to the object in the path.
///
/// # Errors
/// It is no configuration of such an object, others own what it says, or the outcome is invalid.
pub async fn apply(call: &Call, body: &Bytes) -> Result<Response, ApiError> {
    let options = call.write_options(true)?;
    let (config, warnings) = read(body, &options)?;
    let mut attempt = 1;
    loop {
        let absent = call.state.storage.cache().get(&call.key()).is_none();
        let applied = if absent && call.target.subresource.is_none() {
            make(call, &options, &config, &warnings)
                .await
                .map(|done| (StatusCode::CREATED, done))
        } else {
            let part = Part::from(call.target.subresource);
            change(call, part, &options, |old| {
                wanted(call, &options, Some(old), &config, &warnings)
            })
            .await
            .map(|done| (StatusCode::OK, done))
        };
        match applied {
            Ok((code, done)) => return respond::object(call, code, &done.document, &done.warnings),
            Err(ApiError::AlreadyExists { .. }) if absent && attempt < MOST_ATTEMPTS => attempt += 1,
            Err(ApiError::NotFound { ref name, .. })
                if !absent && *name == call.target.name && attempt < MOST_ATTEMPTS =>
            {
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// The configuration in `body`, and what a strict reader warns of.
///
/// # Errors
/// It is none, or the strict reader was asked for.
pub fn read(body: &[u8], options: &WriteOptions) -> Result<(Value, Vec<String>), ApiError> {
    let bad = |what: &str, why: &str| ApiError::BadRequest(format!("error {what} YAML: {why}"));
    let parsed = configuration(body).map_err(|why| bad("decoding", &why))?;
    let warnings = match (options.validation, parsed.duplicate_key) {
        (FieldValidation::Strict, Some(why)) => return Err(bad("strict decoding", &why)),
        (FieldValidation::Warn, Some(why)) => vec![warning(&why)],
        _ => Vec::new(),
    };
    Ok((parsed.object, warnings))
}

async fn make(call: &Call, options: &WriteOptions, config: &Value, warnings: &[String]) -> Result<Done, ApiError> {
    let uid = text(config, "/metadata/uid");
    if !uid.is_empty() {
        let reason = format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
        return Err(ApiError::conflict(call.info(), &call.target.name, reason));
    }
    auth::authorize(
        &call.state,
        &call.identity,
        call.info(),
        &auth::attributes(Verb::Create, &call.target, None),
    )?;
    let wanted = wanted(call, options, None, config, warnings)?;
    create::make(call, options, wanted).await
}

/// What comes of the configuration on top of `old`.
fn wanted(
    call: &Call,
    options: &WriteOptions,
    old: Option<&Value>,
    config: &Value,
    warnings: &[String],
) -> Result<Wanted, ApiError> {
    let mut live = old.cloned();
    let stored = live.as_mut().map(object::take_managed_fields).unwrap_or_default();
    let applied = managed::apply(&call.writer(options), live.as_ref(), &stored, config, options.force)?;
    check_place(call, &applied.object)?;
    let (object, _unknown) = check(&applied.object, call.info())?;
    Ok(Wanted {
        object,
        warnings: warnings.to_vec(),
        managed_fields: Some(applied.managed_fields),
    })
}

/// The outcome must be the object in the path.
fn check_place(call: &Call, object: &Value) -> Result<(), ApiError> {
    let (sent, name) = (text(object, "/metadata/name"), &call.target.name);
    if sent.is_empty() {
        return Err(ApiError::BadRequest(format!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        )));
    }
    if sent != name {
        return Err(ApiError::BadRequest(format!(
            "the name of the object ({sent}) does not match the name on the URL ({name})"
        )));
    }
    match text(object, "/metadata/namespace") {
        "" => Ok(()),
        sent if sent == call.target.namespace => Ok(()),
        _ => Err(ApiError::BadRequest(
            "the namespace of the provided object does not match the namespace sent on the request".to_owned(),
        )),
    }
}
