//! When a Job gives up, when it has succeeded, and when a Pod is replaced: `podFailurePolicy`,
//! `successPolicy` and `podReplacementPolicy`.

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::{
    JobSpec, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
    SuccessPolicyRule,
};

use super::super::workload::non_negative;
use super::status::count_indexes;
use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::validation::names;

const MOST_RULES: usize = 20;
const MOST_EXIT_CODES: usize = 255;
const MOST_INDEX_TEXT: usize = 64 * 1024;
const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];
const OPERATORS: [&str; 2] = ["In", "NotIn"];
const STATUSES: [&str; 3] = ["False", "True", "Unknown"];

/// Fills in the policies of a Job.
pub(super) fn default(spec: &mut JobSpec) {
    let replaced = match &spec.pod_failure_policy {
        Some(_) => "Failed",
        None => "TerminatingOrFailed",
    };
    spec.pod_replacement_policy.get_or_insert_with(|| replaced.to_owned());
    let rules = spec.pod_failure_policy.iter_mut().flat_map(|p| &mut p.rules);
    for pattern in rules.flat_map(|rule| rule.on_pod_conditions.iter_mut().flatten()) {
        pattern.status.get_or_insert_with(|| "True".to_owned());
    }
}

/// Checks the policies of a Job.
pub(super) fn validate(field: &str, spec: &JobSpec) -> FieldErrors {
    let mut errors = failure(&format!("{field}.podFailurePolicy.rules"), spec);
    errors.extend(success(&format!("{field}.successPolicy"), spec));
    errors.extend(replacement(&format!("{field}.podReplacementPolicy"), spec));
    errors
}

fn failure(field: &str, spec: &JobSpec) -> FieldErrors {
    let Some(policy) = &spec.pod_failure_policy else {
        return Vec::new();
    };
    let mut errors = too_many(field, policy.rules.len(), MOST_RULES);
    let pod = spec.template.spec.as_ref();
    let containers: BTreeSet<&str> = pod
        .into_iter()
        .flat_map(|pod| pod.containers.iter().chain(pod.init_containers.iter().flatten()))
        .map(|container| container.name.as_str())
        .collect();
    for (index, rule) in policy.rules.iter().enumerate() {
        errors.extend(failure_rule(&format!("{field}[{index}]"), rule, spec, &containers));
    }
    errors
}

fn failure_rule(field: &str, rule: &PodFailurePolicyRule, spec: &JobSpec, containers: &BTreeSet<&str>) -> FieldErrors {
    let mut errors = Vec::new();
    let at = format!("{field}.action");
    match rule.action.as_str() {
        "FailIndex" if spec.backoff_limit_per_index.is_none() => {
            let detail = "requires the backoffLimitPerIndex to be set";
            errors.push(FieldError::invalid(at, "FailIndex", detail));
        }
        "FailIndex" => {}
        action => errors.extend(listed(&at, action, &ACTIONS)),
    }
    let conditions = rule.on_pod_conditions.as_deref().unwrap_or_default();
    if let Some(codes) = &rule.on_exit_codes {
        errors.extend(exit_codes(&format!("{field}.onExitCodes"), codes, containers));
    }
    let at = format!("{field}.onPodConditions");
    errors.extend(too_many(&at, conditions.len(), MOST_RULES));
    for (index, pattern) in conditions.iter().enumerate() {
        errors.extend(pod_condition(&format!("{at}[{index}]"), pattern));
    }
    match (rule.on_exit_codes.is_some(), conditions.is_empty()) {
        (true, false) => errors.push(FieldError::invalid_without_value(
            field,
            "specifying both OnExitCodes and OnPodConditions is not supported",
        )),
        (false, true) => errors.push(FieldError::invalid_without_value(
            field,
            "specifying one of OnExitCodes and OnPodConditions is required",
        )),
        _ => {}
    }
    errors
}

fn pod_condition(field: &str, pattern: &PodFailurePolicyOnPodConditionsPattern) -> FieldErrors {
    let kind = pattern.type_.as_str();
    let mut errors = FieldError::each(&format!("{field}.type"), kind, names::qualified_name(kind));
    let status = pattern.status.as_deref().unwrap_or_default();
    errors.extend(listed(&format!("{field}.status"), status, &STATUSES));
    errors
}

fn exit_codes(field: &str, codes: &PodFailurePolicyOnExitCodesRequirement, containers: &BTreeSet<&str>) -> FieldErrors {
    let mut errors = Vec::new();
    errors.extend(listed(&format!("{field}.operator"), &codes.operator, &OPERATORS));
    if let Some(name) = codes
        .container_name
        .as_deref()
        .filter(|name| !containers.contains(name))
    {
        let detail = "must be one of the container or initContainer names in the pod template";
        errors.push(FieldError::invalid(format!("{field}.containerName"), name, detail));
    }
    let at = format!("{field}.values");
    let values = &codes.values;
    if values.is_empty() {
        errors.push(FieldError::invalid(
            at.as_str(),
            values.clone(),
            "at least one value is required",
        ));
    }
    errors.extend(too_many(&at, values.len(), MOST_EXIT_CODES));
    let mut taken = BTreeSet::new();
    for (index, value) in values.iter().enumerate() {
        let at = format!("{at}[{index}]");
        if codes.operator == "In" && *value == 0 {
            errors.push(FieldError::invalid(at.as_str(), 0, "must not be 0 for the In operator"));
        }
        if !taken.insert(*value) {
            errors.push(FieldError::duplicate(at, *value));
        }
    }
    if !values.is_sorted() {
        errors.push(FieldError::invalid(at, values.clone(), "must be ordered"));
    }
    errors
}

fn success(field: &str, spec: &JobSpec) -> FieldErrors {
    let Some(policy) = &spec.success_policy else {
        return Vec::new();
    };
    if spec.completion_mode.as_deref() != Some("Indexed") {
        let value = serde_json::to_value(policy).unwrap_or_default();
        return vec![FieldError::invalid(field, value, "requires indexed completion mode")];
    }
    let mut errors = Vec::new();
    let at = format!("{field}.rules");
    if policy.rules.is_empty() {
        let detail = "at least one rules must be specified when the successPolicy is specified";
        errors.push(FieldError::required(at.as_str(), detail));
    }
    errors.extend(too_many(&at, policy.rules.len(), MOST_RULES));
    let wanted = spec.completions.unwrap_or_default();
    for (index, rule) in policy.rules.iter().enumerate() {
        errors.extend(success_rule(&format!("{at}[{index}]"), rule, wanted));
    }
    errors
}

fn success_rule(field: &str, rule: &SuccessPolicyRule, wanted: i32) -> FieldErrors {
    let mut errors = Vec::new();
    if rule.succeeded_count.is_none() && rule.succeeded_indexes.is_none() {
        let detail = "at least one of succeededCount or succeededIndexes must be specified";
        errors.push(FieldError::required(field, detail));
    }
    let mut listed = None;
    if let Some(indexes) = &rule.succeeded_indexes {
        let at = format!("{field}.succeededIndexes");
        if indexes.len() > MOST_INDEX_TEXT {
            errors.push(FieldError::too_long(at.as_str(), MOST_INDEX_TEXT));
        }
        match count_indexes(indexes, wanted) {
            Ok(count) => listed = Some(count),
            Err(problem) => {
                listed = Some(0);
                let detail = format!("error parsing succeededIndexes: {problem}");
                errors.push(FieldError::invalid(at, indexes.as_str(), detail));
            }
        }
    }
    if let Some(count) = rule.succeeded_count {
        let at = format!("{field}.succeededCount");
        errors.extend(non_negative(&at, Some(count)));
        if count > wanted {
            let detail = format!("must be less than or equal to {wanted} (the number of specified completions)");
            errors.push(FieldError::invalid(at.as_str(), count, detail));
        }
        if let Some(listed) = listed.filter(|listed| count > *listed) {
            let detail = format!(
                "must be less than or equal to {listed} (the number of indexes in the specified succeededIndexes field)"
            );
            errors.push(FieldError::invalid(at, count, detail));
        }
    }
    errors
}

fn replacement(field: &str, spec: &JobSpec) -> Option<FieldError> {
    let policy = spec.pod_replacement_policy.as_deref()?;
    let supported: &[&str] = match &spec.pod_failure_policy {
        Some(_) => &["Failed"],
        None => &["Failed", "TerminatingOrFailed"],
    };
    (!supported.contains(&policy)).then(|| FieldError::not_supported(field, policy, supported))
}

/// Required, with the choices in the text, and one of `values`.
fn listed(field: &str, given: &str, values: &[&str]) -> Option<FieldError> {
    match given {
        "" => {
            let quoted: Vec<String> = values.iter().map(|v| format!("{v:?}")).collect();
            let detail = format!("valid values: [{}]", quoted.join(" "));
            Some(FieldError::required(field, detail))
        }
        given if values.contains(&given) => None,
        given => Some(FieldError::not_supported(field, given, values)),
    }
}

fn too_many(field: &str, count: usize, most: usize) -> FieldErrors {
    let beyond = (count > most).then(|| FieldError::too_many(field, count, most));
    beyond.into_iter().collect()
}
