//! The deployment controller: rolls a Deployment's Pod template out over ReplicaSets.
//!
//! Reads Deployments, ReplicaSets and (for Recreate) Pods from the shared caches, decides in
//! [`plan`], writes ReplicaSets and the Deployment's status. Never touches Pods.

mod limits;
mod plan;
mod revision;
mod sizes;
mod status;
mod template;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{Api, ResourceExt};

use super::cache::{Cache, Key};
use super::context::Context;
use super::controller_ref::{Owner, claim_objects, follow, follow_owned};
use super::error::{ReconcileError, found, is_already_exists, server_message};
use super::owner::{controller_of, is_controlled_by};
use super::queue::{Queue, drive};
use super::recorder::{Note, Recorder, Severity};
use super::{pod, write};
use plan::{Plan, Resize, View, decide};
use template::same_template;

/// Deployments worked on at a time.
const WORKERS: usize = 8;

/// The controller; see the module's documentation.
pub struct DeploymentController {
    context: Arc<Context>,
    recorder: Recorder,
    queue: Arc<Queue<Key>>,
}

impl Owner for Deployment {
    fn cache(context: &Context) -> &Arc<Cache<Self>> {
        &context.deployments
    }

    fn selector(&self) -> LabelSelector {
        self.spec.as_ref().map(|spec| spec.selector.clone()).unwrap_or_default()
    }
}

impl DeploymentController {
    /// A controller that learns of changes from now on.
    pub fn new(context: Arc<Context>) -> Self {
        let queue = Arc::new(Queue::default());
        follow::<Deployment>(&context, &queue);
        follow_owned::<Deployment, ReplicaSet>(&context, &context.replica_sets, &queue);
        let (owners, all) = (queue.clone(), context.clone());
        // Recreate waits for the last old Pod to be gone.
        context.pods.on_change(move |change| {
            let left = change.new.as_ref().is_none_or(|pod| pod::is_finished(pod));
            let Some(pod) = change.latest().filter(|_| left) else {
                return;
            };
            let Some(owner) = controller_of(&pod.metadata) else {
                return;
            };
            let replica_set = all
                .replica_sets
                .get(&Key::new(pod.namespace().unwrap_or_default(), &owner.name));
            let owner = replica_set.as_ref().and_then(|set| controller_of(&set.metadata));
            owner
                .into_iter()
                .for_each(|owner| owners.add(Key::new(pod.namespace().unwrap_or_default(), &owner.name)));
        });
        let recorder = context.recorder.component("deployment-controller", None);
        Self {
            context,
            recorder,
            queue,
        }
    }

    /// Works until dropped.
    pub async fn run(&self) {
        self.context.deployments.synced().await;
        self.context.replica_sets.synced().await;
        self.context.pods.synced().await;
        drive(&self.queue, WORKERS, |key| self.reconcile(key)).await;
    }

    async fn reconcile(&self, key: Key) -> Result<(), ReconcileError> {
        let Some(deployment) = self.context.deployments.get(&key) else {
            return Ok(());
        };
        if self.refuse_empty_selector(&deployment) {
            return Ok(());
        }
        let snapshot = self.context.replica_sets.snapshot();
        let candidates = snapshot.in_namespace(&key.namespace);
        let replica_sets = claim_objects(&self.context.client, &*deployment, candidates).await?;
        let running = self.running(&deployment, &replica_sets);
        let view = View {
            deployment: &deployment,
            replica_sets: &replica_sets,
            running: &running,
            now: Timestamp::now(),
        };
        let plan = decide(&view).map_err(|source| ReconcileError::Serialise {
            what: write::what(&*deployment),
            source,
        })?;
        self.apply(&deployment, plan).await
    }

    fn refuse_empty_selector(&self, deployment: &Deployment) -> bool {
        let selector = deployment.selector();
        let empty = selector.match_labels.is_none_or(|labels| labels.is_empty())
            && selector
                .match_expressions
                .is_none_or(|expressions| expressions.is_empty());
        if empty {
            let message = "This deployment is selecting all pods. A non-empty selector is required.".into();
            self.note(deployment, Severity::Warning, "SelectingAll", message);
        }
        empty
    }

    fn running(&self, deployment: &Deployment, replica_sets: &[Arc<ReplicaSet>]) -> Vec<String> {
        let namespace = deployment.namespace().unwrap_or_default();
        let pods = self.context.pods.snapshot();
        let has_pod = |set: &&Arc<ReplicaSet>| {
            let uid = set.uid().unwrap_or_default();
            pods.in_namespace(&namespace)
                .any(|p| is_controlled_by(&p.metadata, &uid) && !pod::is_finished(p))
        };
        replica_sets.iter().filter(has_pod).map(|set| set.name_any()).collect()
    }

    async fn apply(&self, deployment: &Deployment, plan: Plan) -> Result<(), ReconcileError> {
        if plan.create.is_some() && !write::is_living(&self.context.client, deployment).await? {
            return Ok(());
        }
        let mut status = plan.status;
        if let Some(replica_set) = plan.create {
            match write::create(&self.context.client, &replica_set).await {
                Ok(created) => self.note_scaling(deployment, &created.name_any(), 0, sizes::wanted(&created)),
                Err(ReconcileError::Create { source, .. }) if is_already_exists(&source) => {
                    if !self.is_our_own(deployment, &replica_set).await? {
                        status = deployment.status.clone().unwrap_or_default();
                        status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
                    }
                }
                Err(error) => {
                    self.note_refusal(deployment, &replica_set.name_any(), &error).await?;
                    return Err(error);
                }
            }
        }
        for Resize { replica_set, from, to } in plan.update {
            write::update(&self.context.client, &replica_set).await?;
            self.note_scaling(deployment, &replica_set.name_any(), from, to);
        }
        for replica_set in plan.delete {
            write::delete(&self.context.client, &*replica_set).await?;
        }
        let mut deployment = deployment.clone();
        if let Some(revision) = plan.revision {
            deployment
                .metadata
                .annotations
                .get_or_insert_default()
                .insert(revision::REVISION.into(), revision);
            let written = write::update(&self.context.client, &deployment).await?;
            deployment.metadata.resource_version = written.metadata.resource_version;
        }
        if let Some(recheck) = plan.recheck {
            self.queue.add_after(Key::of(&deployment), recheck);
        }
        if deployment.status.as_ref() != Some(&status) {
            deployment.status = Some(status);
            write::update_status(&self.context.client, &deployment).await?;
        }
        Ok(())
    }

    /// Says on the Deployment that its new ReplicaSet was refused, and in what words.
    async fn note_refusal(
        &self,
        deployment: &Deployment,
        replica_set: &str,
        error: &ReconcileError,
    ) -> Result<(), ReconcileError> {
        let ReconcileError::Create { source, .. } = error else {
            return Ok(());
        };
        let message = format!(
            "Failed to create new replica set \"{replica_set}\": {}",
            server_message(source)
        );
        let refused = status::refused(deployment, &message, Timestamp::now());
        self.note(deployment, Severity::Warning, "ReplicaSetCreateError", message);
        if refused.status != deployment.status {
            write::update_status(&self.context.client, &refused).await?;
        }
        Ok(())
    }

    /// Whether the name that is taken is taken by what an earlier pass made and the cache does not
    /// show yet; otherwise two templates share a hash.
    async fn is_our_own(&self, deployment: &Deployment, wanted: &ReplicaSet) -> Result<bool, ReconcileError> {
        let api: Api<ReplicaSet> =
            Api::namespaced(self.context.client.clone(), &deployment.namespace().unwrap_or_default());
        let existing = found(api.get(&wanted.name_any()).await).map_err(|source| ReconcileError::Read {
            what: write::what(wanted),
            source,
        })?;
        let template = |set: &ReplicaSet| {
            set.spec
                .as_ref()
                .and_then(|spec| spec.template.clone())
                .unwrap_or_default()
        };
        Ok(existing.is_none_or(|existing| {
            is_controlled_by(&existing.metadata, &deployment.uid().unwrap_or_default())
                && same_template(&template(&existing), &template(wanted))
        }))
    }

    fn note_scaling(&self, deployment: &Deployment, replica_set: &str, from: i32, to: i32) {
        if from == to {
            return;
        }
        let direction = if to > from { "up" } else { "down" };
        let message = format!("Scaled {direction} replica set {replica_set} from {from} to {to}");
        self.note(deployment, Severity::Normal, "ScalingReplicaSet", message);
    }

    fn note(&self, deployment: &Deployment, severity: Severity, reason: &'static str, message: String) {
        let note = Note {
            severity,
            reason,
            message,
        };
        self.recorder.record(deployment, note, Timestamp::now());
    }
}
