//! Which Pods go first when their controller has too many. Pure.
//!
//! The order of Kubernetes' `ActivePodsWithRanks`: the Pod whose loss costs least goes first.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::controllers::pod::{is_active, is_ready, node_name, phase, ready_since};

/// Lets people say which Pod they can do without: the lower number goes first.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The `count` Pods of `pods` to delete. `related` are all Pods that stand for each other, those of one Deployment: where they
/// share a node, the fuller node gives first.
pub fn expendable(pods: &[Arc<Pod>], related: &[Arc<Pod>], count: usize, now: Timestamp) -> Vec<Arc<Pod>> {
    let mut on_node: BTreeMap<&str, usize> = BTreeMap::new();
    for pod in related.iter().filter(|pod| is_active(pod)) {
        *on_node.entry(node_name(pod).unwrap_or_default()).or_default() += 1;
    }
    let crowding = |pod: &Pod| on_node.get(node_name(pod).unwrap_or_default()).copied().unwrap_or(0);
    let mut order: Vec<&Arc<Pod>> = pods.iter().collect();
    if count < order.len() {
        order.sort_by(|a, b| {
            worth(a, crowding(a))
                .cmp(&worth(b, crowding(b)))
                .then_with(|| by_age(a, b, now))
        });
    }
    order.into_iter().take(count).cloned().collect()
}

fn worth(pod: &Pod, crowding: usize) -> (bool, u8, bool, i32, Reverse<usize>) {
    let phase = match phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let cost = pod
        .metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get(DELETION_COST)?.parse().ok());
    (
        node_name(pod).is_some(),
        phase,
        is_ready(pod),
        cost.unwrap_or(0),
        Reverse(crowding),
    )
}

/// Shorter ready first, then more restarts, then younger. Times compare by magnitude, and within
/// one the uid decides, so that the Pods that go are spread over deployments of a similar age.
fn by_age(a: &Pod, b: &Pod, now: Timestamp) -> Ordering {
    let ready = if is_ready(a) && is_ready(b) {
        younger(ready_since(a), ready_since(b), now)
    } else {
        Ordering::Equal
    };
    let by_uid = || a.metadata.uid.cmp(&b.metadata.uid);
    let created = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    ready
        .then_with(|| restarts(b).cmp(&restarts(a)))
        .then_with(|| younger(created(a), created(b), now))
        .then_with(by_uid)
}

fn younger(a: Option<Timestamp>, b: Option<Timestamp>, now: Timestamp) -> Ordering {
    magnitude(a, now).cmp(&magnitude(b, now))
}

fn magnitude(time: Option<Timestamp>, now: Timestamp) -> Option<u32> {
    let age = now.duration_since(time?).as_nanos();
    u128::try_from(age).ok().and_then(u128::checked_ilog2)
}

fn restarts(pod: &Pod) -> i32 {
    let containers = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    containers.map(|container| container.restart_count).max().unwrap_or(0)
}
