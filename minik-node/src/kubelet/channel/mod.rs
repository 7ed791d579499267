//! The channels between a client and a container's streams: 0 stdin, 1 stdout, 2 stderr, 3 the closing Status, 4
//! terminal size.
//!
//! A client comes over a WebSocket ([`websocket`], subprotocols `v5.channel.k8s.io` and `v4.channel.k8s.io`) or over
//! SPDY ([`spdy`], `v4.channel.k8s.io`). Knows descriptors and messages, not what runs at the other end of them.

mod spdy;
mod websocket;

use std::time::Duration;

use axum::response::Response;
use bytes::Bytes;
use serde::Deserialize;

use super::stdio::{End, Ends, Wanted};
use super::upgrade::Upgrade;

/// What a program complains on.
pub const STDERR: u8 = 2;
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;
/// How long a client may take to hang up once it knows how it ended.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Size of an output message.
const PIECE: usize = 32 * 1024;

/// The client of one container.
#[derive(Debug)]
pub struct Client {
    outgoing: Outgoing,
    incoming: Incoming,
}

#[derive(Debug)]
enum Outgoing {
    WebSocket(websocket::Outgoing),
    Spdy(spdy::Outgoing),
}

#[derive(Debug)]
enum Incoming {
    WebSocket(websocket::Incoming),
    Spdy(spdy::Incoming),
}

/// What a client says.
#[derive(Debug)]
enum Said {
    Input(Bytes),
    InputEnd,
    Resize(Size),
}

/// Of a terminal, in characters.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Size {
    width: u16,
    height: u16,
}

/// Answers a request, and hands its client to `work` once it speaks. `terminal` is whether it will tell the size of
/// one.
pub fn serve<W>(
    upgrade: Upgrade,
    wanted: Wanted,
    terminal: bool,
    work: impl FnOnce(Client) -> W + Send + 'static,
) -> Response
where
    W: Future<Output = ()> + Send + 'static,
{
    match upgrade {
        Upgrade::WebSocket(upgrade) => upgrade.protocols(websocket::PROTOCOLS).on_upgrade(|socket| {
            let (outgoing, incoming) = websocket::split(socket);
            work(Client {
                outgoing: Outgoing::WebSocket(outgoing),
                incoming: Incoming::WebSocket(incoming),
            })
        }),
        Upgrade::Spdy(upgrade) => upgrade.on_upgrade(spdy::PROTOCOL, move |session| async move {
            match spdy::begin(session, wanted, terminal).await {
                Some((outgoing, incoming)) => {
                    let client = Client {
                        outgoing: Outgoing::Spdy(outgoing),
                        incoming: Incoming::Spdy(incoming),
                    };
                    work(client).await;
                }
                None => tracing::debug!("a client did not begin the streams that it had asked for"),
            }
        }),
    }
}

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

impl Client {
    /// Carries bytes both ways until `end`, whose outcome it gives; `None` when the client has gone.
    pub async fn attend<T>(&mut self, ends: Ends, end: impl Future<Output = T>) -> Option<T> {
        let Ends {
            input,
            mut outputs,
            terminal,
        } = ends;
        let outgoing = &mut self.outgoing;
        let mut input = std::pin::pin!(feed(&mut self.incoming, input, terminal));
        let mut end = std::pin::pin!(end);
        let ended = loop {
            let mut buffer = vec![0; PIECE];
            tokio::select! {
                biased;
                (channel, read) = any_output(&outputs, &mut buffer) => match read {
                    Ok(0) => outputs.retain(|(other, _)| *other != channel),
                    Ok(length) => outgoing.send(channel, &buffer[..length]).await?,
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
                outgoing.send(*channel, &buffer[..length]).await?;
            }
        }
        Some(ended)
    }

    /// Sends bytes of a channel; `None` when the client has gone.
    pub async fn send(&mut self, channel: u8, bytes: &[u8]) -> Option<()> {
        self.outgoing.send(channel, bytes).await
    }

    /// Says how it ended and closes the connection as clients expect it.
    pub async fn close(self, status: &serde_json::Value) {
        let Self { outgoing, mut incoming } = self;
        let status = status.to_string();
        match outgoing {
            Outgoing::WebSocket(mut socket) => socket.close(status.as_bytes()).await,
            Outgoing::Spdy(streams) => streams.close(status.as_bytes()).await,
        }
        // Hanging up before the client has would look like a broken connection.
        let gone = async { while incoming.next().await.is_some() {} };
        let gone = tokio::time::timeout(CLOSE_TIMEOUT, gone).await;
        tracing::trace!(gone = gone.is_ok(), "closed");
    }
}

impl Outgoing {
    async fn send(&mut self, channel: u8, bytes: &[u8]) -> Option<()> {
        match self {
            Self::WebSocket(socket) => socket.send(channel, bytes).await,
            Self::Spdy(streams) => streams.send(channel, bytes).await,
        }
    }
}

impl Incoming {
    /// What comes next; `None` when the client has gone.
    async fn next(&mut self) -> Option<Said> {
        match self {
            Self::WebSocket(socket) => socket.next().await,
            Self::Spdy(streams) => streams.next().await,
        }
    }
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

/// Hands on what the client says; ends when the client has gone.
async fn feed(incoming: &mut Incoming, mut input: Option<End>, terminal: Option<End>) {
    while let Some(said) = incoming.next().await {
        match said {
            Said::Input(bytes) => {
                if let Some(end) = &input
                    && let Err(error) = end.write_all(&bytes).await
                {
                    // The program reads no more; its output still matters.
                    tracing::debug!(%error, "input");
                    input = None;
                }
            }
            Said::InputEnd => input = None,
            Said::Resize(size) => resize(terminal.as_ref(), &size),
        }
    }
}

fn resize(terminal: Option<&End>, size: &Size) {
    if let Some(terminal) = terminal
        && let Err(error) = terminal.resize(size.width, size.height)
    {
        tracing::debug!(%error, "resize terminal");
    }
}
