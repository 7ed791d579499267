//! What a Deployment writes on its ReplicaSets besides their size: revision, history, and the
//! annotations by which later passes recognise a scaling. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::limits::Limits;

/// The number of the rollout that a ReplicaSet, or the Deployment's present template, belongs to.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// Earlier revisions of a ReplicaSet that was rolled back to.
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// The Deployment's replicas when the ReplicaSet was last sized.
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// The same plus surge.
const MAXIMUM: &str = "deployment.kubernetes.io/max-replicas";

/// Annotations of the Deployment that are not its ReplicaSets' business.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    DESIRED,
    MAXIMUM,
    "deprecated.deployment.rollback.to",
];

/// The revision written on an object; 0 when there is none.
pub fn revision(meta: &ObjectMeta) -> i64 {
    annotation(meta, REVISION)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

/// The Deployment's replicas when this ReplicaSet was last sized.
pub fn desired_replicas(replica_set: &ReplicaSet) -> Option<i32> {
    annotation(&replica_set.metadata, DESIRED)?.parse().ok()
}

/// `desired_replicas` plus surge at that time.
pub fn max_replicas(replica_set: &ReplicaSet) -> Option<i32> {
    annotation(&replica_set.metadata, MAXIMUM)?.parse().ok()
}

fn annotation<'a>(meta: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(name).map(String::as_str)
}

/// Records the size of the Deployment on a ReplicaSet.
pub fn note_size(replica_set: &mut ReplicaSet, limits: Limits) {
    let annotations = annotations_mut(replica_set);
    annotations.insert(DESIRED.into(), limits.replicas.to_string());
    annotations.insert(MAXIMUM.into(), limits.most().to_string());
}

/// Makes `current` the newest revision: one above all `others`, with the Deployment's annotations
/// and readiness delay.
pub fn make_current(current: &mut ReplicaSet, deployment: &Deployment, others: &[&ReplicaSet]) {
    let highest = others.iter().map(|other| revision(&other.metadata)).max().unwrap_or(0);
    let own = revision(&current.metadata);
    for (name, value) in deployment.metadata.annotations.iter().flatten() {
        if !NOT_COPIED.contains(&name.as_str()) {
            annotations_mut(current).insert(name.clone(), value.clone());
        }
    }
    if own <= highest {
        let annotations = annotations_mut(current);
        if let Some(old) = annotations.insert(REVISION.into(), (highest + 1).to_string()) {
            let history = annotations.entry(HISTORY.into()).or_default();
            if !history.is_empty() {
                history.push(',');
            }
            history.push_str(&old);
        }
    }
    if let (Some(spec), Some(wanted)) = (&mut current.spec, &deployment.spec) {
        spec.min_ready_seconds = wanted.min_ready_seconds;
    }
}

fn annotations_mut(replica_set: &mut ReplicaSet) -> &mut BTreeMap<String, String> {
    replica_set.metadata.annotations.get_or_insert_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_revision(text: &str) -> ReplicaSet {
        let mut replica_set = ReplicaSet::default();
        annotations_mut(&mut replica_set).insert(REVISION.into(), text.into());
        replica_set
    }

    /// As Kubernetes 1.36 does: rolling back from revision 3 to the ReplicaSet of revision 2 makes it revision 4 with
    /// `revision-history: "2"`.
    #[test]
    fn a_rollback_keeps_the_old_revision_as_history() {
        let (first, mut back, third) = (with_revision("1"), with_revision("2"), with_revision("3"));
        make_current(&mut back, &Deployment::default(), &[&first, &third]);
        assert_eq!(annotation(&back.metadata, REVISION), Some("4"));
        assert_eq!(annotation(&back.metadata, HISTORY), Some("2"));
        let before = back.clone();
        make_current(&mut back, &Deployment::default(), &[&first, &third]);
        assert_eq!(back, before, "the newest stays the newest");
    }

    #[test]
    fn kubectls_own_annotations_are_not_copied() {
        let mut deployment = Deployment::default();
        let annotations = deployment.metadata.annotations.get_or_insert_default();
        annotations.insert("kubernetes.io/change-cause".into(), "why".into());
        annotations.insert("kubectl.kubernetes.io/last-applied-configuration".into(), "{}".into());
        let mut replica_set = ReplicaSet::default();
        make_current(&mut replica_set, &deployment, &[]);
        let names: Vec<_> = replica_set.metadata.annotations.unwrap().into_keys().collect();
        assert_eq!(names, [REVISION, "kubernetes.io/change-cause"]);
    }
}
