//! The Job's row in `kubectl get`.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use serde_json::Value;

use super::super::workload;
use crate::resource::{Column, print};

pub(super) const COLUMNS: &[Column] = &[
    print::NAME,
    print::text("Status", 0, "Status of the job."),
    print::text(
        "Completions",
        0,
        "The number of pods which reached phase Succeeded. The value increases monotonically for a given spec. However, it may decrease in reaction to scale down of elastic indexed jobs.",
    ),
    print::text("Duration", 0, "Time required to complete the job."),
    print::AGE,
    workload::CONTAINERS,
    workload::IMAGES,
    print::text(
        "Selector",
        1,
        "A label query over pods that should match the pod count. Normally, the system sets this field for you. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors",
    ),
];

/// The cells of a Job.
pub(super) fn row(job: &Job, now: Timestamp) -> Vec<Value> {
    let spec = job.spec.clone().unwrap_or_default();
    let status = job.status.clone().unwrap_or_default();
    let (containers, images) = print::containers(Some(&spec.template));
    vec![
        print::name(&job.metadata),
        Value::from(word(job, &status)),
        Value::from(completions(&spec, &status)),
        Value::from(duration(&status, now)),
        print::age(&job.metadata, now),
        Value::from(containers),
        Value::from(images),
        Value::from(
            spec.selector
                .as_ref()
                .map_or_else(|| "<none>".to_owned(), print::selector),
        ),
    ]
}

fn word(job: &Job, status: &JobStatus) -> &'static str {
    let is = |kind: &str| super::status::is_true(status, kind);
    if is("Complete") {
        "Complete"
    } else if is("Failed") {
        "Failed"
    } else if job.metadata.deletion_timestamp.is_some() {
        "Terminating"
    } else if is("Suspended") {
        "Suspended"
    } else if is("FailureTarget") {
        "FailureTarget"
    } else if is("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

fn completions(spec: &JobSpec, status: &JobStatus) -> String {
    let succeeded = status.succeeded.unwrap_or_default();
    match (spec.completions, spec.parallelism.unwrap_or_default()) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, workers) if workers > 1 => format!("{succeeded}/1 of {workers}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

fn duration(status: &JobStatus, now: Timestamp) -> String {
    let Some(start) = &status.start_time else {
        return String::new();
    };
    let end = status.completion_time.as_ref().map_or(now, |t| t.0);
    print::human_duration(end.as_second() - start.0.as_second())
}
