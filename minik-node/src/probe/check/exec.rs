//! Programs run in a container for a probe or a hook: their exit code and the first of what they say.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use crate::probe::go;
use crate::runtime::client::{ShimClient, ShimClientError};
use crate::runtime::protocol::Exec;

/// Most that is kept of what a program says: the kubelet's 10 KiB.
const MAX_OUTPUT: usize = 10 << 10;

/// How a program ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    /// Exit code.
    pub code: i32,
    /// Output and errors, as they came.
    pub output: String,
}

/// Why there is no exit code.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The pipes for its output.
    #[error("open pipes")]
    Pipes(#[source] io::Error),
    /// The container does not run, or has no such program.
    #[error("rpc error: code = Unknown desc = failed to exec in container: {0}")]
    Start(ShimClientError),
    /// The shim went away.
    #[error("rpc error: code = Unavailable desc = {0}")]
    Lost(ShimClientError),
    /// It ran for too long and was killed.
    #[error("command timed out: {:?} timed out after {}", .0, go::duration(*.1))]
    Late(String, Duration),
}

/// Runs `argv` to its end; no `timeout` waits for as long as the caller does. Dropping the future kills the program.
pub async fn run(
    shim: &ShimClient,
    container: &str,
    argv: Vec<String>,
    timeout: Option<Duration>,
) -> Result<Ended, ExecError> {
    let command = argv.join(" ");
    let exec = Exec {
        container: container.to_owned(),
        argv,
        tty: false,
    };
    match timeout {
        None => to_end(shim, exec).await,
        Some(timeout) => tokio::time::timeout(timeout, to_end(shim, exec))
            .await
            .unwrap_or(Err(ExecError::Late(command, timeout))),
    }
}

async fn to_end(shim: &ShimClient, exec: Exec) -> Result<Ended, ExecError> {
    let (stdio, mut reader) = stdio().map_err(ExecError::Pipes)?;
    let running = shim.exec(exec, &stdio).await.map_err(ExecError::Start)?;
    drop(stdio);
    let end = running.wait();
    tokio::pin!(end);
    let mut output = Vec::new();
    let mut buffer = [0; 4096];
    let exit = loop {
        tokio::select! {
            exit = &mut end => break exit,
            read = reader.read(&mut buffer) => match read {
                Ok(0) | Err(_) => break end.await,
                Ok(read) => keep(&mut output, &buffer[..read]),
            },
        }
    };
    // What it started may hold the pipe open for ever; what it said itself is there by now.
    while let Ok(read @ 1..) = reader.try_read(&mut buffer) {
        keep(&mut output, &buffer[..read]);
    }
    Ok(Ended {
        code: exit.map_err(ExecError::Lost)?.code,
        output: String::from_utf8_lossy(&output).into_owned(),
    })
}

/// No input, and one pipe for both outputs.
fn stdio() -> io::Result<([OwnedFd; 3], pipe::Receiver)> {
    let (writer, reader) = pipe::pipe()?;
    let writer = writer.into_blocking_fd()?;
    Ok(([File::open("/dev/null")?.into(), writer.try_clone()?, writer], reader))
}

fn keep(output: &mut Vec<u8>, bytes: &[u8]) {
    let room = MAX_OUTPUT.saturating_sub(output.len());
    output.extend_from_slice(&bytes[..bytes.len().min(room)]);
}
