//! A StatefulSet's status: counts, and the revision that counts as current. Pure.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;

use super::identity::{pod_revision, replicas};
use crate::controllers::pod::{is_available, is_ready, is_terminating, phase};

/// What the status tells of.
pub struct StatusView<'a> {
    /// The StatefulSet as observed.
    pub set: &'a StatefulSet,
    /// Its Pods as observed.
    pub pods: &'a [Arc<Pod>],
    /// The name of the revision that a rollout leaves.
    pub current: &'a str,
    /// The name of the revision that a rollout goes to.
    pub update: &'a str,
    /// Pods of the current revision that this pass deletes for the update.
    pub updated_away: usize,
    /// Seconds that a Pod must have been Ready.
    pub min_ready: i32,
    /// The time of the pass.
    pub now: Timestamp,
}

/// The status as it should be; the end of a rolling update makes its revision the current one.
pub fn status(view: &StatusView<'_>) -> StatefulSetStatus {
    let count = |test: &dyn Fn(&Pod) -> bool| {
        let count = view.pods.iter().filter(|pod| test(pod)).count();
        i32::try_from(count).unwrap_or(i32::MAX)
    };
    let ready = |pod: &Pod| phase(pod) == "Running" && is_ready(pod);
    let of = |name: &str| count(&|pod| !is_terminating(pod) && pod_revision(pod) == name);
    let all = count(&|_| true);
    let all_ready = count(&ready);
    let updated = of(view.update);
    let away = i32::try_from(view.updated_away).unwrap_or(i32::MAX);
    let mut current = (of(view.current) - away).max(0);
    let mut current_revision = view.current;
    let wanted = replicas(view.set);
    let strategy = view.set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    let rolls = strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("RollingUpdate");
    if rolls && updated == wanted && all_ready == wanted && all == wanted {
        current = updated;
        current_revision = view.update;
    }
    let before = view.set.status.as_ref();
    StatefulSetStatus {
        observed_generation: view.set.metadata.generation,
        replicas: all,
        ready_replicas: some(all_ready),
        available_replicas: Some(count(&|pod| ready(pod) && is_available(pod, view.min_ready, view.now))),
        current_replicas: some(current),
        updated_replicas: some(updated),
        current_revision: Some(current_revision.into()),
        update_revision: Some(view.update.into()),
        collision_count: Some(before.and_then(|status| status.collision_count).unwrap_or(0)),
        conditions: before.and_then(|status| status.conditions.clone()),
    }
}

/// Counts are left out when zero, as in Go's `omitempty`.
fn some(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}
