//! Label maps and label selectors in objects.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::names;
use crate::resource::field::{FieldError, FieldErrors};

/// Checks the keys and values of a label map.
#[must_use]
pub fn map(field: &str, labels: &BTreeMap<String, String>) -> FieldErrors {
    let mut errors = Vec::new();
    for (key, value) in labels {
        errors.extend(FieldError::each(field, key.as_str(), names::qualified_name(key)));
        errors.extend(FieldError::each(field, value.as_str(), names::label_value(value)));
    }
    errors
}

/// Checks a label selector.
#[must_use]
pub fn selector(field: &str, selector: &LabelSelector) -> FieldErrors {
    let mut errors = Vec::new();
    if let Some(labels) = &selector.match_labels {
        errors.extend(map(&format!("{field}.matchLabels"), labels));
    }
    for (index, expression) in selector.match_expressions.iter().flatten().enumerate() {
        let at = format!("{field}.matchExpressions[{index}]");
        let values = expression.values.as_deref().unwrap_or_default();
        match expression.operator.as_str() {
            "In" | "NotIn" if values.is_empty() => {
                let detail = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.push(FieldError::required(format!("{at}.values"), detail));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(FieldError::forbidden(format!("{at}.values"), detail));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                errors.push(FieldError::invalid(
                    format!("{at}.operator"),
                    other,
                    "not a valid selector operator",
                ));
            }
        }
        errors.extend(FieldError::each(
            &format!("{at}.key"),
            expression.key.as_str(),
            names::qualified_name(&expression.key),
        ));
        for (n, value) in values.iter().enumerate() {
            let at = format!("{at}.values[{n}]");
            errors.extend(FieldError::each(&at, value.as_str(), names::label_value(value)));
        }
    }
    errors
}

/// Whether a selector selects these labels; an empty one selects everything.
#[must_use]
pub fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector
        .match_labels
        .iter()
        .flatten()
        .all(|(key, value)| labels.get(key) == Some(value));
    equal
        && selector.match_expressions.iter().flatten().all(|expression| {
            let value = labels.get(&expression.key);
            let listed = |v: &String| expression.values.iter().flatten().any(|listed| listed == v);
            match expression.operator.as_str() {
                "In" => value.is_some_and(listed),
                "NotIn" => !value.is_some_and(listed),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}
