//! Volumes made on demand: directories of this machine's disk, which every node shares. Pure, but for removing one.

use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::json;

use super::matching::reference;

/// The name of this provisioner, as classes have it.
pub const PROVISIONER: &str = "minik.dev/local-path";

/// On a volume: who made it.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";

/// Why there is no volume.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// A directory is no disk.
    #[error("volume mode Block is not supported by {PROVISIONER}")]
    Block,
    /// The claim does not say how large it is, or has no uid.
    #[error("the claim is not complete")]
    Incomplete,
    /// The object is spelt as JSON.
    #[error("describe the volume")]
    Describe(#[source] serde_json::Error),
}

/// Where the data of a volume of ours lies.
pub fn directory(volumes: &Path, name: &str) -> PathBuf {
    volumes.join(name)
}

/// The volume for a claim; the directory is made by the kubelet that mounts it first.
///
/// # Errors
/// [`ProvisionError`]
pub fn volume(
    volumes: &Path,
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
) -> Result<PersistentVolume, ProvisionError> {
    let spec = claim.spec.as_ref().ok_or(ProvisionError::Incomplete)?;
    if spec.volume_mode.as_deref() == Some("Block") {
        return Err(ProvisionError::Block);
    }
    let requests = spec
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref());
    let size = requests.and_then(|requests| requests.get("storage"));
    let (Some(size), Some(uid)) = (size, &claim.metadata.uid) else {
        return Err(ProvisionError::Incomplete);
    };
    let name = format!("pvc-{uid}");
    serde_json::from_value(json!({
        "metadata": {"name": name, "annotations": {PROVISIONED_BY: PROVISIONER}},
        "spec": {
            "capacity": {"storage": size},
            "accessModes": spec.access_modes,
            "persistentVolumeReclaimPolicy": class.reclaim_policy.as_deref().unwrap_or("Delete"),
            "storageClassName": class.metadata.name,
            "mountOptions": class.mount_options,
            "volumeMode": "Filesystem",
            "claimRef": reference(claim),
            "hostPath": {"path": directory(volumes, &name), "type": "DirectoryOrCreate"},
        },
    }))
    .map_err(ProvisionError::Describe)
}

/// Removes the data of a volume of ours.
///
/// # Errors
/// That of removing the directory; one that was never mounted has none.
pub fn remove(volumes: &Path, name: &str) -> io::Result<()> {
    // A name is a DNS label, so this is always a directory right below ours.
    match std::fs::remove_dir_all(directory(volumes, name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_a_directory_kept_for_its_claim() {
        let claim = json!({
            "metadata": {"name": "data", "namespace": "default", "uid": "u-1"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        });
        let class = json!({"metadata": {"name": "standard"}, "provisioner": PROVISIONER, "reclaimPolicy": "Delete"});
        let claim: PersistentVolumeClaim = serde_json::from_value(claim).unwrap();
        let class = serde_json::from_value(class).unwrap();
        let made = volume(Path::new("/state/volumes"), &claim, &class).unwrap();
        assert_eq!(made.metadata.name.as_deref(), Some("pvc-u-1"));
        let spec = made.spec.unwrap();
        assert_eq!(spec.host_path.unwrap().path, "/state/volumes/pvc-u-1");
        assert_eq!(spec.claim_ref.unwrap().uid.as_deref(), Some("u-1"));
        assert_eq!(spec.persistent_volume_reclaim_policy.as_deref(), Some("Delete"));
        assert_eq!(spec.node_affinity, None);
        let mut block = claim;
        block.spec.as_mut().unwrap().volume_mode = Some("Block".into());
        assert!(matches!(
            volume(Path::new("/state"), &block, &class),
            Err(ProvisionError::Block)
        ));
    }

    #[test]
    fn what_was_never_mounted_is_removed_too() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("pvc-1/deep")).unwrap();
        remove(directory.path(), "pvc-1").unwrap();
        remove(directory.path(), "pvc-1").unwrap();
        assert!(directory.path().exists() && !directory.path().join("pvc-1").exists());
    }
}
