//! Job: its names, defaults, generated selector, and what an update may change. What its spec may say is in
//! `spec` and `policies`, what its status may say in `status`.

mod policies;
mod printer;
mod spec;
mod status;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::{Affinity, PodTemplateSpec};
use serde_json::Value;

use super::{pod_template, workload};
use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::validation::meta::{self, Scope};
use crate::resource::validation::names;
use crate::resource::{Column, KindInfo, Strategy, Subresource};

pub(super) use spec::template_spec as validate_template;

pub(super) const INFO: KindInfo = KindInfo {
    group: "batch",
    kind: "Job",
    plural: "jobs",
    singular: "job",
    categories: &["all"],
    schema: "io.k8s.api.batch.v1.Job",
    subresources: &[Subresource::Status],
    ..super::CORE
};

/// The label that a generated selector looks for.
const UID_LABEL: &str = "batch.kubernetes.io/controller-uid";

/// How Jobs behave.
pub(super) struct Jobs;

impl Strategy for Jobs {
    type Object = Job;

    fn default(&self, job: &mut Job) {
        let spec = job.spec.get_or_insert_default();
        if spec.completions.is_none() && spec.parallelism.is_none() {
            spec.completions = Some(1);
        }
        spec.parallelism.get_or_insert(1);
        let retries = if spec.backoff_limit_per_index.is_some() {
            i32::MAX
        } else {
            6
        };
        spec.backoff_limit.get_or_insert(retries);
        spec.completion_mode.get_or_insert_with(|| "NonIndexed".to_owned());
        spec.suspend.get_or_insert(false);
        spec.manual_selector.get_or_insert(false);
        policies::default(spec);
        pod_template::default_spec(spec.template.spec.get_or_insert_default());
        let labels = template_labels(&spec.template);
        if !labels.is_empty() && job.metadata.labels.as_ref().is_none_or(|l| l.is_empty()) {
            job.metadata.labels = Some(labels);
        }
    }

    fn prepare_for_create(&self, job: &mut Job) {
        job.status = Some(JobStatus::default());
        job.metadata.generation = Some(1);
        if job.spec.as_ref().is_some_and(|s| s.manual_selector != Some(true)) {
            generate_selector(job);
        }
    }

    fn prepare_for_update(&self, new: &mut Job, old: &Job) {
        new.status.clone_from(&old.status);
        workload::step_generation(&mut new.metadata, &old.metadata, new.spec != old.spec);
    }

    fn prepare_for_status_update(&self, new: &mut Job, old: &Job) {
        new.spec.clone_from(&old.spec);
        new.metadata.generation = old.metadata.generation;
    }

    fn validate(&self, job: &Job) -> FieldErrors {
        let mut errors = meta::validate(&job.metadata, Scope::Namespaced, names::dns_subdomain);
        errors.extend(spec::generated_selector(job));
        let Some(given) = &job.spec else { return errors };
        errors.extend(spec::validate(given));
        errors.extend(spec::last_hostname(job, given));
        errors
    }

    fn validate_update(&self, new: &Job, old: &Job) -> FieldErrors {
        let mut errors = meta::contents(&new.metadata);
        if let (Some(now), Some(before)) = (&new.spec, &old.spec) {
            errors.extend(spec::generated_selector(new));
            errors.extend(spec::validate(now));
            let mutable = before.suspend == Some(true) && old.status.as_ref().is_none_or(|s| s.start_time.is_none());
            errors.extend(immutable(now, before, mutable));
        }
        errors.extend(status::validate(new, old));
        errors
    }

    fn warnings(&self, job: &Job) -> Vec<String> {
        workload::name_warning(&job.metadata).into_iter().collect()
    }

    fn columns(&self) -> &'static [Column] {
        printer::COLUMNS
    }

    fn row(&self, job: &Job, now: Timestamp) -> Vec<Value> {
        printer::row(job, now)
    }

    fn selectable_field(&self, job: &Job, label: &str) -> Option<String> {
        let succeeded = || job.status.as_ref().and_then(|s| s.succeeded).unwrap_or_default();
        (label == "status.successful").then(|| succeeded().to_string())
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["status.successful"]
    }
}

fn template_labels(template: &PodTemplateSpec) -> BTreeMap<String, String> {
    pod_template::labels_of(Some(template))
}

/// The labels of the Pods of the Job `name` with this uid, old names and new.
fn generated_labels(name: &str, uid: &str) -> [(&'static str, String); 4] {
    [
        ("controller-uid", uid.to_owned()),
        ("job-name", name.to_owned()),
        (UID_LABEL, uid.to_owned()),
        ("batch.kubernetes.io/job-name", name.to_owned()),
    ]
}

/// Gives the template labels that no other Job's Pods have, and the Job a selector for them. What the client
/// wrote under these labels stays, and validation refuses it.
fn generate_selector(job: &mut Job) {
    let uid = job.metadata.uid.clone().unwrap_or_default();
    let name = job.metadata.name.clone().unwrap_or_default();
    let spec = job.spec.get_or_insert_default();
    let before = template_labels(&spec.template);
    let labels = spec
        .template
        .metadata
        .get_or_insert_default()
        .labels
        .get_or_insert_default();
    for (label, value) in generated_labels(&name, &uid) {
        labels.entry(label.to_owned()).or_insert(value);
    }
    // A Job without labels of its own shows those of its template.
    if job.metadata.labels.clone().unwrap_or_default() == before {
        job.metadata.labels = Some(labels.clone());
    }
    let selector = spec.selector.get_or_insert_default();
    let wanted = selector.match_labels.get_or_insert_default();
    wanted.entry(UID_LABEL.to_owned()).or_insert(uid);
}

/// Fields that stay as they were; `mutable` says that where Pods run may still change.
fn immutable(new: &JobSpec, old: &JobSpec, mutable: bool) -> FieldErrors {
    let mut errors = Vec::new();
    if new.completions != old.completions {
        if new.completion_mode.as_deref() != Some("Indexed") {
            errors.push(FieldError::immutable("spec.completions", new.completions));
        } else if new.completions.is_some() && new.completions != new.parallelism {
            let detail = "can only be modified in tandem with spec.parallelism";
            errors.push(FieldError::invalid("spec.completions", new.completions, detail));
        }
    }
    errors.extend(unchanged("spec.selector", &new.selector, &old.selector));
    let mut before = old.template.clone();
    if mutable {
        allow_scheduling_changes(&mut before, &new.template);
    }
    errors.extend(unchanged("spec.template", &new.template, &before));
    errors.extend(unchanged(
        "spec.completionMode",
        &new.completion_mode,
        &old.completion_mode,
    ));
    errors.extend(unchanged(
        "spec.podFailurePolicy",
        &new.pod_failure_policy,
        &old.pod_failure_policy,
    ));
    let limit = (&new.backoff_limit_per_index, &old.backoff_limit_per_index);
    errors.extend(unchanged("spec.backoffLimitPerIndex", limit.0, limit.1));
    errors.extend(unchanged("spec.managedBy", &new.managed_by, &old.managed_by));
    errors.extend(unchanged(
        "spec.successPolicy",
        &new.success_policy,
        &old.success_policy,
    ));
    errors
}

fn unchanged<T: PartialEq + serde::Serialize>(field: &str, new: &T, old: &T) -> Option<FieldError> {
    let value = || serde_json::to_value(new).unwrap_or_default();
    (new != old).then(|| FieldError::immutable(field, value()))
}

/// Lets a template say anew where its Pods go, before any has been started (KEP-2926).
fn allow_scheduling_changes(old: &mut PodTemplateSpec, new: &PodTemplateSpec) {
    let (Some(before), Some(now)) = (&mut old.spec, &new.spec) else {
        return;
    };
    let nodes = now.affinity.as_ref().and_then(|a| a.node_affinity.clone());
    let mut affinity = before.affinity.clone().unwrap_or_default();
    affinity.node_affinity = nodes;
    let empty = affinity == Affinity::default() && now.affinity.is_none();
    before.affinity = Some(affinity).filter(|_| !empty);
    before.node_selector.clone_from(&now.node_selector);
    before.tolerations.clone_from(&now.tolerations);
    before.scheduling_gates.clone_from(&now.scheduling_gates);
    let metadata = old.metadata.get_or_insert_default();
    let given = new.metadata.clone().unwrap_or_default();
    metadata.labels = given.labels;
    metadata.annotations = given.annotations;
}
