//! The volume claims of a StatefulSet's Pods: which a Pod needs, and who must own them for the retention
//! policy to come true when the garbage collector follows the owners. Pure.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::identity::{pod_name, replicas, start};
use crate::controllers::cache::{Key, Snapshot};
use crate::controllers::owner::{controller_of, controller_reference};

/// All claims there are.
pub type Claims = Snapshot<PersistentVolumeClaim>;

/// The name of the claim that a template makes for the Pod of this number.
pub fn claim_name(set: &StatefulSet, template: &str, ordinal: i32) -> String {
    format!("{template}-{}", pod_name(set, ordinal))
}

/// The volumes that give a Pod its claims.
pub fn claim_volumes(set: &StatefulSet, ordinal: i32) -> Vec<Volume> {
    let templates = set
        .spec
        .iter()
        .flat_map(|spec| spec.volume_claim_templates.iter().flatten());
    let volume = |template: &str| Volume {
        name: template.into(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: claim_name(set, template, ordinal),
            read_only: None,
        }),
        ..Volume::default()
    };
    templates
        .map(|claim| volume(claim.metadata.name.as_deref().unwrap_or_default()))
        .collect()
}

/// The claims of one Pod of a set.
pub struct PodClaims<'a> {
    /// The set.
    pub set: &'a StatefulSet,
    /// The Pod's number.
    pub ordinal: i32,
    /// The Pod, once it exists.
    pub pod: Option<&'a Pod>,
    /// All claims there are.
    pub existing: &'a Claims,
}

impl PodClaims<'_> {
    fn wanted(&self) -> impl Iterator<Item = PersistentVolumeClaim> {
        let spec = self.set.spec.clone().unwrap_or_default();
        let labels = spec.selector.match_labels.unwrap_or_default();
        let templates = spec.volume_claim_templates.unwrap_or_default();
        templates.into_iter().map(move |template| {
            let mut claim = template;
            let name = claim.metadata.name.take().unwrap_or_default();
            claim.metadata.name = Some(claim_name(self.set, &name, self.ordinal));
            claim.metadata.namespace.clone_from(&self.set.metadata.namespace);
            claim.metadata.labels.get_or_insert_default().extend(labels.clone());
            claim.metadata.owner_references = self.owners(&claim);
            claim.status = None;
            claim
        })
    }

    fn find(&self, claim: &PersistentVolumeClaim) -> Option<&Arc<PersistentVolumeClaim>> {
        self.existing.get(&Key::of(claim))
    }

    /// The claims that do not exist yet.
    pub fn missing(&self) -> Vec<PersistentVolumeClaim> {
        self.wanted().filter(|claim| self.find(claim).is_none()).collect()
    }

    /// Whether a claim of an earlier Pod of this name is still on its way out, so that a new Pod would
    /// lose its volume again.
    pub fn are_stale(&self) -> bool {
        let name = pod_name(self.set, self.ordinal);
        let uid = self.pod.and_then(|pod| pod.metadata.uid.as_deref());
        let earlier = |owner: &OwnerReference| owner.kind == "Pod" && owner.name == name && uid != Some(&owner.uid);
        self.wanted().any(|wanted| {
            self.find(&wanted).is_some_and(|claim| {
                let owners = claim.metadata.owner_references.as_deref().unwrap_or_default();
                claim.metadata.deletion_timestamp.is_some() || owners.iter().any(earlier)
            })
        })
    }

    /// The claims whose owners are not what the policy asks for, and the owners that it does.
    pub fn misowned(&self) -> Vec<(Arc<PersistentVolumeClaim>, Vec<OwnerReference>)> {
        let misowned = self.wanted().filter_map(|wanted| {
            let claim = self.find(&wanted)?;
            let owners = self.owners(claim);
            let owners_change = owners != claim.metadata.owner_references.clone().filter(|all| !all.is_empty());
            let settled = claim.metadata.deletion_timestamp.is_none();
            (owners_change && settled).then(|| (claim.clone(), owners.unwrap_or_default()))
        });
        misowned.collect()
    }

    /// Who should own a claim: the set when its end is the claim's, the Pod when it is to be scaled away
    /// and that is the claim's end, and whoever else does already. A claim under another controller is
    /// left as it is.
    fn owners(&self, claim: &PersistentVolumeClaim) -> Option<Vec<OwnerReference>> {
        let before = claim.metadata.owner_references.clone().filter(|all| !all.is_empty());
        let set = controller_reference(self.set);
        let pod_kind = |owner: &OwnerReference| owner.kind == "Pod" && owner.name == pod_name(self.set, self.ordinal);
        let foreign = controller_of(&claim.metadata).is_some_and(|owner| owner.uid != set.uid && !pod_kind(owner));
        if foreign {
            return before;
        }
        let policy = self
            .set
            .spec
            .as_ref()
            .and_then(|spec| spec.persistent_volume_claim_retention_policy.as_ref());
        let deletes = |when: Option<&String>| when.is_some_and(|when| when == "Delete");
        let when_deleted = deletes(policy.and_then(|policy| policy.when_deleted.as_ref()));
        let when_scaled = deletes(policy.and_then(|policy| policy.when_scaled.as_ref()));
        let range = start(self.set)..start(self.set).saturating_add(replicas(self.set));
        let leaves = when_scaled && !range.contains(&self.ordinal);
        let mut owners = before.unwrap_or_default();
        owners.retain(|owner| !pod_kind(owner) || (leaves && self.pod.is_some_and(|pod| is(owner, pod))));
        owners.retain(|owner| owner.uid != set.uid || (when_deleted && !leaves));
        if when_deleted && !leaves && owners.iter().all(|owner| owner.uid != set.uid) {
            owners.push(set);
        }
        if let Some(pod) = self
            .pod
            .filter(|pod| leaves && !owners.iter().any(|owner| is(owner, pod)))
        {
            owners.push(controller_reference(pod));
        }
        Some(owners).filter(|owners| !owners.is_empty())
    }
}

fn is(owner: &OwnerReference, pod: &Pod) -> bool {
    Some(&owner.uid) == pod.metadata.uid.as_ref()
}
