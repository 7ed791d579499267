//! The answering side of gRPC's health protocol (`grpc.health.v1.Health`), as routes of an HTTP server that speaks
//! HTTP/2 without TLS. What asks is [`crate::probe`].
//!
//! Two messages of one field each; the framing is gRPC's own (a flag, four bytes of length, the message), the result a
//! trailer.

use std::convert::Infallible;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::post;
use bytes::{Buf, Bytes};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::StreamBody;
use hyper::body::Frame;
use prost::encoding::{DecodeContext, decode_key, skip_field, string};

const NOT_FOUND: u8 = 5;
const UNIMPLEMENTED: u8 = 12;
const INVALID_ARGUMENT: u8 = 3;

/// What is said of a service: the numbers of `HealthCheckResponse.ServingStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serving {
    /// SERVING.
    Yes = 1,
    /// NOT_SERVING.
    No = 2,
}

/// Answers `Check` by what `health` says of a service's name, of which it need not know any; `Watch` is
/// unimplemented, and so is every other method, in the words of `others`.
pub fn routes(
    health: impl Fn(&str) -> Option<Serving> + Clone + Send + Sync + 'static,
    others: &'static str,
) -> Router {
    let check = move |question: Bytes| async move {
        match service(question) {
            Ok(name) => health(&name).map_or_else(|| refusal(NOT_FOUND, "unknown service"), answer),
            Err(error) => refusal(INVALID_ARGUMENT, &error.to_string()),
        }
    };
    Router::new().route("/grpc.health.v1.Health/Check", post(check)).route(
        "/{service}/{method}",
        post(move || async move { refusal(UNIMPLEMENTED, others) }),
    )
}

/// `service` of a framed `HealthCheckRequest`.
fn service(mut framed: Bytes) -> Result<String, prost::DecodeError> {
    framed.advance(framed.len().min(5));
    let mut service = String::new();
    while framed.has_remaining() {
        let (tag, wire_type) = decode_key(&mut framed)?;
        match tag {
            1 => string::merge(wire_type, &mut service, &mut framed, DecodeContext::default())?,
            _ => skip_field(wire_type, tag, &mut framed, DecodeContext::default())?,
        }
    }
    Ok(service)
}

fn answer(serving: Serving) -> Response {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    let message = Bytes::from(vec![0, 0, 0, 0, 2, 0x08, serving as u8]);
    let frames = [Frame::data(message), Frame::trailers(trailers)].map(Ok::<_, Infallible>);
    response(Body::new(StreamBody::new(futures::stream::iter(frames))), None)
}

/// A result without a message: in the headers, as gRPC has it.
fn refusal(code: u8, message: &str) -> Response {
    response(Body::empty(), Some((code, message)))
}

fn response(body: Body, refused: Option<(u8, &str)>) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, http::HeaderValue::from_static("application/grpc"));
    if let Some((code, message)) = refused {
        headers.insert("grpc-status", i32::from(code).into());
        let message = percent_encoding::utf8_percent_encode(message, percent_encoding::CONTROLS).to_string();
        if let Ok(message) = message.try_into() {
            headers.insert("grpc-message", message);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_read_as_the_protocol_frames_them() {
        assert_eq!(service(Bytes::from_static(&[0, 0, 0, 0, 0])).unwrap(), "");
        let named = Bytes::from_static(&[0, 0, 0, 0, 4, 0x0a, 2, b'd', b'b']);
        assert_eq!(service(named).unwrap(), "db");
        assert!(service(Bytes::from_static(&[0, 0, 0, 0, 2, 0x0a, 9])).is_err());
    }
}
