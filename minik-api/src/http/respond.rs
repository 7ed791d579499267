//! Stored documents to response bodies. Documents are encoded already: a full JSON answer is put
//! together from bytes, and only other shapes and formats are parsed again.

use std::borrow::Cow;
use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::{ApiError, Status};
use crate::resource::KindInfo;
use crate::resource::protobuf;
use crate::storage::{Document, Entry};

use super::call::Call;
use super::negotiate::{self, Accepted, Representation, Shape};
use super::table;

/// `v1`, `apps/v1`.
#[must_use]
pub fn api_version(info: &KindInfo) -> String {
    if info.group.is_empty() {
        info.version.to_owned()
    } else {
        format!("{}/{}", info.group, info.version)
    }
}

/// Appends a stored document with its kind and version.
pub fn append_full(out: &mut Vec<u8>, info: &KindInfo, document: &[u8]) {
    let head = format!("{{\"kind\":\"{}\",\"apiVersion\":\"{}\",", info.kind, api_version(info));
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(&shown(info, document)[1..]);
}

/// A stored document under the field names of the kind that shows it. A damaged one is shown as it is.
fn shown<'d>(info: &KindInfo, document: &'d [u8]) -> Cow<'d, [u8]> {
    let renamed = info.view.and_then(|view| {
        let mut object: Value = serde_json::from_slice(document).ok()?;
        view.show(&mut object);
        Some(object.to_string().into_bytes())
    });
    renamed.map_or(Cow::Borrowed(document), Cow::Owned)
}

/// An object of a kind as a document of the store.
///
/// # Errors
/// It is no JSON object with metadata.
pub fn encode(info: &KindInfo, object: &Value) -> Result<Document, serde_json::Error> {
    match info.view {
        None => Document::encode(object),
        Some(view) => {
            let mut stored = object.clone();
            view.store(&mut stored);
            Document::encode(&stored)
        }
    }
}

/// A stored document as an object with kind and version.
///
/// # Errors
/// The document is damaged.
pub fn parse(info: &KindInfo, document: &[u8]) -> Result<Value, serde_json::Error> {
    let mut object: Value = serde_json::from_slice(document)?;
    if let Some(view) = info.view {
        view.show(&mut object);
    }
    object["kind"] = info.kind.into();
    object["apiVersion"] = api_version(info).into();
    Ok(object)
}

/// The `PartialObjectMetadata` of a stored document.
///
/// # Errors
/// The document is damaged.
pub fn partial(document: &[u8]) -> Result<Value, serde_json::Error> {
    let mut object: Value = serde_json::from_slice(document)?;
    Ok(json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object["metadata"].take(),
    }))
}

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

/// The position of a list in the history and in its pages.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListMeta {
    /// The revision that the list shows.
    pub resource_version: String,
    /// Where the next page starts; empty on the last.
    #[serde(rename = "continue", skip_serializing_if = "String::is_empty")]
    pub token: String,
    /// How many objects the next pages hold, when that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remaining_item_count: Option<usize>,
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
            let (kind, version) = (info.kind, api_version(info));
            body.extend_from_slice(
                format!("{{\"kind\":\"{kind}List\",\"apiVersion\":\"{version}\",\"metadata\":").as_bytes(),
            );
            serde_json::to_writer(&mut body, meta)?;
            body.extend_from_slice(b",\"items\":[");
            for (n, entry) in entries.iter().enumerate() {
                if n > 0 {
                    body.push(b',');
                }
                body.extend_from_slice(&shown(info, &entry.value));
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

/// The list metadata of an answer about one document: its own revision.
#[must_use]
pub fn revision(document: &[u8]) -> ListMeta {
    #[derive(serde::Deserialize)]
    struct Head {
        metadata: Meta,
    }
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Meta {
        resource_version: String,
    }
    let resource_version = serde_json::from_slice::<Head>(document).map(|head| head.metadata.resource_version);
    ListMeta {
        resource_version: resource_version.unwrap_or_default(),
        ..ListMeta::default()
    }
}
