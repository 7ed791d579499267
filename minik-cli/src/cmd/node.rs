//! `minik node ls|exec`

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use super::{Cluster, host};
use crate::client::table::render;
use crate::provider::netns::node_netns;
use crate::store;

/// List nodes, or run a command on one.
#[derive(Debug, Subcommand)]
pub enum Node {
    /// List the nodes with their addresses
    Ls(Ls),
    /// Run a command in a node's network namespace
    Exec(Exec),
}

/// List the nodes with their addresses.
#[derive(Debug, Args)]
pub struct Ls {
    #[command(flatten)]
    cluster: Cluster,
}

/// Run a command in a node's network namespace, and in no other of its kind: files, processes and users are
/// those of the machine.
#[derive(Debug, Args)]
pub struct Exec {
    #[command(flatten)]
    cluster: Cluster,
    /// Node, as in `minik node ls`
    node: String,
    /// Command and arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<std::ffi::OsString>,
}

impl Node {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Ls(ls) => ls.run().map(|()| ExitCode::SUCCESS),
            Self::Exec(exec) => exec.run(),
        }
    }
}

impl Ls {
    fn run(self) -> anyhow::Result<()> {
        let spec = store::load_running(&self.cluster.name)?;
        let header = ["NAME", "ADDRESS", "POD-CIDR", "NETNS"].map(str::to_owned).to_vec();
        let rows = spec.nodes.iter().map(|node| {
            vec![
                node.name.clone(),
                node.ip.to_string(),
                node.pod_cidr.to_string(),
                spec.node_netns(&node.name),
            ]
        });
        let lines: Vec<Vec<String>> = std::iter::once(header).chain(rows).collect();
        std::io::stdout().write_all(render(&lines).as_bytes())?;
        Ok(())
    }
}

impl Exec {
    fn run(self) -> anyhow::Result<ExitCode> {
        let spec = store::load_running(&self.cluster.name)?;
        if spec.node(&self.node).is_none() {
            let names: Vec<&str> = spec.nodes.iter().map(|node| node.name.as_str()).collect();
            bail!("node {:?} not found: there are {}", self.node, names.join(", "));
        }
        node_netns(&spec, &self.node)?
            .enter()
            .with_context(|| format!("enter node {}", self.node))?;
        host::replace_with(&self.command)
    }
}
