//! From a Deployment's Pod template to the ReplicaSet that runs it: the hash, the name, and whether
//! an existing ReplicaSet already runs it. Pure.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::controllers::owner::controller_reference;

/// The label that tells the ReplicaSets of a Deployment, and their Pods, apart.
pub const TEMPLATE_HASH: &str = "pod-template-hash";

/// Letters that cannot spell a word, as Kubernetes chooses them for generated names.
const SAFE: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// The hash of a template, in the form that Kubernetes uses: a 32-bit FNV hash in decimal, each
/// digit spelt as a letter that cannot make a word.
///
/// Kubernetes hashes Go's own dump of the template, so its value for an equal template is another
/// one; no client may depend on it. Here the input is the template's JSON, whose keys are ordered.
///
/// # Errors
/// A template that does not serialise.
pub fn template_hash(template: &PodTemplateSpec, collisions: Option<i32>) -> Result<String, serde_json::Error> {
    let mut hash = fnv1a(0x811c_9dc5, &serde_json::to_vec(template)?);
    if let Some(collisions) = collisions {
        hash = fnv1a(hash, &collisions.to_le_bytes());
    }
    Ok(hash
        .to_string()
        .bytes()
        .map(|digit| char::from(SAFE[usize::from(digit) % SAFE.len()]))
        .collect())
}

fn fnv1a(start: u32, bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .fold(start, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

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
    use std::collections::BTreeMap;

    #[test]
    fn the_hash_uses_only_safe_letters_and_changes_with_template_and_collisions() {
        let a = PodTemplateSpec::default();
        let labels = BTreeMap::from([("app".to_string(), "web".to_string())]);
        let b = PodTemplateSpec {
            metadata: Some(ObjectMeta {
                labels: Some(labels),
                ..ObjectMeta::default()
            }),
            ..PodTemplateSpec::default()
        };
        let hash = template_hash(&a, None).unwrap();
        assert!(
            (1..=10).contains(&hash.len()) && hash.bytes().all(|letter| SAFE.contains(&letter)),
            "{hash}"
        );
        assert_eq!(hash, template_hash(&a, None).unwrap());
        assert_ne!(hash, template_hash(&b, None).unwrap());
        assert_ne!(hash, template_hash(&a, Some(1)).unwrap());
    }

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

    #[test]
    fn fnv_1a_matches_its_published_vectors() {
        assert_eq!(fnv1a(0x811c_9dc5, b""), 0x811c_9dc5);
        assert_eq!(fnv1a(0x811c_9dc5, b"a"), 0xe40c_292c);
        assert_eq!(fnv1a(0x811c_9dc5, b"foobar"), 0xbf9c_f968);
    }
}
