//! From a Deployment's Pod template to the ReplicaSet that runs it: the name, and whether
//! an existing ReplicaSet already runs it. Pure.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::controllers::hash::template_hash;
use crate::controllers::owner::controller_reference;

/// The label that tells the ReplicaSets of a Deployment, and their Pods, apart.
pub const TEMPLATE_HASH: &str = "pod-template-hash";

/// Whether two templates are the same but for the hash label.
pub fn same_template(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    without_hash(a) == without_hash(b)
}

fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    if let Some(meta) = &mut template.metadata {
        if let Some(labels) = &mut meta.labels {
            labels.remove(TEMPLATE_HASH);
        }
        meta.labels.take_if(|labels| labels.is_empty());
    }
    template.metadata.take_if(|meta| *meta == ObjectMeta::default());
    template
}

/// The ReplicaSet for the Deployment's present template, with no replicas yet.
///
/// # Errors
/// A template that does not serialise.
pub fn new_replica_set(deployment: &Deployment) -> Result<ReplicaSet, serde_json::Error> {
    let spec = deployment.spec.clone().unwrap_or_default();
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
    let hash = template_hash(&spec.template, collisions)?;

    let mut template = spec.template;
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(TEMPLATE_HASH.into(), hash.clone());
    let labels = labels.clone();
    let mut selector = spec.selector;
    selector
        .match_labels
        .get_or_insert_default()
        .insert(TEMPLATE_HASH.into(), hash.clone());

    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    Ok(ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{name}-{hash}")),
            namespace: deployment.metadata.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![controller_reference(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            min_ready_seconds: spec.min_ready_seconds,
            replicas: Some(0),
            selector,
            template: Some(template),
        }),
        status: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_label_is_no_difference() {
        let plain = PodTemplateSpec::default();
        let mut labelled = plain.clone();
        let labels = labelled.metadata.get_or_insert_default().labels.get_or_insert_default();
        labels.insert(TEMPLATE_HASH.into(), "x".into());
        assert!(same_template(&plain, &labelled));
        labelled
            .metadata
            .get_or_insert_default()
            .labels
            .get_or_insert_default()
            .insert("app".into(), "x".into());
        assert!(!same_template(&plain, &labelled));
    }
}
