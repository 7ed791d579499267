//! ReplicaSet.

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec};

use super::pod_template;
use super::replicated::{ReplicaCounts, Replicated, Wish};
use super::workload::{self, non_negative};
use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::{Column, KindInfo, Subresource, print};

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

impl Replicated for ReplicaSet {
    const COLUMNS: &'static [Column] = COLUMNS;

    fn fill(&mut self) {
        let spec = self.spec.get_or_insert_default();
        spec.replicas.get_or_insert(1);
        pod_template::default_spec(spec.template.get_or_insert_default().spec.get_or_insert_default());
    }

    fn check(&self) -> FieldErrors {
        self.spec.iter().flat_map(spec).collect()
    }

    fn changed(&self, old: &Self) -> Option<FieldError> {
        let (new, old) = (self.spec.as_ref()?, old.spec.as_ref()?);
        workload::immutable_selector(&new.selector, &old.selector)
    }

    fn wish(&self) -> Wish<'_> {
        let spec = self.spec.as_ref();
        Wish {
            replicas: spec.and_then(|s| s.replicas),
            template: spec.and_then(|s| s.template.as_ref()),
            selector: spec.map(|s| print::selector(&s.selector)).unwrap_or_default(),
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

fn spec(spec: &ReplicaSetSpec) -> FieldErrors {
    let mut errors = Vec::new();
    errors.extend(non_negative("spec.replicas", spec.replicas));
    errors.extend(non_negative("spec.minReadySeconds", spec.min_ready_seconds));
    // Kubernetes says "deployment" here.
    errors.extend(workload::check_selector("deployment", &spec.selector));
    match &spec.template {
        None => errors.push(FieldError::required("spec.template", "")),
        Some(template) => errors.extend(workload::check_template(
            "ReplicaSet",
            "invalid label selector",
            &spec.selector,
            template,
        )),
    }
    errors
}
