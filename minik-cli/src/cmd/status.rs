//! `minik status`

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueEnum};

use super::Cluster;
use crate::health::{self, Report};
use crate::store::{self, StoreError};

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

impl Status {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let report = report(&self.cluster.name)?;
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

/// How the cluster is, whether it is up or not.
///
/// # Errors
/// When its parameters or processes cannot be read.
pub fn report(cluster: &str) -> anyhow::Result<Report> {
    match store::load_running(cluster) {
        Ok(spec) => super::runtime()?
            .block_on(health::look(&spec))
            .context("list processes"),
        Err(StoreError::NotUp { .. }) => Ok(health::stopped(cluster)),
        Err(error) => Err(error.into()),
    }
}

fn text(report: &Report) -> String {
    let mut lines = vec![format!("cluster {}: {}", report.name, report.state)];
    lines.extend(report.server.iter().map(|server| format!("  server     {server}")));
    if report.state != "Stopped" {
        let outside = if report.isolated { "isolated" } else { "this machine" };
        lines.push(format!("  outside    {outside}"));
    }
    lines.push(format!("  state      {}", report.state_dir));
    for node in &report.nodes {
        let ready = if node.ready { "Ready" } else { "NotReady" };
        lines.push(format!("  node       {:<15} {:<15} {ready}", node.name, node.ip));
    }
    for (name, pid) in &report.processes {
        let memory = report.memory.get(name).map_or(0.0, |size| *size as f64 / 1024.0);
        lines.push(format!("  process    {name:<31} {pid:<8} {memory:>6.1} MiB"));
    }
    if let Some(pods) = &report.pods {
        lines.push(format!(
            "  pods       {} of {} ready, {} finished; {} shims, {} processes",
            pods.ready, pods.total, pods.finished, report.shims, report.pod_processes
        ));
    }
    lines.extend(report.wrong.iter().map(|what| format!("  wrong      {what}")));
    lines.join("\n") + "\n"
}
