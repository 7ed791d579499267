//! Stored documents as the objects that clients know, and back. A document is encoded already: shown whole, it is put
//! together from bytes, and only its other shapes are parsed.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::resource::KindInfo;
use crate::storage::Document;

/// Appends a stored document with its kind and version.
pub fn append_full(out: &mut Vec<u8>, info: &KindInfo, document: &[u8]) {
    let head = format!(
        "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",",
        info.kind,
        info.api_version()
    );
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(&shown(info, document)[1..]);
}

/// A stored document under the field names of the kind that shows it. A damaged one is shown as it is.
pub fn shown<'d>(info: &KindInfo, document: &'d [u8]) -> Cow<'d, [u8]> {
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
    object["apiVersion"] = info.api_version().into();
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
