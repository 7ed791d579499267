//! `minik debug plan`

use std::io::Write;

use anyhow::Context;
use clap::Args;
use minik_node::proxy::ProxyReconciler;
use minik_node::proxy::iptables::Iptables;
use minik_node::{agent, view};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{Output, node};
use crate::cluster::{ClusterSpec, NodeSpec};
use crate::cmd::Cluster;
use crate::cmd::internal::agent::config;
use crate::{client, store};

/// Show what the agents would still change in their nodes' rules: the rules that the API's objects ask for, computed
/// as the agents compute them, less those that are there. Prints what `iptables-restore --noflush` would be given, and
/// nothing when all is in order.
#[derive(Debug, Args)]
pub struct Plan {
    #[command(flatten)]
    cluster: Cluster,
    /// Nodes, as in `minik node ls`; all without
    nodes: Vec<String>,
    /// Print as JSON
    #[arg(short, long)]
    output: Option<Output>,
}

/// What is printed for a node; the JSON form is an interface.
#[derive(Debug, Serialize)]
struct Pending {
    node: String,
    /// Chains that would be filled anew, in order.
    written: Vec<String>,
    /// Chains that would be removed.
    removed: Vec<String>,
    /// The whole change, empty when there is none.
    restore: String,
}

impl Plan {
    pub fn run(self) -> anyhow::Result<()> {
        let spec = store::load_running(&self.cluster.name)?;
        let nodes: Vec<&NodeSpec> = if self.nodes.is_empty() {
            spec.nodes.iter().collect()
        } else {
            let named = self.nodes.iter().map(|name| node::find(&spec, name));
            named.collect::<anyhow::Result<_>>()?
        };
        let pending = nodes.iter().map(|of| {
            node::inside(&spec, &of.name, async || pending(&spec, of).await)
                .with_context(|| format!("compare the rules of node {}", of.name))
        });
        let pending: Vec<Pending> = pending.collect::<anyhow::Result<_>>()?;
        let text = match self.output {
            Some(Output::Json) => serde_json::to_string_pretty(&pending)? + "\n",
            None => text(&pending),
        };
        std::io::stdout().write_all(text.as_bytes())?;
        Ok(())
    }
}

async fn pending(spec: &ClusterSpec, node: &NodeSpec) -> anyhow::Result<Pending> {
    let shutdown = CancellationToken::new();
    let mut view = view::spawn(client::connect(&spec.name)?, node.name.clone(), shutdown.clone());
    let synced = view
        .wait_for(Option::is_some)
        .await
        .context("list the cluster's objects")?;
    let snapshot = synced.clone().context("list the cluster's objects")?;
    drop(synced);
    shutdown.cancel();
    let config = agent::proxy_config(&config(spec, node));
    let mut proxy = ProxyReconciler::new(Iptables::new(config.lock_file.clone()), config);
    let plan = proxy.pending(snapshot).await?;
    let names = |chains: Vec<&str>| chains.into_iter().map(str::to_owned).collect();
    Ok(Pending {
        node: node.name.clone(),
        written: plan
            .as_ref()
            .map(|plan| names(plan.written_chains().collect()))
            .unwrap_or_default(),
        removed: plan
            .as_ref()
            .map(|plan| names(plan.removed_chains().collect()))
            .unwrap_or_default(),
        restore: plan.map(|plan| plan.to_string()).unwrap_or_default(),
    })
}

fn text(pending: &[Pending]) -> String {
    let changed = pending.iter().filter(|pending| !pending.restore.is_empty());
    changed
        .map(|pending| format!("# node {}\n{}", pending.node, pending.restore))
        .collect()
}
