//! What makes a Pod the n-th of its StatefulSet: its name, labels, host name and volumes. Pure.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume};

use super::claims::claim_name;
use crate::controllers::history::POD_REVISION;
use crate::controllers::pod_control::from_template;

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// The number of the set's first Pod.
pub fn start(set: &StatefulSet) -> i32 {
    let ordinals = set.spec.as_ref().and_then(|spec| spec.ordinals.as_ref());
    ordinals.and_then(|ordinals| ordinals.start).unwrap_or(0)
}

/// The number of Pods wanted.
pub fn replicas(set: &StatefulSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

fn set_name(set: &StatefulSet) -> &str {
    set.metadata.name.as_deref().unwrap_or_default()
}

/// The name of the set's Pod of this number.
pub fn pod_name(set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{ordinal}", set_name(set))
}

/// The number of a Pod, if its name makes it one of the set's.
pub fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    let (parent, digits) = pod.metadata.name.as_deref()?.rsplit_once('-')?;
    let plain = !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit());
    (parent == set_name(set) && plain).then(|| digits.parse().ok())?
}

/// The name of the revision that a Pod was made from.
pub fn pod_revision(pod: &Pod) -> &str {
    let labels = pod.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(POD_REVISION))
        .map_or("", String::as_str)
}

/// The Pod of this number, from a revision of the template.
pub fn new_pod(set: &StatefulSet, template: &PodTemplateSpec, revision: &str, ordinal: i32) -> Pod {
    let mut pod = from_template(set, template);
    let name = pod_name(set, ordinal);
    pod.metadata.name = Some(name.clone());
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.extend(identity_labels(&name, ordinal));
    labels.insert(POD_REVISION.into(), revision.into());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name);
    let service = set.spec.as_ref().and_then(|spec| spec.service_name.clone());
    spec.subdomain = service.filter(|name| !name.is_empty());
    let claimed = claim_volumes(set, ordinal);
    let own = spec.volumes.take().unwrap_or_default();
    let kept = own
        .into_iter()
        .filter(|volume| claimed.iter().all(|claim| claim.name != volume.name));
    let volumes: Vec<Volume> = claimed.iter().cloned().chain(kept).collect();
    spec.volumes = Some(volumes).filter(|volumes| !volumes.is_empty());
    pod
}

fn identity_labels(name: &str, ordinal: i32) -> [(String, String); 2] {
    [(POD_NAME.into(), name.into()), (POD_INDEX.into(), ordinal.to_string())]
}

fn claim_volumes(set: &StatefulSet, ordinal: i32) -> Vec<Volume> {
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

/// The Pod with the labels of its number, if it lacks one: an adopted Pod may.
pub fn with_identity(pod: &Pod, ordinal: i32) -> Option<Pod> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    let wanted = identity_labels(name, ordinal);
    if wanted.iter().all(|(label, value)| labels.get(label) == Some(value)) {
        return None;
    }
    let mut pod = pod.clone();
    pod.metadata.labels.get_or_insert_default().extend(wanted);
    Some(pod)
}
