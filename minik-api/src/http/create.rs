//! POST of an object.

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

use crate::error::{ApiError, Cause};
use crate::resource::decode::{self, Format, decode};
use crate::resource::managed;
use crate::storage::{Expected, Op, StorageError, Write};

use super::addresses;
use super::admission;
use super::auth::restrict_to_own_node;
use super::call::{Call, WriteOptions, now};
use super::document;
use super::escalation;
use super::generated_name::generate;
use super::object::{self, text};
use super::request::key;
use super::respond;
use super::service_account;
use super::write::{Done, Wanted};

/// Suffixes tried before the client is told that the name is taken.
const MAX_GENERATED_ATTEMPTS: usize = 8;

/// Stores the object in `body` and answers with it.
///
/// # Errors
/// The body does not decode, its namespace is missing or going away, it is invalid, or it exists.
pub async fn create(call: &Call, body: &Bytes, format: Format) -> Result<Response, ApiError> {
    let options = call.write_options(false)?;
    let decoded = decode(body, format, call.info(), options.validation)?;
    let mut wanted = Wanted::new(decoded.object);
    wanted.warnings = decoded.warnings;
    let done = make(call, &options, wanted).await?;
    respond::object(call, StatusCode::CREATED, &done.document, &done.warnings)
}

/// Stores a new object as `wanted`.
///
/// # Errors
/// As [`create`].
pub async fn make(call: &Call, options: &WriteOptions, wanted: Wanted) -> Result<Done, ApiError> {
    let Wanted {
        object: mut new,
        mut warnings,
        managed_fields: decided,
    } = wanted;
    check_namespace(call, &new)?;
    if !text(&new, "/metadata/resourceVersion").is_empty() {
        let reason = "resourceVersion should not be set on objects to be created";
        return Err(ApiError::Unclassified(reason.to_owned()));
    }
    let strategy = &call.kind().strategy;
    let sent = object::take_managed_fields(&mut new);
    object::begin(&mut new, &call.target.namespace, now());
    let base = match (text(&new, "/metadata/name"), text(&new, "/metadata/generateName")) {
        ("", base) if !base.is_empty() => Some(base.to_owned()),
        _ => None,
    };
    let mut attempt = 0;
    loop {
        if let Some(base) = &base {
            object::metadata(&mut new).insert("name".to_owned(), generate(base).into());
        }
        let mut candidate = if base.is_some() { new.clone() } else { new.take() };
        // What a kind fills in may follow from the name.
        strategy.default(&mut candidate)?;
        let managed_fields = decided
            .clone()
            .unwrap_or_else(|| managed::update(&call.writer(options), None, &candidate, &Value::Null, &sent));
        escalation::check(call, None, &candidate)?;
        admission::admit(call, &mut candidate)?;
        service_account::admit(call, &mut candidate).await?;
        strategy.prepare_for_create(&mut candidate)?;
        decode::settle(call.info(), &mut candidate);
        attempt += 1;
        match store(call, &mut candidate, &managed_fields, options.dry_run).await {
            Ok(document) => {
                warnings.extend(strategy.warnings(&candidate)?);
                return Ok(Done { document, warnings });
            }
            Err(error) if base.is_some() => another_name(attempt, error)?,
            Err(error) => return Err(error),
        }
    }
}

/// Whether a failed `attempt` to store an object under a generated name is to be followed by one under another.
///
/// # Errors
/// What the attempt failed with has nothing to do with its name, or it was the last one.
fn another_name(attempt: usize, error: ApiError) -> Result<(), ApiError> {
    match error {
        ApiError::AlreadyExists { .. } if attempt < MAX_GENERATED_ATTEMPTS => Ok(()),
        ApiError::AlreadyExists { resource, name } => Err(ApiError::NoUniqueName { resource, name }),
        error => Err(error),
    }
}

/// Checks one fully prepared object and stores it.
async fn store(call: &Call, new: &mut Value, managed_fields: &Value, dry_run: bool) -> Result<Bytes, ApiError> {
    let info = call.info();
    let name = text(new, "/metadata/name").to_owned();
    restrict_to_own_node(&call.identity, info, &name)?;
    admit_namespace(call, &name)?;
    let errors = call.kind().strategy.validate(new)?;
    let asked = (info.kind == "Service" && !addresses::come_first(&errors)).then(|| new.clone());
    let mut reservation = asked.as_ref().map(|_| addresses::reserve(call, new)).transpose()?;
    if !errors.is_empty() {
        return Err(ApiError::invalid(info, &name, errors));
    }
    let key = key(info, &call.target.namespace, &name);
    if call.state.storage.cache().get(&key).is_some() {
        return Err(exists(call, &name));
    }
    if dry_run {
        let revision = call.state.storage.cache().revision();
        object::set_managed_fields(new, managed_fields.clone());
        return Ok(document::encode(info, new)?.stamp(revision));
    }
    if let (Some(asked), Some(reserved)) = (asked, reservation.take()) {
        reservation = Some(addresses::claim(call, &asked, new, reserved).await?);
    }
    object::set_managed_fields(new, managed_fields.clone());
    let stored = put(call, new, key, &name).await;
    match (&stored, reservation) {
        (Ok(_), Some(reservation)) => reservation.commit(),
        (Err(_), Some(reservation)) => addresses::abandon(&call.state, reservation).await,
        _ => {}
    }
    stored
}

fn exists(call: &Call, name: &str) -> ApiError {
    ApiError::AlreadyExists {
        resource: call.info().into(),
        name: name.to_owned(),
    }
}

/// Stores an object that has all it asked for, unless somebody was faster.
async fn put(call: &Call, new: &Value, key: String, name: &str) -> Result<Bytes, ApiError> {
    let write = Write {
        key: key.into(),
        expected: Expected::Absent,
        op: Op::Put(document::encode(call.info(), new)?),
    };
    let entry = call.state.storage.commit(write).await.map_err(|error| match error {
        StorageError::Conflict(_) => exists(call, name),
        error => error.into(),
    })?;
    addresses::remember(&call.state, call.info(), name);
    Ok(entry.value.clone())
}

fn check_namespace(call: &Call, new: &Value) -> Result<(), ApiError> {
    let sent = text(new, "/metadata/namespace");
    if sent.is_empty() || !call.info().namespaced || sent == call.target.namespace {
        return Ok(());
    }
    let reason = "the namespace of the provided object does not match the namespace sent on the request";
    Err(ApiError::BadRequest(reason.to_owned()))
}

/// Objects are made only in namespaces that are there and stay.
fn admit_namespace(call: &Call, name: &str) -> Result<(), ApiError> {
    let namespace = &call.target.namespace;
    if namespace.is_empty() {
        return Ok(());
    }
    let namespaces = call
        .state
        .registry
        .by_kind("", "Namespace")
        .ok_or(ApiError::NoSuchResource)?;
    let entry = call.state.storage.cache().get(&key(&namespaces.info, "", namespace));
    let entry = entry.ok_or_else(|| ApiError::not_found(&namespaces.info, namespace))?;
    let stored: Value = serde_json::from_slice(&entry.value)?;
    if !object::is_deleting(&stored) {
        return Ok(());
    }
    let reason = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let cause = Cause {
        reason: "NamespaceTerminating",
        message: format!("namespace {namespace} is being terminated"),
        field: "metadata.namespace".to_owned(),
    };
    let (resource, name) = (call.info().into(), name.to_owned());
    Err(ApiError::Forbidden {
        resource,
        name,
        reason,
        causes: vec![cause],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken() -> ApiError {
        let resource = crate::error::Resource {
            group: "",
            plural: "pods",
        };
        let name = "web-x7k2p".to_owned();
        ApiError::AlreadyExists { resource, name }
    }

    #[test]
    fn a_generated_name_that_is_taken_is_tried_again_eight_times() {
        for attempt in 1..MAX_GENERATED_ATTEMPTS {
            assert!(another_name(attempt, taken()).is_ok());
        }
        let refused = another_name(MAX_GENERATED_ATTEMPTS, taken()).expect_err("was the last one");
        assert_eq!(
            refused.to_string(),
            "pods \"web-x7k2p\" already exists, the server was not able to generate a unique name for the object"
        );
        assert_eq!(refused.code(), StatusCode::CONFLICT);
        let other = another_name(1, ApiError::NoSuchResource).expect_err("is no question of names");
        assert!(matches!(other, ApiError::NoSuchResource));
    }
}
