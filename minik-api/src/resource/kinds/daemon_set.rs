//! DaemonSet.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{
    DaemonSet, DaemonSetSpec, DaemonSetStatus, DaemonSetUpdateStrategy, RollingUpdateDaemonSet,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::pod_template;
use super::workload::{self, non_negative, number};
use crate::resource::field::{FieldError, FieldErrors, Shown};
use crate::resource::validation::meta::{self, Scope};
use crate::resource::validation::{labels, names};
use crate::resource::{Column, KindInfo, Strategy, Subresource, print};

pub(super) const INFO: KindInfo = KindInfo {
    group: "apps",
    kind: "DaemonSet",
    plural: "daemonsets",
    singular: "daemonset",
    short_names: &["ds"],
    categories: &["all"],
    schema: "io.k8s.api.apps.v1.DaemonSet",
    subresources: &[Subresource::Status],
    ..super::CORE
};

/// Where apps/v1 keeps the number of the template, which the type of apps/v1 has no field for.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

const COLUMNS: &[Column] = &[
    print::NAME,
    print::integer(
        "Desired",
        0,
        "The total number of nodes that should be running the daemon pod (including nodes correctly running the daemon pod). More info: https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/",
    ),
    print::integer(
        "Current",
        0,
        "The number of nodes that are running at least 1 daemon pod and are supposed to run the daemon pod. More info: https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/",
    ),
    print::integer(
        "Ready",
        0,
        "numberReady is the number of nodes that should be running the daemon pod and have one or more of the daemon pod running with a Ready Condition.",
    ),
    print::integer(
        "Up-to-date",
        0,
        "The total number of nodes that are running updated daemon pod",
    ),
    print::integer(
        "Available",
        0,
        "The number of nodes that should be running the daemon pod and have one or more of the daemon pod running and available (ready for at least spec.minReadySeconds)",
    ),
    print::text(
        "Node Selector",
        0,
        "NodeSelector is a selector which must be true for the pod to fit on a node. Selector which must match a node's labels for the pod to be scheduled on that node. More info: https://kubernetes.io/docs/concepts/configuration/assign-pod-node/",
    ),
    print::AGE,
    workload::CONTAINERS,
    workload::IMAGES,
    print::text(
        "Selector",
        1,
        "A label query over pods that are managed by the daemon set. Must match in order to be controlled. It must match the pod template's labels. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors",
    ),
];

/// How DaemonSets behave.
pub(super) struct DaemonSets;

impl Strategy for DaemonSets {
    type Object = DaemonSet;

    fn default(&self, object: &mut DaemonSet) {
        let spec = object.spec.get_or_insert_default();
        let strategy = spec.update_strategy.get_or_insert_default();
        if strategy.type_.get_or_insert_with(|| "RollingUpdate".to_owned()) == "RollingUpdate" {
            let rolling = strategy.rolling_update.get_or_insert_default();
            rolling.max_unavailable.get_or_insert(IntOrString::Int(1));
            rolling.max_surge.get_or_insert(IntOrString::Int(0));
        }
        spec.revision_history_limit.get_or_insert(10);
        pod_template::default_spec(spec.template.spec.get_or_insert_default());
    }

    fn prepare_for_create(&self, object: &mut DaemonSet) {
        object.status = Some(DaemonSetStatus::default());
        object.metadata.generation = Some(1);
        set_template_generation(object, template_generation(object).max(1));
    }

    fn prepare_for_update(&self, new: &mut DaemonSet, old: &DaemonSet) {
        new.status.clone_from(&old.status);
        let template = |object: &DaemonSet| object.spec.as_ref().map(|s| s.template.clone());
        let changed = template(new) != template(old);
        set_template_generation(new, template_generation(old) + i64::from(changed));
        workload::step_generation(&mut new.metadata, &old.metadata, new.spec != old.spec);
    }

    fn prepare_for_status_update(&self, new: &mut DaemonSet, old: &DaemonSet) {
        new.spec.clone_from(&old.spec);
        new.metadata.generation = old.metadata.generation;
        set_template_generation(new, template_generation(old));
    }

    fn validate(&self, object: &DaemonSet) -> FieldErrors {
        let mut errors = meta::validate(&object.metadata, Scope::Namespaced, names::dns_subdomain);
        errors.extend(object.spec.iter().flat_map(spec));
        errors
    }

    fn validate_update(&self, new: &DaemonSet, old: &DaemonSet) -> FieldErrors {
        let mut errors = meta::contents(&new.metadata);
        errors.extend(new.spec.iter().flat_map(spec));
        if let (Some(new), Some(old)) = (&new.spec, &old.spec) {
            errors.extend(workload::immutable_selector(&new.selector, &old.selector));
        }
        if let Some(status) = &new.status {
            let before = old.status.as_ref().and_then(|s| s.collision_count);
            errors.extend(check_status(status, before));
        }
        errors
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &DaemonSet, now: Timestamp) -> Vec<Value> {
        let empty = DaemonSetStatus::default();
        let spec = object.spec.as_ref();
        let status = object.status.as_ref().unwrap_or(&empty);
        let (containers, images) = print::containers(spec.map(|s| &s.template));
        let nodes = spec.and_then(|s| s.template.spec.as_ref()?.node_selector.as_ref());
        vec![
            print::name(&object.metadata),
            Value::from(status.desired_number_scheduled),
            Value::from(status.current_number_scheduled),
            Value::from(status.number_ready),
            Value::from(status.updated_number_scheduled.unwrap_or_default()),
            Value::from(status.number_available.unwrap_or_default()),
            Value::from(print::labels(nodes)),
            print::age(&object.metadata, now),
            Value::from(containers),
            Value::from(images),
            Value::from(spec.map(|s| print::selector(&s.selector)).unwrap_or_default()),
        ]
    }
}

fn template_generation(object: &DaemonSet) -> i64 {
    let annotations = object.metadata.annotations.as_ref();
    let text = annotations.and_then(|a| a.get(TEMPLATE_GENERATION));
    text.and_then(|t| t.parse().ok()).unwrap_or_default()
}

fn set_template_generation(object: &mut DaemonSet, generation: i64) {
    let annotations = object.metadata.annotations.get_or_insert_default();
    annotations.insert(TEMPLATE_GENERATION.to_owned(), generation.to_string());
}

fn spec(spec: &DaemonSetSpec) -> FieldErrors {
    let mut errors = labels::selector("spec.selector", &spec.selector);
    let template = &spec.template;
    let selected = spec.selector != LabelSelector::default() && workload::selects(&spec.selector, template);
    // A selector that is none is said to be no more than that.
    if errors.is_empty() {
        errors.extend(workload::mismatch(selected, template));
    }
    errors.extend(workload::empty_selector("daemonset", &spec.selector));
    errors.extend(pod_template::validate_template("spec.template", template));
    let restart = workload::restart_policy(template);
    if restart != "Always" {
        errors.push(workload::only_always(restart));
    }
    errors.extend(workload::no_deadline("DaemonSet", template));
    errors.extend(non_negative("spec.minReadySeconds", spec.min_ready_seconds));
    errors.extend(spec.update_strategy.iter().flat_map(strategy));
    errors.extend(non_negative("spec.revisionHistoryLimit", spec.revision_history_limit));
    errors
}

fn strategy(strategy: &DaemonSetUpdateStrategy) -> FieldErrors {
    const FIELD: &str = "spec.updateStrategy";
    match strategy.type_.as_deref().unwrap_or_default() {
        "OnDelete" => Vec::new(),
        "RollingUpdate" => match &strategy.rolling_update {
            None => vec![FieldError::required(format!("{FIELD}.rollingUpdate"), "")],
            Some(rolling) => rolling_update(&format!("{FIELD}.rollingUpdate"), rolling),
        },
        _ => {
            let supported = ["RollingUpdate", "OnDelete"];
            vec![FieldError::not_supported_shown(FIELD, shown(strategy), &supported)]
        }
    }
}

fn shown(strategy: &DaemonSetUpdateStrategy) -> Shown {
    let rolling = strategy.rolling_update.as_ref();
    let rolling = rolling.map(|rolling| (&rolling.max_unavailable, &rolling.max_surge));
    workload::shown_strategy(strategy.type_.as_deref(), rolling)
}

fn rolling_update(field: &str, rolling: &RollingUpdateDaemonSet) -> FieldErrors {
    let mut errors = Vec::new();
    let parts = [
        (format!("{field}.maxUnavailable"), &rolling.max_unavailable),
        (format!("{field}.maxSurge"), &rolling.max_surge),
    ];
    let given = || parts.iter().filter_map(|(at, amount)| Some((at, amount.as_ref()?)));
    errors.extend(given().filter_map(|(at, amount)| workload::count_or_percent(at, amount)));
    errors.extend(given().filter_map(|(at, amount)| workload::more_than_all(at, amount)));
    let some = |amount: &Option<IntOrString>| amount.as_ref().and_then(number).unwrap_or_default() != 0;
    match (some(&rolling.max_unavailable), some(&rolling.max_surge)) {
        (true, true) => {
            let value = serde_json::to_value(&rolling.max_surge).unwrap_or_default();
            let detail = "may not be set when maxUnavailable is non-zero";
            errors.push(FieldError::invalid(format!("{field}.maxSurge"), value, detail));
        }
        (false, false) => {
            let detail = "cannot be 0 when maxSurge is 0";
            errors.push(FieldError::required(format!("{field}.maxUnavailable"), detail));
        }
        _ => {}
    }
    errors
}

fn check_status(status: &DaemonSetStatus, collisions_before: Option<i32>) -> FieldErrors {
    let collisions = status.collision_count;
    let mut errors = workload::all_non_negative(
        "status",
        [
            ("currentNumberScheduled", Some(status.current_number_scheduled.into())),
            ("numberMisscheduled", Some(status.number_misscheduled.into())),
            ("desiredNumberScheduled", Some(status.desired_number_scheduled.into())),
            ("numberReady", Some(status.number_ready.into())),
            ("observedGeneration", status.observed_generation),
            (
                "updatedNumberScheduled",
                status.updated_number_scheduled.map(Into::into),
            ),
            ("numberAvailable", status.number_available.map(Into::into)),
            ("numberUnavailable", status.number_unavailable.map(Into::into)),
            ("collisionCount", collisions.map(Into::into)),
        ],
    );
    if collisions_before > collisions {
        let now = collisions.unwrap_or_default();
        errors.push(FieldError::invalid(
            "status.collisionCount",
            now,
            "cannot be decremented",
        ));
    }
    errors
}
