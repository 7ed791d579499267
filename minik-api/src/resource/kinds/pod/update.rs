//! What may change in the spec of a Pod that is stored already.

use k8s_openapi::api::core::v1::{PodSpec, Toleration};

use super::pod_template;
use crate::resource::field::{FieldError, FieldErrors};

const UNCHANGEABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n";

/// Checks an update of a Pod's spec.
pub(super) fn validate(new: &PodSpec, old: &PodSpec) -> FieldErrors {
    let mut errors = pod_template::validate_spec("spec", new);
    errors.extend(pod_template::validate_images("spec", new));
    let counts = [
        ("spec.containers", new.containers.len(), old.containers.len()),
        ("spec.initContainers", count(new), count(old)),
    ];
    if let Some((field, ..)) = counts.into_iter().find(|(_, now, before)| now != before) {
        let detail = "pod updates may not add or remove containers";
        errors.push(FieldError::forbidden(field, detail));
        return errors;
    }
    errors.extend(deadline(new, old));
    errors.extend(tolerations(new, old));
    errors.extend(gates(new, old));
    if is_gated(old) {
        errors.extend(node_selector(new, old));
    }
    if with_changeable_fields_of(new, old) != *old {
        errors.push(FieldError::forbidden("spec", UNCHANGEABLE));
    }
    errors
}

fn count(spec: &PodSpec) -> usize {
    spec.init_containers.as_ref().map_or(0, Vec::len)
}

fn deadline(new: &PodSpec, old: &PodSpec) -> Option<FieldError> {
    const FIELD: &str = "spec.activeDeadlineSeconds";
    match (new.active_deadline_seconds, old.active_deadline_seconds) {
        (Some(now), _) if !(0..=i64::from(i32::MAX)).contains(&now) => Some(FieldError::invalid(
            FIELD,
            now,
            "must be between 0 and 2147483647, inclusive",
        )),
        (Some(now), Some(before)) if now > before => Some(FieldError::invalid(
            FIELD,
            now,
            "must be less than or equal to previous value",
        )),
        (None, Some(_)) => Some(FieldError::invalid(
            FIELD,
            serde_json::Value::Null,
            "must not update from a positive integer to nil value",
        )),
        _ => None,
    }
}

fn tolerations(new: &PodSpec, old: &PodSpec) -> FieldErrors {
    let now = new.tolerations.as_deref().unwrap_or_default();
    let kept = |before: &Toleration| {
        now.iter().any(|t| {
            Toleration {
                toleration_seconds: before.toleration_seconds,
                ..t.clone()
            } == *before
        })
    };
    let all_kept = old.tolerations.iter().flatten().all(kept);
    if !all_kept {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        return vec![FieldError::forbidden("spec.tolerations", detail)];
    }
    let each = now.iter().enumerate();
    each.flat_map(|(index, given)| pod_template::validate_toleration(&format!("spec.tolerations[{index}]"), given))
        .collect()
}

fn is_gated(spec: &PodSpec) -> bool {
    spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty())
}

/// Gates only open.
fn gates(new: &PodSpec, old: &PodSpec) -> FieldErrors {
    let known = |name: &str| old.scheduling_gates.iter().flatten().any(|gate| gate.name == name);
    let gates = new.scheduling_gates.iter().flatten().enumerate();
    gates
        .filter(|(_, gate)| !known(&gate.name))
        .map(|(index, gate)| {
            let detail = format!(
                "only deletion is allowed, but found new scheduling gate '{}'",
                gate.name
            );
            FieldError::forbidden(format!("spec.schedulingGates[{index}].name"), detail)
        })
        .collect()
}

/// While a Pod is gated it may become choosier.
fn node_selector(new: &PodSpec, old: &PodSpec) -> Option<FieldError> {
    let kept =
        |(key, value): (&String, &String)| new.node_selector.as_ref().and_then(|all| all.get(key)) == Some(value);
    let all_kept = old.node_selector.iter().flatten().all(kept);
    let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
    (!all_kept).then(|| FieldError::invalid("spec.nodeSelector", serde_json::json!(new.node_selector), detail))
}

/// `new` with all that an update may change put back to `old`.
fn with_changeable_fields_of(new: &PodSpec, old: &PodSpec) -> PodSpec {
    let mut spec = new.clone();
    for (container, before) in spec.containers.iter_mut().zip(&old.containers) {
        container.image.clone_from(&before.image);
    }
    let before = old.init_containers.iter().flatten();
    for (container, before) in spec.init_containers.iter_mut().flatten().zip(before) {
        container.image.clone_from(&before.image);
    }
    spec.active_deadline_seconds = old.active_deadline_seconds;
    spec.tolerations.clone_from(&old.tolerations);
    spec.scheduling_gates.clone_from(&old.scheduling_gates);
    if is_gated(old) {
        spec.node_selector.clone_from(&old.node_selector);
    }
    if old.termination_grace_period_seconds.is_some_and(|s| s < 0) && spec.termination_grace_period_seconds == Some(1) {
        spec.termination_grace_period_seconds = old.termination_grace_period_seconds;
    }
    spec
}
