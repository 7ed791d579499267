//! Names and amounts of resources: `cpu`, `requests.memory`, `example.com/gpu` and what may be said of each.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;

use super::names;
use super::quantity::Quantity;
use crate::resource::field::{FieldError, FieldErrors};

/// Resources that a container can ask for without a prefix of their own.
const CONTAINER: [&str; 3] = ["cpu", "ephemeral-storage", "memory"];
/// Resources that a quota counts, over those of containers.
const QUOTA: [&str; 16] = [
    "configmaps",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];
/// Resources that come in whole numbers.
const WHOLE: [&str; 9] = [
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];
const HUGE_PAGES: &str = "hugepages-";
const NANO: i128 = 1_000_000_000;

/// The amount in billionths; `None` for what is no quantity, which the decoder has refused already.
#[must_use]
pub fn nanos(amount: &Amount) -> Option<i128> {
    Quantity::parse(&amount.0).ok().map(Quantity::nanos)
}

/// Whether `name` is of Kubernetes itself.
#[must_use]
pub fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether `name` is of a device that a plugin brings (`example.com/gpu`).
#[must_use]
pub fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// Whether more of `name` may be promised than there is.
#[must_use]
pub fn may_be_overcommitted(name: &str) -> bool {
    is_native(name) && !name.starts_with(HUGE_PAGES)
}

/// Checks the name of any resource.
#[must_use]
pub fn name(field: &str, name: &str) -> FieldErrors {
    let known = || CONTAINER.contains(&name) || QUOTA.contains(&name) || name == "storage";
    standard(
        field,
        name,
        known,
        "must be a standard resource type or fully qualified",
    )
}

/// Checks the name of a resource that containers ask for.
#[must_use]
pub fn container_name(field: &str, name: &str) -> FieldErrors {
    let mut errors = self::name(field, name);
    if !name.contains('/') && !CONTAINER.contains(&name) && !name.starts_with(HUGE_PAGES) {
        errors.push(FieldError::invalid(
            field,
            name,
            "must be a standard resource for containers",
        ));
    } else if !is_native(name) && !is_extended(name) {
        errors.push(FieldError::invalid(
            field,
            name,
            "doesn't follow extended resource name standard",
        ));
    }
    errors
}

/// Checks the name of a resource that a quota limits.
#[must_use]
pub fn quota_name(field: &str, name: &str) -> FieldErrors {
    let mut errors = self::name(field, name);
    if !name.contains('/') && !is_standard_quota(name) && !name.starts_with(HUGE_PAGES) {
        errors.push(FieldError::invalid(
            field,
            name,
            "must be a standard resource for quota",
        ));
    }
    errors
}

/// Whether a quota knows `name` without a prefix.
#[must_use]
pub fn is_standard_quota(name: &str) -> bool {
    CONTAINER.contains(&name) || QUOTA.contains(&name) || name.starts_with("requests.hugepages-")
}

fn standard(field: &str, name: &str, known: impl FnOnce() -> bool, detail: &str) -> FieldErrors {
    let problems = names::qualified_name(name);
    if !problems.is_empty() {
        return FieldError::each(field, name, problems);
    }
    let plain = !name.contains('/');
    let huge = name.starts_with(HUGE_PAGES) || name.starts_with("requests.hugepages-");
    if plain && !huge && !known() {
        return vec![FieldError::invalid(field, name, detail)];
    }
    Vec::new()
}

/// Checks that an amount of `name` is not below zero, and whole where halves make no sense.
#[must_use]
pub fn amount(field: &str, name: &str, amount: &Amount) -> FieldErrors {
    let Some(nanos) = nanos(amount) else { return Vec::new() };
    let mut errors = Vec::new();
    if nanos < 0 {
        let detail = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(field, amount.0.as_str(), detail));
    }
    if nanos % NANO != 0 && (WHOLE.contains(&name) || is_extended(name)) {
        errors.push(FieldError::invalid(field, amount.0.as_str(), "must be an integer"));
    }
    errors
}

/// Checks that an amount is above zero.
#[must_use]
pub fn positive(field: &str, amount: &Amount) -> Option<FieldError> {
    let above = nanos(amount).is_none_or(|nanos| nanos > 0);
    (!above).then(|| FieldError::invalid(field, amount.0.as_str(), "must be greater than zero"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_knows_which_resource() {
        let texts = |errors: FieldErrors| errors.into_iter().map(|e| e.detail).collect::<Vec<_>>();
        assert_eq!(texts(container_name("f", "cpu")), [""; 0]);
        assert_eq!(texts(container_name("f", "hugepages-2Mi")), [""; 0]);
        assert_eq!(texts(container_name("f", "example.com/gpu")), [""; 0]);
        assert_eq!(
            texts(container_name("f", "gpu")),
            [
                "must be a standard resource type or fully qualified",
                "must be a standard resource for containers"
            ]
        );
        assert_eq!(
            texts(container_name("f", "pods")),
            ["must be a standard resource for containers"]
        );
        assert_eq!(texts(quota_name("f", "services.nodeports")), [""; 0]);
        assert_eq!(texts(quota_name("f", "count/jobs.batch")), [""; 0]);
        assert_eq!(
            texts(quota_name("f", "storage")),
            ["must be a standard resource for quota"]
        );
    }
}
