//! `k8s\0` and `runtime.Unknown` around one object, and the frames of a watch.
//!
//! The envelope says of which kind the object is; what it leaves out, the path says.

use serde_json::{Map, Value};

use super::decode;
use super::encode::{self, EncodeError};
use super::table::standard;
use super::wire::{LENGTH, Reader, WireError, put_bytes, put_nested};
use crate::resource::decode::{DecodeError, excerpt};

/// What every body begins with.
const MAGIC: &[u8] = b"k8s\0";

/// The kind that a path takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// `apps/v1`.
    pub api_version: String,
    /// `Deployment`.
    pub kind: &'static str,
}

/// The JSON of the object in a protobuf body, with its version and kind.
///
/// # Errors
/// The body is no such object, in the words of a 1.36 API server.
pub fn to_json(body: &[u8], expected: &Expected) -> Result<Vec<u8>, DecodeError> {
    let unrecognized = |problem: String| DecodeError::Unrecognized {
        expected: expected.kind.to_owned(),
        problem,
        excerpt: excerpt(body),
    };
    let envelope = Envelope::open(body).map_err(unrecognized)?.or(expected);
    let unhandled = |problem: String| DecodeError::Unhandled {
        kind: envelope.kind.clone(),
        version: envelope.version().to_owned(),
        expected: expected.kind.to_owned(),
        problem,
    };
    let mut object = Map::new();
    // A kind without a message is not registered, or is none that the path takes; the JSON decoder says which.
    if let Some(id) = standard().of_kind(&envelope.api_version, &envelope.kind) {
        decode::message(standard(), id, envelope.raw, 1, &mut object).map_err(|error| unhandled(error.to_string()))?;
    }
    object.insert("apiVersion".to_owned(), Value::String(envelope.api_version.clone()));
    object.insert("kind".to_owned(), Value::String(envelope.kind.clone()));
    serde_json::to_vec(&object).map_err(|error| unhandled(error.to_string()))
}

/// The protobuf body of a JSON object that names its version and kind.
///
/// # Errors
/// Its kind has no message, or it does not fit.
pub fn from_json(object: &Value) -> Result<Vec<u8>, EncodeError> {
    let text = |name: &str| object[name].as_str().unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let nothing = Map::new();
    let fields = object.as_object().unwrap_or(&nothing);
    let table = standard();
    let id = table
        .of_kind(api_version, kind)
        .ok_or_else(|| EncodeError::NoMessage(format!("{api_version} {kind}")))?;
    let mut out = MAGIC.to_vec();
    put_nested(&mut out, 1, |out| {
        put_bytes(out, 1, api_version.as_bytes());
        put_bytes(out, 2, kind.as_bytes());
        Ok::<_, EncodeError>(())
    })?;
    put_nested(&mut out, 2, |out| encode::message(table, id, fields, out))?;
    put_bytes(&mut out, 3, b"");
    put_bytes(&mut out, 4, b"");
    Ok(out)
}

/// One event of a watch: its length in four bytes, and a WatchEvent that holds a whole body.
///
/// # Errors
/// As [`from_json`].
pub fn watch_frame(change: &str, object: &Value) -> Result<Vec<u8>, EncodeError> {
    let body = from_json(object)?;
    let mut out = vec![0; 4];
    put_bytes(&mut out, 1, change.as_bytes());
    put_nested(&mut out, 2, |out| {
        put_bytes(out, 1, &body);
        Ok::<_, EncodeError>(())
    })?;
    let length = u32::try_from(out.len() - 4).unwrap_or(u32::MAX);
    out[..4].copy_from_slice(&length.to_be_bytes());
    Ok(out)
}

struct Envelope<'b> {
    api_version: String,
    kind: String,
    raw: &'b [u8],
}

impl<'b> Envelope<'b> {
    fn open(body: &'b [u8]) -> Result<Self, String> {
        let Some(rest) = body.strip_prefix(MAGIC) else {
            return Err(match body {
                [] => "empty data".to_owned(),
                _ => {
                    "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]".to_owned()
                }
            });
        };
        if rest.is_empty() {
            return Err("empty body".to_owned());
        }
        Self::unknown(rest).map_err(|error| error.to_string())
    }

    fn unknown(bytes: &'b [u8]) -> Result<Self, WireError> {
        let mut envelope = Self {
            api_version: String::new(),
            kind: String::new(),
            raw: &[],
        };
        let mut reader = Reader(bytes);
        while let Some(tag) = reader.tag("Unknown")? {
            let field = match tag.number {
                1 => "TypeMeta",
                2 => "Raw",
                3 => "ContentEncoding",
                4 => "ContentType",
                _ => {
                    reader.skip(tag.wire_type)?;
                    continue;
                }
            };
            if tag.wire_type != LENGTH {
                let (wire_type, field) = (tag.wire_type, field.to_owned());
                return Err(WireError::WrongWireType { wire_type, field });
            }
            let bytes = reader.bytes()?;
            match tag.number {
                1 => envelope.type_meta(bytes)?,
                2 => envelope.raw = bytes,
                _ => {}
            }
        }
        Ok(envelope)
    }

    fn type_meta(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        let mut reader = Reader(bytes);
        while let Some(tag) = reader.tag("TypeMeta")? {
            let (field, target) = match tag.number {
                1 => ("APIVersion", &mut self.api_version),
                2 => ("Kind", &mut self.kind),
                _ => {
                    reader.skip(tag.wire_type)?;
                    continue;
                }
            };
            if tag.wire_type != LENGTH {
                let (wire_type, field) = (tag.wire_type, field.to_owned());
                return Err(WireError::WrongWireType { wire_type, field });
            }
            *target = String::from_utf8_lossy(reader.bytes()?).into_owned();
        }
        Ok(())
    }

    fn or(mut self, expected: &Expected) -> Self {
        if self.api_version.is_empty() {
            expected.api_version.clone_into(&mut self.api_version);
        }
        if self.kind.is_empty() {
            expected.kind.clone_into(&mut self.kind);
        }
        self
    }

    fn version(&self) -> &str {
        self.api_version.rsplit('/').next().unwrap_or_default()
    }
}
