//! Sessions over a WebSocket that end before they begin: the connection is upgraded, and the failure goes over its channel
//! of errors, since a client that is refused the upgrade tries once more over SPDY.
//!
//! Source: `StreamTranslatorHandler` of `staging/src/k8s.io/apiserver/pkg/util/proxy`.

use axum::extract::FromRequestParts;
use axum::extract::ws::{CloseFrame, Message, WebSocketUpgrade, close_code};
use axum::response::Response;
use http::request::Parts;

use crate::error::ApiError;

/// What clients of `exec` and `attach` speak.
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
/// The channel of errors.
const ERROR: u8 = 3;

/// The upgrade that a request asks for, if it asks for a WebSocket.
pub async fn asked(head: &Parts) -> Option<WebSocketUpgrade> {
    WebSocketUpgrade::from_request_parts(&mut head.clone(), &()).await.ok()
}

/// Upgrades, tells of the failure, and closes.
pub fn refuse(upgrade: WebSocketUpgrade, error: &ApiError) -> Response {
    let mut frame = vec![ERROR];
    let written = serde_json::to_writer(&mut frame, &error.status());
    upgrade.protocols(PROTOCOLS).on_upgrade(move |mut socket| async move {
        if let Err(error) = written {
            tracing::warn!(%error, "write a status");
        }
        // Any other end is an error of its own to clients.
        let end = CloseFrame {
            code: close_code::NORMAL,
            reason: "".into(),
        };
        for message in [Message::Binary(frame.into()), Message::Close(Some(end))] {
            if let Err(error) = socket.send(message).await {
                tracing::debug!(%error, "a client left before it was told");
            }
        }
    })
}
