//! `minik down`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;

use super::Cluster;
use crate::cluster::names;
use crate::kubeconfig::{self, Environment};
use crate::store::{RunLock, WhenBusy};
use crate::{processes, teardown};

/// Stop a cluster and leave the machine as it was. Its state is kept for the next `minik up`.
#[derive(Debug, Args)]
pub struct Down {
    #[command(flatten)]
    cluster: Cluster,
    /// Remove the state as well
    #[arg(long)]
    purge: bool,
    /// Where the state is, if the cluster is not up to say so [default: /var/lib/minik/NAME]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Kubeconfig to take the cluster out of, instead of KUBECONFIG's or ~/.kube/config
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

impl Down {
    /// Of a cluster that is up, its state kept.
    pub fn of(cluster: Cluster, kubeconfig: Option<PathBuf>) -> Self {
        Self {
            cluster,
            purge: false,
            state_dir: None,
            kubeconfig,
        }
    }

    pub fn run(self) -> anyhow::Result<ExitCode> {
        if !nix::unistd::Uid::effective().is_root() {
            bail!("minik down must run as root: run it with sudo");
        }
        let name = &self.cluster.name;
        if let Some(namespace) = processes::caller_is_inside(name).context("find the caller's namespace")? {
            bail!("minik down would end itself here, in {namespace}: leave the lab first");
        }
        let was_there = names::run_dir(name).exists();
        let lock = RunLock::acquire(name, WhenBusy::Wait)?;
        // The cluster knows best where its state is; one that is gone leaves the usual place.
        let state_dir = std::fs::read_link(names::state_link(name))
            .ok()
            .or_else(|| self.state_dir.clone())
            .unwrap_or_else(|| names::default_state_dir(name));
        let outcome = super::runtime()?.block_on(teardown::run(name, &state_dir, self.purge));
        drop(lock);
        let mut outcome = outcome?;
        if !was_there {
            // Made for the lock, by us.
            outcome
                .done
                .retain(|line| !line.ends_with(&*names::run_dir(name).to_string_lossy()));
        }
        match kubeconfig::remove(&Environment::of_process(self.kubeconfig.clone()), &names::context(name)) {
            Ok(files) => {
                let cleaned = files
                    .iter()
                    .map(|file| format!("removed context {} from {}", names::context(name), file.display()));
                outcome.done.extend(cleaned);
            }
            Err(error) => {
                let context = names::context(name);
                let error = crate::errors::chain(&error);
                outcome.left.push(format!(
                    "context {context}: {error}: kubectl config delete-context {context}"
                ));
            }
        }
        print(name, &outcome);
        Ok(if outcome.left.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

fn print(cluster: &str, outcome: &teardown::Outcome) {
    for line in &outcome.done {
        eprintln!("✓ {line}");
    }
    for line in &outcome.left {
        eprintln!("error: {line}");
    }
    if outcome.done.is_empty() && outcome.left.is_empty() {
        eprintln!("cluster {cluster:?} is not up");
    }
}
