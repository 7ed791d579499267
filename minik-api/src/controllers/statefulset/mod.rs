//! The statefulset controller: Pods with names that last, made and replaced in order.
//!
//! Reads StatefulSets, Pods, ControllerRevisions and PersistentVolumeClaims from the shared caches, decides
//! in [`plan`], and writes all but the volumes. Needs no expectations: a Pod's name is its place, so
//! that the server refuses the second of a name.

mod claims;
mod identity;
mod plan;
mod pods;
mod status;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;

use super::cache::{Cache, Key};
use super::context::Context;
use super::controller_ref::{Owner, claim_objects, follow, follow_owned};
use super::error::{ReconcileError, is_already_exists, server_message};
use super::history::{Recorded, record};
use super::queue::{Queue, drive};
use super::recorder::{Note, Recorder, Severity};
use super::write;
use plan::{Plan, Step, View, decide};

/// StatefulSets worked on at a time.
const WORKERS: usize = 8;

/// The controller; see the module's documentation.
pub struct StatefulSetController {
    context: Arc<Context>,
    recorder: Recorder,
    queue: Arc<Queue<Key>>,
}

impl Owner for StatefulSet {
    fn cache(context: &Context) -> &Arc<Cache<Self>> {
        &context.stateful_sets
    }

    fn selector(&self) -> LabelSelector {
        self.spec.as_ref().map(|spec| spec.selector.clone()).unwrap_or_default()
    }
}

impl StatefulSetController {
    /// A controller that learns of changes from now on.
    pub fn new(context: Arc<Context>) -> Self {
        let queue = Arc::new(Queue::default());
        follow::<StatefulSet>(&context, &queue);
        follow_owned::<StatefulSet, Pod>(&context, &context.pods, &queue);
        follow_owned::<StatefulSet, ControllerRevision>(&context, &context.revisions, &queue);
        let (waiting, sets) = (queue.clone(), context.stateful_sets.clone());
        // A set may wait for an old claim to go before it makes the Pod, and the claim, again.
        context.claims.on_change(move |change| {
            let Some(claim) = change.old.as_ref().filter(|_| change.new.is_none()) else {
                return;
            };
            let (snapshot, namespace) = (sets.snapshot(), claim.namespace().unwrap_or_default());
            snapshot
                .in_namespace(&namespace)
                .filter(|set| claim.name_any().contains(&set.name_any()))
                .for_each(|set| waiting.add(Key::of(&**set)));
        });
        let recorder = context.recorder.component("statefulset-controller", None);
        Self {
            context,
            recorder,
            queue,
        }
    }

    /// Works until dropped.
    pub async fn run(&self) {
        self.context.stateful_sets.synced().await;
        self.context.pods.synced().await;
        self.context.revisions.synced().await;
        self.context.claims.synced().await;
        drive(&self.queue, WORKERS, |key| self.reconcile(key)).await;
    }

    async fn reconcile(&self, key: Key) -> Result<(), ReconcileError> {
        let Some(set) = self.context.stateful_sets.get(&key) else {
            return Ok(());
        };
        let (client, snapshot) = (&self.context.client, self.context.pods.snapshot());
        let named = snapshot
            .in_namespace(&key.namespace)
            .filter(|pod| identity::ordinal(&set, pod).is_some());
        let pods = claim_objects(client, &*set, named).await?;
        let revisions = self.context.revisions.snapshot();
        let revisions = claim_objects(client, &*set, revisions.in_namespace(&key.namespace)).await?;
        let view = View {
            set: &set,
            pods: &pods,
            revisions: &revisions,
            claims: &self.context.claims.snapshot(),
            now: Timestamp::now(),
        };
        let plan = decide(&view).map_err(|source| ReconcileError::Serialise {
            what: write::what(&*set),
            source,
        })?;
        self.apply(&set, plan).await
    }

    async fn apply(&self, set: &StatefulSet, plan: Plan) -> Result<(), ReconcileError> {
        let client = &self.context.client;
        let creates = plan.steps.iter().any(|step| matches!(step, Step::Create { .. }));
        // Its going is on the way, and with it a status that nobody will read.
        if creates && !write::is_living(client, set).await? {
            return Ok(());
        }
        let going = set.metadata.deletion_timestamp.is_some();
        if !going && record(client, set, &plan.update).await? == Recorded::Collision {
            let mut collided = set.clone();
            let status = collided.status.get_or_insert_default();
            status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
            return write::update_status(client, &collided).await.map(|_| ());
        }
        let mut failed = None;
        for step in plan.steps {
            if let Err(error) = self.take(set, step).await {
                failed = Some(error);
                break;
            }
        }
        if let Some(delay) = plan.recheck {
            self.queue.add_after(Key::of(set), delay);
        }
        if set.status.as_ref() != Some(&plan.status) {
            let changed = StatefulSet {
                status: Some(plan.status),
                ..set.clone()
            };
            write::update_status(client, &changed).await?;
        }
        for revision in plan.obsolete {
            write::delete(client, &*revision).await?;
        }
        failed.map_or(Ok(()), Err)
    }

    async fn take(&self, set: &StatefulSet, step: Step) -> Result<(), ReconcileError> {
        let client = &self.context.client;
        match step {
            Step::Create { pod, claims } => {
                self.make_claims(set, &pod.name_any(), claims).await?;
                let result = write::create(client, &*pod).await;
                // The Pod of this name is there or has not left yet; the cache will say which.
                if !matches!(&result, Err(ReconcileError::Create { source, .. }) if is_already_exists(source)) {
                    self.note_pod(set, "create", &pod.name_any(), &result);
                }
                result.map(|_| ())
            }
            Step::Complete { pod, claims } => self.make_claims(set, &pod.name_any(), claims).await,
            Step::Identify(pod) => {
                let result = write::update(client, &*pod).await;
                self.note_pod(set, "update", &pod.name_any(), &result);
                result.map(|_| ())
            }
            Step::Own { claim, owners } => {
                let mut owned = PersistentVolumeClaim::clone(&claim);
                owned.metadata.owner_references = Some(owners);
                write::update(client, &owned).await.map(drop)
            }
            Step::Delete(pod) => {
                let result = write::delete(client, &*pod).await;
                self.note_pod(set, "delete", &pod.name_any(), &result);
                result
            }
        }
    }

    async fn make_claims(
        &self,
        set: &StatefulSet,
        pod: &str,
        claims: Vec<PersistentVolumeClaim>,
    ) -> Result<(), ReconcileError> {
        for claim in claims {
            let result = write::create(&self.context.client, &claim).await;
            let (claim, set_name) = (claim.name_any(), set.name_any());
            match result {
                Ok(_) => {
                    let message = format!("create Claim {claim} Pod {pod} in StatefulSet {set_name} success");
                    self.note(set, Severity::Normal, "SuccessfulCreate", message);
                }
                Err(ReconcileError::Create { source, .. }) if is_already_exists(&source) => {}
                Err(error) => {
                    let problem = words(&error);
                    let message =
                        format!("create Claim {claim} for Pod {pod} in StatefulSet {set_name} failed error: {problem}");
                    self.note(set, Severity::Warning, "FailedCreate", message);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn note_pod<T>(&self, set: &StatefulSet, verb: &str, pod: &str, result: &Result<T, ReconcileError>) {
        let reasons = match verb {
            "create" => ["SuccessfulCreate", "FailedCreate"],
            "update" => ["SuccessfulUpdate", "FailedUpdate"],
            _ => ["SuccessfulDelete", "FailedDelete"],
        };
        let what = format!("{verb} Pod {pod} in StatefulSet {}", set.name_any());
        match result {
            Ok(_) => self.note(set, Severity::Normal, reasons[0], format!("{what} successful")),
            Err(error) => {
                let message = format!("{what} failed error: {}", words(error));
                self.note(set, Severity::Warning, reasons[1], message);
            }
        }
    }

    fn note(&self, set: &StatefulSet, severity: Severity, reason: &'static str, message: String) {
        let note = Note {
            severity,
            reason,
            message,
        };
        self.recorder.record(set, note, Timestamp::now());
    }
}

/// The server's words, where it has said something.
fn words(error: &ReconcileError) -> String {
    match error {
        ReconcileError::Create { source, .. }
        | ReconcileError::Update { source, .. }
        | ReconcileError::Delete { source, .. } => server_message(source),
        other => other.to_string(),
    }
}
