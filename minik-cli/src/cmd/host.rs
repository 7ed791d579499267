//! `minik host exec`

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};

use super::Cluster;
use crate::errors::Exit;
use crate::provider::netns::outside_netns;
use crate::store;

/// Run a command in the lab's outside world.
#[derive(Debug, Subcommand)]
pub enum Host {
    /// Run a command where the cluster's external clients are
    Exec(Exec),
}

/// Run a command where the cluster's external clients are: in its private outside world when it is isolated,
/// and right here when it is not.
#[derive(Debug, Args)]
pub struct Exec {
    #[command(flatten)]
    cluster: Cluster,
    /// Command and arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

impl Host {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let Self::Exec(exec) = self;
        let spec = store::load_running(&exec.cluster.name)?;
        outside_netns(&spec)?.enter().context("enter the outside world")?;
        replace_with(&exec.command)
    }
}

/// Becomes that command: terminal, signals and exit code are then its own, with nothing in between.
///
/// # Errors
/// Only when it cannot be run; as a shell says, 127 if there is no such program and 126 otherwise.
pub fn replace_with(command: &[OsString]) -> anyhow::Result<ExitCode> {
    let [program, arguments @ ..] = command else {
        anyhow::bail!("no command to run")
    };
    let error = std::process::Command::new(program).args(arguments).exec();
    eprintln!("error: run {}: {error}", program.display());
    let code = if error.kind() == std::io::ErrorKind::NotFound {
        127
    } else {
        126
    };
    Err(Exit(code).into())
}
