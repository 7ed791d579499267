//! `/exec`: a program in a running container over a WebSocket, subprotocols `v5.channel.k8s.io` and
//! `v4.channel.k8s.io`.
//!
//! Each binary message begins with its channel: 0 stdin, 1 stdout, 2 stderr, 3 the closing Status, 4 terminal
//! size; in v5, 255 closes the channel whose number follows (KEP-4006).

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::json;

use super::Refusal;
use super::stdio::{self, End, Ends, Wanted};
use crate::pods::Registry;
use crate::runtime::client::{Running, ShimClient, ShimClientError};
use crate::runtime::protocol::Exec;

const STDIN: u8 = 0;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
/// Size of an output message.
const PIECE: usize = 32 * 1024;
/// How long a client may take to answer the closing.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Starts a program and ties it to the socket.
pub async fn exec(
    State(registry): State<Registry>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    Query(query): Query<Vec<(String, String)>>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Refusal> {
    let gone = || Refusal(StatusCode::NOT_FOUND, format!("container not found ({container:?})"));
    let facts = registry
        .get(&namespace, &pod)
        .ok_or_else(|| Refusal(StatusCode::NOT_FOUND, "pod does not exist".to_owned()))?;
    let facts = facts.borrow().clone();
    let client = facts.client.ok_or_else(gone)?;
    let init = facts
        .states
        .get(&container)
        .filter(|state| state.current.ended.is_none())
        .ok_or_else(gone)?
        .current
        .pid;
    let flag = |names: [&str; 2]| {
        query
            .iter()
            .any(|(name, value)| names.contains(&name.as_str()) && (value == "1" || value == "true"))
    };
    let argv: Vec<String> = query
        .iter()
        .filter(|(name, _)| name == "command")
        .map(|(_, value)| value.clone())
        .collect();
    if argv.is_empty() {
        return Err(Refusal(
            StatusCode::BAD_REQUEST,
            "you must specify at least 1 command for the container".to_owned(),
        ));
    }
    let wanted = Wanted {
        stdin: flag(["input", "stdin"]),
        stdout: flag(["output", "stdout"]),
        stderr: flag(["error", "stderr"]),
    };
    let exec = Exec {
        container,
        argv,
        tty: flag(["tty", "tty"]),
    };
    Ok(upgrade
        .protocols(PROTOCOLS)
        .on_upgrade(move |socket| converse(socket, client, exec, wanted, init)))
}

async fn converse(socket: WebSocket, client: ShimClient, exec: Exec, wanted: Wanted, init: i32) {
    let (mut sink, mut stream) = socket.split();
    let status = match begin(&client, exec, wanted, init).await {
        Ok((ends, running)) => match attend(&mut sink, &mut stream, ends, running).await {
            Some(status) => status,
            None => return,
        },
        Err(ShimClientError::Refused(failure)) => {
            let text = [&[STDERR], failure.message.as_bytes(), b"\n"].concat();
            let told = if wanted.stderr {
                sink.send(Message::Binary(text.into())).await
            } else {
                Ok(())
            };
            if let Err(error) = told {
                tracing::debug!(%error, "exec client has gone");
                return;
            }
            exit_status(failure.code)
        }
        Err(error) => internal_error(&error),
    };
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
        tracing::debug!(%error, "exec client has gone");
        return;
    }
    // The client's answer to the close; hanging up before it would look like a broken connection.
    let answered = tokio::time::timeout(CLOSE_TIMEOUT, async { while let Some(Ok(_)) = stream.next().await {} }).await;
    tracing::trace!(answered = answered.is_ok(), "exec closed");
}

async fn begin(client: &ShimClient, exec: Exec, wanted: Wanted, init: i32) -> Result<(Ends, Running), ShimClientError> {
    let made = if exec.tty {
        stdio::terminal(init, wanted.stdin)
    } else {
        stdio::pipes(wanted)
    };
    let (ends, fds) = made.map_err(ShimClientError::Spawn)?;
    let running = client.exec(exec, &fds).await?;
    Ok((ends, running))
}

/// Carries bytes both ways until the program ends; `None` when the client has gone, which kills the program.
async fn attend(
    sink: &mut SplitSink<WebSocket, Message>,
    stream: &mut SplitStream<WebSocket>,
    ends: Ends,
    running: Running,
) -> Option<serde_json::Value> {
    let Ends {
        input,
        mut outputs,
        terminal,
    } = ends;
    let mut input = std::pin::pin!(feed(stream, input, terminal));
    let mut exit = std::pin::pin!(running.wait());
    let exit = loop {
        let mut buffer = vec![0; PIECE];
        tokio::select! {
            biased;
            (channel, read) = any_output(&outputs, &mut buffer) => match read {
                Ok(0) => outputs.retain(|(other, _)| *other != channel),
                Ok(length) => send(sink, channel, &buffer[..length]).await?,
                Err(error) => {
                    tracing::warn!(%error, "read exec output");
                    outputs.retain(|(other, _)| *other != channel);
                }
            },
            exit = &mut exit => break exit,
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
    Some(match exit {
        Ok(exit) => exit_status(exit.code),
        Err(error) => internal_error(&error),
    })
}

async fn send(sink: &mut SplitSink<WebSocket, Message>, channel: u8, bytes: &[u8]) -> Option<()> {
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
                    tracing::debug!(%error, "exec input");
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

/// The Status from which kubectl takes its own exit code.
fn exit_status(code: i32) -> serde_json::Value {
    if code == 0 {
        return json!({"metadata": {}, "status": "Success"});
    }
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("command terminated with non-zero exit code: command terminated with exit code {code}"),
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

fn internal_error(error: &ShimClientError) -> serde_json::Value {
    let message = format!("error executing command in container: {error}");
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("Internal error occurred: {message}"),
        "reason": "InternalError",
        "details": {"causes": [{"message": message}]},
        "code": 500,
    })
}
