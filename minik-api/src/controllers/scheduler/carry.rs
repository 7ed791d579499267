//! Carries the scheduler's decisions out: what is written for each. Decides nothing, and says of each whether the loop
//! has to make it anew.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Binding, ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::decide::Decision;
use super::facts::Facts;
use super::preempt::Room;
use super::roster::NAME;
use super::volumes::ClaimStep;
use crate::controllers::cache::Key;
use crate::controllers::context::Context;
use crate::controllers::error::{ReconcileError, is_conflict, is_not_found};
use crate::controllers::recorder::{Note, Recorder, Severity};
use crate::controllers::volumes::matching::volume_name;
use crate::controllers::write;

/// Pause after a decision that could not be carried out.
const RETRY: Duration = Duration::from_millis(100);
/// How long a volume may take to be made (`bindTimeoutSeconds`).
const VOLUME_PATIENCE: Duration = Duration::from_secs(600);
/// Asks the provisioner of a claim for a volume that this node can reach.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// On a volume: that nobody chose its claim by hand.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";

/// What became of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carried {
    /// It is written.
    Out,
    /// Its Pod is gone.
    Gone,
    /// The Pod is bound by somebody else, or another of its name is there: the watch shows it, or has shown it.
    Stale,
    /// A write failed.
    Failed,
}

/// Writes what was decided.
pub struct Carrier {
    context: Arc<Context>,
    binding: Recorder,
    scheduling: Recorder,
    preempting: Recorder,
    /// Claims have changed: somebody may be waiting for a volume.
    claims: Arc<Notify>,
}

impl Carrier {
    /// A carrier that learns of changed claims from now on.
    pub fn new(context: Arc<Context>) -> Self {
        let claims = Arc::new(Notify::new());
        let changed = claims.clone();
        context.claims.on_change(move |_| changed.notify_waiters());
        let recorder = |action| context.recorder.component(NAME, Some(action));
        Self {
            binding: recorder("Binding"),
            scheduling: recorder("Scheduling"),
            preempting: recorder("Preempting"),
            context,
            claims,
        }
    }

    /// Carries one decision out.
    pub async fn carry_out(&self, facts: &Facts, decision: Decision) -> Carried {
        let Some(pod) = self.context.pods.get(&facts.key) else {
            return Carried::Gone;
        };
        let result = match decision {
            Decision::Bind { node, claims } => match self.prepare(&claims, &node).await {
                Ok(()) => self.bind(&pod, &node).await,
                Err(error) => Err(error),
            },
            Decision::Refuse { message, room, .. } => self
                .refuse(&pod, facts, &message, room.as_ref())
                .await
                .map(|()| Carried::Out),
        };
        match result {
            Ok(carried) => carried,
            Err(error) => {
                tracing::warn!(pod = %facts.key, error = %error.chain(), "scheduling failed; will retry");
                // Nothing is taken back meanwhile, so that a server that is away is not asked in a loop.
                tokio::time::sleep(RETRY).await;
                Carried::Failed
            }
        }
    }

    async fn bind(&self, pod: &Arc<Pod>, node: &str) -> Result<Carried, ReconcileError> {
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
        let posted: Result<Value, _> = api
            .create_subresource("binding", &name, &PostParams::default(), &binding)
            .await;
        match posted {
            Ok(_) => {
                let message = format!("Successfully assigned {namespace}/{name} to {node}");
                self.binding
                    .record(&**pod, note(Severity::Normal, "Scheduled", message), Timestamp::now());
                Ok(Carried::Out)
            }
            Err(error) if is_not_found(&error) || is_conflict(&error) => Ok(Carried::Stale),
            Err(source) => Err(ReconcileError::Update {
                what: write::what(&**pod),
                source,
            }),
        }
    }

    /// Sees to the claims that waited for a node, and waits until each has its volume.
    async fn prepare(&self, claims: &[ClaimStep], node: &str) -> Result<(), ReconcileError> {
        for step in claims {
            match &step.volume {
                Some(volume) => self.keep(volume, &step.claim).await?,
                None => {
                    let api: Api<PersistentVolumeClaim> =
                        Api::namespaced(self.context.client.clone(), &step.claim.namespace);
                    let patch = json!({"metadata": {"annotations": {SELECTED_NODE: node}}});
                    patched(&api, &step.claim.name, &patch).await?;
                }
            }
        }
        let bound = async {
            loop {
                let changed = self.claims.notified();
                tokio::pin!(changed);
                // From here on no change is missed.
                changed.as_mut().enable();
                if claims.iter().all(|step| self.is_bound(&step.claim)) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(VOLUME_PATIENCE, bound)
            .await
            .map_err(|_elapsed| ReconcileError::Volumes {
                seconds: VOLUME_PATIENCE.as_secs(),
            })
    }

    /// Keeps a volume for a claim; the controller of volumes binds the two.
    async fn keep(&self, volume: &str, claim: &Key) -> Result<(), ReconcileError> {
        let uid = self.context.claims.get(claim).and_then(|claim| claim.uid());
        let api: Api<PersistentVolume> = Api::all(self.context.client.clone());
        let patch = json!({
            "metadata": {"annotations": {BOUND_BY_CONTROLLER: "yes"}},
            "spec": {"claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "namespace": claim.namespace, "name": claim.name, "uid": uid,
            }},
        });
        patched(&api, volume, &patch).await
    }

    fn is_bound(&self, claim: &Key) -> bool {
        let bound = |claim: &PersistentVolumeClaim| {
            let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
            phase == Some("Bound") && volume_name(claim).is_some()
        };
        // One that is gone will never be; the binding then fails for a Pod that has gone with it, or waits in vain.
        self.context.claims.get(claim).is_none_or(|claim| bound(&claim))
    }

    async fn refuse(&self, pod: &Pod, facts: &Facts, message: &str, room: Option<&Room>) -> Result<(), ReconcileError> {
        let now = Timestamp::now();
        self.scheduling.record(
            pod,
            note(Severity::Warning, "FailedScheduling", message.to_owned()),
            now,
        );
        if let Some(room) = room {
            for victim in &room.victims {
                self.evict(victim, facts, &room.node).await?;
            }
        }
        let patch = refusal_patch(pod, message, room.map(|room| room.node.as_str()), now);
        self.patch_status(&facts.key, &patch).await
    }

    async fn evict(&self, victim: &Facts, preemptor: &Facts, node: &str) -> Result<(), ReconcileError> {
        let Some(pod) = self
            .context
            .pods
            .get(&victim.key)
            .filter(|pod| !victim.terminating && pod.uid().as_ref() == Some(&victim.uid))
        else {
            return Ok(());
        };
        let now = Timestamp::now();
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
            "message": format!("{NAME}: preempting to accommodate a higher priority pod"),
            "lastTransitionTime": now.to_string(), "observedGeneration": pod.metadata.generation,
        });
        let patch = json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [condition]}});
        self.patch_status(&victim.key, &patch).await?;
        write::delete(&self.context.client, &*pod).await?;
        let message = format!("Preempted by pod {} on node {node}", preemptor.uid);
        self.preempting
            .record(&*pod, note(Severity::Normal, "Preempted", message), now);
        Ok(())
    }

    async fn patch_status(&self, key: &Key, patch: &Value) -> Result<(), ReconcileError> {
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), &key.namespace);
        match api
            .patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(patch))
            .await
        {
            // Gone, or another of the same name.
            Err(error) if !is_not_found(&error) && !is_conflict(&error) => Err(ReconcileError::UpdateStatus {
                what: format!("Pod {key}"),
                source: error,
            }),
            _ => Ok(()),
        }
    }
}

fn note(severity: Severity, reason: &'static str, message: String) -> Note {
    Note {
        severity,
        reason,
        message,
    }
}

async fn patched<K>(api: &Api<K>, name: &str, patch: &Value) -> Result<(), ReconcileError>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let result = api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
    result.map(drop).map_err(|source| ReconcileError::Update {
        what: format!("{} {name}", K::kind(&())),
        source,
    })
}

/// PodScheduled is False; since when, the Pod knows if it was so before.
fn refusal_patch(pod: &Pod, message: &str, nominated: Option<&str>, now: Timestamp) -> Value {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let before = conditions
        .into_iter()
        .find(|c| c.type_ == "PodScheduled" && c.status == "False");
    let since = before
        .and_then(|condition| condition.last_transition_time.as_ref())
        .map(|time| time.0);
    let mut status = json!({"conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
        "lastProbeTime": null, "lastTransitionTime": since.unwrap_or(now).to_string(),
        "observedGeneration": pod.metadata.generation,
    }]});
    if let Some(node) = nominated {
        status["nominatedNodeName"] = node.into();
    }
    json!({"metadata": {"uid": pod.metadata.uid}, "status": status})
}

/// Whether the Pod's condition says this already.
pub fn is_noted(pod: &Pod, message: &str) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|c| c.type_ == "PodScheduled" && c.status == "False" && c.message.as_deref() == Some(message))
}
