//! Which PersistentVolume a Pod's volume stands for. Pure.
//!
//! Source: `desired_state_of_world_populator.go` (`getPVCExtractPV`, `getPVSpec`).

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Volume};

/// Why a claim leads to no volume.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// There is no such claim.
    #[error("failed to fetch PVC from API server: persistentvolumeclaims {0:?} not found")]
    NoClaim(String),
    /// It is going away.
    #[error("PVC is being deleted")]
    Deleted,
    /// It has no volume yet.
    #[error("PVC is not bound")]
    Unbound,
    /// It says that it is bound, but not to what.
    #[error("PVC has empty pvc.Spec.VolumeName")]
    NoName,
    /// An ephemeral volume's claim is somebody else's.
    #[error("PVC {0} was not created for pod {1} (pod is not owner)")]
    Foreign(String, String),
    /// There is no such volume.
    #[error("failed to fetch PV {0} from API server: persistentvolumes {0:?} not found")]
    NoVolume(String),
    /// The volume does not know its claim.
    #[error("found PV object {0} with nil pvc.Spec.ClaimRef indicating it is not yet bound to the claim")]
    NotYet(String),
    /// The volume is another claim's.
    #[error("found PV object {volume} but its pv.Spec.ClaimRef.UID {theirs} does not point to claim.UID {ours}")]
    Other {
        /// The volume.
        volume: String,
        /// UID that it names.
        theirs: String,
        /// UID of the claim.
        ours: String,
    },
    /// A block device is no directory.
    #[error("volume {0} has volumeMode Block, which minik does not offer")]
    Block(String),
}

/// The claim that a volume stands for.
#[must_use]
pub fn name(pod: &Pod, volume: &Volume) -> Option<String> {
    if let Some(source) = &volume.persistent_volume_claim {
        return Some(source.claim_name.clone());
    }
    volume.ephemeral.as_ref()?;
    let pod = pod.metadata.name.as_deref().unwrap_or_default();
    Some(format!("{pod}-{}", volume.name))
}

/// The name of the PersistentVolume of a claim.
pub fn volume_name(
    pod: &Pod,
    volume: &Volume,
    name: &str,
    claim: Option<&PersistentVolumeClaim>,
) -> Result<String, ClaimError> {
    let claim = claim.ok_or_else(|| ClaimError::NoClaim(name.to_owned()))?;
    let owners = claim.metadata.owner_references.iter().flatten();
    let mut owners = owners.filter(|owner| owner.controller == Some(true));
    let ours = owners.any(|owner| Some(&owner.uid) == pod.metadata.uid.as_ref());
    if volume.ephemeral.is_some() && !ours {
        let pod = pod.metadata.name.clone().unwrap_or_default();
        return Err(ClaimError::Foreign(name.to_owned(), pod));
    }
    if claim.metadata.deletion_timestamp.is_some() {
        return Err(ClaimError::Deleted);
    }
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    if phase != Some("Bound") {
        return Err(ClaimError::Unbound);
    }
    let named = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone());
    named.filter(|name| !name.is_empty()).ok_or(ClaimError::NoName)
}

/// Whether a volume is the claim's and can be a directory.
pub fn check(claim: &PersistentVolumeClaim, name: &str, volume: Option<&PersistentVolume>) -> Result<(), ClaimError> {
    let spec = volume
        .ok_or_else(|| ClaimError::NoVolume(name.to_owned()))?
        .spec
        .as_ref();
    let reference = spec.and_then(|spec| spec.claim_ref.as_ref());
    let theirs = reference
        .ok_or_else(|| ClaimError::NotYet(name.to_owned()))?
        .uid
        .clone();
    if theirs != claim.metadata.uid {
        return Err(ClaimError::Other {
            volume: name.to_owned(),
            theirs: theirs.unwrap_or_default(),
            ours: claim.metadata.uid.clone().unwrap_or_default(),
        });
    }
    if spec.and_then(|spec| spec.volume_mode.as_deref()) == Some("Block") {
        return Err(ClaimError::Block(name.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claim(metadata: serde_json::Value, phase: &str, volume: &str) -> PersistentVolumeClaim {
        let object = json!({"metadata": metadata, "spec": {"volumeName": volume}, "status": {"phase": phase}});
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn only_a_bound_claim_leads_to_its_own_volume() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "uid": "pod"}})).unwrap();
        let plain: Volume =
            serde_json::from_value(json!({"name": "d", "persistentVolumeClaim": {"claimName": "c"}})).unwrap();
        let ephemeral: Volume = serde_json::from_value(json!({"name": "d", "ephemeral": {}})).unwrap();
        assert_eq!(name(&pod, &plain).as_deref(), Some("c"));
        assert_eq!(name(&pod, &ephemeral).as_deref(), Some("p-d"));
        let owned = json!({"uid": "c1", "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "pod", "controller": true}]});
        let leaving = json!({"uid": "c1", "deletionTimestamp": "2026-01-01T00:00:00Z"});
        for (volume, claim, expected) in [
            (
                &plain,
                None,
                Err("failed to fetch PVC from API server: persistentvolumeclaims \"c\" not found"),
            ),
            (&plain, Some(claim(json!({}), "Pending", "")), Err("PVC is not bound")),
            (
                &plain,
                Some(claim(json!({}), "Bound", "")),
                Err("PVC has empty pvc.Spec.VolumeName"),
            ),
            (&plain, Some(claim(leaving, "Bound", "v")), Err("PVC is being deleted")),
            (&plain, Some(claim(json!({}), "Bound", "v")), Ok("v")),
            (
                &ephemeral,
                Some(claim(json!({}), "Bound", "v")),
                Err("PVC c was not created for pod p (pod is not owner)"),
            ),
            (&ephemeral, Some(claim(owned, "Bound", "v")), Ok("v")),
        ] {
            let found = volume_name(&pod, volume, "c", claim.as_ref()).map_err(|error| error.to_string());
            assert_eq!(found, expected.map(str::to_owned).map_err(str::to_owned));
        }
        let bound = claim(json!({"uid": "c1"}), "Bound", "v");
        for (spec, expected) in [
            (
                json!({}),
                "found PV object v with nil pvc.Spec.ClaimRef indicating it is not yet bound to the claim",
            ),
            (
                json!({"claimRef": {"uid": "x"}}),
                "found PV object v but its pv.Spec.ClaimRef.UID x does not point to claim.UID c1",
            ),
            (
                json!({"claimRef": {"uid": "c1"}, "volumeMode": "Block"}),
                "volume v has volumeMode Block, which minik does not offer",
            ),
        ] {
            let volume: PersistentVolume = serde_json::from_value(json!({"spec": spec})).unwrap();
            assert_eq!(check(&bound, "v", Some(&volume)).unwrap_err().to_string(), expected);
        }
        let volume = serde_json::from_value(json!({"spec": {"claimRef": {"uid": "c1"}}})).unwrap();
        assert_eq!(check(&bound, "v", Some(&volume)), Ok(()));
        assert!(check(&bound, "v", None).is_err());
    }
}
