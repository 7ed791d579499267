//! A StatefulSet's Pods as they are made: with the name, labels, host name and volumes of their number. Pure.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec, Volume};

use super::claims::claim_volumes;
use super::identity::pod_name;
use crate::controllers::history::POD_REVISION;
use crate::controllers::pod_control::from_template;

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

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
