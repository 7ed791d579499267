//! What becomes of a claim and of a volume. Pure; the rules of Kubernetes' persistent volume controller.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;

use super::matching::{NO_PROVISIONER, class_of, find, is_kept_for, satisfies, volume_name, waits_for_consumer};
use super::provision::{PROVISIONED_BY, PROVISIONER};
use crate::controllers::recorder::{Note, Severity};

/// On a claim: that it was bound once, so a volume that is missing is lost.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On a claim: the node of the Pod that waits for it.
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

/// What to do about a claim.
#[derive(Debug, Clone, PartialEq)]
pub enum ClaimStep {
    /// Bind it to this volume, or finish that.
    Bind(Arc<PersistentVolume>),
    /// Make a volume for it.
    Provision,
    /// Its volume is gone.
    Lose(Note),
    /// It waits, and for what.
    Wait(Option<Note>),
}

/// What a claim is decided by.
pub struct ClaimView<'a> {
    /// The claim.
    pub claim: &'a PersistentVolumeClaim,
    /// All volumes.
    pub volumes: &'a [Arc<PersistentVolume>],
    /// The class that the claim names, if there is one of that name.
    pub class: Option<&'a StorageClass>,
    /// Pods that mount the claim and have no node, by name.
    pub consumers: &'a [String],
}

fn note(severity: Severity, reason: &'static str, message: impl Into<String>) -> Note {
    Note {
        severity,
        reason,
        message: message.into(),
    }
}

fn annotated(claim: &PersistentVolumeClaim, key: &str) -> bool {
    claim
        .metadata
        .annotations
        .as_ref()
        .is_some_and(|all| all.contains_key(key))
}

/// Decides about a claim.
pub fn claim(view: &ClaimView<'_>) -> ClaimStep {
    match volume_name(view.claim) {
        Some(name) => named(view, name),
        None => unnamed(view),
    }
}

/// A claim that names its volume: because it was bound to it, or because somebody chose it.
fn named(view: &ClaimView<'_>, name: &str) -> ClaimStep {
    let bound = annotated(view.claim, BIND_COMPLETED);
    let volume = view
        .volumes
        .iter()
        .find(|volume| volume.metadata.name.as_deref() == Some(name));
    let Some(volume) = volume else {
        let text = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
        return match bound {
            true => ClaimStep::Lose(note(Severity::Warning, "ClaimLost", text)),
            false => ClaimStep::Wait(None),
        };
    };
    let taken = volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_some());
    if is_kept_for(volume, view.claim) {
        return ClaimStep::Bind(volume.clone());
    }
    match (taken, bound) {
        (true, true) => {
            let text = "Two claims are bound to the same volume, this one is bound incorrectly";
            ClaimStep::Lose(note(Severity::Warning, "ClaimMisbound", text))
        }
        (true, false) => {
            let text = format!("volume {name:?} already bound to a different claim.");
            ClaimStep::Wait(Some(note(Severity::Warning, "FailedBinding", text)))
        }
        (false, true) => ClaimStep::Bind(volume.clone()),
        (false, false) if satisfies(volume, view.claim) => ClaimStep::Bind(volume.clone()),
        (false, false) => {
            let text = format!("Cannot bind to requested volume {name:?}: it does not satisfy the claim");
            ClaimStep::Wait(Some(note(Severity::Warning, "VolumeMismatch", text)))
        }
    }
}

fn unnamed(view: &ClaimView<'_>) -> ClaimStep {
    let late = view.class.is_some_and(waits_for_consumer);
    let chosen = annotated(view.claim, SELECTED_NODE);
    // Which of the free volumes a claim gets that waits for its Pod is the scheduler's to say.
    let eligible = view
        .volumes
        .iter()
        .filter(|volume| !late || is_kept_for(volume, view.claim));
    if let Some(volume) = find(view.claim, eligible, None) {
        return ClaimStep::Bind(volume.clone());
    }
    if late && !chosen {
        return ClaimStep::Wait(Some(match view.consumers {
            [] => {
                let text = "waiting for first consumer to be created before binding";
                note(Severity::Normal, "WaitForFirstConsumer", text)
            }
            pods => {
                let text = format!("waiting for pod {} to be scheduled", pods.join(","));
                note(Severity::Normal, "WaitForPodScheduled", text)
            }
        }));
    }
    let class = class_of(view.claim);
    match view.class {
        Some(class) if class.provisioner == PROVISIONER => ClaimStep::Provision,
        Some(class) if class.provisioner != NO_PROVISIONER => {
            let text = format!(
                "Waiting for a volume to be created either by the external provisioner '{}' or manually by the system \
                 administrator. If volume creation is delayed, please verify that the provisioner is running and \
                 correctly registered.",
                class.provisioner
            );
            ClaimStep::Wait(Some(note(Severity::Normal, "ExternalProvisioning", text)))
        }
        None if !class.is_empty() => {
            let text = format!("storageclass.storage.k8s.io {class:?} not found");
            ClaimStep::Wait(Some(note(Severity::Warning, "ProvisioningFailed", text)))
        }
        _ => {
            let text = "no persistent volumes available for this claim and no storage class is set";
            ClaimStep::Wait(Some(note(Severity::Normal, "FailedBinding", text)))
        }
    }
}

/// What a volume is, and what is to be done with one whose claim is gone.
#[derive(Debug, Clone, PartialEq)]
pub enum VolumeStep {
    /// Its phase.
    Phase(&'static str),
    /// It goes, with what is in it.
    Remove,
    /// Nobody here can remove it.
    Fail(String),
}

/// Decides about a volume, given the claim that it names.
pub fn volume(volume: &PersistentVolume, claim: Option<&PersistentVolumeClaim>) -> VolumeStep {
    let spec = volume.spec.clone().unwrap_or_default();
    let named = spec.claim_ref.as_ref();
    let uid = named
        .and_then(|reference| reference.uid.as_deref())
        .filter(|uid| !uid.is_empty());
    let Some(uid) = uid else {
        // Kept for a claim that may come.
        return VolumeStep::Phase("Available");
    };
    if let Some(claim) = claim.filter(|claim| claim.metadata.uid.as_deref() == Some(uid)) {
        let theirs = volume_name(claim) == volume.metadata.name.as_deref();
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
        // Until the claim says so too, nothing is settled.
        return VolumeStep::Phase(if theirs || phase == Some("Bound") {
            "Bound"
        } else {
            "Available"
        });
    }
    if spec.persistent_volume_reclaim_policy.as_deref() != Some("Delete") {
        return VolumeStep::Phase("Released");
    }
    let made_by = volume
        .metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get(PROVISIONED_BY));
    match made_by.map(String::as_str) {
        Some(PROVISIONER) => VolumeStep::Remove,
        // Whoever made it is told by its phase.
        Some(_) => VolumeStep::Phase("Released"),
        None => VolumeStep::Fail(match &spec.host_path {
            Some(path) => format!(
                "host_path deleter only supports /tmp/.+ but received provided {}",
                path.path
            ),
            None => "error getting deleter volume plugin: no volume plugin matched".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn make_claim(class: &str, extra: Value) -> PersistentVolumeClaim {
        let mut claim = json!({
            "metadata": {"name": "data", "namespace": "default", "uid": "u", "annotations": {}},
            "spec": {
                "storageClassName": class, "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}},
            },
        });
        for (path, value) in extra.as_object().unwrap() {
            *claim.pointer_mut(path).unwrap() = value.clone();
        }
        serde_json::from_value(claim).unwrap()
    }

    fn make_volume(name: &str, class: &str, spec: Value) -> Arc<PersistentVolume> {
        let mut volume = json!({
            "metadata": {"name": name}, "status": {"phase": "Available"},
            "spec": {"storageClassName": class, "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]},
        });
        for (key, value) in spec.as_object().unwrap() {
            volume["spec"][key] = value.clone();
        }
        Arc::new(serde_json::from_value(volume).unwrap())
    }

    fn class(provisioner: &str, mode: &str) -> StorageClass {
        let class = json!({"metadata": {"name": "c"}, "provisioner": provisioner, "volumeBindingMode": mode});
        serde_json::from_value(class).unwrap()
    }

    fn decide(
        given: &PersistentVolumeClaim,
        volumes: &[Arc<PersistentVolume>],
        class: Option<&StorageClass>,
    ) -> ClaimStep {
        let view = ClaimView {
            claim: given,
            volumes,
            class,
            consumers: &[],
        };
        claim(&view)
    }

    fn reason(step: &ClaimStep) -> &'static str {
        match step {
            ClaimStep::Wait(Some(note)) | ClaimStep::Lose(note) => note.reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn who_makes_a_volume_and_when() {
        let wanting = make_claim("c", json!({}));
        let ours = |mode: &str| class(PROVISIONER, mode);
        assert_eq!(decide(&wanting, &[], Some(&ours("Immediate"))), ClaimStep::Provision);
        let late = ours("WaitForFirstConsumer");
        assert_eq!(reason(&decide(&wanting, &[], Some(&late))), "WaitForFirstConsumer");
        let scheduled = make_claim("c", json!({"/metadata/annotations": {SELECTED_NODE: "worker1"}}));
        assert_eq!(decide(&scheduled, &[], Some(&late)), ClaimStep::Provision);
        let theirs = class("ebs.csi.aws.com", "Immediate");
        assert_eq!(reason(&decide(&wanting, &[], Some(&theirs))), "ExternalProvisioning");
        assert_eq!(reason(&decide(&wanting, &[], None)), "ProvisioningFailed");
        assert_eq!(reason(&decide(&make_claim("", json!({})), &[], None)), "FailedBinding");
        let pods = ["web-0".to_owned()];
        let view = ClaimView {
            claim: &wanting,
            volumes: &[],
            class: Some(&late),
            consumers: &pods,
        };
        let ClaimStep::Wait(Some(told)) = claim(&view) else {
            panic!("it waits for the scheduler")
        };
        assert_eq!(
            (told.reason, told.message.as_str()),
            ("WaitForPodScheduled", "waiting for pod web-0 to be scheduled")
        );
    }

    #[test]
    fn a_free_volume_is_bound_unless_the_scheduler_has_to_choose() {
        let free = make_volume("v", "c", json!({}));
        let wanting = make_claim("c", json!({}));
        let volumes = [free.clone()];
        assert_eq!(decide(&wanting, &volumes, None), ClaimStep::Bind(free));
        let late = class(PROVISIONER, "WaitForFirstConsumer");
        assert_eq!(reason(&decide(&wanting, &volumes, Some(&late))), "WaitForFirstConsumer");
        let kept = make_volume(
            "v",
            "c",
            json!({"claimRef": {"namespace": "default", "name": "data", "uid": "u"}}),
        );
        assert_eq!(
            decide(&wanting, std::slice::from_ref(&kept), Some(&late)),
            ClaimStep::Bind(kept)
        );
    }

    #[test]
    fn a_claim_that_lost_its_volume_says_so() {
        let bound = make_claim("c", json!({"/metadata/annotations": {BIND_COMPLETED: "yes"}}));
        let mut bound = bound;
        bound.spec.as_mut().unwrap().volume_name = Some("v".into());
        assert_eq!(reason(&decide(&bound, &[], None)), "ClaimLost");
        let others = make_volume(
            "v",
            "c",
            json!({"claimRef": {"namespace": "default", "name": "other", "uid": "o"}}),
        );
        assert_eq!(reason(&decide(&bound, &[others], None)), "ClaimMisbound");
    }

    #[test]
    fn volumes_outlive_their_claims_as_their_policy_says() {
        let with = |policy: &str, by: Option<&str>| {
            let reference = json!({"namespace": "default", "name": "data", "uid": "u"});
            let spec =
                json!({"claimRef": reference, "persistentVolumeReclaimPolicy": policy, "hostPath": {"path": "/srv"}});
            let mut volume = PersistentVolume::clone(&make_volume("v", "c", spec));
            volume.metadata.annotations = by.map(|by| [(PROVISIONED_BY.to_owned(), by.to_owned())].into());
            volume
        };
        assert_eq!(
            volume(&make_volume("v", "c", json!({})), None),
            VolumeStep::Phase("Available")
        );
        assert_eq!(volume(&with("Retain", None), None), VolumeStep::Phase("Released"));
        assert_eq!(volume(&with("Delete", Some(PROVISIONER)), None), VolumeStep::Remove);
        assert_eq!(
            volume(&with("Delete", Some("ebs.csi.aws.com")), None),
            VolumeStep::Phase("Released")
        );
        assert!(matches!(volume(&with("Delete", None), None), VolumeStep::Fail(_)));
        let mut owner = make_claim("c", json!({}));
        owner.spec.as_mut().unwrap().volume_name = Some("v".into());
        assert_eq!(
            volume(&with("Delete", Some(PROVISIONER)), Some(&owner)),
            VolumeStep::Phase("Bound")
        );
        owner.metadata.uid = Some("a namesake".into());
        assert_eq!(
            volume(&with("Retain", None), Some(&owner)),
            VolumeStep::Phase("Released")
        );
    }
}
