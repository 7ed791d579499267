//! events.k8s.io/v1 Event: the Events of the core group under the names of the newer API.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event as CoreEvent, EventSeries as CoreSeries};
use k8s_openapi::api::events::v1::Event;
use serde_json::Value;

use super::event;
use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::validation::meta::{self, Scope};
use crate::resource::validation::names;
use crate::resource::{Column, KindInfo, Strategy, View};

pub(super) const INFO: KindInfo = KindInfo {
    group: "events.k8s.io",
    schema: "io.k8s.api.events.v1.Event",
    view: Some(View {
        group: "",
        fields: &[
            ("involvedObject", "regarding"),
            ("message", "note"),
            ("reportingComponent", "reportingController"),
            ("source", "deprecatedSource"),
            ("firstTimestamp", "deprecatedFirstTimestamp"),
            ("lastTimestamp", "deprecatedLastTimestamp"),
            ("count", "deprecatedCount"),
        ],
    }),
    ..event::INFO
};

/// Longest action, reason and reporting instance.
const MOST: usize = 128;
/// Longest note.
const MOST_NOTE: usize = 1024;

const SELECTABLE: &[&str] = &[
    "reason",
    "type",
    "reportingController",
    "regarding.kind",
    "regarding.namespace",
    "regarding.name",
    "regarding.uid",
    "regarding.apiVersion",
    "regarding.resourceVersion",
    "regarding.fieldPath",
];

/// How Events behave.
pub(super) struct EventsV1;

impl Strategy for EventsV1 {
    type Object = Event;

    fn default(&self, _object: &mut Event) {}

    fn validate(&self, object: &Event) -> FieldErrors {
        let mut errors = event::legacy(&core(object));
        errors.extend(spoken(object));
        errors.extend(meta::validate(
            &object.metadata,
            Scope::Namespaced,
            names::dns_subdomain,
        ));
        errors.extend(timely(object));
        errors
    }

    fn validate_update(&self, new: &Event, _old: &Event) -> FieldErrors {
        meta::contents(&new.metadata)
    }

    fn columns(&self) -> &'static [Column] {
        event::COLUMNS
    }

    fn row(&self, event: &Event, now: Timestamp) -> Vec<Value> {
        event::Events.row(&core(event), now)
    }

    fn selectable_field(&self, event: &Event, label: &str) -> Option<String> {
        let old = match label {
            "reportingController" => "reportingComponent".to_owned(),
            _ => label.replace("regarding.", "involvedObject."),
        };
        event::Events.selectable_field(&core(event), &old)
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        SELECTABLE
    }
}

/// The same Event as the core group shows it.
fn core(event: &Event) -> CoreEvent {
    let event = event.clone();
    CoreEvent {
        metadata: event.metadata,
        involved_object: event.regarding.unwrap_or_default(),
        message: event.note,
        reporting_component: event.reporting_controller,
        reporting_instance: event.reporting_instance,
        source: event.deprecated_source,
        first_timestamp: event.deprecated_first_timestamp,
        last_timestamp: event.deprecated_last_timestamp,
        count: event.deprecated_count,
        series: event.series.map(|series| CoreSeries {
            count: Some(series.count),
            last_observed_time: Some(series.last_observed_time),
        }),
        event_time: event.event_time,
        action: event.action,
        reason: event.reason,
        related: event.related,
        type_: event.type_,
    }
}

/// Who says what, and why: what every Event of this version has.
fn spoken(event: &Event) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let controller = event.reporting_controller.as_deref().unwrap_or_default();
    if controller.is_empty() {
        errors.push(FieldError::required("reportingController", ""));
    }
    errors.extend(FieldError::each(
        "reportingController",
        controller,
        names::qualified_name(controller),
    ));
    for (field, text) in [
        ("reportingInstance", &event.reporting_instance),
        ("action", &event.action),
        ("reason", &event.reason),
    ] {
        let text = text.as_deref().unwrap_or_default();
        if text.is_empty() {
            errors.push(FieldError::required(field, ""));
        } else if text.len() > MOST {
            errors.push(FieldError::invalid(
                field,
                "",
                format!("can have at most {MOST} characters"),
            ));
        }
    }
    if event.note.as_ref().is_some_and(|note| note.len() > MOST_NOTE) {
        let detail = format!("can have at most {MOST_NOTE} characters");
        errors.push(FieldError::invalid("message", "", detail));
    }
    errors
}

/// When it was, in the field of this version and in none of the older ones.
fn timely(event: &Event) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if event.event_time.is_none() {
        errors.push(FieldError::required("eventTime", ""));
    }
    let kind = event.type_.as_deref().unwrap_or_default();
    if !matches!(kind, "Normal" | "Warning") {
        errors.push(FieldError::invalid("type", "", format!("has invalid value: {kind}")));
    }
    let source = event.deprecated_source.as_ref();
    for (field, set) in [
        ("firstTimestamp", event.deprecated_first_timestamp.is_some()),
        ("lastTimestamp", event.deprecated_last_timestamp.is_some()),
        ("count", event.deprecated_count.is_some_and(|count| count != 0)),
        (
            "source",
            source.is_some_and(|source| source.component.is_some() || source.host.is_some()),
        ),
    ] {
        if set {
            errors.push(FieldError::invalid(field, "", "needs to be unset"));
        }
    }
    errors
}
