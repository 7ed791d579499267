//! The request that turns a connection into streams, in either of the two ways that Kubernetes' clients have: a
//! WebSocket, or SPDY/3.1, which clients of before 1.31 and many programs speak.

use std::io;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures::{SinkExt, Stream, StreamExt, future};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::codec::{BytesCodec, Framed};

use super::Refusal;
use super::spdy::Session;

/// Carries the name of the protocol inside SPDY.
const PROTOCOL: &str = "x-stream-protocol-version";
/// What such a server speaks, when the client speaks something else.
const ACCEPTED: &str = "x-accepted-stream-protocol-versions";
const SPDY: &str = "SPDY/3.1";

/// What a client asks for.
#[derive(Debug)]
pub enum Upgrade {
    /// A WebSocket; it offers subprotocols.
    WebSocket(WebSocketUpgrade),
    /// SPDY/3.1.
    Spdy(SpdyUpgrade),
}

/// A connection that will speak SPDY/3.1.
#[derive(Debug)]
pub struct SpdyUpgrade {
    connection: OnUpgrade,
    /// Protocols that the client knows.
    offered: Vec<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Upgrade {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let asked = |value: &HeaderValue| value.to_str().is_ok_and(|text| text.eq_ignore_ascii_case(SPDY));
        if !parts.headers.get_all(header::UPGRADE).iter().any(asked) {
            let websocket = WebSocketUpgrade::from_request_parts(parts, state).await;
            return websocket.map(Self::WebSocket).map_err(IntoResponse::into_response);
        }
        let offered = parts.headers.get_all(PROTOCOL).iter();
        let offered = offered
            .filter_map(|value| value.to_str().ok())
            .map(str::to_owned)
            .collect();
        match parts.extensions.remove::<OnUpgrade>() {
            Some(connection) => Ok(Self::Spdy(SpdyUpgrade { connection, offered })),
            None => Err(Refusal(
                StatusCode::BAD_REQUEST,
                "unable to upgrade: this connection cannot be upgraded".to_owned(),
            )
            .into_response()),
        }
    }
}

impl SpdyUpgrade {
    /// Answers that the connection speaks `protocol` from now on, and hands its streams to `work`; refuses a client
    /// that does not know the protocol.
    pub fn on_upgrade<W>(self, protocol: &'static str, work: impl FnOnce(Session) -> W + Send + 'static) -> Response
    where
        W: Future<Output = ()> + Send + 'static,
    {
        if !self.offered.iter().any(|offered| offered == protocol) {
            let offered = self.offered.join(" ");
            let text = format!(
                "unable to upgrade: unable to negotiate protocol: client supports [{offered}], server accepts [{protocol}]"
            );
            let accepted = [(ACCEPTED, HeaderValue::from_static(protocol))];
            return (StatusCode::FORBIDDEN, accepted, text).into_response();
        }
        let connection = self.connection;
        tokio::spawn(async move {
            match connection
                .await
                .map_err(io::Error::other)
                .and_then(|io| session(TokioIo::new(io)))
            {
                Ok(session) => work(session).await,
                Err(error) => tracing::debug!(%error, "a connection was not upgraded"),
            }
        });
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static(SPDY));
        headers.insert(PROTOCOL, HeaderValue::from_static(protocol));
        response
    }
}

fn session(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> io::Result<Session> {
    let (outgoing, incoming) = Framed::new(io, BytesCodec::new()).split();
    Session::start(incoming.map(|bytes| bytes.map(BytesMut::freeze)), outgoing)
}

/// SPDY inside a WebSocket, each message some of its bytes (KEP-4006).
///
/// # Errors
/// When zlib cannot be set up.
pub fn tunnel(socket: WebSocket) -> io::Result<Session> {
    let (sink, stream) = socket.split();
    Session::start(binary(stream), sink.sink_map_err(io::Error::other).with(message))
}

fn message(bytes: Bytes) -> future::Ready<io::Result<Message>> {
    future::ready(Ok(Message::Binary(bytes)))
}

/// The content of binary messages until the other end closes.
fn binary<S>(stream: S) -> impl Stream<Item = io::Result<Bytes>> + Send + Unpin
where
    S: Stream<Item = Result<Message, axum::Error>> + Send + Unpin,
{
    let open = stream.take_while(|message| future::ready(!matches!(message, Ok(Message::Close(_)))));
    open.filter_map(|message| {
        future::ready(match message {
            Ok(Message::Binary(bytes)) => Some(Ok(bytes)),
            Ok(_) => None,
            Err(error) => Some(Err(io::Error::other(error))),
        })
    })
}
