//! What a Job's spec may say, in the order and the words of 1.36.

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use serde_json::Value;

use super::super::pod_template;
use super::super::workload::{self, non_negative};
use super::{generated_labels, policies, template_labels};
use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::validation::{labels, names};

const INDEXED: &str = "Indexed";
const MODES: [&str; 2] = ["NonIndexed", "Indexed"];
/// Most Pods of an indexed Job at once, and most indexes that may fail.
const MOST_INDEXES: i32 = 100_000;
/// The same, where more than [`MOST_INDEXES`] have to succeed and each is tried again on its own.
const MOST_OF_MANY: i32 = 10_000;
const MOST_MANAGER: usize = 63;

/// Checks that the labels and the selector are those that were generated, unless the client chose its own.
pub(super) fn generated_selector(job: &Job) -> FieldErrors {
    const LABELS: &str = "spec.template.metadata.labels";
    let Some(spec) = job.spec.as_ref().filter(|s| s.manual_selector != Some(true)) else {
        return Vec::new();
    };
    let Some(selector) = &spec.selector else {
        return Vec::new();
    };
    let uid = job.metadata.uid.as_deref().unwrap_or_default();
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let given = template_labels(&spec.template);
    let expected = generated_labels(name, uid);
    let mut errors = Vec::new();
    if uid.is_empty() {
        errors.push(FieldError::required("metadata.uid", ""));
    }
    for (label, value) in &expected {
        let field = format!("{LABELS}[{label}]");
        let detail = format!("must be '{value}'");
        match given.get(*label) {
            None => errors.push(FieldError::required(field, detail)),
            Some(found) if found != value => {
                let all: Value = given.clone().into_iter().collect();
                errors.push(FieldError::invalid(field, all, detail));
            }
            Some(_) => {}
        }
    }
    let expected = expected
        .into_iter()
        .map(|(label, value)| (label.to_owned(), value))
        .collect();
    if !labels::selects(selector, &expected) {
        let value = serde_json::to_value(selector).unwrap_or_default();
        errors.push(FieldError::invalid(
            "spec.selector",
            value,
            "`selector` not auto-generated",
        ));
    }
    errors
}

/// Checks the spec of a Job.
pub(super) fn validate(spec: &JobSpec) -> FieldErrors {
    let mut errors = template_spec("spec", spec);
    match &spec.selector {
        None => errors.push(FieldError::required("spec.selector", "")),
        Some(selector) => errors.extend(labels::selector("spec.selector", selector)),
    }
    let selected = spec
        .selector
        .as_ref()
        .is_some_and(|s| workload::selects(s, &spec.template));
    errors.extend(workload::mismatch(selected, &spec.template));
    errors
}

/// Checks what a Job and the template of a CronJob have in common.
pub(in super::super) fn template_spec(field: &str, spec: &JobSpec) -> FieldErrors {
    let at = |child: &str| format!("{field}.{child}");
    let mut errors = workload::all_non_negative(
        field,
        [
            ("parallelism", spec.parallelism.map(Into::into)),
            ("completions", spec.completions.map(Into::into)),
            ("activeDeadlineSeconds", spec.active_deadline_seconds),
            ("backoffLimit", spec.backoff_limit.map(Into::into)),
            (
                "ttlSecondsAfterFinished",
                spec.ttl_seconds_after_finished.map(Into::into),
            ),
            ("backoffLimitPerIndex", spec.backoff_limit_per_index.map(Into::into)),
        ],
    );
    if spec.max_failed_indexes.is_some() {
        errors.extend(non_negative(&at("maxFailedIndexes"), spec.max_failed_indexes));
        if spec.backoff_limit_per_index.is_none() {
            errors.push(FieldError::required(
                at("backoffLimitPerIndex"),
                "when maxFailedIndexes is specified",
            ));
        }
    }
    errors.extend(
        spec.managed_by
            .iter()
            .flat_map(|manager| managed_by(&at("managedBy"), manager)),
    );
    errors.extend(completion_mode(field, spec));
    errors.extend(policies::validate(field, spec));
    errors.extend(pod_template::validate_template(&at("template"), &spec.template));
    errors.extend(restart_policy(&at("template.spec.restartPolicy"), spec));
    errors
}

/// The name of the last Pod, which is its host name, too.
pub(super) fn last_hostname(job: &Job, spec: &JobSpec) -> Option<FieldError> {
    let last = spec.completions.filter(|n| *n > 0)? - 1;
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let hostname = format!("{name}-{last}");
    let wrong = spec.completion_mode.as_deref() == Some(INDEXED) && !names::dns_label(&hostname).is_empty();
    let detail = format!("will not able to create pod with invalid DNS label: {hostname}");
    wrong.then(|| FieldError::invalid("metadata.name", name, detail))
}

fn managed_by(field: &str, manager: &str) -> FieldErrors {
    let mut errors = names::domain_prefixed_path(field, manager);
    if manager.len() > MOST_MANAGER {
        errors.push(FieldError::too_long(field, MOST_MANAGER));
    }
    errors
}

fn completion_mode(field: &str, spec: &JobSpec) -> FieldErrors {
    let at = |child: &str| format!("{field}.{child}");
    let mode = spec.completion_mode.as_deref().unwrap_or("NonIndexed");
    let mut errors = Vec::new();
    if !MODES.contains(&mode) {
        errors.push(FieldError::not_supported(at("completionMode"), mode, &MODES));
    }
    if mode == INDEXED {
        errors.extend(indexed(field, spec));
    } else if mode == "NonIndexed" {
        let counts = [
            ("backoffLimitPerIndex", spec.backoff_limit_per_index),
            ("maxFailedIndexes", spec.max_failed_indexes),
        ];
        for (child, count) in counts {
            let detail = "requires indexed completion mode";
            errors.extend(count.map(|n| FieldError::invalid(at(child), n, detail)));
        }
    }
    errors
}

fn indexed(field: &str, spec: &JobSpec) -> FieldErrors {
    let at = |child: &str| format!("{field}.{child}");
    let mut errors = Vec::new();
    let (parallelism, failures) = (spec.parallelism, spec.max_failed_indexes);
    let most = |child: &str, count: Option<i32>, most: i32, detail: &str| {
        let beyond = count.filter(|n| *n > most)?;
        Some(FieldError::invalid(at(child), beyond, detail))
    };
    if spec.completions.is_none() {
        let detail = format!("when completion mode is {INDEXED}");
        errors.push(FieldError::required(at("completions"), detail));
    }
    let detail = format!("must be less than or equal to {MOST_INDEXES} when completion mode is {INDEXED}");
    errors.extend(most("parallelism", parallelism, MOST_INDEXES, &detail));
    let wanted = spec.completions.unwrap_or(i32::MAX);
    let detail = "must be less than or equal to completions";
    errors.extend(most("maxFailedIndexes", failures, wanted, detail));
    let detail = format!("must be less than or equal to {MOST_INDEXES}");
    errors.extend(most("maxFailedIndexes", failures, MOST_INDEXES, &detail));
    let many = spec.completions.is_some_and(|n| n > MOST_INDEXES) && spec.backoff_limit_per_index.is_some();
    if many {
        if failures.is_none() {
            let detail = format!("must be specified when completions is above {MOST_INDEXES}");
            errors.push(FieldError::required(at("maxFailedIndexes"), detail));
        }
        let detail = format!(
            "must be less than or equal to {MOST_OF_MANY} when completions are above {MOST_INDEXES} and used with backoff limit per index"
        );
        errors.extend(most("parallelism", parallelism, MOST_OF_MANY, &detail));
        errors.extend(most("maxFailedIndexes", failures, MOST_OF_MANY, &detail));
    }
    errors
}

fn restart_policy(field: &str, spec: &JobSpec) -> Option<FieldError> {
    match workload::restart_policy(&spec.template) {
        "" | "Always" => Some(FieldError::required(field, r#"valid values: "OnFailure", "Never""#)),
        "OnFailure" if spec.pod_failure_policy.is_some() => {
            let detail = r#"only "Never" is supported when podFailurePolicy is specified"#;
            Some(FieldError::invalid(field, "OnFailure", detail))
        }
        "OnFailure" | "Never" => None,
        other => Some(FieldError::not_supported(field, other, &["OnFailure", "Never"])),
    }
}
