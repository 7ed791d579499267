//! The streams of a container in one WebSocket: each binary message begins with its channel; in v5, 255 closes the
//! channel whose number follows (KEP-4006).

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use bytes::{Buf, Bytes};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};

use super::{RESIZE, STATUS, STDIN, Said};

/// Subprotocols, the better one first.
pub const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
const CLOSE: u8 = 255;

/// What the client sends.
#[derive(Debug)]
pub struct Incoming(SplitStream<WebSocket>);

/// The way to the client.
#[derive(Debug)]
pub struct Outgoing(SplitSink<WebSocket, Message>);

/// Both ends of a socket.
pub fn split(socket: WebSocket) -> (Outgoing, Incoming) {
    let (sink, stream) = socket.split();
    (Outgoing(sink), Incoming(stream))
}

impl Incoming {
    /// What comes next; `None` when the client has gone.
    pub async fn next(&mut self) -> Option<Said> {
        while let Some(Ok(message)) = self.0.next().await {
            let mut message = match message {
                Message::Binary(message) => message,
                Message::Close(_) => return None,
                _ => continue,
            };
            match message.try_get_u8() {
                Ok(STDIN) => return Some(Said::Input(message)),
                Ok(RESIZE) => match serde_json::from_slice(&message) {
                    Ok(size) => return Some(Said::Resize(size)),
                    Err(error) => tracing::debug!(%error, "a terminal size"),
                },
                Ok(CLOSE) if message == Bytes::from_static(&[STDIN]) => return Some(Said::InputEnd),
                _ => {}
            }
        }
        None
    }
}

impl Outgoing {
    /// Sends bytes of a channel; `None` when the client has gone.
    pub async fn send(&mut self, channel: u8, bytes: &[u8]) -> Option<()> {
        let message = Message::Binary([&[channel], bytes].concat().into());
        self.0.send(message).await.ok()
    }

    /// Says how it ended and closes the socket as clients expect it.
    pub async fn close(&mut self, status: &[u8]) {
        let closing = async {
            let status = Message::Binary([&[STATUS], status].concat().into());
            self.0.send(status).await?;
            // Clients take any other code, and none at all, for a broken connection.
            let normal = CloseFrame {
                code: close_code::NORMAL,
                reason: Utf8Bytes::default(),
            };
            self.0.send(Message::Close(Some(normal))).await
        };
        if let Err(error) = closing.await {
            tracing::debug!(%error, "a client has gone");
        }
    }
}
