//! The Pods of this node for those who ask for logs, exec and ports: where their containers are. Knows only what workers
//! publish, and what they count.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;

use super::metrics::Metrics;
use crate::runtime::client::{ShimClient, States};

/// Where the containers of a Pod are, for logs and exec.
#[derive(Debug, Clone)]
pub struct Facts {
    /// UID of the Pod.
    pub uid: String,
    /// Its shim, while it has one.
    pub client: Option<ShimClient>,
    /// File of its network namespace; `None` for a Pod in the node's own.
    pub netns: Option<PathBuf>,
    /// What the shim reported last.
    pub states: States,
    /// Why containers wait, by name: the `reason` of their status.
    pub waiting: BTreeMap<String, String>,
    /// Directory of its logs: `CONTAINER/ATTEMPT.log`.
    pub logs: PathBuf,
}

/// Pods of this node by namespace and name; cheap to clone. Each is a channel, so that whoever follows a log
/// learns of its end.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    pods: Arc<RwLock<ByName>>,
    complete: Arc<watch::Sender<bool>>,
    metrics: Metrics,
}

type ByName = BTreeMap<(String, String), watch::Sender<Facts>>;

impl Registry {
    /// What is counted of them.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Finds a Pod.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<watch::Receiver<Facts>> {
        let pods = self.pods.read().unwrap_or_else(PoisonError::into_inner);
        pods.get(&(namespace.to_owned(), name.to_owned()))
            .map(watch::Sender::subscribe)
    }

    /// Names of all Pods, as `NAMESPACE/NAME`, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let pods = self.pods.read().unwrap_or_else(PoisonError::into_inner);
        let mut names: Vec<String> = pods
            .keys()
            .map(|(namespace, name)| format!("{namespace}/{name}"))
            .collect();
        names.sort();
        names
    }

    /// Waits until it knows every Pod that an earlier agent left and the API server has.
    pub async fn complete(&self) {
        // Nobody can take the sender away while `self` has it.
        self.complete.subscribe().wait_for(|complete| *complete).await.ok();
    }

    /// Every Pod is known that an earlier agent left and the API server has.
    pub(super) fn set_complete(&self) {
        self.complete.send_replace(true);
    }

    pub(super) fn set(&self, pod: &Pod, facts: Facts) {
        let mut pods = self.pods.write().unwrap_or_else(PoisonError::into_inner);
        match pods.get(&key(pod)) {
            Some(sender) => drop(sender.send_replace(facts)),
            None => drop(pods.insert(key(pod), watch::channel(facts).0)),
        }
    }

    /// Forgets a Pod, unless another of the same name has come meanwhile.
    pub(super) fn remove(&self, pod: &Pod) {
        let mut pods = self.pods.write().unwrap_or_else(PoisonError::into_inner);
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        if pods.get(&key(pod)).is_some_and(|sender| sender.borrow().uid == uid) {
            pods.remove(&key(pod));
        }
    }
}

fn key(pod: &Pod) -> (String, String) {
    (
        pod.metadata.namespace.clone().unwrap_or_default(),
        pod.metadata.name.clone().unwrap_or_default(),
    )
}
