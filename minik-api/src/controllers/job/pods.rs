//! A Job's Pods: how they are made, which index they carry, and whether they count as failed. Pure.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use kube::ResourceExt;

use super::policy::{Verdict, verdict};
use crate::controllers::pod::{is_terminating, phase};
use crate::controllers::pod_control::from_template;

/// Keeps a Pod until it has been counted.
pub const TRACKING: &str = "batch.kubernetes.io/job-tracking";
/// The annotation and label with a Pod's completion index.
const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// How often the index of a Pod had failed before it, and how often that did not count.
const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
const INDEX_IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
/// The variable that tells a container its index.
const VARIABLE: &str = "JOB_COMPLETION_INDEX";

/// Whether every Pod works on an index of its own.
pub fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

/// Whether a Pod is replaced only once it has ended, not when it begins to.
pub fn waits_for_the_end(spec: &JobSpec) -> bool {
    spec.pod_replacement_policy.as_deref() == Some("Failed")
}

/// Whether the Pod has yet to be counted.
pub fn is_tracked(pod: &Pod) -> bool {
    pod.finalizers().iter().any(|finalizer| finalizer == TRACKING)
}

/// The Pod's index.
pub fn index(pod: &Pod) -> Option<i32> {
    number(pod, INDEX).filter(|index| *index >= 0)
}

fn number(pod: &Pod, annotation: &str) -> Option<i32> {
    pod.annotations().get(annotation)?.parse().ok()
}

/// Whether the Pod has failed, or will have by being deleted.
pub fn has_failed(spec: &JobSpec, pod: &Pod) -> bool {
    phase(pod) == "Failed" || (!waits_for_the_end(spec) && is_terminating(pod) && phase(pod) != "Succeeded")
}

/// How often the index of a failed Pod failed before, counted or not.
pub fn earlier_failures(pod: &Pod) -> i32 {
    number(pod, INDEX_FAILURES).unwrap_or(0) + number(pod, INDEX_IGNORED).unwrap_or(0)
}

/// Whether this failed Pod was the last that its index may have.
pub fn exhausts_index(spec: &JobSpec, limit: i32, pod: &Pod) -> bool {
    match verdict(spec, pod) {
        Verdict::FailIndex => true,
        Verdict::Ignore => false,
        _ => number(pod, INDEX_FAILURES).unwrap_or(0) >= limit,
    }
}

/// A Pod of the Job, for an index if it has them, in place of one that failed.
pub fn new_pod(job: &Job, spec: &JobSpec, index: Option<i32>, replaced: Option<&Pod>) -> Pod {
    let mut pod = from_template(job, &spec.template);
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|finalizer| finalizer == TRACKING) {
        finalizers.push(TRACKING.into());
    }
    let Some(index) = index else { return pod };
    let name = job.name_any();
    pod.metadata.generate_name = Some(format!("{name}-{index}-"));
    pod.metadata
        .labels
        .get_or_insert_default()
        .insert(INDEX.into(), index.to_string());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(INDEX.into(), index.to_string());
    if spec.backoff_limit_per_index.is_some() {
        let (failures, ignored) = replaced.map_or((0, 0), |failed| failures_after(spec, failed));
        annotations.insert(INDEX_FAILURES.into(), failures.to_string());
        if ignored > 0 {
            annotations.insert(INDEX_IGNORED.into(), ignored.to_string());
        }
    }
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(format!("{name}-{index}"));
    spec.init_containers.iter_mut().flatten().for_each(tell_index);
    spec.containers.iter_mut().for_each(tell_index);
    pod
}

fn failures_after(spec: &JobSpec, failed: &Pod) -> (i32, i32) {
    let counted = number(failed, INDEX_FAILURES).unwrap_or(0);
    let ignored = number(failed, INDEX_IGNORED).unwrap_or(0);
    match verdict(spec, failed) {
        Verdict::Ignore => (counted, ignored + 1),
        _ => (counted + 1, ignored),
    }
}

fn tell_index(container: &mut Container) {
    let variables = container.env.get_or_insert_default();
    if variables.iter().any(|variable| variable.name == VARIABLE) {
        return;
    }
    let field = ObjectFieldSelector {
        api_version: None,
        field_path: format!("metadata.labels['{INDEX}']"),
    };
    variables.push(EnvVar {
        name: VARIABLE.into(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(field),
            ..EnvVarSource::default()
        }),
    });
}

/// Whether containers that restart in place have done so too often (`restartPolicy: OnFailure`).
pub fn restarted_too_often<'a>(spec: &JobSpec, pods: impl Iterator<Item = &'a Pod>) -> bool {
    let policy = spec
        .template
        .spec
        .as_ref()
        .and_then(|spec| spec.restart_policy.as_deref());
    if policy != Some("OnFailure") {
        return false;
    }
    let running = pods.filter(|pod| matches!(phase(pod), "Running" | "Pending"));
    let statuses = running.filter_map(|pod| pod.status.as_ref()).flat_map(|status| {
        let containers = status.container_statuses.iter().flatten();
        containers.chain(status.init_container_statuses.iter().flatten())
    });
    let restarts: i32 = statuses.map(|container| container.restart_count).sum();
    let limit = spec.backoff_limit.unwrap_or(6);
    if limit == 0 { restarts > 0 } else { restarts >= limit }
}

/// Whether the Job has been at work for longer than it may; if not, how many seconds it has left.
pub fn deadline(job: &Job, spec: &JobSpec, now: Timestamp) -> Option<i64> {
    let allowed = spec.active_deadline_seconds?;
    let started = job.status.as_ref()?.start_time.as_ref()?.0;
    (spec.suspend != Some(true)).then(|| allowed - now.duration_since(started).as_secs())
}
