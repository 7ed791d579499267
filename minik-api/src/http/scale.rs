//! `/scale`: `spec.replicas` of an object seen as an `autoscaling/v1` Scale.

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::resource::decode::{Format, check};
use crate::resource::field::FieldError;
use crate::resource::managed;
use crate::resource::patch::merge_patch;

use super::apply;
use super::call::{Call, WriteOptions};
use super::document;
use super::negotiate::content_type;
use super::object::{self, text};
use super::request::Verb;
use super::respond;
use super::update::{Part, apply_patch, change};
use super::write::Wanted;

/// Reads, replaces or patches the Scale of the object in the path.
///
/// # Errors
/// The object is not there or has changed, or the Scale is invalid.
pub async fn scale(call: &Call, verb: Verb, body: &Bytes, format: Option<Format>) -> Result<Response, ApiError> {
    let document = match verb {
        Verb::Get => {
            let entry = call
                .state
                .storage
                .cache()
                .get(&call.key())
                .ok_or_else(|| call.not_found())?;
            entry.value.clone()
        }
        Verb::Update => {
            let options = call.write_options(false)?;
            let wanted = parse(body, format.unwrap_or(Format::Json))?;
            change(call, Part::Main, &options, |old| {
                with_scale(call, old, &wanted).map(Wanted::new)
            })
            .await?
            .document
        }
        Verb::Patch if content_type(&call.headers) == apply::MEDIA_TYPE => {
            let options = call.write_options(true)?;
            let (config, _) = apply::read(body, &options)?;
            change(call, Part::Main, &options, |old| applied(call, &options, old, &config))
                .await?
                .document
        }
        Verb::Patch => {
            let options = call.write_options(false)?;
            let media_type = content_type(&call.headers).to_owned();
            let patched = |old: &Value| {
                // A Scale has no lists, so its strategic merge is the plain one.
                let wanted = apply_patch(&media_type, &scale_of(old), body, |scale| merge_patch(scale, body))?;
                with_scale(call, old, &wanted).map(Wanted::new)
            };
            change(call, Part::Main, &options, patched).await?.document
        }
        _ => return Err(ApiError::MethodNotAllowed),
    };
    let object = document::parse(call.info(), &document)?;
    respond::value(call, StatusCode::OK, &scale_of(&object))
}

/// What comes of an applied Scale: its manager owns the object's replicas, by way of the subresource.
fn applied(call: &Call, options: &WriteOptions, old: &Value, config: &Value) -> Result<Wanted, ApiError> {
    let (version, kind) = (text(config, "/apiVersion"), text(config, "/kind"));
    if (version, kind) != ("autoscaling/v1", "Scale") {
        let slash = if version.contains('/') { "" } else { "/" };
        return Err(ApiError::BadRequest(format!(
            "invalid object type: {slash}{version}, Kind={kind}"
        )));
    }
    let mut of_object = json!({"metadata": {}});
    call.info().stamp(&mut of_object);
    if let Some(replicas) = config.pointer("/spec/replicas") {
        of_object["spec"] = json!({"replicas": replicas});
    }
    let mut live = old.clone();
    let stored = object::take_managed_fields(&mut live);
    let writer = call.writer(options);
    let applied = managed::apply(&writer, Some(&live), &stored, &of_object, options.force)?;
    let mut wanted = Wanted::new(check(&applied.object, call.info())?.0);
    wanted.managed_fields = Some(applied.managed_fields);
    Ok(wanted)
}

fn parse(body: &[u8], format: Format) -> Result<Value, ApiError> {
    match format {
        Format::Json => serde_json::from_slice(body).map_err(|e| ApiError::BadRequest(e.to_string())),
        Format::Yaml => serde_saphyr::from_slice(body).map_err(|e| ApiError::BadRequest(e.to_string())),
    }
}

fn with_scale(call: &Call, old: &Value, wanted: &Value) -> Result<Value, ApiError> {
    let mut new = old.clone();
    let name = &call.target.name;
    let sent = text(wanted, "/metadata/name");
    if !sent.is_empty() && sent != name {
        return Err(ApiError::BadRequest(format!(
            "the name of the object ({sent}) does not match the name on the URL ({name})"
        )));
    }
    let replicas = wanted
        .pointer("/spec/replicas")
        .and_then(Value::as_i64)
        .unwrap_or_default();
    if replicas < 0 {
        return Err(ApiError::Invalid {
            kind: "Scale".to_owned(),
            group: "autoscaling".to_owned(),
            name: name.clone(),
            errors: vec![FieldError::invalid(
                "spec.replicas",
                replicas,
                "must be greater than or equal to 0",
            )],
        });
    }
    for field in ["uid", "resourceVersion"] {
        match text(wanted, &format!("/metadata/{field}")) {
            "" => object::metadata(&mut new).remove(field),
            value => object::metadata(&mut new).insert(field.to_owned(), value.into()),
        };
    }
    object::map(&mut new["spec"]).insert("replicas".to_owned(), replicas.into());
    Ok(new)
}

fn scale_of(object: &Value) -> Value {
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object.pointer(&format!("/metadata/{field}")) {
            metadata[field] = value.clone();
        }
    }
    let number = |pointer| object.pointer(pointer).and_then(Value::as_i64).unwrap_or_default();
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {"replicas": number("/spec/replicas")},
        "status": {"replicas": number("/status/replicas"), "selector": selector(object)},
    })
}

/// `spec.selector` in the form of a query.
fn selector(object: &Value) -> String {
    let labels = object.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
    let equal = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), format!("{key}={}", value.as_str().unwrap_or_default())));
    let expressions = object
        .pointer("/spec/selector/matchExpressions")
        .and_then(Value::as_array);
    let set = expressions.into_iter().flatten().map(|expression| {
        let key = text(expression, "/key").to_owned();
        let mut values = object::strings(expression, "/values");
        values.sort();
        let values = values.join(",");
        let written = match text(expression, "/operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.clone(),
        };
        (key, written)
    });
    let mut all: Vec<_> = equal.chain(set).collect();
    all.sort();
    all.into_iter()
        .map(|(_, written)| written)
        .collect::<Vec<_>>()
        .join(",")
}
