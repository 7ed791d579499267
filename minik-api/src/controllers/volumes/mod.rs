//! The persistent volume controller and minik's own provisioner: claims get volumes, volumes follow their claims.
//!
//! Reads claims, volumes, storage classes and Pods from the shared caches; [`decide`] says what becomes of each, [`matching`]
//! which volume suits which claim, [`provision`] what a volume of ours is. Mounting is the kubelet's.

mod decide;
pub mod matching;
mod merge;
mod provision;

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::cache::Key;
use super::context::Context;
use super::error::{ReconcileError, is_already_exists, is_not_found};
use super::pod::{is_finished, node_name};
use super::queue::{Queue, drive};
use super::recorder::{Note, Recorder, Severity};
use decide::{BIND_COMPLETED, ClaimStep, ClaimView, VolumeStep};
use matching::{class_of, is_kept_for, reference, volume_name};
use merge::{merged, merged_status};
pub use provision::PROVISIONER;

/// On claims and volumes: that nobody chose the other by hand.
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// Claims and volumes worked on at a time.
const WORKERS: usize = 4;

/// The controller; its queue holds the keys of claims, and of volumes (without a namespace).
pub struct VolumeController {
    context: Arc<Context>,
    binder: Recorder,
    provisioner: Recorder,
    queue: Arc<Queue<Key>>,
    directory: PathBuf,
}

impl VolumeController {
    /// A controller that learns of changes from now on, and makes volumes below `directory`.
    pub fn new(context: Arc<Context>, directory: PathBuf) -> Self {
        let queue: Arc<Queue<Key>> = Arc::default();
        let (own, all) = (queue.clone(), context.clone());
        context.claims.on_change(move |change| {
            let Some(claim) = change.latest() else { return };
            own.add(Key::of(&**claim));
            let named = change.states().filter_map(|claim| volume_name(claim));
            named.for_each(|volume| own.add(Key::new("", volume)));
            let kept = all.volumes.snapshot();
            kept.iter()
                .filter(|volume| is_kept_for(volume, claim))
                .for_each(|volume| own.add(Key::of(&**volume)));
        });
        let (own, all) = (queue.clone(), context.clone());
        context.volumes.on_change(move |change| {
            let Some(volume) = change.latest() else { return };
            own.add(Key::of(&**volume));
            let claims = all.claims.snapshot();
            let concerned = |claim: &&Arc<PersistentVolumeClaim>| {
                let named = volume_name(claim);
                named.is_none() || named == volume.metadata.name.as_deref()
            };
            claims
                .iter()
                .filter(concerned)
                .for_each(|claim| own.add(Key::of(&**claim)));
        });
        let (own, all) = (queue.clone(), context.clone());
        context.storage_classes.on_change(move |_| {
            let claims = all.claims.snapshot();
            let waiting = claims.iter().filter(|claim| volume_name(claim).is_none());
            waiting.for_each(|claim| own.add(Key::of(&**claim)));
        });
        Self {
            binder: context.recorder.component("persistentvolume-controller", None),
            provisioner: context.recorder.component(PROVISIONER, None),
            context,
            queue,
            directory,
        }
    }

    /// Works until dropped.
    pub async fn run(&self) {
        self.context.claims.synced().await;
        self.context.volumes.synced().await;
        self.context.storage_classes.synced().await;
        self.context.pods.synced().await;
        drive(&self.queue, WORKERS, |key| self.reconcile(key)).await;
    }

    async fn reconcile(&self, key: Key) -> Result<(), ReconcileError> {
        if key.namespace.is_empty() {
            return match self.context.volumes.get(&key) {
                Some(volume) => self.volume(&volume).await,
                None => Ok(()),
            };
        }
        match self.context.claims.get(&key) {
            Some(claim) if claim.metadata.deletion_timestamp.is_none() => self.claim(&claim).await,
            _ => Ok(()),
        }
    }

    async fn claim(&self, claim: &Arc<PersistentVolumeClaim>) -> Result<(), ReconcileError> {
        let class = self.context.storage_classes.get(&Key::new("", class_of(claim)));
        let volumes: Vec<_> = self.context.volumes.snapshot().iter().cloned().collect();
        let view = ClaimView {
            claim,
            volumes: &volumes,
            class: class.as_deref(),
            consumers: &self.consumers(claim),
        };
        match (decide::claim(&view), &class) {
            (ClaimStep::Bind(volume), _) => self.bind(claim, &volume).await,
            (ClaimStep::Provision, Some(class)) => self.provision(claim, class).await,
            (ClaimStep::Wait(Some(note)), _) => {
                self.binder.record(&**claim, note, Timestamp::now());
                Ok(())
            }
            (ClaimStep::Lose(note), _) => {
                if phase_of(claim) == Some("Lost") {
                    return Ok(());
                }
                self.binder.record(&**claim, note, Timestamp::now());
                self.patch_claim_status(claim, json!({"phase": "Lost"})).await
            }
            (ClaimStep::Wait(None) | ClaimStep::Provision, _) => Ok(()),
        }
    }

    /// Pods that mount the claim and have no node yet.
    fn consumers(&self, claim: &PersistentVolumeClaim) -> Vec<String> {
        let namespace = claim.namespace().unwrap_or_default();
        let mounts = |pod: &Pod| {
            let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
            let mut sources = volumes.filter_map(|volume| volume.persistent_volume_claim.as_ref());
            sources.any(|source| Some(&source.claim_name) == claim.metadata.name.as_ref())
        };
        let pods = self.context.pods.snapshot();
        let waiting = pods
            .in_namespace(&namespace)
            .filter(|pod| node_name(pod).is_none() && !is_finished(pod));
        waiting.filter(|pod| mounts(pod)).map(|pod| pod.name_any()).collect()
    }

    /// Volume first, then claim, as everybody who reads them expects. Each step that is done already costs nothing.
    async fn bind(&self, claim: &Arc<PersistentVolumeClaim>, volume: &PersistentVolume) -> Result<(), ReconcileError> {
        let api: Api<PersistentVolume> = Api::all(self.context.client.clone());
        let name = volume.name_any();
        let spec = volume.spec.as_ref();
        let known = spec
            .and_then(|spec| spec.claim_ref.as_ref())
            .and_then(|reference| reference.uid.as_ref());
        if known != claim.metadata.uid.as_ref() {
            let mut patch = json!({
                "metadata": {"resourceVersion": volume.resource_version()},
                "spec": {"claimRef": reference(claim)},
            });
            if spec.is_some_and(|spec| spec.claim_ref.is_none()) {
                patch["metadata"]["annotations"] = json!({BOUND_BY_CONTROLLER: "yes"});
            }
            accepted("PersistentVolume", &name, merged(&api, &name, patch).await)?;
        }
        self.set_phase(&name, volume, "Bound").await?;
        if volume_name(claim) != Some(&name) || !claim.annotations().contains_key(BIND_COMPLETED) {
            let mut annotations = json!({BIND_COMPLETED: "yes"});
            if volume_name(claim).is_none() {
                annotations[BOUND_BY_CONTROLLER] = "yes".into();
            }
            let patch = json!({
                "metadata": {"uid": claim.uid(), "annotations": annotations},
                "spec": {"volumeName": name},
            });
            let claims = self.claims(claim);
            let result = merged(&claims, &claim.name_any(), patch).await;
            accepted("PersistentVolumeClaim", &claim.name_any(), result)?;
        }
        if phase_of(claim) == Some("Bound") {
            return Ok(());
        }
        let status = json!({
            "phase": "Bound",
            "accessModes": spec.and_then(|spec| spec.access_modes.clone()),
            "capacity": spec.and_then(|spec| spec.capacity.clone()),
        });
        self.patch_claim_status(claim, status).await
    }

    async fn provision(&self, claim: &Arc<PersistentVolumeClaim>, class: &StorageClass) -> Result<(), ReconcileError> {
        let tell = |severity, reason, message| {
            let note = Note {
                severity,
                reason,
                message,
            };
            self.provisioner.record(&**claim, note, Timestamp::now());
        };
        let made = match provision::volume(&self.directory, claim, class) {
            Ok(made) => made,
            Err(error) => {
                let message = format!(
                    "failed to provision volume with StorageClass {:?}: {error}",
                    class.name_any()
                );
                tell(Severity::Warning, "ProvisioningFailed", message);
                return Ok(());
            }
        };
        let message = format!(
            "External provisioner is provisioning volume for claim \"{}\"",
            Key::of(&**claim)
        );
        tell(Severity::Normal, "Provisioning", message);
        let api: Api<PersistentVolume> = Api::all(self.context.client.clone());
        let name = made.name_any();
        match api.create(&PostParams::default(), &made).await {
            Err(source) if !is_already_exists(&source) => Err(ReconcileError::Create {
                what: format!("PersistentVolume {name}"),
                source,
            }),
            _ => {
                tell(
                    Severity::Normal,
                    "ProvisioningSucceeded",
                    format!("Successfully provisioned volume {name}"),
                );
                Ok(())
            }
        }
    }

    async fn volume(&self, volume: &Arc<PersistentVolume>) -> Result<(), ReconcileError> {
        let named = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        let key = named.map(|reference| {
            let part = |text: &Option<String>| text.clone().unwrap_or_default();
            Key::new(part(&reference.namespace), part(&reference.name))
        });
        let claim = key.and_then(|key| self.context.claims.get(&key));
        let name = volume.name_any();
        match decide::volume(volume, claim.as_deref()) {
            VolumeStep::Phase(phase) => self.set_phase(&name, volume, phase).await,
            VolumeStep::Remove => self.remove(&name, volume).await,
            VolumeStep::Fail(why) => {
                if volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Failed") {
                    return Ok(());
                }
                let note = Note {
                    severity: Severity::Warning,
                    reason: "VolumeFailedDelete",
                    message: why,
                };
                self.binder.record(&**volume, note, Timestamp::now());
                self.set_phase(&name, volume, "Failed").await
            }
        }
    }

    /// The data first: a volume that is gone would leave nobody who knows of it.
    async fn remove(&self, name: &str, volume: &PersistentVolume) -> Result<(), ReconcileError> {
        self.set_phase(name, volume, "Released").await?;
        if volume.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let (directory, own) = (self.directory.clone(), name.to_owned());
        let removed = tokio::task::spawn_blocking(move || provision::remove(&directory, &own)).await;
        let removed = removed.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        if let Err(error) = removed {
            let note = Note {
                severity: Severity::Warning,
                reason: "VolumeFailedDelete",
                message: error.to_string(),
            };
            self.provisioner.record(volume, note, Timestamp::now());
            return Err(ReconcileError::Disk {
                what: format!("PersistentVolume {name}"),
                source: error,
            });
        }
        let api: Api<PersistentVolume> = Api::all(self.context.client.clone());
        match api.delete(name, &DeleteParams::default()).await {
            Err(source) if !is_not_found(&source) => Err(ReconcileError::Delete {
                what: format!("PersistentVolume {name}"),
                source,
            }),
            _ => Ok(()),
        }
    }

    async fn set_phase(&self, name: &str, volume: &PersistentVolume, phase: &str) -> Result<(), ReconcileError> {
        if volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some(phase) {
            return Ok(());
        }
        let api: Api<PersistentVolume> = Api::all(self.context.client.clone());
        let patch = json!({"metadata": {"uid": volume.uid()}, "status": {"phase": phase}});
        accepted("PersistentVolume", name, merged_status(&api, name, patch).await)
    }

    async fn patch_claim_status(&self, claim: &PersistentVolumeClaim, status: Value) -> Result<(), ReconcileError> {
        let name = claim.name_any();
        let patch = json!({"metadata": {"uid": claim.uid()}, "status": status});
        let result = merged_status(&self.claims(claim), &name, patch).await;
        accepted("PersistentVolumeClaim", &name, result)
    }

    fn claims(&self, claim: &PersistentVolumeClaim) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.context.client.clone(), &claim.namespace().unwrap_or_default())
    }
}

fn phase_of(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.status.as_ref()?.phase.as_deref()
}

/// An object that is gone by now needs nothing.
fn accepted<K>(kind: &str, name: &str, result: Result<K, kube::Error>) -> Result<(), ReconcileError> {
    match result {
        Err(source) if !is_not_found(&source) => Err(ReconcileError::Update {
            what: format!("{kind} {name}"),
            source,
        }),
        _ => Ok(()),
    }
}
