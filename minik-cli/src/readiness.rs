//! Waits until a cluster is of use: watches the API, asks nothing twice, and gives up naming what is missing.
//!
//! The supervisor has bound every socket before the API server runs, so the first request simply waits for it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use futures::{Stream, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};

use crate::cluster::ClusterSpec;

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

/// Waits for the first answer of the API server.
///
/// # Errors
/// [`ReadinessError::Api`]
pub async fn api(client: &Client, spec: &ClusterSpec) -> Result<(), ReadinessError> {
    let nodes: Api<Node> = Api::all(client.clone());
    let mut answers = std::pin::pin!(watcher(nodes, watcher::Config::default()).default_backoff());
    // The watcher begins with a word of its own, and tries again after a refused connection or a 503.
    let answered = async { while let Some(Err(_) | Ok(watcher::Event::Init)) = answers.next().await {} };
    tokio::time::timeout(PATIENCE, answered)
        .await
        .map_err(|_elapsed| ReadinessError::Api {
            log: spec.log_dir().join("apiserver.log"),
        })
}

/// Waits until every node is Ready; tells `progress` the name of each.
///
/// # Errors
/// [`ReadinessError::Nodes`]
pub async fn nodes(client: &Client, spec: &ClusterSpec, progress: impl Fn(&str)) -> Result<(), ReadinessError> {
    let mut missing: BTreeSet<String> = spec.nodes.iter().map(|node| node.name.clone()).collect();
    let mut seen = std::pin::pin!(objects::<Node>(Api::all(client.clone()), watcher::Config::default()));
    let all_ready = async {
        while !missing.is_empty()
            && let Some(node) = seen.next().await
        {
            if is_ready(&node) && missing.remove(&node.name_any()) {
                progress(&node.name_any());
            }
        }
    };
    // Bound first: the borrow of `missing` must end before it is told.
    let in_time = tokio::time::timeout(PATIENCE, all_ready).await.is_ok();
    if in_time && missing.is_empty() {
        return Ok(());
    }
    let first = missing.first().cloned().unwrap_or_default();
    Err(ReadinessError::Nodes {
        missing: missing.into_iter().map(|name| format!("node {name}")).collect(),
        log: spec.log_dir().join(format!("agent-{first}.log")),
    })
}

/// Waits until a DNS server is ready to be asked.
///
/// # Errors
/// [`ReadinessError::Dns`]
pub async fn dns(client: &Client) -> Result<(), ReadinessError> {
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "kube-system");
    let config = watcher::Config::default().labels("kubernetes.io/service-name=kube-dns");
    let mut seen = std::pin::pin!(objects(slices, config));
    let ready = async { while seen.next().await.is_some_and(|slice| !has_ready_endpoint(&slice)) {} };
    tokio::time::timeout(PATIENCE, ready)
        .await
        .map_err(|_elapsed| ReadinessError::Dns)
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

/// Its condition `Ready` is `True`.
#[must_use]
pub fn is_ready(node: &Node) -> bool {
    let conditions = node
        .status
        .iter()
        .filter_map(|status| status.conditions.as_ref())
        .flatten();
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// A missing `ready` means ready (EndpointSlice API).
fn has_ready_endpoint(slice: &EndpointSlice) -> bool {
    slice.endpoints.iter().flatten().any(|endpoint| {
        endpoint
            .conditions
            .as_ref()
            .and_then(|conditions| conditions.ready)
            .unwrap_or(true)
    })
}
