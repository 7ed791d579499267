//! The channels of a container's streams in one WebSocket, subprotocols `v5.channel.k8s.io` and `v4.channel.k8s.io`.
//!
//! Each binary message begins with its channel: 0 stdin, 1 stdout, 2 stderr, 3 the closing Status, 4 terminal
//! size; in v5, 255 closes the channel whose number follows (KEP-4006). Knows descriptors and messages, not what
//! runs at the other end of them.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use serde::Deserialize;

use super::stdio::{End, Ends, Wanted};

/// Subprotocols, the better one first.
pub const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
/// What a program complains on.
pub const STDERR: u8 = 2;
const STDIN: u8 = 0;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;
/// Size of an output message.
const PIECE: usize = 32 * 1024;
/// How long a client may take to answer the closing.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The streams that a query of the kubelet's endpoints asks for.
pub fn wanted(query: &[(String, String)]) -> Wanted {
    Wanted {
        stdin: flag(query, ["input", "stdin"]),
        stdout: flag(query, ["output", "stdout"]),
        stderr: flag(query, ["error", "stderr"]),
    }
}

/// Whether the query sets a flag, under one of its names.
pub fn flag(query: &[(String, String)], names: [&str; 2]) -> bool {
    query
        .iter()
        .any(|(name, value)| names.contains(&name.as_str()) && (value == "1" || value == "true"))
}

/// Carries bytes both ways until `end`, whose outcome it gives; `None` when the client has gone.
pub async fn attend<T>(
    sink: &mut SplitSink<WebSocket, Message>,
    stream: &mut SplitStream<WebSocket>,
    ends: Ends,
    end: impl Future<Output = T>,
) -> Option<T> {
    let Ends {
        input,
        mut outputs,
        terminal,
    } = ends;
    let mut input = std::pin::pin!(feed(stream, input, terminal));
    let mut end = std::pin::pin!(end);
    let ended = loop {
        let mut buffer = vec![0; PIECE];
        tokio::select! {
            biased;
            (channel, read) = any_output(&outputs, &mut buffer) => match read {
                Ok(0) => outputs.retain(|(other, _)| *other != channel),
                Ok(length) => send(sink, channel, &buffer[..length]).await?,
                Err(error) => {
                    tracing::warn!(%error, "read output");
                    outputs.retain(|(other, _)| *other != channel);
                }
            },
            ended = &mut end => break ended,
            () = &mut input => return None,
        }
    };
    // What the program itself wrote is there by now; a child that lives on in the background is not waited for.
    let mut buffer = vec![0; PIECE];
    for (channel, end) in &outputs {
        while let Ok(Some(length @ 1..)) = end.read_now(&mut buffer) {
            send(sink, *channel, &buffer[..length]).await?;
        }
    }
    Some(ended)
}

pub async fn send(sink: &mut SplitSink<WebSocket, Message>, channel: u8, bytes: &[u8]) -> Option<()> {
    sink.send(Message::Binary([&[channel], bytes].concat().into()))
        .await
        .ok()
}

async fn any_output(outputs: &[(u8, End)], buffer: &mut [u8]) -> (u8, std::io::Result<usize>) {
    match outputs {
        [(channel, end)] => (*channel, end.read(buffer).await),
        [(first, a), (second, b)] => {
            let mut other = vec![0; buffer.len()];
            tokio::select! {
                read = a.read(buffer) => (*first, read),
                read = b.read(&mut other) => {
                    if let Ok(length) = read {
                        buffer[..length].copy_from_slice(&other[..length]);
                    }
                    (*second, read)
                }
            }
        }
        _ => std::future::pending().await,
    }
}

/// Hands the client's messages on; ends when the client has gone.
async fn feed(stream: &mut SplitStream<WebSocket>, mut input: Option<End>, terminal: Option<End>) {
    while let Some(Ok(message)) = stream.next().await {
        let Message::Binary(message) = message else {
            if matches!(message, Message::Close(_)) {
                return;
            }
            continue;
        };
        match message.split_first() {
            Some((&STDIN, bytes)) => {
                if let Some(end) = &input
                    && let Err(error) = end.write_all(bytes).await
                {
                    // The program reads no more; its output still matters.
                    tracing::debug!(%error, "input");
                    input = None;
                }
            }
            Some((&RESIZE, bytes)) => resize(terminal.as_ref(), bytes),
            Some((&CLOSE, [STDIN])) => input = None,
            _ => {}
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Size {
    width: u16,
    height: u16,
}

fn resize(terminal: Option<&End>, bytes: &[u8]) {
    let (Some(terminal), Ok(size)) = (terminal, serde_json::from_slice::<Size>(bytes)) else {
        return;
    };
    if let Err(error) = terminal.resize(size.width, size.height) {
        tracing::debug!(%error, "resize terminal");
    }
}

/// Says how it ended and closes the socket as clients expect it.
pub async fn close(
    sink: &mut SplitSink<WebSocket, Message>,
    stream: &mut SplitStream<WebSocket>,
    status: &serde_json::Value,
) {
    let closing = async {
        sink.send(Message::Binary(
            [&[STATUS], status.to_string().as_bytes()].concat().into(),
        ))
        .await?;
        // Clients take any other code, and none at all, for a broken connection.
        let normal = CloseFrame {
            code: close_code::NORMAL,
            reason: Utf8Bytes::default(),
        };
        sink.send(Message::Close(Some(normal))).await
    };
    if let Err(error) = closing.await {
        tracing::debug!(%error, "a client has gone");
        return;
    }
    // The client's answer to the close; hanging up before it would look like a broken connection.
    let answered = tokio::time::timeout(CLOSE_TIMEOUT, async { while let Some(Ok(_)) = stream.next().await {} }).await;
    tracing::trace!(answered = answered.is_ok(), "closed");
}
