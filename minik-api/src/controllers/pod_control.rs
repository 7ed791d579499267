//! Creating and deleting Pods on behalf of the objects that control them: in growing batches, with every
//! write expected in the cache before the next count, and an event on the owner for each. What to create
//! and delete is decided elsewhere.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Client, Resource, ResourceExt};
use tokio::time::Instant;

use super::cache::Change;
use super::context::Context;
use super::controller_ref::Owner;
use super::error::{ReconcileError, server_message};
use super::expectations::Expectations;
use super::owner::{controller_of, controller_reference};
use super::recorder::{Note, Recorder, Severity};
use super::{pod, write};

/// The most Pods that one pass of a controller creates or deletes.
pub const BURST: usize = 500;

/// Why Pods could not be created or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// `FailedCreate` or `FailedDelete`.
    pub reason: &'static str,
    /// The server's words for the last refusal.
    pub message: String,
    /// How many Pods were not created or deleted.
    pub count: usize,
}

/// See the module's documentation.
pub struct PodControl {
    client: Client,
    recorder: Recorder,
    expectations: Arc<Mutex<Expectations>>,
}

impl PodControl {
    /// The Pods of all `O`, whose events come from `component`.
    pub fn new<O: Owner>(context: &Context, component: &'static str) -> Self {
        let expectations = Arc::new(Mutex::new(Expectations::default()));
        let open = expectations.clone();
        context.pods.on_change(move |change| strike(&mut lock(&open), change));
        let open = expectations.clone();
        O::cache(context).on_change(move |change| {
            if let (Some(old), None) = (&change.old, &change.new) {
                lock(&open).forget(&old.uid().unwrap_or_default());
            }
        });
        Self {
            client: context.client.clone(),
            recorder: context.recorder.component(component, None),
            expectations,
        }
    }

    /// Whether the cache shows all that was done for the owner. To be asked before a snapshot is taken:
    /// what was seen by then is in it.
    pub fn settled<O: Owner>(&self, owner: &O) -> bool {
        lock(&self.expectations).satisfied(&owner.uid().unwrap_or_default(), Instant::now())
    }

    /// Creates `pods`, in batches of 1, 2, 4 …; the first batch with a refusal is the last.
    pub async fn create<O: Owner>(&self, owner: &O, pods: &[Pod]) -> Option<(Failure, ReconcileError)> {
        let uid = owner.uid().unwrap_or_default();
        lock(&self.expectations).expect(&uid, pods.len(), BTreeSet::new(), Instant::now());
        let mut rest = pods;
        for size in slow_start(pods.len()) {
            let (batch, later) = rest.split_at(size);
            rest = later;
            let results = join_all(batch.iter().map(|pod| write::create(&self.client, pod))).await;
            let (mut failed, mut count) = (None, rest.len());
            for result in results {
                match result {
                    Ok(pod) => {
                        let message = format!("Created pod: {}", pod.name_any());
                        self.note(owner, Severity::Normal, "SuccessfulCreate", message);
                    }
                    Err(error) => {
                        count += 1;
                        failed = Some(error);
                    }
                }
            }
            if let Some(error) = failed {
                let mut open = lock(&self.expectations);
                (0..count).for_each(|_| {
                    open.created(&uid);
                });
                drop(open);
                return Some(self.failed(owner, "FailedCreate", "Error creating", count, error));
            }
        }
        None
    }

    /// Deletes `pods`, all at once.
    pub async fn delete<O: Owner>(&self, owner: &O, pods: &[Arc<Pod>]) -> Option<(Failure, ReconcileError)> {
        let uid = owner.uid().unwrap_or_default();
        let going = pods.iter().filter_map(|pod| pod.uid()).collect();
        lock(&self.expectations).expect(&uid, 0, going, Instant::now());
        let results = join_all(pods.iter().map(|pod| write::delete(&self.client, &**pod))).await;
        let (mut failed, mut count) = (None, 0);
        for (pod, result) in pods.iter().zip(results) {
            match result {
                Ok(()) => {
                    let message = format!("Deleted pod: {}", pod.name_any());
                    self.note(owner, Severity::Normal, "SuccessfulDelete", message);
                }
                Err(error) => {
                    lock(&self.expectations).deleted(&uid, &pod.uid().unwrap_or_default());
                    count += 1;
                    failed = Some(error);
                }
            }
        }
        failed.map(|error| self.failed(owner, "FailedDelete", "Error deleting", count, error))
    }

    fn failed<O: Owner>(
        &self,
        owner: &O,
        reason: &'static str,
        prefix: &str,
        count: usize,
        error: ReconcileError,
    ) -> (Failure, ReconcileError) {
        let message = match &error {
            ReconcileError::Create { source, .. } | ReconcileError::Delete { source, .. } => server_message(source),
            other => other.to_string(),
        };
        self.note(owner, Severity::Warning, reason, format!("{prefix}: {message}"));
        let failure = Failure { reason, message, count };
        (failure, error)
    }

    /// Records an event about the owner.
    pub fn note<O: Owner>(&self, owner: &O, severity: Severity, reason: &'static str, message: String) {
        let note = Note {
            severity,
            reason,
            message,
        };
        self.recorder.record(owner, note, Timestamp::now());
    }
}

fn lock(expectations: &Mutex<Expectations>) -> MutexGuard<'_, Expectations> {
    expectations.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Strikes out what this change shows: a Pod that appeared, or one that has begun to go.
fn strike(open: &mut Expectations, change: &Change<Pod>) {
    let Some(pod) = change.latest() else { return };
    let Some(owner) = controller_of(pod.meta()) else { return };
    if change.old.is_none() {
        open.created(&owner.uid);
    }
    if change.new.as_ref().is_none_or(|pod| pod::is_terminating(pod)) {
        open.deleted(&owner.uid, &pod.uid().unwrap_or_default());
    }
}

/// A Pod made from `owner`'s template; the server completes its name.
pub fn from_template<O: Resource<DynamicType = ()>>(owner: &O, template: &PodTemplateSpec) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: owner.meta().name.as_ref().map(|name| format!("{name}-")),
            namespace: owner.meta().namespace.clone(),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![controller_reference(owner)]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// Sizes of the batches in which `total` Pods are created: 1, 2, 4 … so that a template that the
/// server refuses costs one request and not five hundred.
fn slow_start(total: usize) -> impl Iterator<Item = usize> {
    let mut left = total;
    let mut size = 1;
    std::iter::from_fn(move || {
        let batch = size.min(left);
        left -= batch;
        size *= 2;
        (batch > 0).then_some(batch)
    })
}

#[cfg(test)]
mod tests {
    use super::slow_start;

    #[test]
    fn batches_double() {
        assert_eq!(slow_start(10).collect::<Vec<_>>(), [1, 2, 4, 3]);
        assert_eq!(slow_start(0).count(), 0);
    }
}
