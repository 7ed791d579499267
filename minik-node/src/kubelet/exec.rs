//! `/exec`: a program in a running container, its streams as [`super::channel`] has them.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use super::channel::{self, Client, STDERR};
use super::stdio::{self, Ends, Wanted};
use super::upgrade::Upgrade;
use super::{Refusal, container};
use crate::pods::Registry;
use crate::runtime::client::{Running, ShimClient, ShimClientError};
use crate::runtime::protocol::Exec;

/// Starts a program and ties it to the socket.
pub async fn exec(
    State(registry): State<Registry>,
    Path((namespace, pod, container_name)): Path<(String, String, String)>,
    Query(query): Query<Vec<(String, String)>>,
    upgrade: Upgrade,
) -> Result<Response, Refusal> {
    let (shim, attempt) = container(&registry, &namespace, &pod, &container_name).await?;
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
    let wanted = channel::wanted(&query);
    let exec = Exec {
        container: container_name,
        argv,
        tty: channel::flag(&query, ["tty", "tty"]),
    };
    Ok(channel::serve(upgrade, wanted, exec.tty, move |client| {
        converse(client, shim, exec, wanted, attempt.pid)
    }))
}

async fn converse(mut client: Client, shim: ShimClient, exec: Exec, wanted: Wanted, init: i32) {
    let status = match begin(&shim, exec, wanted, init).await {
        Ok((ends, running)) => match client.attend(ends, running.wait()).await {
            Some(Ok(exit)) => exit_status(exit.code),
            Some(Err(error)) => internal_error(&error),
            // Nobody is left to run for: dropping the program's connection has killed it.
            None => return,
        },
        Err(ShimClientError::Refused(failure)) => {
            let text = format!("{}\n", failure.message);
            if wanted.stderr && client.send(STDERR, text.as_bytes()).await.is_none() {
                return;
            }
            exit_status(failure.code)
        }
        Err(error) => internal_error(&error),
    };
    client.close(&status).await;
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
