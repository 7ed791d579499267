//! scheduling.k8s.io/v1 PriorityClass: a name for how much a Pod matters.

use jiff::Timestamp;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde_json::Value;

use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::validation::meta::{self, Scope};
use crate::resource::validation::names;
use crate::resource::{Column, KindInfo, Strategy, print};

pub(super) const INFO: KindInfo = KindInfo {
    group: "scheduling.k8s.io",
    kind: "PriorityClass",
    plural: "priorityclasses",
    singular: "priorityclass",
    short_names: &["pc"],
    namespaced: false,
    schema: "io.k8s.api.scheduling.v1.PriorityClass",
    ..super::CORE
};

/// The highest value that people may give; what is above belongs to the system.
const MOST: i32 = 1_000_000_000;
/// The classes of the system, which exist from the start.
const SYSTEM: [(&str, i32); 2] = [
    ("system-node-critical", 2 * MOST + 1000),
    ("system-cluster-critical", 2 * MOST),
];
/// What only names of the system's classes start with.
const PREFIX: &str = "system-";

const COLUMNS: &[Column] = &[
    print::NAME,
    print::integer(
        "Value",
        0,
        "value represents the integer value of this priority class. This is the actual priority that pods receive when they have the name of this class in their pod spec.",
    ),
    Column {
        kind: "boolean",
        ..print::text(
            "Global-Default",
            0,
            "globalDefault specifies whether this PriorityClass should be considered as the default priority for pods that do not have any priority class. Only one PriorityClass can be marked as `globalDefault`. However, if more than one PriorityClasses exists with their `globalDefault` field set to true, the smallest value of such global default PriorityClasses will be used as the default priority.",
        )
    },
    print::AGE,
    print::text(
        "PreemptionPolicy",
        0,
        "preemptionPolicy is the Policy for preempting pods with lower priority. One of Never, PreemptLowerPriority. Defaults to PreemptLowerPriority if unset.",
    ),
];

/// How PriorityClasses behave.
pub(super) struct PriorityClasses;

impl Strategy for PriorityClasses {
    type Object = PriorityClass;

    fn default(&self, object: &mut PriorityClass) {
        object.value.get_or_insert_default();
        object
            .preemption_policy
            .get_or_insert_with(|| "PreemptLowerPriority".to_owned());
    }

    fn prepare_for_create(&self, object: &mut PriorityClass) {
        object.metadata.generation = Some(1);
    }

    fn validate(&self, object: &PriorityClass) -> FieldErrors {
        let mut errors = meta::validate(&object.metadata, Scope::Cluster, names::dns_subdomain);
        let name = object.metadata.name.as_deref().unwrap_or_default();
        if name.starts_with(PREFIX) {
            errors.extend(system(name, object));
        } else if object.value > Some(MOST) {
            let detail = format!("maximum allowed value of a user defined priority is {MOST}");
            errors.push(FieldError::forbidden("value", detail));
        }
        if let Some(policy) = object.preemption_policy.as_deref() {
            const POLICIES: &[&str] = &["PreemptLowerPriority", "Never"];
            match policy {
                "" => errors.push(FieldError::required("preemptionPolicy", "")),
                other if !POLICIES.contains(&other) => {
                    errors.push(FieldError::not_supported("preemptionPolicy", other, POLICIES));
                }
                _ => {}
            }
        }
        errors
    }

    fn validate_update(&self, new: &PriorityClass, old: &PriorityClass) -> FieldErrors {
        let mut errors = meta::contents(&new.metadata);
        if new.value != old.value {
            errors.push(FieldError::forbidden("value", "may not be changed in an update."));
        }
        if new.preemption_policy != old.preemption_policy {
            let value = new.preemption_policy.clone().map_or(Value::Null, Value::from);
            errors.push(FieldError::immutable("preemptionPolicy", value));
        }
        errors
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &PriorityClass, now: Timestamp) -> Vec<Value> {
        vec![
            print::name(&object.metadata),
            Value::from(object.value.unwrap_or_default()),
            Value::from(object.global_default.unwrap_or_default()),
            print::age(&object.metadata, now),
            Value::from(object.preemption_policy.clone().unwrap_or_default()),
        ]
    }
}

/// A name of the system may be had only by the system's own class.
fn system(name: &str, object: &PriorityClass) -> Option<FieldError> {
    let error = match SYSTEM.into_iter().find(|(known, _)| *known == name) {
        None => format!("{name} is not a known system priority class"),
        Some((_, value)) if object.value != Some(value) => {
            format!("value of {name} PriorityClass must be {value}")
        }
        Some(_) if object.global_default == Some(true) => {
            format!("globalDefault of {name} PriorityClass must be false")
        }
        Some(_) => return None,
    };
    let detail =
        format!("priority class names with '{PREFIX}' prefix are reserved for system use only. error: {error}");
    Some(FieldError::forbidden("metadata.name", detail))
}
