//! Nodes whose machine is switched off: an agent that is not started, a link that is down, Pods that ended with everything.
//!
//! Which these are stands as an empty file in the node's run directory, so that everybody who starts or mends something
//! knows, also after the supervisor's death; `minik down` forgets it with the directory.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cluster::{ClusterSpec, NodeSpec};
use crate::processes;
use crate::provider::netns::{ProviderError, plug, unplug};
use crate::supervisor::report;

/// How often processes are looked for: what forks while it is killed is found the next time.
const ROUNDS: usize = 5;
/// How long a killed process may take to be gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum PowerError {
    /// The file that says that the node is off.
    #[error("note it in {}", path.display())]
    Note {
        /// Where.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// `/proc`, `/run/netns`, `poll`
    #[error("end the processes of the node")]
    Processes(#[source] io::Error),
    /// Some cannot be killed.
    #[error("processes of the node do not end: {0:?}")]
    Left(Vec<i32>),
    /// Its link.
    #[error("change the node's link")]
    Link(#[from] ProviderError),
    /// Its report.
    #[error("find the supervisor")]
    Supervisor(#[source] io::Error),
    /// `kill`
    #[error("tell the supervisor")]
    Tell(#[source] nix::Error),
}

fn note(spec: &ClusterSpec, node: &str) -> PathBuf {
    spec.node_run_dir(node).join("off")
}

/// Whether a node is switched off.
#[must_use]
pub fn is_off(spec: &ClusterSpec, node: &str) -> bool {
    note(spec, node).exists()
}

/// The cluster without the nodes that are switched off, for whoever expects something of them.
#[must_use]
pub fn only_on(spec: &ClusterSpec) -> ClusterSpec {
    let mut on = spec.clone();
    on.nodes.retain(|node| !is_off(spec, &node.name));
    on
}

/// Switches a node off, as if its plug were pulled: nobody is asked to stop.
///
/// # Errors
/// [`PowerError`]; calling again goes on from there.
pub async fn off(spec: &ClusterSpec, node: &NodeSpec) -> Result<(), PowerError> {
    let path = note(spec, &node.name);
    File::create(&path).map_err(|source| PowerError::Note { path, source })?;
    unplug(spec, node).await?;
    let mut left = Vec::new();
    for _ in 0..ROUNDS {
        let found = processes::of_node(&spec.name, &node.name).map_err(PowerError::Processes)?;
        if found.is_empty() {
            return Ok(());
        }
        let ended = processes::end(found, Signal::SIGKILL, PATIENCE).map_err(PowerError::Processes)?;
        left = ended.left.into_iter().collect();
    }
    Err(PowerError::Left(left))
}

/// Switches a node on: its link is up and the supervisor starts its agent, which finds what is left of its Pods.
///
/// # Errors
/// [`PowerError`]; calling again goes on from there.
pub async fn on(spec: &ClusterSpec, node: &NodeSpec) -> Result<(), PowerError> {
    plug(spec, node).await?;
    let path = note(spec, &node.name);
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(PowerError::Note { path, source }),
        _ => {}
    }
    let report = report::read(&report::path(&spec.name)).map_err(PowerError::Supervisor)?;
    match report.map(|report| kill(Pid::from_raw(report.pid), Signal::SIGHUP)) {
        // One that has just died is followed by one that looks for itself.
        None | Some(Ok(()) | Err(nix::Error::ESRCH)) => Ok(()),
        Some(Err(errno)) => Err(PowerError::Tell(errno)),
    }
}
