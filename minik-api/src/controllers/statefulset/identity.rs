//! Which Pods a StatefulSet has: their numbers, their names, and the revision that each was made from. Pure.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;

use crate::controllers::history::POD_REVISION;

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
