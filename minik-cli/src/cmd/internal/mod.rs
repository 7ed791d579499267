//! `minik internal …`: the entry points of a running cluster's processes. Each enters its namespace while the
//! process has one thread, and only then starts an async runtime.

pub mod agent;
pub mod apiserver;
pub mod dns;
mod inherited;
mod network;
pub mod supervisor;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use tokio_util::sync::CancellationToken;

use crate::cluster::ClusterSpec;
use crate::store;

/// Processes of a running cluster.
#[derive(Debug, Subcommand)]
pub enum Internal {
    /// Holds the sockets and watches over the others
    Supervisor(Process),
    /// API server and control plane
    Apiserver(Process),
    /// Keeps the namespaces and the links between them
    Network(Process),
    /// Agent of a node
    Agent(agent::Agent),
    /// Holds a Pod's processes
    Shim {
        /// The Pod's run directory
        #[arg(long)]
        dir: PathBuf,
    },
    /// Cluster DNS, in a Pod
    Dns(dns::Dns),
    /// Stands in for a program that is not installed, in a Pod
    Standin {
        /// Which, and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

/// Which cluster a process belongs to.
#[derive(Debug, Args)]
pub struct Process {
    /// Cluster; also how `minik down` finds the process
    #[arg(long)]
    pub name: String,
    /// Where its parameters are
    #[arg(long)]
    pub state_dir: PathBuf,
}

impl Process {
    /// The cluster's parameters.
    ///
    /// # Errors
    /// When there are none, or they are damaged.
    pub fn spec(&self) -> anyhow::Result<ClusterSpec> {
        store::load(&self.state_dir)?.with_context(|| {
            format!(
                "cluster {:?} has no parameters in {}",
                self.name,
                self.state_dir.display()
            )
        })
    }
}

impl Internal {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Supervisor(process) => supervisor::run(&process),
            Self::Apiserver(process) => apiserver::run(&process),
            Self::Network(process) => network::run(&process),
            Self::Agent(agent) => agent.run(),
            Self::Shim { dir } => Ok(minik_node::runtime::shim::main(&minik_node::runtime::shim::ShimArgs {
                dir,
            })),
            Self::Dns(dns) => dns.run(),
            Self::Standin { arguments } => Ok(minik_node::runtime::standin::run(&arguments)),
        }
    }
}

/// Logs go to standard error, which the supervisor or the shim has pointed at a file; `RUST_LOG` chooses.
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        // To standard error, which is what could not be written to: the line that says so would panic.
        .log_internal_errors(false)
        .with_writer(std::io::stderr)
        .init();
}

/// A token that SIGTERM or SIGINT cancels. Needs a tokio runtime.
fn until_terminated() -> anyhow::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        cancelled.cancel();
    });
    Ok(token)
}
