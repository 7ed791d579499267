//! `minik status`

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde::Serialize;

use super::Cluster;
use crate::cluster::{ClusterSpec, names};
use crate::processes::{self, Belonging};
use crate::store::{self, StoreError};
use crate::{client, readiness};

/// An API server that takes longer to list a few nodes is not well.
const PATIENCE: Duration = Duration::from_secs(5);

/// Show how a cluster is. Exits with 1 if it is not up, or not well.
#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    cluster: Cluster,
    /// Print as JSON
    #[arg(short, long)]
    output: Option<Output>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Output {
    Json,
}

/// What is printed; the JSON form is an interface.
#[derive(Debug, Serialize)]
struct Report {
    name: String,
    /// `Running`, `Degraded` or `Stopped`.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<String>,
    isolated: bool,
    state_dir: String,
    /// By name: `supervisor`, `apiserver`, `agent-worker1` …
    processes: BTreeMap<String, i32>,
    /// Number of processes in Pods.
    pod_processes: usize,
    nodes: Vec<NodeReport>,
}

#[derive(Debug, Serialize)]
struct NodeReport {
    name: String,
    ip: String,
    ready: bool,
}

impl Status {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let name = &self.cluster.name;
        let report = match store::load_running(name) {
            Ok(spec) => look(&spec)?,
            Err(StoreError::NotUp { .. }) => stopped(name),
            Err(error) => return Err(error.into()),
        };
        let text = match self.output {
            Some(Output::Json) => serde_json::to_string_pretty(&report)? + "\n",
            None => text(&report),
        };
        std::io::stdout().write_all(text.as_bytes())?;
        Ok(if report.state == "Running" {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

fn stopped(name: &str) -> Report {
    Report {
        name: name.to_owned(),
        state: "Stopped",
        server: None,
        isolated: false,
        state_dir: names::default_state_dir(name).display().to_string(),
        processes: BTreeMap::new(),
        pod_processes: 0,
        nodes: Vec::new(),
    }
}

fn look(spec: &ClusterSpec) -> anyhow::Result<Report> {
    let mut processes = BTreeMap::new();
    let mut pod_processes = 0;
    for (pid, how) in processes::of_cluster(&spec.name).context("list processes")? {
        match how {
            Belonging::Internal { what, node: Some(node) } => drop(processes.insert(format!("{what}-{node}"), pid)),
            Belonging::Internal { what, node: None } if what == "supervisor" || what == "apiserver" => {
                processes.insert(what, pid);
            }
            Belonging::Internal { .. } => {}
            Belonging::Inside { .. } => pod_processes += 1,
        }
    }
    let ready = super::runtime()?.block_on(ready_nodes(spec));
    let nodes: Vec<NodeReport> = spec
        .nodes
        .iter()
        .map(|node| NodeReport {
            name: node.name.clone(),
            ip: node.ip.to_string(),
            ready: ready.as_ref().is_some_and(|ready| ready.get(&node.name) == Some(&true)),
        })
        .collect();
    let well = store::supervisor_runs(&spec.name) && nodes.iter().all(|node| node.ready);
    Ok(Report {
        name: spec.name.clone(),
        state: if well { "Running" } else { "Degraded" },
        server: spec.api_port.map(|port| format!("https://127.0.0.1:{port}")),
        isolated: spec.isolated,
        state_dir: spec.state_dir.display().to_string(),
        processes,
        pod_processes,
        nodes,
    })
}

/// `None` when the API server does not answer.
async fn ready_nodes(spec: &ClusterSpec) -> Option<BTreeMap<String, bool>> {
    let client = client::connect(&spec.name).ok()?;
    let nodes: Api<Node> = Api::all(client);
    let list = tokio::time::timeout(PATIENCE, nodes.list(&ListParams::default()))
        .await
        .ok()?
        .ok()?;
    Some(
        list.iter()
            .map(|node| (node.name_any(), readiness::is_ready(node, Timestamp::UNIX_EPOCH)))
            .collect(),
    )
}

fn text(report: &Report) -> String {
    let mut lines = vec![format!("cluster {}: {}", report.name, report.state)];
    lines.extend(report.server.iter().map(|server| format!("  server     {server}")));
    if report.state != "Stopped" {
        lines.push(format!(
            "  outside    {}",
            if report.isolated { "isolated" } else { "this machine" }
        ));
    }
    lines.push(format!("  state      {}", report.state_dir));
    for node in &report.nodes {
        let ready = if node.ready { "Ready" } else { "NotReady" };
        lines.push(format!("  node       {:<15} {:<15} {ready}", node.name, node.ip));
    }
    lines.extend(
        report
            .processes
            .iter()
            .map(|(name, pid)| format!("  process    {name:<31} {pid}")),
    );
    lines.join("\n") + "\n"
}
