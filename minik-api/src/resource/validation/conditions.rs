//! Conditions of the shared type (`metav1.Condition`), as apimachinery's `ValidateConditions` judges them.

use std::sync::LazyLock;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use regex::Regex;

use super::names;
use crate::resource::field::{FieldError, FieldErrors};

const REASON: &str = "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$";
const LONGEST_REASON: usize = 1024;
const LONGEST_MESSAGE: usize = 32 * 1024;
/// Seconds from 1970 back to Go's zero time, which stands for a time that nobody gave.
const ZERO_TIME: i64 = -62_135_596_800;

static REASONS: LazyLock<Regex> = LazyLock::new(|| Regex::new(REASON).expect("a pattern of ours"));

/// Everything that is wrong with a list of conditions, of which there is one a type.
#[must_use]
pub fn validate(field: &str, conditions: &[Condition]) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (index, condition) in conditions.iter().enumerate() {
        let field = format!("{field}[{index}]");
        if conditions[..index].iter().any(|other| other.type_ == condition.type_) {
            errors.push(FieldError::duplicate(format!("{field}.type"), condition.type_.as_str()));
        }
        errors.extend(one(&field, condition));
    }
    errors
}

fn one(field: &str, condition: &Condition) -> FieldErrors {
    let kind = condition.type_.as_str();
    let mut errors = FieldError::each(&format!("{field}.type"), kind, names::qualified_name(kind));
    let status = condition.status.as_str();
    let statuses = ["False", "True", "Unknown"];
    if !statuses.contains(&status) {
        errors.push(FieldError::not_supported(format!("{field}.status"), status, &statuses));
    }
    if let Some(generation) = condition.observed_generation.filter(|generation| *generation < 0) {
        let detail = "must be greater than or equal to zero";
        errors.push(FieldError::invalid(
            format!("{field}.observedGeneration"),
            generation,
            detail,
        ));
    }
    if condition.last_transition_time.0.as_second() == ZERO_TIME {
        errors.push(FieldError::required(format!("{field}.lastTransitionTime"), ""));
    }
    let reason = condition.reason.as_str();
    if reason.is_empty() {
        errors.push(FieldError::required(format!("{field}.reason"), ""));
    } else if !REASONS.is_match(reason) {
        let detail = format!(
            "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name', or 'MY_NAME', or 'MyName', or 'ReasonA,ReasonB', or 'ReasonA:ReasonB', regex used for validation is '{}')",
            REASON.trim_start_matches('^').trim_end_matches('$')
        );
        errors.push(FieldError::invalid(format!("{field}.reason"), reason, detail));
    }
    if reason.len() > LONGEST_REASON {
        errors.push(FieldError::too_long(format!("{field}.reason"), LONGEST_REASON));
    }
    if condition.message.len() > LONGEST_MESSAGE {
        errors.push(FieldError::too_long(format!("{field}.message"), LONGEST_MESSAGE));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_part_of_a_condition_is_judged() {
        let good = json!({"type": "example.com/Ready", "status": "True", "reason": "AllGood", "message": "",
            "lastTransitionTime": "2026-01-02T03:04:05Z"});
        let bad = json!({"type": "a b", "status": "Maybe", "reason": "not good", "message": "", "observedGeneration": -1,
            "lastTransitionTime": "0001-01-01T00:00:00Z"});
        let conditions: Vec<Condition> = serde_json::from_value(json!([good, bad, good])).expect("are conditions");
        let errors = validate("status.conditions", &conditions);
        let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "status.conditions[1].type",
                "status.conditions[1].status",
                "status.conditions[1].observedGeneration",
                "status.conditions[1].lastTransitionTime",
                "status.conditions[1].reason",
                "status.conditions[2].type",
            ]
        );
    }
}
