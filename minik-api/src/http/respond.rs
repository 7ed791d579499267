//! Responses: stored documents, lists, values and refusals, in the shape and the format that the client asked for.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::error::{ApiError, Status};
use crate::resource::protobuf;
use crate::storage::Entry;

use super::call::Call;
use super::document::{self, append_full, partial};
use super::list_meta::{ListMeta, revision};
use super::negotiate::{self, Accepted, Representation, Shape};
use super::table;

/// Answers with one stored document.
///
/// # Errors
/// The document is damaged.
pub fn object(call: &Call, code: StatusCode, document: &[u8], warnings: &[String]) -> Result<Response, ApiError> {
    let mut body = Vec::with_capacity(document.len() + 64);
    match call.accept.shape {
        Shape::Full => append_full(&mut body, call.info(), document),
        Shape::Metadata => serde_json::to_writer(&mut body, &partial(document)?)?,
        Shape::Table => {
            let rows = [table::row(call, document)?];
            serde_json::to_writer(&mut body, &table::of(call.kind(), revision(document), &rows, true))?;
        }
    }
    finish(call.accept, code, body, warnings)
}

/// Answers with a list.
///
/// # Errors
/// A document is damaged.
pub fn list(call: &Call, entries: &[Arc<Entry>], meta: &ListMeta) -> Result<Response, ApiError> {
    let info = call.info();
    let body = match call.accept.shape {
        Shape::Full => {
            let size: usize = entries.iter().map(|entry| entry.value.len() + 1).sum();
            let mut body = Vec::with_capacity(size + 128);
            let (kind, version) = (info.kind, info.api_version());
            body.extend_from_slice(
                format!("{{\"kind\":\"{kind}List\",\"apiVersion\":\"{version}\",\"metadata\":").as_bytes(),
            );
            serde_json::to_writer(&mut body, meta)?;
            body.extend_from_slice(b",\"items\":[");
            for (n, entry) in entries.iter().enumerate() {
                if n > 0 {
                    body.push(b',');
                }
                body.extend_from_slice(&document::shown(info, &entry.value));
            }
            body.extend_from_slice(b"]}");
            body
        }
        Shape::Metadata => {
            let items = entries
                .iter()
                .map(|entry| partial(&entry.value))
                .collect::<Result<Vec<_>, _>>()?;
            serde_json::to_vec(&json!({
                "kind": "PartialObjectMetadataList",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": meta,
                "items": items,
            }))?
        }
        Shape::Table => {
            let rows = entries
                .iter()
                .map(|entry| table::row(call, &entry.value))
                .collect::<Result<Vec<_>, _>>()?;
            serde_json::to_vec(&table::of(call.kind(), meta, &rows, true))?
        }
    };
    finish(call.accept, StatusCode::OK, body, &[])
}

/// Answers with an object that is not of the path's kind, such as a Scale.
///
/// # Errors
/// None in practice: `value` is JSON already.
pub fn value(call: &Call, code: StatusCode, value: &Value) -> Result<Response, ApiError> {
    finish(call.accept, code, serde_json::to_vec(value)?, &[])
}

/// Answers with a Status.
///
/// # Errors
/// None in practice.
pub fn status(accept: Accepted, code: StatusCode, status: &Status, warnings: &[String]) -> Result<Response, ApiError> {
    finish(accept, code, serde_json::to_vec(status)?, warnings)
}

/// Answers a failed request.
#[must_use]
pub fn refusal(accept: Accepted, error: &ApiError) -> Response {
    let code = error.code();
    if code.is_server_error() {
        tracing::warn!(error = error as &dyn std::error::Error, "a request failed");
    }
    if matches!(error, ApiError::NoSuchPath) {
        let plain = [(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        )];
        return (code, plain, "404 page not found\n").into_response();
    }
    // A Status fits every representation.
    status(accept, code, &error.status(), &[]).unwrap_or_else(|_unwritten| code.into_response())
}

/// Answers with JSON bytes, in the representation that was asked for.
///
/// # Errors
/// The bytes are no JSON, or no object that has the representation.
pub fn finish(accept: Accepted, code: StatusCode, body: Vec<u8>, warnings: &[String]) -> Result<Response, ApiError> {
    let (body, media_type) = match accept.representation {
        Representation::Protobuf => {
            let object: Value = serde_json::from_slice(&body)?;
            let body = protobuf::from_json(&object).map_err(|error| ApiError::Internal(error.to_string()))?;
            (body, negotiate::PROTOBUF)
        }
        Representation::Json if accept.pretty => {
            let value: Value = serde_json::from_slice(&body)?;
            let mut pretty = serde_json::to_vec_pretty(&value)?;
            pretty.push(b'\n');
            (pretty, "application/json")
        }
        Representation::Json => (body, "application/json"),
        Representation::Yaml => {
            let value: Value = serde_json::from_slice(&body)?;
            let yaml = serde_saphyr::to_string(&value).map_err(|e| ApiError::Internal(e.to_string()))?;
            (yaml.into_bytes(), "application/yaml")
        }
    };
    let mut response = Response::new(body.into());
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    for warning in warnings {
        warn(headers, warning);
    }
    Ok(response)
}

/// Adds a `Warning: 299` header, which kubectl shows to people.
pub fn warn(headers: &mut HeaderMap, text: &str) {
    // RFC 7234 quoted-string; what cannot be written as one is left out, as the API server does.
    let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
    if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
        headers.append(HeaderName::from_static("warning"), value);
    }
}
