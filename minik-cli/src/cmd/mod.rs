//! The commands, one a file: each parses its flags, calls what does the work, and prints.

mod completion;
mod down;
mod host;
mod internal;
mod kubeconfig;
mod node;
mod status;
mod up;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// A small Kubernetes cluster of real processes and real packets on this machine.
#[derive(Debug, Parser)]
#[command(name = "minik", version, arg_required_else_help = true)]
pub struct Minik {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a cluster
    Up(up::Up),
    /// Stop a cluster and leave the machine as it was
    Down(down::Down),
    /// Show how a cluster is
    Status(status::Status),
    /// Print the kubeconfig of a cluster
    Kubeconfig(kubeconfig::Kubeconfig),
    /// List nodes, or run a command on one
    #[command(subcommand)]
    Node(node::Node),
    /// Run a command in the lab's outside world
    #[command(subcommand)]
    Host(host::Host),
    /// Print a shell's completion script
    Completion(completion::Completion),
    /// Processes of a running cluster
    #[command(subcommand, hide = true)]
    Internal(internal::Internal),
}

/// Which cluster a command is about.
#[derive(Debug, Clone, Args)]
pub struct Cluster {
    /// Name of the cluster
    #[arg(long, default_value = "minik", value_parser = cluster_name)]
    pub name: String,
}

fn cluster_name(text: &str) -> Result<String, crate::parameters::ParameterError> {
    crate::parameters::check_name(text).map(|()| text.to_owned())
}

impl Command {
    /// Runs it.
    ///
    /// # Errors
    /// Whatever failed; [`crate::errors::report`] says how to print it.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Up(up) => up.run().map(|()| ExitCode::SUCCESS),
            Self::Down(down) => down.run(),
            Self::Status(status) => status.run(),
            Self::Kubeconfig(kubeconfig) => kubeconfig.run().map(|()| ExitCode::SUCCESS),
            Self::Node(node) => node.run(),
            Self::Host(host) => host.run(),
            Self::Completion(completion) => completion.run().map(|()| ExitCode::SUCCESS),
            Self::Internal(internal) => internal.run(),
        }
    }
}

/// A runtime on the calling thread, for commands that mostly wait.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    use anyhow::Context;
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the async runtime")
}
