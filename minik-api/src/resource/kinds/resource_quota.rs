//! ResourceQuota: how much of what all objects of a namespace together may use.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaSpec, ScopedResourceSelectorRequirement};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::Value;

use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::validation::meta::{self, Scope};
use crate::resource::validation::{names, resources};
use crate::resource::{Column, KindInfo, Strategy, Subresource, print};

pub(super) const INFO: KindInfo = KindInfo {
    kind: "ResourceQuota",
    plural: "resourcequotas",
    singular: "resourcequota",
    short_names: &["quota"],
    schema: "io.k8s.api.core.v1.ResourceQuota",
    subresources: &[Subresource::Status],
    ..super::CORE
};

const COLUMNS: &[Column] = &[
    print::NAME,
    print::text(
        "Request",
        0,
        "Request represents a minimum amount of cpu/memory that a container may consume.",
    ),
    print::text(
        "Limit",
        0,
        "Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node.",
    ),
    print::AGE,
];

/// Scopes that look at Pods.
const POD_SCOPES: [&str; 6] = [
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
];
/// The scope that looks at claims.
const CLAIM_SCOPE: &str = "VolumeAttributesClass";
/// What a quota counts of Pods, over their number.
const POD_RESOURCES: [&str; 6] = [
    "cpu",
    "limits.cpu",
    "limits.memory",
    "memory",
    "requests.cpu",
    "requests.memory",
];
/// Scopes that exclude each other.
const CONFLICTS: [[&str; 2]; 2] = [["BestEffort", "NotBestEffort"], ["NotTerminating", "Terminating"]];

type Amounts = BTreeMap<String, Quantity>;

/// How ResourceQuotas behave.
pub(super) struct ResourceQuotas;

impl Strategy for ResourceQuotas {
    type Object = ResourceQuota;

    fn default(&self, _object: &mut ResourceQuota) {}

    fn prepare_for_create(&self, object: &mut ResourceQuota) {
        object.status = Some(Default::default());
    }

    fn prepare_for_update(&self, new: &mut ResourceQuota, old: &ResourceQuota) {
        new.status.clone_from(&old.status);
    }

    fn prepare_for_status_update(&self, new: &mut ResourceQuota, old: &ResourceQuota) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(&self, object: &ResourceQuota) -> FieldErrors {
        let mut errors = meta::validate(&object.metadata, Scope::Namespaced, names::dns_subdomain);
        errors.extend(object.spec.iter().flat_map(spec));
        errors
    }

    fn validate_update(&self, new: &ResourceQuota, old: &ResourceQuota) -> FieldErrors {
        let mut errors = meta::contents(&new.metadata);
        errors.extend(new.spec.iter().flat_map(spec));
        let scopes = |object: &ResourceQuota| -> BTreeSet<String> {
            let scopes = object.spec.iter().filter_map(|s| s.scopes.clone());
            scopes.flatten().collect()
        };
        if scopes(new) != scopes(old) {
            let value = new.spec.as_ref().and_then(|s| s.scopes.clone());
            errors.push(FieldError::immutable("spec.scopes", value));
        }
        if let Some(status) = &new.status {
            errors.extend(amounts("status.hard", status.hard.as_ref()));
            errors.extend(amounts("status.used", status.used.as_ref()));
        }
        errors
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &ResourceQuota, now: Timestamp) -> Vec<Value> {
        let status = object.status.clone().unwrap_or_default();
        let used = status.used.unwrap_or_default();
        let hard = status.hard.unwrap_or_default();
        let share = |limits: bool| {
            let listed = hard.iter().filter(|(name, _)| name.starts_with("limits.") == limits);
            let shares: Vec<String> = listed
                .map(|(name, most)| format!("{name}: {}/{}", used.get(name).map_or("0", |q| q.0.as_str()), most.0))
                .collect();
            Value::from(shares.join(", "))
        };
        vec![
            print::name(&object.metadata),
            share(false),
            share(true),
            print::age(&object.metadata, now),
        ]
    }
}

fn spec(spec: &ResourceQuotaSpec) -> FieldErrors {
    let mut errors = amounts("spec.hard", spec.hard.as_ref());
    let counted: Vec<&str> = spec.hard.iter().flatten().map(|(name, _)| name.as_str()).collect();
    errors.extend(scopes(spec, &counted));
    let selector = spec.scope_selector.as_ref();
    let requirements = selector
        .and_then(|s| s.match_expressions.as_deref())
        .unwrap_or_default();
    for requirement in requirements {
        errors.extend(expression(spec, requirement, &counted));
    }
    errors.extend(conflicts(
        "spec.scopeSelector.matchExpressions",
        requirements.iter().map(|r| r.scope_name.as_str()).collect(),
        spec,
    ));
    errors
}

fn amounts(field: &str, amounts: Option<&Amounts>) -> FieldErrors {
    let mut errors = Vec::new();
    for (name, amount) in amounts.into_iter().flatten() {
        let at = format!("{field}[{name}]");
        errors.extend(resources::quota_name(&at, name));
        errors.extend(resources::amount(&at, name, amount));
    }
    errors
}

fn is_scope(scope: &str) -> bool {
    POD_SCOPES.contains(&scope) || scope == CLAIM_SCOPE
}

/// Whether `scope` can tell the uses of `resource` apart.
fn applies(scope: &str, resource: &str) -> bool {
    match scope {
        "BestEffort" => resource == "pods",
        CLAIM_SCOPE => matches!(resource, "persistentvolumeclaims" | "requests.storage"),
        scope if POD_SCOPES.contains(&scope) => resource == "pods" || POD_RESOURCES.contains(&resource),
        _ => true,
    }
}

fn misapplied(scope: &str, counted: &[&str]) -> usize {
    let standard = counted.iter().filter(|resource| resources::is_standard_quota(resource));
    standard.filter(|resource| !applies(scope, resource)).count()
}

fn scopes(spec: &ResourceQuotaSpec, counted: &[&str]) -> FieldErrors {
    const FIELD: &str = "spec.scopes";
    let given = spec.scopes.clone().unwrap_or_default();
    let invalid = |detail: &str| FieldError::invalid(FIELD, given.clone(), detail);
    let mut errors = Vec::new();
    for scope in &given {
        if !is_scope(scope) {
            errors.push(invalid("unsupported scope"));
        }
        let wrong = misapplied(scope, counted);
        errors.extend((0..wrong).map(|_| invalid("unsupported scope applied to resource")));
    }
    errors.extend(conflicts(FIELD, given.iter().map(String::as_str).collect(), spec));
    errors
}

fn conflicts(field: &str, scopes: BTreeSet<&str>, spec: &ResourceQuotaSpec) -> FieldErrors {
    let found = CONFLICTS
        .iter()
        .filter(|pair| pair.iter().all(|scope| scopes.contains(scope)));
    found
        .map(|_| FieldError::invalid(field, spec.scopes.clone(), "conflicting scopes"))
        .collect()
}

fn expression(
    spec: &ResourceQuotaSpec,
    requirement: &ScopedResourceSelectorRequirement,
    counted: &[&str],
) -> FieldErrors {
    const FIELD: &str = "spec.scopeSelector.matchExpressions";
    let scope = requirement.scope_name.as_str();
    let operator = requirement.operator.as_str();
    let values = requirement.values.as_deref().unwrap_or_default();
    let mut errors = Vec::new();
    if !is_scope(scope) {
        errors.push(FieldError::invalid(
            format!("{FIELD}.scopeName"),
            scope,
            "unsupported scope",
        ));
    }
    for _ in 0..misapplied(scope, counted) {
        let value = serde_json::to_value(&spec.scope_selector).unwrap_or_default();
        errors.push(FieldError::invalid(
            FIELD,
            value,
            "unsupported scope applied to resource",
        ));
    }
    if POD_SCOPES.contains(&scope) && scope != "PriorityClass" && operator != "Exists" {
        let detail = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
        errors.push(FieldError::invalid(format!("{FIELD}.operator"), operator, detail));
    }
    let at = format!("{FIELD}.values");
    match operator {
        "In" | "NotIn" if values.is_empty() => {
            let detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
            errors.push(FieldError::required(at, detail));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
            errors.push(FieldError::invalid(at, values.to_vec(), detail));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => {
            let detail = "not a valid selector operator";
            errors.push(FieldError::invalid(format!("{FIELD}.operator"), other, detail));
        }
    }
    errors
}
