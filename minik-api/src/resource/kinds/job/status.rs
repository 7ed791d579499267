//! What a Job's status may say, and how it may go on from what it said before: a finished Job stays finished.

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use serde_json::Value;

use super::super::workload;
use crate::resource::field::{FieldError, FieldErrors};

const CONDITIONS: &str = "status.conditions";
const UNCOUNTED: &str = "status.uncountedTerminatedPods";

/// Whether a condition of the Job is true.
pub(super) fn is_true(status: &JobStatus, kind: &str) -> bool {
    let mut conditions = status.conditions.iter().flatten();
    conditions.any(|condition| condition.type_ == kind && condition.status == "True")
}

/// Checks the status of `new` by itself and against what `old` said. What did not change is not judged.
pub(super) fn validate(new: &Job, old: &Job) -> FieldErrors {
    let (Some(now), Some(spec)) = (&new.status, &new.spec) else {
        return Vec::new();
    };
    let empty = JobStatus::default();
    let before = old.status.as_ref().unwrap_or(&empty);
    if now == before {
        return Vec::new();
    }
    let mut errors = counts(now);
    errors.extend(uncounted(now));
    errors.extend(ends(now));
    errors.extend(times(now));
    errors.extend(needs(now));
    errors.extend(finished(now));
    errors.extend(indexes(now, spec));
    errors.extend(alive(now));
    errors.extend(success(now, spec));
    errors.extend(steps(now, before, spec));
    errors
}

fn counts(status: &JobStatus) -> FieldErrors {
    let number = |count: Option<i32>| count.map(Into::into);
    workload::all_non_negative(
        "status",
        [
            ("active", number(status.active)),
            ("succeeded", number(status.succeeded)),
            ("failed", number(status.failed)),
            ("ready", number(status.ready)),
            ("terminating", number(status.terminating)),
        ],
    )
}

/// The Pods that have ended and are in no count yet: each has a uid, and is in one list, once.
fn uncounted(status: &JobStatus) -> FieldErrors {
    let Some(pods) = &status.uncounted_terminated_pods else {
        return Vec::new();
    };
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (child, uids) in [("succeeded", &pods.succeeded), ("failed", &pods.failed)] {
        for (index, uid) in uids.iter().flatten().enumerate() {
            let at = format!("{UNCOUNTED}.{child}[{index}]");
            if uid.is_empty() {
                errors.push(FieldError::invalid(at, "", "must not be empty"));
            } else if !seen.insert(uid) {
                errors.push(FieldError::duplicate(at, uid.as_str()));
            }
        }
    }
    errors
}

/// A Job has one end.
fn ends(status: &JobStatus) -> FieldErrors {
    let is = |kind: &str| is_true(status, kind);
    broken(&[
        (
            is("Complete") && is("Failed"),
            "cannot set Complete=True and Failed=true conditions",
        ),
        (
            is("Complete") && is("FailureTarget"),
            "cannot set Complete=True and FailureTarget=true conditions",
        ),
    ])
}

/// It comes after what it is because of.
fn needs(status: &JobStatus) -> FieldErrors {
    let is = |kind: &str| is_true(status, kind);
    broken(&[
        (
            is("Failed") && !is("FailureTarget"),
            "cannot set Failed=True condition without the FailureTarget=true condition",
        ),
        (
            is("Complete") && !is("SuccessCriteriaMet"),
            "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
        ),
    ])
}

/// What the condition of success excludes, and what a policy of success asks of it.
fn success(status: &JobStatus, spec: &JobSpec) -> FieldErrors {
    let is = |kind: &str| is_true(status, kind);
    let met = is("SuccessCriteriaMet");
    broken(&[
        (
            met && is("Failed"),
            "cannot set SuccessCriteriaMet=True and Failed=true conditions",
        ),
        (
            met && is("FailureTarget"),
            "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
        ),
        (
            spec.success_policy.is_some() && !met && is("Complete"),
            "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True",
        ),
    ])
}

fn broken(rules: &[(bool, &str)]) -> FieldErrors {
    let broken = rules.iter().filter(|(broken, _)| *broken);
    broken
        .map(|(_, detail)| FieldError::invalid_without_value(CONDITIONS, *detail))
        .collect()
}

fn times(status: &JobStatus) -> FieldErrors {
    const FIELD: &str = "status.completionTime";
    let complete = is_true(status, "Complete");
    match &status.completion_time {
        None if complete => vec![FieldError::required(
            FIELD,
            "completionTime is required for Complete jobs",
        )],
        None => Vec::new(),
        Some(end) => {
            let value = || serde_json::to_value(end).unwrap_or_default();
            let mut errors = Vec::new();
            if !complete {
                let detail = "cannot set completionTime when there is no Complete=True condition";
                errors.push(FieldError::invalid(FIELD, value(), detail));
            }
            if status.start_time.as_ref().is_some_and(|start| end.0 < start.0) {
                let detail = "completionTime cannot be set before startTime";
                errors.push(FieldError::invalid(FIELD, value(), detail));
            }
            errors
        }
    }
}

fn is_finished(status: &JobStatus) -> bool {
    is_true(status, "Complete") || is_true(status, "Failed")
}

fn finished(status: &JobStatus) -> FieldErrors {
    let mut errors = Vec::new();
    if !is_finished(status) {
        return errors;
    }
    if let Some(active) = status.active.filter(|n| *n > 0) {
        errors.push(FieldError::invalid(
            "status.active",
            active,
            "active>0 is invalid for finished job",
        ));
    }
    if status.start_time.is_none() {
        errors.push(FieldError::required(
            "status.startTime",
            "startTime is required for finished job",
        ));
    }
    if let Some(uncounted) = &status.uncounted_terminated_pods {
        let pods = [&uncounted.failed, &uncounted.succeeded];
        if pods.into_iter().flatten().flatten().next().is_some() {
            let value = serde_json::to_value(uncounted).unwrap_or_default();
            let detail = "uncountedTerminatedPods needs to be empty for finished job";
            errors.push(FieldError::invalid(UNCOUNTED, value, detail));
        }
    }
    errors
}

/// Pods that are there: not of a Job that is done, and not more ready than at work.
fn alive(status: &JobStatus) -> FieldErrors {
    let mut errors = Vec::new();
    let stopping = status.terminating.filter(|n| *n > 0 && is_finished(status));
    errors.extend(
        stopping.map(|n| FieldError::invalid("status.terminating", n, "terminating>0 is invalid for finished job")),
    );
    let active = status.active.unwrap_or_default();
    let ready = status.ready.filter(|ready| *ready > active);
    errors.extend(ready.map(|n| FieldError::invalid("status.ready", n, "cannot set more ready pods than active")));
    errors
}

fn indexes(status: &JobStatus, spec: &JobSpec) -> FieldErrors {
    let mut errors = Vec::new();
    let completed = status.completed_indexes.as_deref().unwrap_or_default();
    let failed = status.failed_indexes.as_deref();
    let parts = [
        ("completedIndexes", Some(completed)),
        (
            "failedIndexes",
            failed.filter(|_| spec.backoff_limit_per_index.is_some()),
        ),
    ];
    for (child, text) in parts {
        let (Some(text), Some(wanted)) = (text, spec.completions) else {
            continue;
        };
        if let Err(problem) = count_indexes(text, wanted) {
            let detail = format!("error parsing {child}: {problem}");
            errors.push(FieldError::invalid(format!("status.{child}"), text, detail));
        }
    }
    if !completed.is_empty() && spec.completion_mode.as_deref() != Some("Indexed") {
        let detail = "cannot set non-empty completedIndexes when non-indexed completion mode";
        errors.push(FieldError::invalid("status.completedIndexes", completed, detail));
    }
    if let (Some(failed), None) = (failed, spec.backoff_limit_per_index) {
        let detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        errors.push(FieldError::invalid("status.failedIndexes", failed, detail));
    }
    if let (Some(failed), Some(wanted)) = (failed, spec.completions)
        && let Some(index) = first_common(completed, failed, wanted)
    {
        let detail = format!("failedIndexes and completedIndexes overlap at index: {index}");
        errors.push(FieldError::invalid("status.failedIndexes", failed, detail));
    }
    errors
}

/// The first index that both texts name. An interval that can't be read is an error elsewhere.
fn first_common(completed: &str, failed: &str, completions: i32) -> Option<i32> {
    let mut done = intervals(completed, completions).peekable();
    let mut failed = intervals(failed, completions).peekable();
    // Both are in order, so the one that begins first can't meet what comes after the other.
    while let (Some((first, last)), Some((start, end))) = (done.peek(), failed.peek()) {
        if first <= end && start <= last {
            return Some(*first.max(start));
        }
        if first <= start {
            done.next();
        } else {
            failed.next();
        }
    }
    None
}

fn intervals(text: &str, completions: i32) -> impl Iterator<Item = (i32, i32)> {
    text.split(',')
        .filter_map(move |interval| interval_of(interval, completions).ok())
}

/// What may not go back.
fn steps(now: &JobStatus, before: &JobStatus, spec: &JobSpec) -> FieldErrors {
    let mut errors = Vec::new();
    for kind in ["Failed", "Complete", "FailureTarget"] {
        if is_true(before, kind) && !is_true(now, kind) {
            let detail = format!("cannot disable the terminal {kind}=True condition");
            errors.push(FieldError::invalid_without_value(CONDITIONS, detail));
        }
    }
    for (child, count, earlier) in [
        ("failed", now.failed, before.failed),
        ("succeeded", now.succeeded, before.succeeded),
    ] {
        let count = count.unwrap_or_default();
        if count < earlier.unwrap_or_default() {
            let detail = format!("cannot decrease the {child} counter");
            errors.push(FieldError::invalid(format!("status.{child}"), count, detail));
        }
    }
    if let (Some(end), Some(earlier)) = (&now.completion_time, &before.completion_time)
        && end != earlier
    {
        let value = serde_json::to_value(end).unwrap_or(Value::Null);
        let detail = "completionTime cannot be mutated";
        errors.push(FieldError::invalid("status.completionTime", value, detail));
    }
    if before.start_time.is_some() && before.start_time != now.start_time && spec.suspend != Some(true) {
        let detail = "startTime cannot be removed for unsuspended job";
        errors.push(FieldError::required("status.startTime", detail));
    }
    let met = |status| is_true(status, "SuccessCriteriaMet");
    errors.extend(broken(&[
        (
            met(before) && !met(now),
            "cannot disable the SuccessCriteriaMet=True condition",
        ),
        (
            is_true(before, "Complete") && !met(before) && met(now),
            "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions",
        ),
    ]));
    errors
}

/// How many indexes a text such as `1,3-5` names, each below `completions` and in order.
///
/// # Errors
/// What is wrong with the text, as 1.36 says it.
pub(super) fn count_indexes(text: &str, completions: i32) -> Result<i32, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let mut last = None;
    let mut total = 0;
    for interval in text.split(',') {
        let (first, end) = interval_of(interval, completions)?;
        if last.is_some_and(|last| last >= first) {
            let last = last.unwrap_or_default();
            return Err(format!("non-increasing order, previous: {last}, current: {first}"));
        }
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}

fn interval_of(interval: &str, completions: i32) -> Result<(i32, i32), String> {
    let number = |text: &str| {
        let parsed: Result<i32, _> = text.parse();
        parsed.map_err(|_unread| format!("cannot convert string to integer for index: {text:?}"))
    };
    let parts: Vec<&str> = interval.split('-').collect();
    if parts.len() > 2 {
        return Err(format!(
            "the fragment {interval:?} violates the requirement that an index interval can have at most two parts separated by '-'"
        ));
    }
    let first = number(parts[0])?;
    if first >= completions {
        return Err(format!("too large index: {:?}", parts[0]));
    }
    let Some(end) = parts.get(1) else {
        return Ok((first, first));
    };
    let last = number(end)?;
    if last >= completions {
        return Err(format!("too large index: {end:?}"));
    }
    if first >= last {
        return Err(format!("non-increasing order, previous: {first}, current: {last}"));
    }
    Ok((first, last))
}
