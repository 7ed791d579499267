//! `grpc`: the health protocol (`grpc.health.v1.Health/Check`) over HTTP/2 without TLS.
//!
//! The two messages have one field each, so prost's field functions do; the framing is gRPC's own (a flag, four
//! bytes of length, the message).

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::encoding::{DecodeContext, decode_key, int32, skip_field, string};
use tokio::net::TcpStream;

use super::Outcome;
use crate::probe::go;

/// Most of an answer that is read.
const MAX_ANSWER: usize = 10 << 10;
/// gRPC's first back-off between attempts to connect.
const BACK_OFF: Duration = Duration::from_secs(1);
const DEADLINE_EXCEEDED: i32 = 4;
const UNIMPLEMENTED: i32 = 12;

/// What a call came to: gRPC's status, and what the server says of the service.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    code: i32,
    message: String,
    serving: i32,
}

/// Asks after `service` of the server at `host`.
pub async fn check(host: &str, port: u16, service: &str, timeout: Duration) -> Outcome {
    let deadline = tokio::time::Instant::now() + timeout;
    let Ok(stream) = tokio::time::timeout_at(deadline, connect(host, port)).await else {
        let late = go::duration(timeout);
        return Outcome::Failure(format!(
            "timeout: failed to connect service \"{host}:{port}\" within {late}: context deadline exceeded"
        ));
    };
    let late = || format!("timeout: health rpc did not complete within {}", go::duration(timeout));
    match tokio::time::timeout_at(deadline, call(stream, &format!("{host}:{port}"), service)).await {
        Err(_late) => Outcome::Failure(late()),
        Ok(Err(error)) => Outcome::Failure(format!("error: health rpc probe failed: {error}")),
        Ok(Ok(answer)) => judge(&answer, late),
    }
}

/// gRPC's client tries for as long as it may.
async fn connect(host: &str, port: u16) -> TcpStream {
    loop {
        match TcpStream::connect((host, port)).await {
            Ok(stream) => return stream,
            Err(error) => tracing::trace!(%error, host, port, "gRPC probe"),
        }
        tokio::time::sleep(BACK_OFF).await;
    }
}

async fn call(
    stream: TcpStream,
    authority: &str,
    service: &str,
) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    // Ends when the sender is dropped.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::trace!(%error, "a gRPC probe's connection broke off");
        }
    });
    let request = Request::post(format!("http://{authority}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.36")
        .body(Full::new(question(service)))?;
    let response = sender.send_request(request).await?;
    let mut headers = response.headers().clone();
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await?;
    headers.extend(body.trailers().cloned().unwrap_or_default());
    match status_of(&headers) {
        Some((code, message)) => Ok(Answer {
            code,
            message,
            serving: serving(body.to_bytes())?,
        }),
        None => Err(format!("unexpected HTTP status code received from server: {status}").into()),
    }
}

fn status_of(headers: &HeaderMap) -> Option<(i32, String)> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let message = percent_encoding::percent_decode_str(text("grpc-message").unwrap_or_default()).decode_utf8_lossy();
    Some((text("grpc-status")?.parse().ok()?, message.into_owned()))
}

/// A framed `HealthCheckRequest`.
fn question(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        string::encode(1, &service.to_owned(), &mut message);
    }
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.extend_from_slice(&message);
    framed.freeze()
}

/// `status` of a framed `HealthCheckResponse`; 0 (unknown) when there is no message.
fn serving(mut framed: Bytes) -> Result<i32, prost::DecodeError> {
    framed.advance(framed.len().min(5));
    let mut status = 0;
    while framed.has_remaining() {
        let (tag, wire_type) = decode_key(&mut framed)?;
        match tag {
            1 => int32::merge(wire_type, &mut status, &mut framed, DecodeContext::default())?,
            _ => skip_field(wire_type, tag, &mut framed, DecodeContext::default())?,
        }
    }
    Ok(status)
}

fn judge(answer: &Answer, late: impl Fn() -> String) -> Outcome {
    let failure = match (answer.code, answer.serving) {
        (0, 1) => return Outcome::Success,
        (0, status) => {
            let word = match status {
                0 => "UNKNOWN".to_owned(),
                2 => "NOT_SERVING".to_owned(),
                3 => "SERVICE_UNKNOWN".to_owned(),
                other => other.to_string(),
            };
            format!("service unhealthy (responded with {word:?})")
        }
        (UNIMPLEMENTED, _) => format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
            answer.message
        ),
        (DEADLINE_EXCEEDED, _) => late(),
        (code, _) => format!(
            "error: health rpc probe failed: rpc error: code = {} desc = {}",
            code_name(code),
            answer.message
        ),
    };
    Outcome::Failure(failure)
}

fn code_name(code: i32) -> String {
    const NAMES: [&str; 17] = [
        "OK",
        "Canceled",
        "Unknown",
        "InvalidArgument",
        "DeadlineExceeded",
        "NotFound",
        "AlreadyExists",
        "PermissionDenied",
        "ResourceExhausted",
        "FailedPrecondition",
        "Aborted",
        "OutOfRange",
        "Unimplemented",
        "Internal",
        "Unavailable",
        "DataLoss",
        "Unauthenticated",
    ];
    let name = usize::try_from(code).ok().and_then(|code| NAMES.get(code));
    name.map_or_else(|| format!("Code({code})"), |name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_framed_as_the_protocol_says() {
        assert_eq!(question(""), Bytes::from_static(&[0, 0, 0, 0, 0]));
        assert_eq!(
            question("db"),
            Bytes::from_static(&[0, 0, 0, 0, 4, 0x0a, 2, b'd', b'b'])
        );
        assert_eq!(serving(Bytes::from_static(&[0, 0, 0, 0, 2, 0x08, 1])).unwrap(), 1);
        assert_eq!(serving(Bytes::new()).unwrap(), 0);
        assert!(serving(Bytes::from_static(&[0, 0, 0, 0, 1, 0x08])).is_err());
    }

    #[test]
    fn answers_are_told_as_the_kubelet_tells_them() {
        for (code, serving, text) in [
            (0, 2, "service unhealthy (responded with \"NOT_SERVING\")"),
            (
                12,
                0,
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): no",
            ),
            (4, 0, "timeout: health rpc did not complete within 1s"),
            (
                5,
                0,
                "error: health rpc probe failed: rpc error: code = NotFound desc = no",
            ),
        ] {
            let answer = Answer {
                code,
                message: "no".to_owned(),
                serving,
            };
            let late = || "timeout: health rpc did not complete within 1s".to_owned();
            assert_eq!(judge(&answer, late), Outcome::Failure(text.to_owned()));
        }
    }
}
