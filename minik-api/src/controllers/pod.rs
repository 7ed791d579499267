//! Questions about Pods that several controllers ask. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};

/// The Pod's phase; a Pod that says nothing is Pending.
pub fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("Pending")
}

/// Whether the Pod has run to its end, well or badly.
pub fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether the Pod has been asked to go.
pub fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Whether the Pod counts as a replica: neither finished nor going.
pub fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && !is_terminating(pod)
}

/// The Pod's Ready condition.
pub fn ready_condition(pod: &Pod) -> Option<&PodCondition> {
    pod.status
        .as_ref()?
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "Ready")
}

/// Whether the Pod is Ready.
pub fn is_ready(pod: &Pod) -> bool {
    ready_condition(pod).is_some_and(|condition| condition.status == "True")
}

/// Since when the Pod has been Ready; `None` when it is not, or does not say.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    ready_condition(pod)
        .filter(|condition| condition.status == "True")?
        .last_transition_time
        .as_ref()
        .map(|time| time.0)
}

/// Whether the Pod has been Ready for `min_ready_seconds` at `now`.
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    match (is_ready(pod), min_ready_seconds) {
        (false, _) => false,
        (true, 0) => true,
        (true, seconds) => {
            ready_since(pod).is_some_and(|since| now.duration_since(since).as_secs() >= i64::from(seconds))
        }
    }
}

/// The node that the Pod is bound to.
pub fn node_name(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

/// When the next of these Pods will have been Ready for `min_ready_seconds`, at least a second from now.
pub fn next_available<'a>(
    pods: impl Iterator<Item = &'a Pod>,
    min_ready_seconds: i32,
    now: Timestamp,
) -> Option<Duration> {
    if min_ready_seconds <= 0 {
        return None;
    }
    let waiting = pods.filter(|pod| is_ready(pod) && !is_available(pod, min_ready_seconds, now));
    let left =
        waiting.filter_map(|pod| Some(i64::from(min_ready_seconds) - now.duration_since(ready_since(pod)?).as_secs()));
    left.min()
        .map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0).max(1)))
}
