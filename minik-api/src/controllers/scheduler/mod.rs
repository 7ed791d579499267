//! The scheduler: binds Pods that have no node to one.
//!
//! Reads Pods and Nodes from the shared caches, decides in [`decide`](fn@decide) for all waiting Pods at once,
//! posts Bindings. What it has bound it assumes to be so until the watch says so, so that a burst is
//! spread rightly without waiting.

mod decide;
mod filter;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Binding, Node, ObjectReference, Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use tokio::sync::Notify;

use super::cache::Key;
use super::context::Context;
use super::error::{ReconcileError, is_not_found};
use super::pod::node_name;
use super::recorder::{Note, Recorder, Severity};
use super::write;
use decide::{Decision, View, decide};

/// Bindings in flight at a time.
const IN_FLIGHT: usize = 64;
/// Pause after a failed binding.
const RETRY: Duration = Duration::from_millis(100);

/// The scheduler; see the module's documentation.
pub struct Scheduler {
    context: Arc<Context>,
    recorder: Recorder,
    assumed: Arc<Mutex<BTreeMap<Key, String>>>,
    /// What Pods that fit nowhere have been told last.
    told: Arc<Mutex<BTreeMap<Key, String>>>,
    wake: Arc<Notify>,
}

impl Scheduler {
    /// A scheduler that learns of changes from now on.
    pub fn new(context: Arc<Context>) -> Self {
        let assumed = Arc::<Mutex<BTreeMap<Key, String>>>::default();
        let told = Arc::<Mutex<BTreeMap<Key, String>>>::default();
        let wake = Arc::new(Notify::new());
        let (bound, informed, changed) = (assumed.clone(), told.clone(), wake.clone());
        context.pods.on_change(move |change| {
            let Some(pod) = change.latest() else { return };
            if change.new.as_ref().is_none_or(|pod| node_name(pod).is_some()) {
                lock(&bound).remove(&Key::of(&**pod));
                lock(&informed).remove(&Key::of(&**pod));
            }
            // A Pod that left may have been in somebody's way; one that is bound is no news.
            if change.new.as_ref().is_none_or(|pod| node_name(pod).is_none()) {
                changed.notify_one();
            }
        });
        let changed = wake.clone();
        context.nodes.on_change(move |change| {
            let seen = |node: &Option<Arc<Node>>| {
                node.as_ref()
                    .map(|node| (node.spec.clone(), node.metadata.labels.clone(), readiness(node)))
            };
            if seen(&change.old) != seen(&change.new) {
                changed.notify_one();
            }
        });
        let recorder = context.recorder.component("default-scheduler", Some("Binding"));
        Self {
            context,
            recorder,
            assumed,
            told,
            wake,
        }
    }

    /// Works until dropped.
    pub async fn run(&self) {
        self.context.pods.synced().await;
        self.context.nodes.synced().await;
        lock(&self.assumed).clear();
        self.wake.notify_one();
        let mut running = FuturesUnordered::new();
        loop {
            tokio::select! {
                Some(()) = running.next() => {}
                () = self.wake.notified(), if running.len() < IN_FLIGHT => {
                    let decisions = self.decide();
                    let full = decisions.len() > IN_FLIGHT;
                    for (pod, decision) in decisions.into_iter().take(IN_FLIGHT) {
                        if let Decision::Bind(node) = &decision {
                            lock(&self.assumed).insert(Key::of(&*pod), node.clone());
                        }
                        running.push(self.carry_out(pod, decision));
                    }
                    if full {
                        self.wake.notify_one();
                    }
                }
            }
        }
    }

    fn decide(&self) -> Vec<(Arc<Pod>, Decision)> {
        let (pods, nodes) = (self.context.pods.snapshot(), self.context.nodes.snapshot());
        let assumed = lock(&self.assumed).clone();
        let view = View {
            pods: pods.iter().collect(),
            nodes: nodes.iter().cloned().collect(),
            assumed: &assumed,
        };
        let mut decisions = decide(&view);
        // A Pod that is known to fit nowhere, for the same reasons, needs no second telling.
        let mut told = lock(&self.told);
        decisions.retain(|(pod, decision)| match decision {
            Decision::Bind(_) => true,
            Decision::Unschedulable(why) => {
                told.insert(Key::of(&**pod), why.clone()).as_ref() != Some(why) && !is_noted(pod, why)
            }
        });
        decisions
    }

    async fn carry_out(&self, pod: Arc<Pod>, decision: Decision) {
        let result = match decision {
            Decision::Bind(node) => self.bind(&pod, &node).await,
            Decision::Unschedulable(why) => self.refuse(&pod, why).await,
        };
        if let Err(error) = result {
            tracing::warn!(pod = %Key::of(&*pod), error = %error.chain(), "scheduling failed; will retry");
            // The Pod stays assumed meanwhile, so that a server that is away is not asked in a loop.
            tokio::time::sleep(RETRY).await;
            lock(&self.assumed).remove(&Key::of(&*pod));
            lock(&self.told).remove(&Key::of(&*pod));
            self.wake.notify_one();
        }
    }

    async fn bind(&self, pod: &Arc<Pod>, node: &str) -> Result<(), ReconcileError> {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(namespace.clone()),
                uid: pod.uid(),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                kind: Some("Node".into()),
                name: Some(node.into()),
                ..ObjectReference::default()
            },
        };
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), &namespace);
        let posted: Result<serde_json::Value, _> = api
            .create_subresource("binding", &name, &PostParams::default(), &binding)
            .await;
        match posted {
            Ok(_) => {
                let message = format!("Successfully assigned {namespace}/{name} to {node}");
                let note = Note {
                    severity: Severity::Normal,
                    reason: "Scheduled",
                    message,
                };
                self.recorder.record(&**pod, note, Timestamp::now());
                Ok(())
            }
            // Gone, or bound by somebody else: the watch will show it.
            Err(error) if is_not_found(&error) || super::error::is_conflict(&error) => {
                lock(&self.assumed).remove(&Key::of(&**pod));
                Ok(())
            }
            Err(source) => Err(ReconcileError::Update {
                what: write::what(&**pod),
                source,
            }),
        }
    }

    async fn refuse(&self, pod: &Arc<Pod>, why: String) -> Result<(), ReconcileError> {
        let note = Note {
            severity: Severity::Warning,
            reason: "FailedScheduling",
            message: why.clone(),
        };
        self.recorder.record(&**pod, note, Timestamp::now());
        let mut refused = Pod::clone(pod);
        let status = refused.status.get_or_insert_with(PodStatus::default);
        let conditions = status.conditions.get_or_insert_default();
        let since = conditions
            .iter()
            .find(|c| c.type_ == "PodScheduled" && c.status == "False");
        let since = since.and_then(|condition| condition.last_transition_time.clone());
        conditions.retain(|condition| condition.type_ != "PodScheduled");
        conditions.push(PodCondition {
            type_: "PodScheduled".into(),
            status: "False".into(),
            reason: Some("Unschedulable".into()),
            message: Some(why),
            last_transition_time: Some(since.unwrap_or_else(|| Time(Timestamp::now()))),
            ..PodCondition::default()
        });
        match write::update_status(&self.context.client, &refused).await {
            Ok(_) => Ok(()),
            // Somebody changed the Pod; its new state wakes the scheduler.
            Err(error) if error.is_conflict() => Ok(()),
            Err(ReconcileError::UpdateStatus { source, .. }) if is_not_found(&source) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn readiness(node: &Node) -> Option<String> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|condition| condition.type_ == "Ready")
        .map(|condition| condition.status.clone())
}

fn is_noted(pod: &Pod, why: &str) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|c| c.type_ == "PodScheduled" && c.status == "False" && c.message.as_deref() == Some(why))
}

fn lock(map: &Mutex<BTreeMap<Key, String>>) -> MutexGuard<'_, BTreeMap<Key, String>> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}
