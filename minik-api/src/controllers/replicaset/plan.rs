//! One pass of the replicaset controller as a value. Pure; the loop in `mod.rs` carries it out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::controllers::pod::{is_active, is_available, is_finished, is_ready, is_terminating, next_available};
use crate::controllers::pod_control::{BURST, Failure};
use crate::controllers::pod_rank::expendable;

/// What a pass looks at.
pub struct View<'a> {
    /// The ReplicaSet.
    pub replica_set: &'a ReplicaSet,
    /// The Pods that it controls, in any state.
    pub pods: &'a [Arc<Pod>],
    /// The Pods of all ReplicaSets with the same owner.
    pub related: &'a [Arc<Pod>],
    /// Whether the cache shows everything that earlier passes did.
    pub settled: bool,
    /// The time of the pass.
    pub now: Timestamp,
}

/// What to do about the number of Pods.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// As many as wanted, or not the time to count.
    Nothing,
    /// So many more.
    Create(usize),
    /// These fewer.
    Delete(Vec<Arc<Pod>>),
}

/// Decides the number of Pods.
pub fn decide(view: &View<'_>) -> Action {
    if !view.settled || view.replica_set.metadata.deletion_timestamp.is_some() {
        return Action::Nothing;
    }
    let active: Vec<_> = view.pods.iter().filter(|pod| is_active(pod)).cloned().collect();
    let wanted = usize::try_from(replicas(view.replica_set)).unwrap_or(0);
    if active.len() < wanted {
        Action::Create((wanted - active.len()).min(BURST))
    } else if active.len() > wanted {
        Action::Delete(expendable(
            &active,
            view.related,
            (active.len() - wanted).min(BURST),
            view.now,
        ))
    } else {
        Action::Nothing
    }
}

fn replicas(replica_set: &ReplicaSet) -> i32 {
    replica_set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// The status as it should be. `failure` is what went wrong while acting; a pass that did not act
/// keeps what an earlier one noted.
pub fn status(view: &View<'_>, acted: bool, failure: Option<&Failure>) -> ReplicaSetStatus {
    let spec = view.replica_set.spec.clone().unwrap_or_default();
    let labels = spec
        .template
        .and_then(|template| template.metadata?.labels)
        .unwrap_or_default();
    let delay = spec.min_ready_seconds.unwrap_or(0);
    let active: Vec<_> = view.pods.iter().filter(|pod| is_active(pod)).collect();
    let count = |test: &dyn Fn(&Pod) -> bool| clamp(active.iter().filter(|pod| test(pod)).count());
    let some = |count: i32| (count != 0).then_some(count);
    let terminating = view
        .pods
        .iter()
        .filter(|pod| is_terminating(pod) && !is_finished(pod))
        .count();
    let mut status = ReplicaSetStatus {
        replicas: clamp(active.len()),
        fully_labeled_replicas: some(count(&|pod| has_labels(pod, &labels))),
        ready_replicas: some(count(&is_ready)),
        available_replicas: some(count(&|pod| is_available(pod, delay, view.now))),
        terminating_replicas: Some(clamp(terminating)),
        observed_generation: view.replica_set.metadata.generation,
        conditions: view
            .replica_set
            .status
            .as_ref()
            .and_then(|status| status.conditions.clone()),
    };
    note_failure(&mut status, acted, failure, view.now);
    status
}

fn note_failure(status: &mut ReplicaSetStatus, acted: bool, failure: Option<&Failure>, now: Timestamp) {
    let conditions = status.conditions.get_or_insert_default();
    let noted = conditions.iter().any(|condition| condition.type_ == "ReplicaFailure");
    match failure {
        Some(failure) if !noted => conditions.push(ReplicaSetCondition {
            type_: "ReplicaFailure".into(),
            status: "True".into(),
            reason: Some(failure.reason.into()),
            message: Some(failure.message.clone()),
            last_transition_time: Some(Time(now)),
        }),
        None if acted => conditions.retain(|condition| condition.type_ != "ReplicaFailure"),
        _ => {}
    }
    status.conditions.take_if(|conditions| conditions.is_empty());
}

fn has_labels(pod: &Pod, wanted: &BTreeMap<String, String>) -> bool {
    let labels = pod.metadata.labels.as_ref();
    wanted
        .iter()
        .all(|(name, value)| labels.is_some_and(|labels| labels.get(name) == Some(value)))
}

fn clamp(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// When the next ready Pod will have been so for `minReadySeconds`.
pub fn recheck(view: &View<'_>) -> Option<Duration> {
    let delay = view.replica_set.spec.as_ref()?.min_ready_seconds?;
    let active = view.pods.iter().map(|pod| &**pod).filter(|pod| is_active(pod));
    next_available(active, delay, view.now)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
