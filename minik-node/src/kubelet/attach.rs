//! `/attach`: what a running container says from now on, and its input if it has one; see [`super::channel`].
//!
//! The shim copies output and waits for no reader; input goes to the container's FIFO directly. A container has no
//! terminal of its own, so `tty` changes nothing here.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;

use axum::extract::{Path, Query, State};
use axum::response::Response;
use serde_json::json;

use super::channel::{self, Client};
use super::stdio::{self, End, Ends, Wanted};
use super::upgrade::Upgrade;
use super::{Refusal, container};
use crate::pods::Registry;
use crate::runtime::client::{Running, ShimClient, ShimClientError};

/// A container to attach to.
struct Attachment {
    client: ShimClient,
    name: String,
    id: String,
    wanted: Wanted,
}

/// Ties the streams of a running container to the socket.
pub async fn attach(
    State(registry): State<Registry>,
    Path((namespace, pod, name)): Path<(String, String, String)>,
    Query(query): Query<Vec<(String, String)>>,
    upgrade: Upgrade,
) -> Result<Response, Refusal> {
    let (client, attempt) = container(&registry, &namespace, &pod, &name).await?;
    let attachment = Attachment {
        client,
        name,
        id: attempt.id,
        wanted: channel::wanted(&query),
    };
    let (wanted, terminal) = (attachment.wanted, channel::flag(&query, ["tty", "tty"]));
    Ok(channel::serve(upgrade, wanted, terminal, |client| {
        converse(client, attachment)
    }))
}

async fn converse(mut client: Client, attachment: Attachment) {
    let ended = match attachment.begin().await {
        Ok((ends, running)) => match client.attend(ends, running.wait()).await {
            Some(ended) => ended.map(drop),
            None => return,
        },
        Err(error) => Err(error),
    };
    let status = match ended {
        // How the container ended is in the Pod's status, where kubectl looks for it.
        Ok(()) => json!({"metadata": {}, "status": "Success"}),
        Err(error) => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!("Internal error occurred: error attaching to container: {error}"),
            "reason": "InternalError",
            "code": 500,
        }),
    };
    client.close(&status).await;
}

impl Attachment {
    async fn begin(&self) -> Result<(Ends, Running), ShimClientError> {
        let (ends, fds) = self.streams().map_err(ShimClientError::Spawn)?;
        let running = self.client.attach(&self.name, ends.input.is_some(), &fds).await?;
        Ok((ends, running))
    }

    /// Our ends, and the two descriptors that the shim writes to without waiting.
    fn streams(&self) -> io::Result<(Ends, [OwnedFd; 2])> {
        let output = Wanted {
            stdin: false,
            ..self.wanted
        };
        let (mut ends, [_, stdout, stderr]) = stdio::pipes(output)?;
        for fd in [&stdout, &stderr] {
            stdio::roomy(fd)?;
        }
        if self.wanted.stdin {
            ends.input = self.input()?;
        }
        Ok((ends, [stdout, stderr]))
    }

    /// The container's input; `None` when it has none, or no longer reads it.
    fn input(&self) -> io::Result<Option<End>> {
        let fifo = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(self.client.stdin(&self.id));
        match fifo {
            Ok(fifo) => Ok(Some(End::new(fifo.into())?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENXIO) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}
