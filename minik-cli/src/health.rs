//! How a cluster is: its processes, nodes, Pods and network, and in one list all that is not well. Looks and asks; changes
//! nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use serde::Serialize;

use crate::cluster::{ClusterSpec, names};
use crate::processes::{self, Belonging};
use crate::provider::survey::survey;
use crate::supervisor::report::{self, ChildReport, Report as Supervisor};
use crate::{client, readiness, store};

/// An API server that takes longer to list a few nodes is not well.
const PATIENCE: Duration = Duration::from_secs(5);

/// What `minik status` prints; the JSON form is an interface.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Name of the cluster.
    pub name: String,
    /// `Running`, `Degraded` or `Stopped`.
    pub state: &'static str,
    /// For kubectl, on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Whether its outside world is a namespace of its own.
    pub isolated: bool,
    /// Where its state and logs are.
    pub state_dir: String,
    /// By name: `supervisor`, `standby`, `apiserver`, `agent-worker1` …
    pub processes: BTreeMap<String, i32>,
    /// By the same names, in KiB: what each would give back (proportional set size).
    pub memory: BTreeMap<String, u64>,
    /// Number of processes in Pods, their shims apart.
    pub pod_processes: usize,
    /// Shims, one a Pod.
    pub shims: usize,
    /// All Pods; `None` when the API server does not answer.
    pub pods: Option<Pods>,
    /// In the order of their addresses.
    pub nodes: Vec<NodeReport>,
    /// Everything that is not well, for people; empty when the cluster is `Running` or `Stopped`.
    pub wrong: Vec<String>,
}

/// Counts of Pods.
#[derive(Debug, Default, Serialize)]
pub struct Pods {
    /// All.
    pub total: usize,
    /// Whose condition `Ready` is `True`.
    pub ready: usize,
    /// That have ended and are done.
    pub finished: usize,
}

/// One node.
#[derive(Debug, Serialize)]
pub struct NodeReport {
    /// Its name.
    pub name: String,
    /// Its address.
    pub ip: String,
    /// Whether it says that it is ready.
    pub ready: bool,
}

/// A cluster that is not up.
#[must_use]
pub fn stopped(name: &str) -> Report {
    Report {
        name: name.to_owned(),
        state: "Stopped",
        server: None,
        isolated: false,
        state_dir: names::default_state_dir(name).display().to_string(),
        processes: BTreeMap::new(),
        memory: BTreeMap::new(),
        pod_processes: 0,
        shims: 0,
        pods: None,
        nodes: Vec::new(),
        wrong: Vec::new(),
    }
}

/// Looks at a cluster that is up. Needs a tokio runtime.
///
/// # Errors
/// When processes cannot be listed.
pub async fn look(spec: &ClusterSpec) -> std::io::Result<Report> {
    let supervisor = report::read(&report::path(&spec.name))?.unwrap_or_default();
    let found = Found::look(&spec.name, &supervisor)?;
    let mut wrong = found.missing(spec, &supervisor);
    let answers = ask(spec).await;
    let ready = answers.as_ref().map(|(nodes, _)| nodes);
    let nodes: Vec<NodeReport> = spec
        .nodes
        .iter()
        .map(|node| NodeReport {
            name: node.name.clone(),
            ip: node.ip.to_string(),
            ready: ready.is_some_and(|ready| ready.get(&node.name) == Some(&true)),
        })
        .collect();
    if answers.is_none() {
        wrong.push("the API server does not answer".to_owned());
    } else {
        let unready = nodes.iter().filter(|node| !node.ready);
        wrong.extend(unready.map(|node| format!("node {} is not ready", node.name)));
    }
    match survey(spec).await {
        Ok(faults) => wrong.extend(faults.iter().map(ToString::to_string)),
        Err(error) => wrong.push(format!("look at the network: {}", crate::errors::chain(&error))),
    }
    Ok(Report {
        name: spec.name.clone(),
        state: if wrong.is_empty() { "Running" } else { "Degraded" },
        server: spec.api_port.map(|port| format!("https://127.0.0.1:{port}")),
        isolated: spec.isolated,
        state_dir: spec.state_dir.display().to_string(),
        memory: found.memory(),
        processes: found.processes,
        pod_processes: found.inside,
        shims: found.shims,
        pods: answers.map(|(_, pods)| pods),
        nodes,
        wrong,
    })
}

/// A cluster's processes.
#[derive(Default)]
struct Found {
    processes: BTreeMap<String, i32>,
    inside: usize,
    shims: usize,
}

impl Found {
    fn look(cluster: &str, supervisor: &Supervisor) -> std::io::Result<Self> {
        let mut found = Self::default();
        for (pid, how) in processes::of_cluster(cluster)? {
            match how {
                Belonging::Internal { .. } if supervisor.standby == Some(pid) => {
                    found.processes.insert("standby".to_owned(), pid);
                }
                Belonging::Internal { fork: true, .. } => {}
                Belonging::Internal {
                    what, node: Some(node), ..
                } => {
                    found.processes.insert(format!("{what}-{node}"), pid);
                }
                Belonging::Internal { what, .. } if what == "shim" => found.shims += 1,
                Belonging::Internal { what, .. } if ["supervisor", "apiserver", "network"].contains(&what.as_str()) => {
                    found.processes.insert(what, pid);
                }
                Belonging::Internal { .. } | Belonging::Inside { .. } => found.inside += 1,
            }
        }
        Ok(found)
    }

    fn missing(&self, spec: &ClusterSpec, supervisor: &Supervisor) -> Vec<String> {
        if !store::supervisor_runs(&spec.name) {
            return vec!["the supervisor does not run: minik up starts it".to_owned()];
        }
        let children = supervisor.children.iter();
        let missing = children.filter(|(name, _)| !self.processes.contains_key(*name));
        missing.map(|(name, child)| not_running(name, child)).collect()
    }

    fn memory(&self) -> BTreeMap<String, u64> {
        let sizes = self.processes.iter();
        sizes
            .filter_map(|(name, pid)| Some((name.clone(), processes::memory(*pid)?)))
            .collect()
    }
}

fn not_running(name: &str, child: &ChildReport) -> String {
    match &child.last_end {
        Some(end) => format!("{name} does not run: it {end}, {} times in a row", child.failures),
        None => format!("{name} does not run"),
    }
}

/// Which nodes are ready, and how many Pods; `None` when the API server does not answer in time.
async fn ask(spec: &ClusterSpec) -> Option<(BTreeMap<String, bool>, Pods)> {
    let client = client::connect(&spec.name).ok()?;
    let lists = async { tokio::try_join!(nodes(client.clone()), pods(client)) };
    tokio::time::timeout(PATIENCE, lists).await.ok()?.ok()
}

async fn nodes(client: Client) -> kube::Result<BTreeMap<String, bool>> {
    let list = Api::<Node>::all(client).list(&ListParams::default()).await?;
    let nodes = list.iter();
    Ok(nodes
        .map(|node| (node.name_any(), readiness::is_ready(node, Timestamp::UNIX_EPOCH)))
        .collect())
}

async fn pods(client: Client) -> kube::Result<Pods> {
    let list = Api::<Pod>::all(client).list(&ListParams::default()).await?;
    let mut pods = Pods {
        total: list.items.len(),
        ..Pods::default()
    };
    for status in list.iter().filter_map(|pod| pod.status.as_ref()) {
        let mut conditions = status.conditions.iter().flatten();
        pods.ready += usize::from(conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True"));
        pods.finished += usize::from(matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")));
    }
    Ok(pods)
}
