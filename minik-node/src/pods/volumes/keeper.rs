//! Lays one Pod's volumes and keeps them as their objects, the Pod and time say: the kubelet's volume manager.
//!
//! Owns the Pod's volume directories while it lives. Waits for a change of an object that the Pod names, of the
//! Pod's labels and annotations, for the renewal of a token, and after a failure for the next attempt; polls nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::references::References;
use super::token::{self, TokenKey};
use super::{Directories, Laid, Layout, VolumeError};
use crate::config;
use crate::pods::context::{NodeContext, Wanted, chain};
use crate::pods::events::Events;

/// The kubelet's delays between attempts.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(122);
/// How long the kubelet waits for all volumes before it says so.
const PATIENCE: Duration = Duration::from_secs(123);

/// A Pod's volumes by name.
pub type Volumes = BTreeMap<String, Laid>;

/// Keeps a Pod's volumes until it is dropped; what is laid stays.
#[derive(Debug)]
pub struct Keeper {
    laid: watch::Receiver<Option<Arc<Volumes>>>,
    /// None for a Pod without volumes.
    task: Option<AbortOnDropHandle<()>>,
}

impl Keeper {
    /// Begins at once.
    pub fn spawn(
        node: Arc<NodeContext>,
        events: Events,
        wanted: watch::Receiver<Wanted>,
        directories: Directories,
    ) -> Self {
        let pod = Arc::clone(&wanted.borrow().pod);
        let none = pod
            .spec
            .iter()
            .all(|spec| spec.volumes.iter().flatten().next().is_none());
        let (sender, laid) = watch::channel(none.then(Arc::default));
        if none {
            return Self { laid, task: None };
        }
        let keeping = Keeping {
            references: References::of(&node.objects, &pod),
            steps: node.steps.clone(),
            node,
            events,
            wanted,
            directories,
            tokens: BTreeMap::new(),
            laid: Volumes::new(),
            said: BTreeMap::new(),
            sender,
        };
        Self {
            laid,
            task: Some(AbortOnDropHandle::new(tokio::spawn(keeping.run()))),
        }
    }

    /// The volumes, once all of them have been laid.
    pub fn laid(&self) -> Option<Arc<Volumes>> {
        self.laid.borrow().clone()
    }

    /// Whether all volumes have been laid, so that [`changed`](Self::changed) tells of nothing older.
    pub fn is_complete(&mut self) -> bool {
        self.laid.borrow_and_update().is_some()
    }

    /// Waits until the answer of [`is_complete`](Self::is_complete) is another than it last was.
    pub async fn changed(&mut self) {
        if self.laid.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Stops keeping, and returns when nothing is written any more.
    pub async fn end(self) {
        if let Some(task) = self.task {
            task.abort();
            let ended = task.await;
            tracing::trace!(aborted = ended.is_err(), "volumes are kept no more");
        }
    }
}

struct Keeping {
    node: Arc<NodeContext>,
    events: Events,
    wanted: watch::Receiver<Wanted>,
    directories: Directories,
    references: References,
    steps: watch::Receiver<()>,
    tokens: BTreeMap<TokenKey, Result<token::Token, String>>,
    laid: Volumes,
    /// What was last said about a volume that fails.
    said: BTreeMap<String, String>,
    sender: watch::Sender<Option<Arc<Volumes>>>,
}

/// How an attempt ended.
#[derive(Debug, PartialEq, Eq)]
enum Attempt {
    /// Something is not known yet.
    Early,
    /// All volumes are as they should be.
    Done,
    /// Some are not.
    Failed,
}

impl Keeping {
    async fn run(mut self) {
        let mut retry = FIRST_RETRY;
        let mut overdue = Instant::now() + PATIENCE;
        let mut due = None;
        loop {
            let pod = Arc::clone(&self.wanted.borrow_and_update().pod);
            let repeat = due.is_some_and(|due| Instant::now() >= due);
            let attempt = self.attempt(&pod, repeat).await;
            if attempt == Attempt::Failed {
                if due.is_none() || repeat {
                    due = Some(Instant::now() + retry);
                    retry = (retry * 2).min(LAST_RETRY);
                }
            } else {
                (retry, due) = (FIRST_RETRY, None);
            }
            if attempt == Attempt::Done && self.sender.borrow().is_none() {
                self.sender.send_replace(Some(Arc::new(self.laid.clone())));
            }
            let waiting = self.sender.borrow().is_none();
            if waiting && Instant::now() >= overdue {
                self.events.warning(&pod, None, "FailedMount", self.too_long(&pod));
                overdue = Instant::now() + PATIENCE;
            }
            let wake = due
                .into_iter()
                .chain(waiting.then_some(overdue))
                .chain(self.renewal())
                .min();
            if !self.wait(&pod, wake).await {
                return;
            }
        }
    }

    /// Waits for a cause to look again; false when there will be none.
    async fn wait(&mut self, seen: &Pod, wake: Option<Instant>) -> bool {
        let sleep = async {
            match wake {
                Some(wake) => tokio::time::sleep_until(wake).await,
                None => std::future::pending().await,
            }
        };
        let metadata = &seen.metadata;
        let told = |wanted: &Wanted| {
            let now = &wanted.pod.metadata;
            now.labels != metadata.labels || now.annotations != metadata.annotations
        };
        tokio::select! {
            changed = self.wanted.wait_for(told) => changed.is_ok(),
            changed = self.steps.changed() => {
                // By another clock a token may be over, or not begun yet.
                let tokens = self.tokens.values_mut().flatten();
                tokens.for_each(|token| token.renew_at = Timestamp::MIN);
                changed.is_ok()
            }
            () = self.references.changed() => true,
            () = sleep => true,
        }
    }

    async fn attempt(&mut self, pod: &Pod, repeat: bool) -> Attempt {
        let Some((mut ingredients, claimed)) = self.references.gather(&self.node.objects, pod) else {
            return Attempt::Early;
        };
        self.renew(pod).await;
        ingredients.tokens = self.tokens.clone();
        ingredients.allocatable = config::allocatable(&self.node.config);
        let layout = Layout {
            pod,
            directories: &self.directories,
            ingredients: &ingredients,
            claimed: &claimed,
            now: Timestamp::now(),
        };
        let mut failed = Vec::new();
        for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            let changes = volume.config_map.is_some()
                || volume.secret.is_some()
                || volume.downward_api.is_some()
                || volume.projected.is_some();
            if !changes && self.laid.contains_key(&volume.name) {
                continue;
            }
            match layout.lay(volume) {
                Ok(laid) => {
                    self.said.remove(&volume.name);
                    self.laid.insert(volume.name.clone(), laid);
                }
                Err(error) => failed.push((volume.name.clone(), error)),
            }
        }
        let done = failed.is_empty();
        for (volume, error) in failed {
            self.complain(pod, volume, &error, repeat);
        }
        if done { Attempt::Done } else { Attempt::Failed }
    }

    fn complain(&mut self, pod: &Pod, volume: String, error: &VolumeError, repeat: bool) {
        let text = chain(error);
        if repeat || self.said.get(&volume) != Some(&text) {
            self.events.warning(pod, None, "FailedMount", text.clone());
        }
        self.said.insert(volume, text);
    }

    fn too_long(&self, pod: &Pod) -> String {
        let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let missing = volumes.filter(|volume| !self.laid.contains_key(&volume.name));
        let missing: Vec<&str> = missing.map(|volume| volume.name.as_str()).collect();
        format!(
            "Unable to attach or mount volumes: unmounted volumes=[{}], unattached volumes=[], failed to process volumes=[]: context deadline exceeded",
            missing.join(" ")
        )
    }

    /// Asks for the tokens that are missing or old. One that cannot be renewed is kept while it is good.
    async fn renew(&mut self, pod: &Pod) {
        for key in TokenKey::all(pod) {
            if matches!(self.tokens.get(&key), Some(Ok(token)) if Timestamp::now() < token.renew_at) {
                continue;
            }
            let fresh = token::request(&self.node.client, pod, &key).await;
            match (fresh, self.tokens.get_mut(&key)) {
                (Err(error), Some(Ok(old))) => {
                    tracing::warn!(error, "renew token");
                    old.renew_at = Timestamp::now().saturating_add(LAST_RETRY).unwrap_or(Timestamp::MAX);
                }
                (fresh, _) => drop(self.tokens.insert(key, fresh)),
            }
        }
    }

    fn renewal(&self) -> Option<Instant> {
        let tokens = self.tokens.values().filter_map(|token| token.as_ref().ok());
        let next = tokens.map(|token| token.renew_at).min()?;
        let left = next.duration_since(Timestamp::now());
        Some(Instant::now() + Duration::try_from(left).unwrap_or(Duration::ZERO))
    }
}
