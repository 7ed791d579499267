//! policy/v1 PodDisruptionBudget: how many Pods must stay when others are evicted.
//!
//! Stored and shown; the counts in its status are the disruption controller's.

use jiff::Timestamp;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use super::workload::{count_or_percent, non_negative, shown_selector};
use crate::resource::field::{FieldError, FieldErrors, Shown};
use crate::resource::validation::meta::{self, Scope};
use crate::resource::validation::{conditions, labels, names};
use crate::resource::{Column, KindInfo, Strategy, Subresource, print};

pub(super) const INFO: KindInfo = KindInfo {
    group: "policy",
    kind: "PodDisruptionBudget",
    plural: "poddisruptionbudgets",
    singular: "poddisruptionbudget",
    short_names: &["pdb"],
    schema: "io.k8s.api.policy.v1.PodDisruptionBudget",
    subresources: &[Subresource::Status],
    ..super::CORE
};

const EVICTION_POLICIES: &[&str] = &["AlwaysAllow", "IfHealthyBudget"];

const COLUMNS: &[Column] = &[
    print::NAME,
    print::text("Min Available", 0, "The minimum number of pods that must be available."),
    print::text(
        "Max Unavailable",
        0,
        "The maximum number of pods that may be unavailable.",
    ),
    print::integer(
        "Allowed Disruptions",
        0,
        "Calculated number of pods that may be disrupted at this time.",
    ),
    print::AGE,
];

/// How PodDisruptionBudgets behave.
pub(super) struct PodDisruptionBudgets;

impl Strategy for PodDisruptionBudgets {
    type Object = PodDisruptionBudget;

    fn default(&self, _object: &mut PodDisruptionBudget) {}

    fn prepare_for_create(&self, object: &mut PodDisruptionBudget) {
        object.status = Some(Default::default());
        counted(object);
        object.metadata.generation = Some(1);
    }

    fn prepare_for_update(&self, new: &mut PodDisruptionBudget, old: &PodDisruptionBudget) {
        new.status.clone_from(&old.status);
        new.metadata.generation = super::next_generation(&old.metadata, new.spec == old.spec);
    }

    fn prepare_for_status_update(&self, new: &mut PodDisruptionBudget, old: &PodDisruptionBudget) {
        new.spec.clone_from(&old.spec);
        new.metadata.generation = old.metadata.generation;
        counted(new);
    }

    fn validate(&self, object: &PodDisruptionBudget) -> FieldErrors {
        let mut errors = meta::validate(&object.metadata, Scope::Namespaced, names::dns_subdomain);
        errors.extend(object.spec.iter().flat_map(spec));
        errors
    }

    fn validate_update(&self, new: &PodDisruptionBudget, old: &PodDisruptionBudget) -> FieldErrors {
        let mut errors = meta::contents(&new.metadata);
        errors.extend(new.spec.iter().flat_map(spec));
        if new.status != old.status {
            errors.extend(status(new));
        }
        errors
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &PodDisruptionBudget, now: Timestamp) -> Vec<Value> {
        let spec = object.spec.as_ref();
        let shown = |amount: Option<&IntOrString>| match amount {
            None => Value::from("N/A"),
            Some(IntOrString::Int(number)) => Value::from(number.to_string()),
            Some(IntOrString::String(text)) => Value::from(text.as_str()),
        };
        let allowed = object.status.as_ref().and_then(|status| status.disruptions_allowed);
        vec![
            print::name(&object.metadata),
            shown(spec.and_then(|spec| spec.min_available.as_ref())),
            shown(spec.and_then(|spec| spec.max_unavailable.as_ref())),
            Value::from(allowed.unwrap_or_default()),
            print::age(&object.metadata, now),
        ]
    }
}

/// The counts that are there even when they are zero.
fn counted(budget: &mut PodDisruptionBudget) {
    let status = budget.status.get_or_insert_default();
    status.disruptions_allowed.get_or_insert_default();
    status.current_healthy.get_or_insert_default();
    status.desired_healthy.get_or_insert_default();
    status.expected_pods.get_or_insert_default();
}

/// The whole spec, as Kubernetes keeps it.
fn shown(spec: &PodDisruptionBudgetSpec) -> Shown {
    Shown::go([
        ("MinAvailable", json!(spec.min_available).into()),
        ("Selector", Shown::pointer(spec.selector.as_ref().map(shown_selector))),
        ("MaxUnavailable", json!(spec.max_unavailable).into()),
        (
            "UnhealthyPodEvictionPolicy",
            json!(spec.unhealthy_pod_eviction_policy).into(),
        ),
    ])
}

fn spec(spec: &PodDisruptionBudgetSpec) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if spec.min_available.is_some() && spec.max_unavailable.is_some() {
        let detail = "minAvailable and maxUnavailable cannot be both set";
        errors.push(FieldError::invalid_shown("spec", shown(spec), detail));
    }
    for (field, amount) in [
        ("spec.minAvailable", &spec.min_available),
        ("spec.maxUnavailable", &spec.max_unavailable),
    ] {
        let Some(amount) = amount else { continue };
        errors.extend(count_or_percent(field, amount));
        let percent = match amount {
            IntOrString::String(text) => text.strip_suffix('%').and_then(|n| n.parse::<i64>().ok()),
            IntOrString::Int(_) => None,
        };
        if percent.is_some_and(|percent| percent > 100) {
            errors.push(FieldError::invalid(
                field,
                json!(amount),
                "must not be greater than 100%",
            ));
        }
    }
    if let Some(selector) = &spec.selector {
        errors.extend(labels::selector("spec.selector", selector));
    }
    if let Some(policy) = spec.unhealthy_pod_eviction_policy.as_deref()
        && !EVICTION_POLICIES.contains(&policy)
    {
        let field = "spec.unhealthyPodEvictionPolicy";
        errors.push(FieldError::not_supported(field, policy, EVICTION_POLICIES));
    }
    errors
}

fn status(budget: &PodDisruptionBudget) -> FieldErrors {
    let status = budget.status.clone().unwrap_or_default();
    let mut errors = conditions::validate("status.conditions", status.conditions.as_deref().unwrap_or_default());
    let counts = [
        ("status.disruptionsAllowed", status.disruptions_allowed),
        ("status.currentHealthy", status.current_healthy),
        ("status.desiredHealthy", status.desired_healthy),
        ("status.expectedPods", status.expected_pods),
    ]
    .into_iter()
    .filter_map(|(field, count)| non_negative(field, count));
    errors.extend(counts);
    errors
}
