//! Waits until a cluster is of use: watches the API, asks nothing twice, and gives up naming what is missing.
//!
//! The supervisor has bound every socket before the API server runs, so the first request simply waits for it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use futures::{Stream, StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Namespace, Node, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use minik_api::controllers::NAMESPACES;
use minik_node::runtime::spec::SOCKET_FILE;

use crate::cluster::ClusterSpec;
use crate::crash::{Crash, crash};

/// How long a cluster may take. On an idle machine it takes less than one of these seconds.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Why the wait ended badly.
#[derive(Debug, thiserror::Error)]
pub enum ReadinessError {
    /// No answer at all.
    #[error("the API server did not answer within {} s: see {}", PATIENCE.as_secs(), log.display())]
    Api {
        /// Its log.
        log: PathBuf,
    },
    /// It, or an agent, ends again and again.
    #[error("{0}")]
    Crash(#[from] Crash),
    /// Some nodes are not there, or not Ready.
    #[error("not ready within {} s: {}; see {}", PATIENCE.as_secs(), missing.join(", "), log.display())]
    Nodes {
        /// Names.
        missing: Vec<String>,
        /// The first one's log.
        log: PathBuf,
    },
    /// No DNS server is ready.
    #[error("cluster DNS has no ready endpoint within {} s: see kubectl -n kube-system describe pods", PATIENCE.as_secs())]
    Dns,
}

/// The API server's name among the supervisor's children.
const API_SERVER: &str = "apiserver";

/// Waits until the API server answers and objects can be put where people put them.
///
/// # Errors
/// [`ReadinessError::Api`]
pub async fn api(client: &Client, spec: &ClusterSpec) -> Result<(), ReadinessError> {
    let mut missing = BTreeSet::from(NAMESPACES);
    // Tries again after a refused connection or a 503.
    let mut seen = std::pin::pin!(objects::<Namespace>(
        Api::all(client.clone()),
        watcher::Config::default()
    ));
    let all_there = async {
        while !missing.is_empty()
            && let Some(namespace) = seen.next().await
        {
            missing.remove(namespace.name_any().as_str());
        }
    };
    let in_time = tokio::select! {
        in_time = tokio::time::timeout(PATIENCE, all_there) => in_time,
        crash = crash(spec, |child| child == API_SERVER) => return Err(crash.into()),
    };
    in_time.map_err(|_elapsed| ReadinessError::Api {
        log: spec.log_dir().join("apiserver.log"),
    })
}

/// Waits until every node is Ready and has said so since `since`; tells `progress` the name of each.
///
/// # Errors
/// [`ReadinessError::Nodes`]
pub async fn nodes(
    client: &Client,
    spec: &ClusterSpec,
    since: Timestamp,
    progress: impl Fn(&str),
) -> Result<(), ReadinessError> {
    let mut missing: BTreeSet<String> = spec.nodes.iter().map(|node| node.name.clone()).collect();
    let mut seen = std::pin::pin!(objects::<Node>(Api::all(client.clone()), watcher::Config::default()));
    let all_ready = async {
        while !missing.is_empty()
            && let Some(node) = seen.next().await
        {
            if is_ready(&node, since) && missing.remove(&node.name_any()) {
                progress(&node.name_any());
            }
        }
    };
    // Bound first: the borrow of `missing` must end before it is told.
    let in_time = tokio::select! {
        in_time = tokio::time::timeout(PATIENCE, all_ready) => in_time.is_ok(),
        crash = crash(spec, |_any| true) => return Err(crash.into()),
    };
    if in_time && missing.is_empty() {
        return Ok(());
    }
    let first = missing.first().cloned().unwrap_or_default();
    Err(ReadinessError::Nodes {
        missing: missing.into_iter().map(|name| format!("node {name}")).collect(),
        log: spec.log_dir().join(format!("agent-{first}.log")),
    })
}

/// Waits until a DNS server that was started since `since`, or outlived an earlier run, is ready to be asked.
///
/// # Errors
/// [`ReadinessError::Dns`]
pub async fn dns(client: &Client, spec: &ClusterSpec, since: Timestamp) -> Result<(), ReadinessError> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), "kube-system");
    let config = watcher::Config::default().labels("k8s-app=kube-dns");
    let mut servers = std::pin::pin!(objects(pods, config));
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "kube-system");
    let config = watcher::Config::default().labels("kubernetes.io/service-name=kube-dns");
    let mut seen = std::pin::pin!(objects(slices, config));
    let ready = async {
        let Some(address) = first_address(servers.as_mut(), spec, since).await else {
            return;
        };
        while seen
            .next()
            .await
            .is_some_and(|slice| !has_ready_endpoint(&slice, &address))
        {}
    };
    tokio::time::timeout(PATIENCE, ready)
        .await
        .map_err(|_elapsed| ReadinessError::Dns)
}

/// The address of the first Pod that is ready.
async fn first_address(
    mut pods: impl Stream<Item = Pod> + Unpin,
    spec: &ClusterSpec,
    since: Timestamp,
) -> Option<String> {
    while let Some(pod) = pods.next().await {
        if is_serving(&pod, since, || outlived(spec, &pod)) {
            return pod.status?.pod_ip;
        }
    }
    None
}

/// Every object as it is first and after each change. What the watch itself says is retried by it.
fn objects<K>(api: Api<K>, config: watcher::Config) -> impl Stream<Item = K>
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
    K::DynamicType: Default,
{
    watcher(api, config)
        .default_backoff()
        .applied_objects()
        .into_stream()
        .filter_map(|seen| std::future::ready(seen.ok()))
}

/// Its condition `Ready` is `True`, and was reported at `since` or later: what an earlier run of the cluster left
/// in the storage says nothing about this one. Kubernetes' times have whole seconds.
#[must_use]
pub fn is_ready(node: &Node, since: Timestamp) -> bool {
    let conditions = node
        .status
        .iter()
        .filter_map(|status| status.conditions.as_ref())
        .flatten();
    conditions.into_iter().any(|condition| {
        let reported = condition.last_heartbeat_time.as_ref().map(|time| time.0.as_second());
        condition.type_ == "Ready" && condition.status == "True" && reported >= Some(since.as_second())
    })
}

/// Whether the shim that holds the Pod's processes lives: then what was stored of them is still true.
fn outlived(spec: &ClusterSpec, pod: &Pod) -> bool {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    let (Some(node), Some(uid)) = (node, pod.metadata.uid.as_deref()) else {
        return false;
    };
    let socket = spec.node_run_dir(node).join("pods").join(uid).join(SOCKET_FILE);
    std::os::unix::net::UnixStream::connect(socket).is_ok()
}

/// Its containers are ready, and one of them runs since `since` or later, or the Pod outlived an earlier run.
fn is_serving(pod: &Pod, since: Timestamp, outlived: impl Fn() -> bool) -> bool {
    let containers = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_deref());
    let containers = containers.unwrap_or_default();
    let is_new = |container: &ContainerStatus| {
        let running = container.state.as_ref().and_then(|state| state.running.as_ref());
        let started = running.and_then(|running| running.started_at.as_ref());
        started.is_some_and(|time| time.0.as_second() >= since.as_second())
    };
    let ready = !containers.is_empty() && containers.iter().all(|container| container.ready);
    ready && (containers.iter().any(is_new) || outlived())
}

/// A missing `ready` means ready (EndpointSlice API).
fn has_ready_endpoint(slice: &EndpointSlice, address: &str) -> bool {
    slice.endpoints.iter().flatten().any(|endpoint| {
        let ready = endpoint
            .conditions
            .as_ref()
            .and_then(|conditions| conditions.ready)
            .unwrap_or(true);
        ready && endpoint.addresses.iter().any(|it| it == address)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_node_is_ready_only_if_it_said_so_lately() {
        let node = |status: &str| -> Node {
            let condition = json!({"type": "Ready", "status": status, "lastHeartbeatTime": "2026-11-21T05:00:00Z"});
            serde_json::from_value(json!({"metadata": {}, "status": {"conditions": [condition]}})).unwrap()
        };
        assert!(is_ready(&node("True"), at("2026-11-21T05:00:00.9Z")));
        assert!(!is_ready(&node("True"), at("2026-11-21T05:00:01Z")));
        assert!(!is_ready(&node("Unknown"), at("2026-11-21T04:00:00Z")));
        assert!(!is_ready(&Node::default(), at("2026-11-21T04:00:00Z")));
    }

    #[test]
    fn a_server_of_an_earlier_run_counts_only_if_it_lives() {
        let pod = |ready: bool| -> Pod {
            let container = json!({"name": "dns", "ready": ready, "restartCount": 0, "image": "i", "imageID": "i",
                "state": {"running": {"startedAt": "2026-11-21T05:00:00Z"}}});
            serde_json::from_value(json!({"metadata": {}, "status": {"containerStatuses": [container]}})).unwrap()
        };
        let (gone, alive) = (|| false, || true);
        assert!(is_serving(&pod(true), at("2026-11-21T05:00:00Z"), gone));
        assert!(!is_serving(&pod(true), at("2026-11-21T05:00:01Z"), gone));
        assert!(is_serving(&pod(true), at("2026-11-21T05:00:01Z"), alive));
        assert!(!is_serving(&pod(false), at("2026-11-21T05:00:00Z"), alive));
        assert!(!is_serving(&Pod::default(), at("2026-11-21T05:00:00Z"), alive));
    }
}
