//! ReplicationController, the ancestor of ReplicaSet: its selector is a plain map of labels.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ReplicationController, ReplicationControllerSpec};
use serde_json::Value;

use super::pod_template;
use super::workload::{self, non_negative};
use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::validation::meta::{self, Scope};
use crate::resource::validation::names;
use crate::resource::{Column, KindInfo, Strategy, Subresource, print};

pub(super) const INFO: KindInfo = KindInfo {
    kind: "ReplicationController",
    plural: "replicationcontrollers",
    singular: "replicationcontroller",
    short_names: &["rc"],
    categories: &["all"],
    schema: "io.k8s.api.core.v1.ReplicationController",
    subresources: &[Subresource::Scale, Subresource::Status],
    ..super::CORE
};

const COLUMNS: &[Column] = &[
    print::NAME,
    print::integer(
        "Desired",
        0,
        "Replicas is the number of desired replicas. This is a pointer to distinguish between explicit zero and unspecified. Defaults to 1. More info: https://kubernetes.io/docs/concepts/workloads/controllers/replicationcontroller#what-is-a-replicationcontroller",
    ),
    print::integer(
        "Current",
        0,
        "Replicas is the most recently observed number of replicas. More info: https://kubernetes.io/docs/concepts/workloads/controllers/replicationcontroller#what-is-a-replicationcontroller",
    ),
    print::integer(
        "Ready",
        0,
        "The number of ready replicas for this replication controller.",
    ),
    print::AGE,
    workload::CONTAINERS,
    workload::IMAGES,
    print::text(
        "Selector",
        1,
        "Selector is a label query over pods that should match the Replicas count. If Selector is empty, it is defaulted to the labels present on the Pod template. Label keys and values that must match in order to be controlled by this replication controller, if empty defaulted to labels on Pod template. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors",
    ),
];

/// How ReplicationControllers behave.
pub(super) struct ReplicationControllers;

impl Strategy for ReplicationControllers {
    type Object = ReplicationController;

    fn default(&self, object: &mut ReplicationController) {
        let spec = object.spec.get_or_insert_default();
        spec.replicas.get_or_insert(1);
        spec.min_ready_seconds = spec.min_ready_seconds.filter(|n| *n != 0);
        let Some(template) = &mut spec.template else { return };
        pod_template::default_spec(template.spec.get_or_insert_default());
        let labels = template.metadata.as_ref().and_then(|m| m.labels.clone());
        if spec.selector.as_ref().is_none_or(|s| s.is_empty()) {
            spec.selector.clone_from(&labels);
        }
        if object.metadata.labels.as_ref().is_none_or(|l| l.is_empty()) {
            object.metadata.labels = labels;
        }
    }

    fn prepare_for_create(&self, object: &mut ReplicationController) {
        object.status = Some(Default::default());
        object.metadata.generation = Some(1);
    }

    fn prepare_for_update(&self, new: &mut ReplicationController, old: &ReplicationController) {
        new.status.clone_from(&old.status);
        workload::step_generation(&mut new.metadata, &old.metadata, new.spec != old.spec);
    }

    fn prepare_for_status_update(&self, new: &mut ReplicationController, old: &ReplicationController) {
        new.spec.clone_from(&old.spec);
        new.metadata.generation = old.metadata.generation;
    }

    fn validate(&self, object: &ReplicationController) -> FieldErrors {
        let mut errors = meta::validate(&object.metadata, Scope::Namespaced, names::dns_subdomain);
        errors.extend(object.spec.iter().flat_map(spec));
        errors
    }

    fn validate_update(&self, new: &ReplicationController, _old: &ReplicationController) -> FieldErrors {
        let mut errors = meta::contents(&new.metadata);
        errors.extend(new.spec.iter().flat_map(spec));
        errors.extend(new.status.iter().flat_map(|status| {
            workload::replica_counts(workload::ReplicaCounts {
                all: status.replicas,
                labelled: status.fully_labeled_replicas,
                ready: status.ready_replicas,
                available: status.available_replicas,
                observed: status.observed_generation,
            })
        }));
        errors
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &ReplicationController, now: Timestamp) -> Vec<Value> {
        let spec = object.spec.as_ref();
        let status = object.status.as_ref();
        let (containers, images) = print::containers(spec.and_then(|s| s.template.as_ref()));
        vec![
            print::name(&object.metadata),
            Value::from(spec.and_then(|s| s.replicas).unwrap_or_default()),
            Value::from(status.map(|s| s.replicas).unwrap_or_default()),
            Value::from(status.and_then(|s| s.ready_replicas).unwrap_or_default()),
            print::age(&object.metadata, now),
            Value::from(containers),
            Value::from(images),
            Value::from(print::labels(spec.and_then(|s| s.selector.as_ref()))),
        ]
    }

    fn selectable_field(&self, object: &ReplicationController, label: &str) -> Option<String> {
        let replicas = || object.status.as_ref().map(|s| s.replicas).unwrap_or_default();
        (label == "status.replicas").then(|| replicas().to_string())
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["status.replicas"]
    }
}

fn spec(spec: &ReplicationControllerSpec) -> FieldErrors {
    let mut errors = Vec::new();
    errors.extend(non_negative("spec.minReadySeconds", spec.min_ready_seconds));
    let selector = workload::equal_labels(spec.selector.as_ref());
    if spec.selector.as_ref().is_none_or(|s| s.is_empty()) {
        errors.push(FieldError::required("spec.selector", ""));
    }
    errors.extend(non_negative("spec.replicas", spec.replicas));
    match &spec.template {
        None => errors.push(FieldError::required("spec.template", "")),
        Some(template) => {
            let selected = workload::selects(&selector, template);
            errors.extend(workload::check_selected_template(
                "ReplicationController",
                selected,
                template,
            ));
        }
    }
    errors
}
