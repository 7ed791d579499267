//! Deployment.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::pod_template;
use super::workload::{self, count_or_percent, non_negative, number};
use crate::resource::field::{FieldError, FieldErrors, Shown};
use crate::resource::validation::meta::{self, Scope};
use crate::resource::validation::names;
use crate::resource::{Column, KindInfo, Strategy, Subresource, print};

pub(super) const INFO: KindInfo = KindInfo {
    group: "apps",
    kind: "Deployment",
    plural: "deployments",
    singular: "deployment",
    short_names: &["deploy"],
    categories: &["all"],
    schema: "io.k8s.api.apps.v1.Deployment",
    subresources: &[Subresource::Scale, Subresource::Status],
    ..super::CORE
};

const COLUMNS: &[Column] = &[
    print::NAME,
    print::text("Ready", 0, "Number of the pod with ready state"),
    print::text(
        "Up-to-date",
        0,
        "Total number of non-terminating pods targeted by this deployment that have the desired template spec.",
    ),
    print::text(
        "Available",
        0,
        "Total number of available non-terminating pods (ready for at least minReadySeconds) targeted by this deployment.",
    ),
    print::AGE,
    workload::CONTAINERS,
    workload::IMAGES,
    print::text(
        "Selector",
        1,
        "Label selector for pods. Existing ReplicaSets whose pods are selected by this will be the ones affected by this deployment. It must match the pod template's labels.",
    ),
];

/// How Deployments behave.
pub(super) struct Deployments;

impl Strategy for Deployments {
    type Object = Deployment;

    fn default(&self, object: &mut Deployment) {
        let spec = object.spec.get_or_insert_default();
        spec.replicas.get_or_insert(1);
        let strategy = spec.strategy.get_or_insert_default();
        if strategy.type_.get_or_insert_with(|| "RollingUpdate".to_owned()) == "RollingUpdate" {
            let quarter = || IntOrString::String("25%".to_owned());
            let rolling = strategy.rolling_update.get_or_insert_default();
            rolling.max_unavailable.get_or_insert_with(quarter);
            rolling.max_surge.get_or_insert_with(quarter);
        }
        spec.revision_history_limit.get_or_insert(10);
        spec.progress_deadline_seconds.get_or_insert(600);
        pod_template::default_spec(spec.template.spec.get_or_insert_default());
    }

    fn prepare_for_create(&self, object: &mut Deployment) {
        object.status = Some(Default::default());
        object.metadata.generation = Some(1);
    }

    fn prepare_for_update(&self, new: &mut Deployment, old: &Deployment) {
        new.status.clone_from(&old.status);
        let same = new.spec == old.spec && new.metadata.annotations == old.metadata.annotations;
        workload::step_generation(&mut new.metadata, &old.metadata, !same);
    }

    fn prepare_for_status_update(&self, new: &mut Deployment, old: &Deployment) {
        new.spec.clone_from(&old.spec);
        new.metadata.labels.clone_from(&old.metadata.labels);
        new.metadata.generation = old.metadata.generation;
    }

    fn validate(&self, object: &Deployment) -> FieldErrors {
        let mut errors = meta::validate(&object.metadata, Scope::Namespaced, names::dns_subdomain);
        errors.extend(object.spec.iter().flat_map(spec));
        errors
    }

    fn validate_update(&self, new: &Deployment, old: &Deployment) -> FieldErrors {
        let mut errors = meta::contents(&new.metadata);
        errors.extend(new.spec.iter().flat_map(spec));
        if let (Some(new), Some(old)) = (&new.spec, &old.spec) {
            errors.extend(workload::immutable_selector(&new.selector, &old.selector));
        }
        errors
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &Deployment, now: Timestamp) -> Vec<Value> {
        let spec = object.spec.as_ref();
        let status = object.status.as_ref();
        let ready = status.and_then(|s| s.ready_replicas).unwrap_or_default();
        let (containers, images) = print::containers(spec.map(|s| &s.template));
        vec![
            print::name(&object.metadata),
            Value::from(format!("{ready}/{}", spec.and_then(|s| s.replicas).unwrap_or_default())),
            Value::from(status.and_then(|s| s.updated_replicas).unwrap_or_default()),
            Value::from(status.and_then(|s| s.available_replicas).unwrap_or_default()),
            print::age(&object.metadata, now),
            Value::from(containers),
            Value::from(images),
            Value::from(spec.map(|s| print::selector(&s.selector)).unwrap_or_default()),
        ]
    }
}

fn spec(spec: &DeploymentSpec) -> FieldErrors {
    let mut errors = Vec::new();
    errors.extend(non_negative("spec.replicas", spec.replicas));
    errors.extend(workload::check_selector("deployment", &spec.selector));
    errors.extend(workload::check_template(
        "ReplicaSet",
        "invalid label selector",
        &spec.selector,
        &spec.template,
    ));
    errors.extend(spec.strategy.iter().flat_map(strategy));
    errors.extend(non_negative("spec.minReadySeconds", spec.min_ready_seconds));
    errors.extend(non_negative("spec.revisionHistoryLimit", spec.revision_history_limit));
    if let Some(deadline) = spec.progress_deadline_seconds {
        errors.extend(non_negative("spec.progressDeadlineSeconds", Some(deadline)));
        if deadline <= spec.min_ready_seconds.unwrap_or_default() {
            let detail = "must be greater than minReadySeconds";
            errors.push(FieldError::invalid("spec.progressDeadlineSeconds", deadline, detail));
        }
    }
    errors
}

fn strategy(strategy: &DeploymentStrategy) -> FieldErrors {
    const FIELD: &str = "spec.strategy";
    match strategy.type_.as_deref().unwrap_or_default() {
        "Recreate" if strategy.rolling_update.is_some() => {
            let detail = "may not be specified when strategy `type` is 'Recreate'";
            vec![FieldError::forbidden(format!("{FIELD}.rollingUpdate"), detail)]
        }
        "Recreate" => Vec::new(),
        "RollingUpdate" => match &strategy.rolling_update {
            None => {
                let detail = "this should be defaulted and never be nil";
                vec![FieldError::required(format!("{FIELD}.rollingUpdate"), detail)]
            }
            Some(rolling) => rolling_update(&format!("{FIELD}.rollingUpdate"), rolling),
        },
        _ => vec![FieldError::not_supported_shown(
            FIELD,
            shown(strategy),
            &["Recreate", "RollingUpdate"],
        )],
    }
}

fn shown(strategy: &DeploymentStrategy) -> Shown {
    let rolling = strategy.rolling_update.as_ref();
    let rolling = rolling.map(|rolling| (&rolling.max_unavailable, &rolling.max_surge));
    workload::shown_strategy(strategy.type_.as_deref(), rolling)
}

fn rolling_update(field: &str, rolling: &RollingUpdateDeployment) -> FieldErrors {
    let mut errors = Vec::new();
    let parts = [
        ("maxUnavailable", &rolling.max_unavailable),
        ("maxSurge", &rolling.max_surge),
    ];
    for (child, amount) in parts {
        errors.extend(
            amount
                .iter()
                .flat_map(|a| count_or_percent(&format!("{field}.{child}"), a)),
        );
    }
    let zero = |amount: &Option<IntOrString>| amount.as_ref().and_then(number) == Some(0);
    if zero(&rolling.max_unavailable) && zero(&rolling.max_surge) {
        let value = serde_json::to_value(&rolling.max_unavailable).unwrap_or_default();
        errors.push(FieldError::invalid(
            format!("{field}.maxUnavailable"),
            value,
            "may not be 0 when `maxSurge` is 0",
        ));
    }
    let unavailable = rolling.max_unavailable.as_ref();
    errors.extend(unavailable.and_then(|most| workload::more_than_all(&format!("{field}.maxUnavailable"), most)));
    errors
}
