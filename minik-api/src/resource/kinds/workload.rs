//! What the kinds that make Pods from a template have in common: printer columns, the check of a template
//! against its selector, counts, and the step of `metadata.generation`. Pure; called by those kinds' strategies.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use super::pod_template;
use crate::resource::field::{FieldError, FieldErrors, Shown};
use crate::resource::validation::{labels, names};
use crate::resource::{Column, print};

/// Wide column with the names of the template's containers.
pub(super) const CONTAINERS: Column = print::text("Containers", 1, "Names of each container in the template.");
/// Wide column with their images.
pub(super) const IMAGES: Column = print::text("Images", 1, "Images referenced by each container in the template.");

const TEMPLATE: &str = "spec.template";
const SELECTOR: &str = "spec.selector";

/// Sets the generation that an update leaves: one more where `changed`.
pub(super) fn step_generation(new: &mut ObjectMeta, old: &ObjectMeta, changed: bool) {
    let generation = old.generation.unwrap_or(1);
    new.generation = Some(if changed { generation + 1 } else { generation });
}

/// Checks the selector of a kind that errors call `kind`. The decoder leaves an empty map of labels in one that was
/// given and says nothing, which the type could not tell from none.
pub(super) fn check_selector(kind: &str, selector: &LabelSelector) -> FieldErrors {
    if *selector == LabelSelector::default() {
        return vec![FieldError::required(SELECTOR, "")];
    }
    let mut errors = labels::selector(SELECTOR, selector);
    errors.extend(empty_selector(kind, selector));
    errors
}

/// A selector that was given and says nothing.
pub(super) fn empty_selector(kind: &str, selector: &LabelSelector) -> Option<FieldError> {
    let empty = *selector != LabelSelector::default() && says_nothing(selector);
    let detail = || format!("empty selector is invalid for {kind}");
    empty.then(|| FieldError::invalid_shown(SELECTOR, shown_selector(selector), detail()))
}

fn says_nothing(selector: &LabelSelector) -> bool {
    let labels = selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty);
    labels && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}

/// A selector in Go's order of fields.
pub(super) fn shown_selector(selector: &LabelSelector) -> Shown {
    let labels = selector.match_labels.as_ref().filter(|labels| !labels.is_empty());
    let labels = labels.map(|labels| format!("\"matchLabels\":{}", json!(labels)));
    let expressions = selector.match_expressions.as_ref().filter(|all| !all.is_empty());
    let expressions = expressions.map(|all| format!("\"matchExpressions\":{}", json!(all)));
    let fields: Vec<String> = labels.into_iter().chain(expressions).collect();
    Shown::Struct(format!("{{{}}}", fields.join(",")))
}

/// Checks the template of a `kind` that keeps Pods running; a selector that is none (`unreadable` says so) selects
/// nothing, and the template is not looked at.
pub(super) fn check_template(
    kind: &str,
    unreadable: &str,
    selector: &LabelSelector,
    template: &PodTemplateSpec,
) -> FieldErrors {
    if !labels::selector(SELECTOR, selector).is_empty() {
        let error = FieldError::invalid_shown(SELECTOR, shown_selector(selector), unreadable);
        return vec![error];
    }
    // A missing selector selects nothing, an empty one everything.
    let selected = *selector != LabelSelector::default() && selects(selector, template);
    check_selected_template(kind, selected, template)
}

/// As [`check_template`], where the caller knows whether the selector selects the template's labels.
pub(super) fn check_selected_template(kind: &str, selected: bool, template: &PodTemplateSpec) -> FieldErrors {
    let mut errors: FieldErrors = mismatch(selected, template).into_iter().collect();
    errors.extend(pod_template::validate_template(TEMPLATE, template));
    let restart = restart_policy(template);
    if matches!(restart, "Never" | "OnFailure") {
        errors.push(only_always(restart));
    }
    errors.extend(no_deadline(kind, template));
    errors
}

/// The template's labels are not what its selector looks for.
pub(super) fn mismatch(selected: bool, template: &PodTemplateSpec) -> Option<FieldError> {
    let value = || match pod_template::labels_of(Some(template)) {
        labels if labels.is_empty() => Value::Null,
        labels => labels.into_iter().collect(),
    };
    let detail = "`selector` does not match template `labels`";
    (!selected).then(|| FieldError::invalid("spec.template.metadata.labels", value(), detail))
}

/// Whether `selector` selects the Pods of `template`.
pub(super) fn selects(selector: &LabelSelector, template: &PodTemplateSpec) -> bool {
    labels::selects(selector, &pod_template::labels_of(Some(template)))
}

/// The template's restart policy, empty when there is none.
pub(super) fn restart_policy(template: &PodTemplateSpec) -> &str {
    let spec = template.spec.as_ref();
    spec.and_then(|s| s.restart_policy.as_deref()).unwrap_or_default()
}

/// Pods that are kept running restart always.
pub(super) fn only_always(restart: &str) -> FieldError {
    FieldError::not_supported("spec.template.spec.restartPolicy", restart, &["Always"])
}

/// Pods that are kept running have no deadline.
pub(super) fn no_deadline(kind: &str, template: &PodTemplateSpec) -> Option<FieldError> {
    let deadline = template.spec.as_ref().and_then(|s| s.active_deadline_seconds);
    deadline.map(|_| {
        FieldError::forbidden(
            "spec.template.spec.activeDeadlineSeconds",
            format!("activeDeadlineSeconds in {kind} is not Supported"),
        )
    })
}

/// A selector that no update may change.
pub(super) fn immutable_selector(new: &LabelSelector, old: &LabelSelector) -> Option<FieldError> {
    (new != old).then(|| FieldError::invalid_shown(SELECTOR, shown_selector(new), "field is immutable"))
}

/// A number that may not be below zero.
pub(super) fn non_negative<N>(field: &str, number: Option<N>) -> Option<FieldError>
where
    N: Copy + Into<i64>,
{
    let number: i64 = number?.into();
    (number < 0).then(|| FieldError::invalid(field, number, "must be greater than or equal to 0"))
}

/// [`non_negative`] of several fields below `parent`.
pub(super) fn all_non_negative<const N: usize>(parent: &str, counts: [(&str, Option<i64>); N]) -> FieldErrors {
    let checked = counts.into_iter();
    checked
        .filter_map(|(child, count)| non_negative(&format!("{parent}.{child}"), count))
        .collect()
}

/// A strategy as the internal struct of a Deployment or DaemonSet: its type, and at most how many are unavailable and
/// too many while it rolls.
pub(super) fn shown_strategy(
    kind: Option<&str>,
    rolling: Option<(&Option<IntOrString>, &Option<IntOrString>)>,
) -> Shown {
    let amount = |amount: &Option<IntOrString>| json!(amount.clone().unwrap_or(IntOrString::Int(0))).into();
    let rolling = rolling
        .map(|(unavailable, surge)| Shown::go([("MaxUnavailable", amount(unavailable)), ("MaxSurge", amount(surge))]));
    Shown::go([
        ("Type", json!(kind.unwrap_or_default()).into()),
        ("RollingUpdate", Shown::pointer(rolling)),
    ])
}

/// The number, or the percentage without its sign.
pub(super) fn number(amount: &IntOrString) -> Option<i32> {
    match amount {
        IntOrString::Int(n) => Some(*n),
        IntOrString::String(text) => text.strip_suffix('%')?.parse().ok(),
    }
}

/// A count, or a percentage of the whole.
pub(super) fn count_or_percent(field: &str, amount: &IntOrString) -> Option<FieldError> {
    match amount {
        IntOrString::Int(n) => non_negative(field, Some(*n)),
        IntOrString::String(text) => {
            let digits = text.strip_suffix('%').unwrap_or_default();
            let valid = !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit());
            let detail = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
            (!valid).then(|| FieldError::invalid(field, text.as_str(), detail))
        }
    }
}

/// A percentage of more than all.
pub(super) fn more_than_all(field: &str, amount: &IntOrString) -> Option<FieldError> {
    let IntOrString::String(text) = amount else { return None };
    let beyond = number(amount).is_some_and(|n| n > 100);
    beyond.then(|| FieldError::invalid(field, text.as_str(), "must not be greater than 100%"))
}

/// What is said of a name that Pods cannot carry as their host name.
pub(super) fn name_warning(metadata: &ObjectMeta) -> Option<String> {
    let problems = names::dns_label(metadata.name.as_deref()?);
    let listed = problems.join(" ");
    (!problems.is_empty()).then(|| {
        format!(
            "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [{listed}]"
        )
    })
}

/// A selector of equal labels in the form of a [`LabelSelector`].
pub(super) fn equal_labels(selector: Option<&BTreeMap<String, String>>) -> LabelSelector {
    LabelSelector {
        match_labels: selector.cloned(),
        match_expressions: None,
    }
}
