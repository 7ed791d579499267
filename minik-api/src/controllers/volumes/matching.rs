//! Which PersistentVolume a claim may have. Pure; the rules of Kubernetes' persistent volume controller and scheduler.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{NodeSelectorTerm, ObjectReference, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;

use crate::controllers::scheduler::selector::NodeTerm;
use crate::resource::validation::labels;
use crate::resource::validation::resources::nanos;
use crate::resource::volume_class;

const STORAGE: &str = "storage";
/// The provisioner of classes whose volumes are made by hand.
pub const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// A node that a volume must be reachable from: name and labels.
pub type At<'a> = (&'a str, &'a BTreeMap<String, String>);

/// The class of a claim; empty when it wants a volume without one.
pub fn class_of(claim: &PersistentVolumeClaim) -> &str {
    let named = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    volume_class::of(&claim.metadata, named)
}

/// Whether volumes of a class are bound only once a Pod wants them.
pub fn waits_for_consumer(class: &StorageClass) -> bool {
    class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
}

/// The volume that a claim is bound to, by its own word.
pub fn volume_name(claim: &PersistentVolumeClaim) -> Option<&str> {
    let name = claim.spec.as_ref()?.volume_name.as_deref();
    name.filter(|name| !name.is_empty())
}

/// Whether a volume is kept for this claim: it names it, and if it names a uid, then this one.
pub fn is_kept_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    reference.is_some_and(|reference| {
        let uid = reference.uid.as_ref().filter(|uid| !uid.is_empty());
        reference.name == claim.metadata.name
            && reference.namespace == claim.metadata.namespace
            && (uid.is_none() || uid == claim.metadata.uid.as_ref())
    })
}

/// Whether a node can reach a volume.
pub fn is_reachable(volume: &PersistentVolume, (node, labels): At<'_>) -> bool {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required.as_ref());
    let meant = |term: &NodeSelectorTerm| NodeTerm::of(term).matches(node, labels);
    required.is_none_or(|required| required.node_selector_terms.iter().any(meant))
}

/// The volume that `claim` should get: one kept for it, else the smallest of those that are free and large enough.
pub fn find<'a>(
    claim: &PersistentVolumeClaim,
    volumes: impl Iterator<Item = &'a Arc<PersistentVolume>>,
    at: Option<At<'_>>,
) -> Option<&'a Arc<PersistentVolume>> {
    let reachable = |volume: &&Arc<PersistentVolume>| at.is_none_or(|at| is_reachable(volume, at));
    let mut best: Option<&Arc<PersistentVolume>> = None;
    for volume in volumes.filter(|volume| satisfies(volume, claim)).filter(reachable) {
        if is_kept_for(volume, claim) {
            return Some(volume);
        }
        let smaller = best.is_none_or(|best| capacity(volume) < capacity(best));
        if is_free(volume) && is_selected(volume, claim) && smaller {
            best = Some(volume);
        }
    }
    best
}

/// Size, access, mode and class: what even a volume kept for the claim must have.
pub fn satisfies(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let (Some(offered), Some(wanted)) = (&volume.spec, &claim.spec) else {
        return false;
    };
    let modes = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let offers = modes(&offered.access_modes);
    let mode = |given: &Option<String>| given.clone().unwrap_or_else(|| "Filesystem".to_owned());
    volume.metadata.deletion_timestamp.is_none()
        && capacity(volume) >= requested(claim)
        && modes(&wanted.access_modes).iter().all(|mode| offers.contains(mode))
        && mode(&offered.volume_mode) == mode(&wanted.volume_mode)
        && volume_class::of(&volume.metadata, offered.storage_class_name.as_deref()) == class_of(claim)
}

fn is_free(volume: &PersistentVolume) -> bool {
    let claimed = volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_some());
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    !claimed && phase == Some("Available")
}

fn is_selected(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let selector = claim.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let none = BTreeMap::new();
    let given = volume.metadata.labels.as_ref().unwrap_or(&none);
    selector.is_none_or(|selector| labels::selects(selector, given))
}

fn capacity(volume: &PersistentVolume) -> i128 {
    let amounts = volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref());
    amounts.and_then(|all| nanos(all.get(STORAGE)?)).unwrap_or_default()
}

fn requested(claim: &PersistentVolumeClaim) -> i128 {
    let requests = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
    requests.and_then(|all| nanos(all.get(STORAGE)?)).unwrap_or_default()
}

/// The reference of a volume to its claim.
pub fn reference(claim: &PersistentVolumeClaim) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("PersistentVolumeClaim".to_owned()),
        namespace: claim.metadata.namespace.clone(),
        name: claim.metadata.name.clone(),
        uid: claim.metadata.uid.clone(),
        resource_version: claim.metadata.resource_version.clone(),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn volume(name: &str, size: &str, class: &str) -> Arc<PersistentVolume> {
        let volume = json!({
            "metadata": {"name": name, "labels": {"disk": name}},
            "spec": {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": class},
            "status": {"phase": "Available"},
        });
        Arc::new(serde_json::from_value(volume).unwrap())
    }

    fn claim(extra: serde_json::Value) -> PersistentVolumeClaim {
        let mut claim = json!({
            "metadata": {"name": "data", "namespace": "default", "uid": "u"},
            "spec": {"resources": {"requests": {"storage": "2Gi"}}, "accessModes": ["ReadWriteOnce"]},
        });
        for (key, value) in extra.as_object().unwrap() {
            claim["spec"][key] = value.clone();
        }
        serde_json::from_value(claim).unwrap()
    }

    fn found(claim: &PersistentVolumeClaim, volumes: &[Arc<PersistentVolume>]) -> Option<String> {
        find(claim, volumes.iter(), None).map(|volume| volume.metadata.name.clone().unwrap())
    }

    #[test]
    fn the_smallest_that_is_large_enough() {
        let volumes = [
            volume("small", "1Gi", ""),
            volume("large", "9Gi", ""),
            volume("fits", "2Gi", ""),
        ];
        assert_eq!(found(&claim(json!({})), &volumes).as_deref(), Some("fits"));
        let picky = claim(json!({"selector": {"matchLabels": {"disk": "large"}}}));
        assert_eq!(found(&picky, &volumes).as_deref(), Some("large"));
        assert_eq!(found(&claim(json!({"storageClassName": "manual"})), &volumes), None);
        assert_eq!(found(&claim(json!({"accessModes": ["ReadWriteMany"]})), &volumes), None);
    }

    #[test]
    fn the_class_of_an_annotation_goes_before_that_of_the_field() {
        let mut annotated = PersistentVolume::clone(&volume("old", "2Gi", "new"));
        let old = BTreeMap::from([(volume_class::ANNOTATION.to_owned(), "old".to_owned())]);
        annotated.metadata.annotations = Some(old.clone());
        let volumes = [Arc::new(annotated)];
        assert_eq!(found(&claim(json!({"storageClassName": "new"})), &volumes), None);
        let mut claim = claim(json!({"storageClassName": "new"}));
        claim.metadata.annotations = Some(old);
        assert_eq!(found(&claim, &volumes).as_deref(), Some("old"));
    }

    #[test]
    fn a_volume_kept_for_the_claim_goes_before_smaller_ones() {
        let mut kept = PersistentVolume::clone(&volume("kept", "9Gi", ""));
        let reference = serde_json::from_value(json!({"name": "data", "namespace": "default"})).unwrap();
        kept.spec.as_mut().unwrap().claim_ref = Some(reference);
        let volumes = [volume("fits", "2Gi", ""), Arc::new(kept)];
        assert_eq!(found(&claim(json!({})), &volumes).as_deref(), Some("kept"));
        let mut other = claim(json!({}));
        other.metadata.name = Some("other".into());
        assert_eq!(found(&other, &volumes).as_deref(), Some("fits"));
    }
}
