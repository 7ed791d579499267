//! Which representation a client takes, and in which one its body comes. Pure, from headers alone.

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::BodyExt;

use crate::error::ApiError;
use crate::resource::decode::Format;
use crate::resource::protobuf::{self, Expected};

/// The largest body the API server reads, in bytes.
pub const BODY_LIMIT: usize = 3 << 20;
/// What is read and thrown away beyond that, so that the client gets to read the refusal.
const DRAIN_LIMIT: usize = 64 << 20;

const REPRESENTATIONS: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf, application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";
const BODIES: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
/// The media type of Kubernetes protobuf.
pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// What an answer is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Representation {
    /// `application/json`.
    Json,
    /// `application/yaml`.
    Yaml,
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
}

/// What objects are turned into before they are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The object or list itself.
    Full,
    /// A `meta.k8s.io/v1` Table.
    Table,
    /// `PartialObjectMetadata`, or the list of them.
    Metadata,
}

/// How to answer.
#[derive(Debug, Clone, Copy)]
pub struct Accepted {
    /// In which words.
    pub representation: Representation,
    /// What of the object.
    pub shape: Shape,
    /// Indented, as people at a terminal like it.
    pub pretty: bool,
}

impl Accepted {
    /// Plain JSON, whatever was asked for.
    #[must_use]
    pub fn json() -> Self {
        Self {
            representation: Representation::Json,
            shape: Shape::Full,
            pretty: false,
        }
    }

    /// Reads the `Accept` header. `pretty` is the query's wish; without one, curl, wget and browsers get
    /// indented text.
    ///
    /// # Errors
    /// None of the representations is on offer.
    pub fn parse(headers: &HeaderMap, pretty: Option<bool>) -> Result<Self, ApiError> {
        let agent = text(headers, header::USER_AGENT);
        let person = ["curl", "Wget", "Mozilla/5.0"]
            .iter()
            .any(|program| agent.starts_with(program));
        let pretty = pretty.unwrap_or(person);
        let accept = text(headers, header::ACCEPT);
        if accept.is_empty() {
            return Ok(Self {
                representation: Representation::Json,
                shape: Shape::Full,
                pretty,
            });
        }
        accept
            .split(',')
            .find_map(|range| {
                let (representation, shape) = offered(range)?;
                Some(Self {
                    representation,
                    shape,
                    pretty,
                })
            })
            .ok_or(ApiError::NotAcceptable(REPRESENTATIONS))
    }
}

fn offered(range: &str) -> Option<(Representation, Shape)> {
    let mut parts = range.split(';').map(str::trim);
    let representation = match parts.next()? {
        "application/json" | "application/*" | "*/*" => Representation::Json,
        "application/yaml" => Representation::Yaml,
        PROTOBUF => Representation::Protobuf,
        _ => return None,
    };
    let (mut kind, mut group, mut version) = ("", "", "");
    for (name, value) in parts.filter_map(|parameter| parameter.split_once('=')) {
        match name.trim() {
            "as" => kind = value.trim(),
            "g" => group = value.trim(),
            "v" => version = value.trim(),
            _ => {}
        }
    }
    match (kind, group, version) {
        ("", ..) => Some((representation, Shape::Full)),
        // A Table has no protobuf form.
        ("Table", "meta.k8s.io", "v1") if representation != Representation::Protobuf => {
            Some((representation, Shape::Table))
        }
        ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", "v1") => {
            Some((representation, Shape::Metadata))
        }
        _ => None,
    }
}

/// A request's body in a format that decoders read: protobuf becomes JSON here, and nowhere else.
///
/// # Errors
/// Its format is none that is understood here, or it is protobuf and no object.
pub fn readable(headers: &HeaderMap, body: Bytes, expected: &Expected) -> Result<(Bytes, Format), ApiError> {
    match content_type(headers) {
        "" | "application/json" => Ok((body, Format::Json)),
        "application/yaml" => Ok((body, Format::Yaml)),
        PROTOBUF => Ok((protobuf::to_json(&body, expected)?.into(), Format::Json)),
        _ => Err(ApiError::UnsupportedMediaType(BODIES)),
    }
}

/// The media type of the body, without parameters.
#[must_use]
pub fn content_type(headers: &HeaderMap) -> &str {
    text(headers, header::CONTENT_TYPE)
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
}

/// A header as text; empty when absent or no text.
#[must_use]
pub fn text(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// Reads a whole body.
///
/// # Errors
/// It is larger than [`BODY_LIMIT`], or the connection broke.
pub async fn read_body(mut body: axum::body::Body) -> Result<Bytes, ApiError> {
    let mut read = Vec::new();
    let mut drained = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ApiError::BadRequest(format!("reading the body: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if drained > 0 || read.len() + data.len() > BODY_LIMIT {
            read = Vec::new();
            drained += data.len();
            if drained > DRAIN_LIMIT {
                break;
            }
        } else {
            read.extend_from_slice(&data);
        }
    }
    if drained > 0 {
        Err(ApiError::TooLarge(BODY_LIMIT))
    } else {
        Ok(read.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(value: &'static str) -> Option<(Representation, Shape)> {
        let headers = HeaderMap::from_iter([(header::ACCEPT, value.parse().expect("is a value"))]);
        Accepted::parse(&headers, None)
            .ok()
            .map(|accepted| (accepted.representation, accepted.shape))
    }

    #[test]
    fn the_first_known_representation_wins() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
        assert_eq!(accept(table), Some((Representation::Json, Shape::Table)));
        let old = "application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(accept(old), Some((Representation::Json, Shape::Full)));
        let protobuf = "application/vnd.kubernetes.protobuf,application/json";
        assert_eq!(accept(protobuf), Some((Representation::Protobuf, Shape::Full)));
        let cbor = "application/cbor,application/json";
        assert_eq!(accept(cbor), Some((Representation::Json, Shape::Full)));
        let table = "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json";
        assert_eq!(accept(table), Some((Representation::Json, Shape::Full)));
        assert_eq!(accept("application/yaml"), Some((Representation::Yaml, Shape::Full)));
        assert_eq!(accept("text/html"), None);
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused() {
        let at_limit = read_body(vec![b'x'; BODY_LIMIT].into()).await.expect("is read");
        assert_eq!(at_limit.len(), BODY_LIMIT);
        let refused = read_body(vec![b'x'; BODY_LIMIT + 1].into())
            .await
            .expect_err("is refused");
        assert_eq!(refused.to_string(), "Request entity too large: limit is 3145728");
    }
}
