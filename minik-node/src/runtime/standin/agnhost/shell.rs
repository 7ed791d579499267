//! `/shell` of netexec: runs a command in the container and gives what it printed.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use axum::Json;
use axum::extract::Query;
use serde::Serialize;

use super::query::{Parameters, text};

/// Most of the output that is kept; a command that prints more gets SIGPIPE.
const MAX_OUTPUT: u64 = 1 << 20;

/// What came of a command.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ran {
    #[serde(skip_serializing_if = "String::is_empty")]
    error: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    output: String,
}

/// Answers `/shell?shellCommand=` and `/shell?cmd=`.
pub async fn handle(Query(asked): Query<Parameters>) -> Json<Ran> {
    let command = match text(&asked, "shellCommand") {
        "" => text(&asked, "cmd"),
        given => given,
    };
    let command = command.to_owned();
    let ran = tokio::task::spawn_blocking(move || run(&command)).await;
    Json(ran.unwrap_or_else(|error| Ran {
        error: error.to_string(),
        output: String::new(),
    }))
}

fn run(command: &str) -> Ran {
    let mut ran = Ran::default();
    match output(command, &mut ran.output) {
        Ok(status) if status.success() => {}
        Ok(status) => {
            ran.error = match (status.code(), status.signal()) {
                (Some(code), _) => format!("exit status {code}"),
                (None, signal) => format!("signal: {}", signal.unwrap_or_default()),
            };
        }
        Err(error) => ran.error = error.to_string(),
    }
    ran
}

/// Both streams in the order in which they were written.
fn output(command: &str, text: &mut String) -> std::io::Result<std::process::ExitStatus> {
    let (reader, writer) = std::io::pipe()?;
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()?;
    let mut bytes = Vec::new();
    let read = reader.take(MAX_OUTPUT).read_to_end(&mut bytes);
    let status = child.wait()?;
    read?;
    *text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_and_code_are_told_as_go_tells_them() {
        let ran = run("echo out; echo err >&2; exit 3");
        assert_eq!(
            serde_json::to_string(&ran).unwrap(),
            r#"{"error":"exit status 3","output":"out\nerr\n"}"#
        );
        assert_eq!(serde_json::to_string(&run("true")).unwrap(), "{}");
    }
}
