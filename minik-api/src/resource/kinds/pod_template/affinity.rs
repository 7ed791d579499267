//! Validation of where a Pod wants to run: node affinity, Pod affinity, spread over topologies.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm, TopologySpreadConstraint,
    WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::validation::{labels, names};

const WEIGHTS: std::ops::RangeInclusive<i32> = 1..=100;
const UNSATISFIABLE: [&str; 2] = ["DoNotSchedule", "ScheduleAnyway"];
const INCLUSION: [&str; 2] = ["Honor", "Ignore"];

/// Checks the affinity of a Pod.
pub(super) fn validate(field: &str, affinity: &Affinity) -> FieldErrors {
    let mut errors = Vec::new();
    if let Some(nodes) = &affinity.node_affinity {
        errors.extend(node_affinity(&format!("{field}.nodeAffinity"), nodes));
    }
    let pods = affinity.pod_affinity.as_ref().map(|a| {
        (
            "podAffinity",
            &a.required_during_scheduling_ignored_during_execution,
            &a.preferred_during_scheduling_ignored_during_execution,
        )
    });
    let others = affinity.pod_anti_affinity.as_ref().map(|a| {
        (
            "podAntiAffinity",
            &a.required_during_scheduling_ignored_during_execution,
            &a.preferred_during_scheduling_ignored_during_execution,
        )
    });
    for (child, required, preferred) in pods.into_iter().chain(others) {
        let at = format!("{field}.{child}");
        for (index, term) in required.iter().flatten().enumerate() {
            let at = format!("{at}.requiredDuringSchedulingIgnoredDuringExecution[{index}]");
            errors.extend(pod_term(&at, term));
        }
        for (index, term) in preferred.iter().flatten().enumerate() {
            let at = format!("{at}.preferredDuringSchedulingIgnoredDuringExecution[{index}]");
            errors.extend(weighted(&at, term));
        }
    }
    errors
}

fn weight(field: &str, weight: i32) -> Option<FieldError> {
    let wrong = !WEIGHTS.contains(&weight);
    wrong.then(|| FieldError::invalid(format!("{field}.weight"), weight, "must be in the range 1-100"))
}

fn node_affinity(field: &str, affinity: &NodeAffinity) -> FieldErrors {
    let mut errors = Vec::new();
    if let Some(required) = &affinity.required_during_scheduling_ignored_during_execution {
        let at = format!("{field}.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms");
        errors.extend(node_terms(&at, &required.node_selector_terms));
    }
    let preferred = affinity.preferred_during_scheduling_ignored_during_execution.iter();
    for (index, term) in preferred.flatten().enumerate() {
        let at = format!("{field}.preferredDuringSchedulingIgnoredDuringExecution[{index}]");
        errors.extend(weight(&at, term.weight));
        errors.extend(node_term(&format!("{at}.preference"), &term.preference));
    }
    errors
}

/// Checks the terms of a node selector, of which there has to be one.
pub(in super::super) fn node_terms(field: &str, terms: &[NodeSelectorTerm]) -> FieldErrors {
    let mut errors = Vec::new();
    if terms.is_empty() {
        let detail = "must have at least one node selector term";
        errors.push(FieldError::required(field, detail));
    }
    for (index, term) in terms.iter().enumerate() {
        errors.extend(node_term(&format!("{field}[{index}]"), term));
    }
    errors
}

/// Checks a term of a node selector.
fn node_term(field: &str, term: &NodeSelectorTerm) -> FieldErrors {
    let mut errors = Vec::new();
    for (index, wanted) in term.match_expressions.iter().flatten().enumerate() {
        let at = format!("{field}.matchExpressions[{index}]");
        errors.extend(requirement(&at, wanted));
        errors.extend(FieldError::each(
            &format!("{at}.key"),
            wanted.key.as_str(),
            names::qualified_name(&wanted.key),
        ));
    }
    for (index, wanted) in term.match_fields.iter().flatten().enumerate() {
        errors.extend(name_requirement(&format!("{field}.matchFields[{index}]"), wanted));
    }
    errors
}

fn requirement(field: &str, wanted: &NodeSelectorRequirement) -> FieldErrors {
    let values = wanted.values.as_deref().unwrap_or_default();
    let at = format!("{field}.values");
    match wanted.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => {
            let detail = "must be specified when `operator` is 'In' or 'NotIn'";
            vec![FieldError::required(at, detail)]
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            vec![FieldError::forbidden(at, detail)]
        }
        "Gt" | "Lt" if values.len() != 1 => {
            let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            vec![FieldError::required(at, detail)]
        }
        "In" | "NotIn" => values
            .iter()
            .enumerate()
            .flat_map(|(n, value)| FieldError::each(&format!("{at}[{n}]"), value.as_str(), names::label_value(value)))
            .collect(),
        "Exists" | "DoesNotExist" | "Gt" | "Lt" => Vec::new(),
        other => {
            let detail = "not a valid selector operator";
            vec![FieldError::invalid(format!("{field}.operator"), other, detail)]
        }
    }
}

/// A requirement on a field of the Node; there is only its name.
fn name_requirement(field: &str, wanted: &NodeSelectorRequirement) -> FieldErrors {
    let values = wanted.values.as_deref().unwrap_or_default();
    let mut errors = Vec::new();
    match wanted.operator.as_str() {
        "In" | "NotIn" if values.len() != 1 => {
            let detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            errors.push(FieldError::required(format!("{field}.values"), detail));
        }
        "In" | "NotIn" => {}
        other => {
            let detail = "not a valid selector operator";
            errors.push(FieldError::invalid(format!("{field}.operator"), other, detail));
        }
    }
    if wanted.key == "metadata.name" {
        for (n, value) in values.iter().enumerate() {
            let at = format!("{field}.values[{n}]");
            errors.extend(FieldError::each(&at, value.as_str(), names::dns_subdomain(value)));
        }
    } else {
        let detail = "not a valid field selector key";
        errors.push(FieldError::invalid(format!("{field}.key"), wanted.key.as_str(), detail));
    }
    errors
}

fn weighted(field: &str, term: &WeightedPodAffinityTerm) -> FieldErrors {
    let mut errors: FieldErrors = weight(field, term.weight).into_iter().collect();
    errors.extend(pod_term(&format!("{field}.podAffinityTerm"), &term.pod_affinity_term));
    errors
}

fn pod_term(field: &str, term: &PodAffinityTerm) -> FieldErrors {
    let mut errors = Vec::new();
    if let Some(selector) = &term.label_selector {
        errors.extend(labels::selector(&format!("{field}.labelSelector"), selector));
    }
    if let Some(selector) = &term.namespace_selector {
        errors.extend(labels::selector(&format!("{field}.namespaceSelector"), selector));
    }
    for name in term.namespaces.iter().flatten() {
        errors.extend(FieldError::each(
            &format!("{field}.namespace"),
            name.as_str(),
            names::dns_label(name),
        ));
    }
    let at = format!("{field}.topologyKey");
    if term.topology_key.is_empty() {
        errors.push(FieldError::required(at.as_str(), "can not be empty"));
    }
    errors.extend(FieldError::each(
        &at,
        term.topology_key.as_str(),
        names::qualified_name(&term.topology_key),
    ));
    let selector = term.label_selector.as_ref();
    for (child, keys) in [
        ("matchLabelKeys", &term.match_label_keys),
        ("mismatchLabelKeys", &term.mismatch_label_keys),
    ] {
        errors.extend(label_keys(&format!("{field}.{child}"), keys, selector));
    }
    errors.extend(selected_twice(field, &term.match_label_keys, selector));
    for (n, key) in term.match_label_keys.iter().flatten().enumerate() {
        if term.mismatch_label_keys.iter().flatten().any(|other| other == key) {
            let detail = "exists in both matchLabelKeys and mismatchLabelKeys";
            let at = format!("{field}.matchLabelKeys[{n}]");
            errors.push(FieldError::invalid(at, key.as_str(), detail));
        }
    }
    errors
}

/// Keys of labels that are to be added to a selector.
fn label_keys(field: &str, keys: &Option<Vec<String>>, selector: Option<&LabelSelector>) -> FieldErrors {
    let keys = keys.as_deref().unwrap_or_default();
    if !keys.is_empty() && selector.is_none() {
        let detail = "must not be specified when labelSelector is not set";
        return vec![FieldError::forbidden(field, detail)];
    }
    let each = |(n, key): (usize, &String)| {
        FieldError::each(&format!("{field}[{n}]"), key.as_str(), names::qualified_name(key))
    };
    keys.iter().enumerate().flat_map(each).collect()
}

/// Keys that were in the selector before they were added to it: a Pod's have been by the time it is checked.
fn selected_twice(field: &str, keys: &Option<Vec<String>>, selector: Option<&LabelSelector>) -> FieldErrors {
    let Some(selector) = selector else { return Vec::new() };
    let mut seen: BTreeSet<&String> = selector.match_labels.iter().flat_map(|labels| labels.keys()).collect();
    let mut errors = Vec::new();
    for requirement in selector.match_expressions.iter().flatten() {
        let known = !seen.insert(&requirement.key);
        let index = keys.iter().flatten().position(|key| *key == requirement.key);
        if let Some(n) = index.filter(|_| known) {
            let detail = "exists in both matchLabelKeys and labelSelector";
            let at = format!("{field}[{n}]");
            errors.push(FieldError::invalid(at, requirement.key.as_str(), detail));
        }
    }
    errors
}

/// Checks how a Pod wants to be spread.
pub(super) fn spread(field: &str, constraints: &[TopologySpreadConstraint]) -> FieldErrors {
    let mut errors = Vec::new();
    for (index, constraint) in constraints.iter().enumerate() {
        errors.extend(constraint_of(
            &format!("{field}[{index}]"),
            constraint,
            &constraints[index + 1..],
        ));
    }
    errors
}

/// A constraint that one of the `later` says again.
fn repeated(
    field: &str,
    constraint: &TopologySpreadConstraint,
    later: &[TopologySpreadConstraint],
) -> Option<FieldError> {
    let pair = |constraint: &TopologySpreadConstraint| {
        format!("{{{}, {}}}", constraint.topology_key, constraint.when_unsatisfiable)
    };
    let own = pair(constraint);
    let again = later.iter().any(|other| pair(other) == own);
    again.then(|| FieldError::duplicate(format!("{field}.{{topologyKey, whenUnsatisfiable}}"), own))
}

fn constraint_of(
    field: &str,
    constraint: &TopologySpreadConstraint,
    later: &[TopologySpreadConstraint],
) -> FieldErrors {
    let mut errors = Vec::new();
    if constraint.max_skew <= 0 {
        let at = format!("{field}.maxSkew");
        errors.push(FieldError::invalid(
            at,
            constraint.max_skew,
            "must be greater than zero",
        ));
    }
    if constraint.topology_key.is_empty() {
        errors.push(FieldError::required(format!("{field}.topologyKey"), "can not be empty"));
    }
    let choice = constraint.when_unsatisfiable.as_str();
    if !UNSATISFIABLE.contains(&choice) {
        let at = format!("{field}.whenUnsatisfiable");
        errors.push(FieldError::not_supported(at, choice, &UNSATISFIABLE));
    }
    errors.extend(repeated(field, constraint, later));
    if let Some(domains) = constraint.min_domains {
        let at = format!("{field}.minDomains");
        if domains <= 0 {
            errors.push(FieldError::invalid(at.as_str(), domains, "must be greater than zero"));
        }
        if choice != "DoNotSchedule" {
            let detail = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {choice}");
            errors.push(FieldError::invalid(at, domains, detail));
        }
    }
    for (child, policy) in [
        ("nodeAffinityPolicy", &constraint.node_affinity_policy),
        ("nodeTaintsPolicy", &constraint.node_taints_policy),
    ] {
        if let Some(policy) = policy.as_deref().filter(|policy| !INCLUSION.contains(policy)) {
            errors.push(FieldError::not_supported(
                format!("{field}.{child}"),
                policy,
                &INCLUSION,
            ));
        }
    }
    let selector = constraint.label_selector.as_ref();
    let at = format!("{field}.matchLabelKeys");
    errors.extend(label_keys(&at, &constraint.match_label_keys, selector));
    errors.extend(selected_twice(&at, &constraint.match_label_keys, selector));
    if let Some(selector) = selector {
        errors.extend(labels::selector(&format!("{field}.labelSelector"), selector));
    }
    errors
}
