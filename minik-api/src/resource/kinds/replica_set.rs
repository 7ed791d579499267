//! ReplicaSet.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::Value;

use super::pod_template;
use super::workload::{self, non_negative};
use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::validation::meta::{self, Scope};
use crate::resource::validation::{labels, names};
use crate::resource::{Column, KindInfo, Strategy, Subresource, print};

pub(super) const INFO: KindInfo = KindInfo {
    group: "apps",
    kind: "ReplicaSet",
    plural: "replicasets",
    singular: "replicaset",
    short_names: &["rs"],
    categories: &["all"],
    schema: "io.k8s.api.apps.v1.ReplicaSet",
    subresources: &[Subresource::Scale, Subresource::Status],
    ..super::CORE
};

const COLUMNS: &[Column] = &[
    print::NAME,
    print::integer(
        "Desired",
        0,
        "Replicas is the number of desired pods. This is a pointer to distinguish between explicit zero and unspecified. Defaults to 1. More info: https://kubernetes.io/docs/concepts/workloads/controllers/replicaset",
    ),
    print::integer(
        "Current",
        0,
        "Replicas is the most recently observed number of non-terminating pods. More info: https://kubernetes.io/docs/concepts/workloads/controllers/replicaset",
    ),
    print::integer(
        "Ready",
        0,
        "The number of non-terminating pods targeted by this ReplicaSet with a Ready Condition.",
    ),
    print::AGE,
    workload::CONTAINERS,
    workload::IMAGES,
    print::text(
        "Selector",
        1,
        "Selector is a label query over pods that should match the replica count. Label keys and values that must match in order to be controlled by this replica set. It must match the pod template's labels. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors",
    ),
];

/// How ReplicaSets behave.
pub(super) struct ReplicaSets;

impl Strategy for ReplicaSets {
    type Object = ReplicaSet;

    fn default(&self, object: &mut ReplicaSet) {
        let spec = object.spec.get_or_insert_default();
        spec.replicas.get_or_insert(1);
        spec.min_ready_seconds = spec.min_ready_seconds.filter(|n| *n != 0);
        pod_template::default_spec(spec.template.get_or_insert_default().spec.get_or_insert_default());
    }

    fn prepare_for_create(&self, object: &mut ReplicaSet) {
        object.status = Some(Default::default());
        object.metadata.generation = Some(1);
    }

    fn prepare_for_update(&self, new: &mut ReplicaSet, old: &ReplicaSet) {
        new.status.clone_from(&old.status);
        workload::step_generation(&mut new.metadata, &old.metadata, new.spec != old.spec);
    }

    fn prepare_for_status_update(&self, new: &mut ReplicaSet, old: &ReplicaSet) {
        new.spec.clone_from(&old.spec);
        new.metadata.generation = old.metadata.generation;
    }

    fn validate(&self, object: &ReplicaSet) -> FieldErrors {
        let mut errors = meta::validate(&object.metadata, Scope::Namespaced, names::dns_subdomain);
        errors.extend(object.spec.iter().flat_map(spec));
        errors
    }

    fn validate_update(&self, new: &ReplicaSet, old: &ReplicaSet) -> FieldErrors {
        let mut errors = meta::contents(&new.metadata);
        errors.extend(new.spec.iter().flat_map(spec));
        if let (Some(new), Some(old)) = (&new.spec, &old.spec) {
            errors.extend(workload::immutable_selector(&new.selector, &old.selector));
        }
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

    fn row(&self, object: &ReplicaSet, now: Timestamp) -> Vec<Value> {
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
            Value::from(spec.map(|s| print::selector(&s.selector)).unwrap_or_default()),
        ]
    }

    fn selectable_field(&self, object: &ReplicaSet, label: &str) -> Option<String> {
        let replicas = || {
            object
                .status
                .as_ref()
                .map(|s| s.replicas)
                .unwrap_or_default()
                .to_string()
        };
        (label == "status.replicas").then(replicas)
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["status.replicas"]
    }
}

fn spec(spec: &ReplicaSetSpec) -> FieldErrors {
    let mut errors = Vec::new();
    errors.extend(non_negative("spec.replicas", spec.replicas));
    errors.extend(non_negative("spec.minReadySeconds", spec.min_ready_seconds));
    if spec.selector == LabelSelector::default() {
        errors.push(FieldError::required("spec.selector", ""));
    } else {
        errors.extend(labels::selector("spec.selector", &spec.selector));
    }
    match &spec.template {
        None => errors.push(FieldError::required("spec.template", "")),
        Some(template) => errors.extend(workload::check_template("ReplicaSet", &spec.selector, template)),
    }
    errors
}
