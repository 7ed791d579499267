//! ReplicationController, the ancestor of ReplicaSet: its selector is a plain map of labels.

use k8s_openapi::api::core::v1::{ReplicationController, ReplicationControllerSpec};

use super::pod_template;
use super::replicated::{ReplicaCounts, Replicated, Wish};
use super::workload::{self, non_negative};
use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::{Column, KindInfo, Subresource, print};

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

impl Replicated for ReplicationController {
    const COLUMNS: &'static [Column] = COLUMNS;

    fn fill(&mut self) {
        let spec = self.spec.get_or_insert_default();
        spec.replicas.get_or_insert(1);
        let Some(template) = &mut spec.template else { return };
        pod_template::default_spec(template.spec.get_or_insert_default());
        let labels = template.metadata.as_ref().and_then(|m| m.labels.clone());
        if spec.selector.as_ref().is_none_or(|s| s.is_empty()) {
            spec.selector.clone_from(&labels);
        }
        if self.metadata.labels.as_ref().is_none_or(|l| l.is_empty()) {
            self.metadata.labels = labels;
        }
    }

    fn check(&self) -> FieldErrors {
        self.spec.iter().flat_map(spec).collect()
    }

    fn changed(&self, _old: &Self) -> Option<FieldError> {
        None
    }

    fn wish(&self) -> Wish<'_> {
        let spec = self.spec.as_ref();
        Wish {
            replicas: spec.and_then(|s| s.replicas),
            template: spec.and_then(|s| s.template.as_ref()),
            selector: print::labels(spec.and_then(|s| s.selector.as_ref())),
        }
    }

    fn has_spec_of(&self, other: &Self) -> bool {
        self.spec == other.spec
    }

    fn take_spec_of(&mut self, other: &Self) {
        self.spec.clone_from(&other.spec);
    }

    fn take_status_of(&mut self, other: Option<&Self>) {
        self.status = other.map_or_else(|| Some(Default::default()), |other| other.status.clone());
    }

    fn counts(&self) -> Option<ReplicaCounts> {
        let status = self.status.as_ref()?;
        Some(ReplicaCounts {
            all: status.replicas,
            labelled: status.fully_labeled_replicas,
            ready: status.ready_replicas,
            available: status.available_replicas,
            observed: status.observed_generation,
        })
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
