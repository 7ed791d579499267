//! Event (core/v1).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use serde_json::Value;

use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::validation::meta::{self, Scope};
use crate::resource::validation::names;
use crate::resource::{Column, KindInfo, Strategy, print};

pub(super) const INFO: KindInfo = KindInfo {
    kind: "Event",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    schema: "io.k8s.api.core.v1.Event",
    ..super::CORE
};

const SELECTABLE: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

pub(super) const COLUMNS: &[Column] = &[
    print::text(
        "Last Seen",
        0,
        "The time at which the most recent occurrence of this event was recorded.",
    ),
    print::text(
        "Type",
        0,
        "Type of this event (Normal, Warning), new types could be added in the future",
    ),
    print::text(
        "Reason",
        0,
        "This should be a short, machine understandable string that gives the reason for the transition into the object's current status.",
    ),
    print::text("Object", 0, "The object that this event is about."),
    print::text(
        "Subobject",
        1,
        "If referring to a piece of an object instead of an entire object, this string should contain a valid JSON/Go field access statement, such as desiredState.manifest.containers[2]. For example, if the object reference is to a container within a pod, this would take on a value like: \"spec.containers{name}\" (where \"name\" refers to the name of the container that triggered the event) or if no container name is specified \"spec.containers[2]\" (container with index 2 in this pod). This syntax is chosen only to have some well-defined way of referencing a part of an object.",
    ),
    print::text(
        "Source",
        1,
        "The component reporting this event. Should be a short machine understandable string.",
    ),
    print::text(
        "Message",
        0,
        "A human-readable description of the status of this operation.",
    ),
    print::text(
        "First Seen",
        1,
        "The time at which the event was first recorded. (Time of server receipt is in TypeMeta.)",
    ),
    print::text("Count", 1, "The number of times this event has occurred."),
    Column {
        priority: 1,
        ..print::NAME
    },
];

/// How Events behave.
pub(super) struct Events;

impl Strategy for Events {
    type Object = Event;

    fn default(&self, _object: &mut Event) {}

    fn validate(&self, object: &Event) -> FieldErrors {
        let mut errors = legacy(object);
        errors.extend(meta::validate(
            &object.metadata,
            Scope::Namespaced,
            names::dns_subdomain,
        ));
        errors
    }

    fn validate_update(&self, new: &Event, _old: &Event) -> FieldErrors {
        meta::contents(&new.metadata)
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, event: &Event, now: Timestamp) -> Vec<Value> {
        let micro = |time: &k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime| {
            print::human_duration(now.as_second() - time.0.as_second())
        };
        let first = match (&event.first_timestamp, &event.event_time) {
            (None, Some(time)) => micro(time),
            (first, _) => print::since(first.as_ref(), now),
        };
        let series = event.series.as_ref();
        let last = match (
            series.and_then(|s| s.last_observed_time.as_ref()),
            &event.last_timestamp,
        ) {
            (Some(time), _) => micro(time),
            (None, None) => first.clone(),
            (None, last) => print::since(last.as_ref(), now),
        };
        let count = series
            .and_then(|s| s.count)
            .or(event.count)
            .filter(|n| *n != 0)
            .unwrap_or(1);
        vec![
            Value::from(last),
            Value::from(event.type_.clone().unwrap_or_default()),
            Value::from(event.reason.clone().unwrap_or_default()),
            Value::from(target(event)),
            Value::from(event.involved_object.field_path.clone().unwrap_or_default()),
            Value::from(source(event)),
            Value::from(event.message.as_deref().unwrap_or_default().trim()),
            Value::from(first),
            Value::from(count),
            print::name(&event.metadata),
        ]
    }

    fn selectable_field(&self, event: &Event, label: &str) -> Option<String> {
        let object = &event.involved_object;
        let source = || {
            event
                .source
                .as_ref()
                .and_then(|s| s.component.clone())
                .filter(|c| !c.is_empty())
        };
        let value = match label {
            "involvedObject.kind" => object.kind.clone(),
            "involvedObject.namespace" => object.namespace.clone(),
            "involvedObject.name" => object.name.clone(),
            "involvedObject.uid" => object.uid.clone(),
            "involvedObject.apiVersion" => object.api_version.clone(),
            "involvedObject.resourceVersion" => object.resource_version.clone(),
            "involvedObject.fieldPath" => object.field_path.clone(),
            "reason" => event.reason.clone(),
            "reportingComponent" => event.reporting_component.clone(),
            "source" => source().or_else(|| event.reporting_component.clone()),
            "type" => event.type_.clone(),
            _ => return None,
        };
        Some(value.unwrap_or_default())
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        SELECTABLE
    }
}

/// Events about objects of the cluster live in `default`; all others beside their object.
pub(super) fn legacy(event: &Event) -> FieldErrors {
    let involved = event.involved_object.namespace.as_deref().unwrap_or_default();
    let own = event.metadata.namespace.as_deref().unwrap_or_default();
    let fits = if involved.is_empty() {
        own == "default" || own == "kube-system" || own.is_empty()
    } else {
        involved == own
    };
    if fits {
        return Vec::new();
    }
    vec![FieldError::invalid(
        "involvedObject.namespace",
        involved,
        "does not match event.namespace",
    )]
}

fn target(event: &Event) -> String {
    let object = &event.involved_object;
    let kind = object.kind.as_deref().unwrap_or_default().to_lowercase();
    match object.name.as_deref() {
        Some(name) if !name.is_empty() => format!("{kind}/{name}"),
        _ => kind,
    }
}

fn source(event: &Event) -> String {
    let given = |text: Option<&String>| text.filter(|t| !t.is_empty()).cloned();
    let from = event.source.as_ref();
    let component =
        given(from.and_then(|s| s.component.as_ref())).or_else(|| given(event.reporting_component.as_ref()));
    let host = given(from.and_then(|s| s.host.as_ref())).or_else(|| given(event.reporting_instance.as_ref()));
    [component, host].into_iter().flatten().collect::<Vec<_>>().join(", ")
}
