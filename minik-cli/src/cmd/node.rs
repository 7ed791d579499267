//! `minik node ls|exec|stop|start`

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::{Cluster, host};
use crate::client::{self, table::render};
use crate::cluster::{ClusterSpec, NodeSpec};
use crate::provider::netns::node_netns;
use crate::store::{self, RunLock, WhenBusy};
use crate::{power, processes, readiness};

/// List nodes, run a command on one, or switch one off and on.
#[derive(Debug, Subcommand)]
pub enum Node {
    /// List the nodes with their addresses
    Ls(Ls),
    /// Run a command in a node's network namespace
    Exec(Exec),
    /// Switch a node off, as if its plug were pulled
    Stop(Stop),
    /// Switch a node on again
    Start(Start),
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

/// Switch a node off, as if its plug were pulled: its agent and all its Pods end at once, and nothing reaches it. The
/// control plane notices after 50 s of silence.
#[derive(Debug, Args)]
pub struct Stop {
    #[command(flatten)]
    cluster: Cluster,
    /// Node, as in `minik node ls`
    node: String,
}

/// Switch a node on again. Returns when it is Ready; its Pods are started anew by its agent.
#[derive(Debug, Args)]
pub struct Start {
    #[command(flatten)]
    cluster: Cluster,
    /// Node, as in `minik node ls`
    node: String,
}

impl Node {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Ls(ls) => ls.run().map(|()| ExitCode::SUCCESS),
            Self::Exec(exec) => exec.run(),
            Self::Stop(stop) => stop.run().map(|()| ExitCode::SUCCESS),
            Self::Start(start) => start.run().map(|()| ExitCode::SUCCESS),
        }
    }
}

impl Ls {
    fn run(self) -> anyhow::Result<()> {
        let spec = store::load_running(&self.cluster.name)?;
        let header = ["NAME", "STATE", "ADDRESS", "POD-CIDR", "NETNS"]
            .map(str::to_owned)
            .to_vec();
        let rows = spec.nodes.iter().map(|node| {
            vec![
                node.name.clone(),
                if power::is_off(&spec, &node.name) { "off" } else { "on" }.to_owned(),
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
        find(&spec, &self.node)?;
        node_netns(&spec, &self.node)?
            .enter()
            .with_context(|| format!("enter node {}", self.node))?;
        host::replace_with(&self.command)
    }
}

impl Stop {
    fn run(self) -> anyhow::Result<()> {
        let spec = store::load_running(&self.cluster.name)?;
        let node = find(&spec, &self.node)?;
        if node.index == 0 {
            bail!(
                "node {} carries the API server, without which nobody would notice: stop another",
                node.name
            );
        }
        let inside = processes::caller_is_inside(&spec.name).context("find the caller's namespace")?;
        if inside.is_some_and(|namespace| namespace == spec.node_netns(&node.name)) {
            bail!(
                "minik node stop would end itself here, on {}: leave the node first",
                node.name
            );
        }
        // Neither `minik up` nor `down` may be half way.
        let lock = RunLock::acquire(&spec.name, WhenBusy::Wait)?;
        super::runtime()?
            .block_on(power::off(&spec, node))
            .with_context(|| format!("stop node {}", node.name))?;
        drop(lock);
        eprintln!("node {} is off", node.name);
        Ok(())
    }
}

impl Start {
    fn run(self) -> anyhow::Result<()> {
        let spec = store::load_running(&self.cluster.name)?;
        let node = find(&spec, &self.node)?;
        if !power::is_off(&spec, &node.name) {
            eprintln!("node {} is on already", node.name);
            return Ok(());
        }
        let since = Timestamp::now();
        super::runtime()?.block_on(async {
            let lock = RunLock::acquire(&spec.name, WhenBusy::Wait)?;
            power::on(&spec, node)
                .await
                .with_context(|| format!("start node {}", node.name))?;
            drop(lock);
            let only = ClusterSpec {
                nodes: vec![node.clone()],
                ..spec.clone()
            };
            readiness::nodes(&client::connect(&spec.name)?, &only, since, |_node| {}).await?;
            eprintln!("node {} is on, and Ready", node.name);
            Ok(())
        })
    }
}

fn find<'a>(spec: &'a ClusterSpec, name: &str) -> anyhow::Result<&'a NodeSpec> {
    spec.node(name).with_context(|| {
        let names: Vec<&str> = spec.nodes.iter().map(|node| node.name.as_str()).collect();
        format!("node {name:?} not found: there are {}", names.join(", "))
    })
}
