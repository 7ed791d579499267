//! `minik exec`

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use futures::SinkExt;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::Api;
use kube::api::{AttachParams, AttachedProcess, TerminalSize};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};

use super::Cluster;
use super::get::Namespace;
use crate::client;
use crate::errors::{Exit, Rejected};

/// Run a command in a container.
#[derive(Debug, Args)]
pub struct Exec {
    #[command(flatten)]
    cluster: Cluster,
    /// Pod
    pod: String,
    #[command(flatten)]
    namespace: Namespace,
    /// Container, if the Pod has several
    #[arg(short, long)]
    container: Option<String>,
    /// Pass standard input on
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Give it a terminal
    #[arg(short = 't', long)]
    tty: bool,
    /// Command and arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

impl Exec {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let runtime = super::runtime()?;
        let status = runtime.block_on(self.exec());
        // A read of standard input cannot be called off, and nobody waits for what it would bring.
        runtime.shutdown_background();
        finish(&status?)
    }

    async fn exec(self) -> anyhow::Result<Option<Status>> {
        let pods: Api<Pod> = Api::namespaced(client::connect(&self.cluster.name)?, &self.namespace.namespace);
        let pod_name = self.pod.strip_prefix("pod/").unwrap_or(&self.pod);
        let pod = pods.get(pod_name).await.map_err(Rejected::from_kube)?;
        let tty = self.tty && std::io::stdin().is_terminal();
        if self.tty && !tty {
            eprintln!("Unable to use a TTY - input is not a terminal or the right kind of file");
        }
        let params = AttachParams::default()
            .container(super::container_of(&pod, self.container.as_deref())?)
            .stdin(self.stdin)
            .stdout(true)
            // With a terminal there is one stream of output.
            .stderr(!tty)
            .tty(tty);
        let mut process = pods
            .exec(pod_name, &self.command, &params)
            .await
            .map_err(Rejected::from_kube)?;
        let _raw = if tty {
            Some(RawTerminal::enter().context("set the terminal to raw mode")?)
        } else {
            None
        };
        Ok(converse(&mut process, tty).await)
    }
}

/// Passes everything on in both directions until the command ends.
async fn converse(process: &mut AttachedProcess, tty: bool) -> Option<Status> {
    let status = process.take_status();
    if let Some(input) = process.stdin() {
        tokio::spawn(copy(tokio::io::stdin(), input));
    }
    if let Some(sizes) = process.terminal_size().filter(|_| tty) {
        tokio::spawn(follow_size(sizes));
    }
    let out = process.stdout().map(|output| copy(output, tokio::io::stdout()));
    let errors = process.stderr().map(|output| copy(output, tokio::io::stderr()));
    tokio::join!(maybe(out), maybe(errors));
    match status {
        Some(status) => status.await,
        None => None,
    }
}

async fn maybe(copying: Option<impl Future<Output = ()>>) {
    if let Some(copying) = copying {
        copying.await;
    }
}

/// Until either side is closed: that is how a stream ends, whichever side it was.
async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    tokio::io::copy(&mut from, &mut to).await.ok();
    to.shutdown().await.ok();
}

async fn follow_size(mut sizes: impl futures::Sink<TerminalSize> + Unpin) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else {
        return;
    };
    loop {
        if let Some((width, height)) = terminal_size()
            && sizes.send(TerminalSize { width, height }).await.is_err()
        {
            return;
        }
        changes.recv().await;
    }
}

nix::ioctl_read_bad!(window_size, libc::TIOCGWINSZ, libc::winsize);

fn terminal_size() -> Option<(u16, u16)> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the kernel fills the structure it is given, which lives until the call returns.
    unsafe { window_size(libc::STDIN_FILENO, &raw mut size) }.ok()?;
    Some((size.ws_col, size.ws_row))
}

/// The caller's terminal, raw until dropped: keys go to the command one by one, Ctrl-C included.
struct RawTerminal(Termios);

impl RawTerminal {
    fn enter() -> nix::Result<Self> {
        let before = tcgetattr(std::io::stdin())?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(std::io::stdin(), SetArg::TCSANOW, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // The terminal may be gone, and then it needs nothing.
        tcsetattr(std::io::stdin(), SetArg::TCSANOW, &self.0).ok();
    }
}

/// The remote exit code becomes ours, said as kubectl says it.
fn finish(status: &Option<Status>) -> anyhow::Result<ExitCode> {
    let Some(status) = status else {
        anyhow::bail!("the connection ended before the command did")
    };
    if status.status.as_deref() == Some("Success") {
        return Ok(ExitCode::SUCCESS);
    }
    match exit_code(status) {
        Some(code) => {
            eprintln!("command terminated with exit code {code}");
            Err(Exit(code).into())
        }
        None => anyhow::bail!("{}", status.message.as_deref().unwrap_or("the command failed")),
    }
}

fn exit_code(status: &Status) -> Option<u8> {
    let causes = status.details.as_ref()?.causes.iter().flatten();
    let mut codes = causes.filter(|cause| cause.reason.as_deref() == Some("ExitCode"));
    codes.find_map(|cause| cause.message.as_deref()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remote_exit_code_is_taken_from_the_causes() {
        let failed = serde_json::json!({"status": "Failure", "reason": "NonZeroExitCode",
            "message": "command terminated with non-zero exit code",
            "details": {"causes": [{"reason": "ExitCode", "message": "7"}]}});
        assert_eq!(exit_code(&serde_json::from_value(failed).unwrap()), Some(7));
        assert_eq!(exit_code(&Status::default()), None);
    }
}
