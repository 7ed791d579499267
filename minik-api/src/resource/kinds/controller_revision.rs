//! ControllerRevision: a numbered snapshot of what a StatefulSet or DaemonSet wants, never changed.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use serde_json::Value;

use super::workload::non_negative;
use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::validation::meta::{self, Scope};
use crate::resource::validation::names;
use crate::resource::{Column, KindInfo, Strategy, print};

pub(super) const INFO: KindInfo = KindInfo {
    group: "apps",
    kind: "ControllerRevision",
    plural: "controllerrevisions",
    singular: "controllerrevision",
    schema: "io.k8s.api.apps.v1.ControllerRevision",
    ..super::CORE
};

const COLUMNS: &[Column] = &[
    print::NAME,
    print::text("Controller", 0, "Controller of the object"),
    print::text(
        "Revision",
        0,
        "Revision indicates the revision of the state represented by Data.",
    ),
    print::AGE,
];

/// How ControllerRevisions behave.
pub(super) struct ControllerRevisions;

impl Strategy for ControllerRevisions {
    type Object = ControllerRevision;

    fn default(&self, _object: &mut ControllerRevision) {}

    fn validate(&self, object: &ControllerRevision) -> FieldErrors {
        let mut errors = meta::validate(&object.metadata, Scope::Namespaced, names::dns_subdomain);
        errors.extend(contents(object));
        errors
    }

    fn validate_update(&self, new: &ControllerRevision, old: &ControllerRevision) -> FieldErrors {
        let mut errors = meta::contents(&new.metadata);
        errors.extend(contents(new));
        if new.data != old.data {
            let value = serde_json::to_value(&new.data).unwrap_or_default();
            errors.push(FieldError::immutable("data", value));
        }
        errors
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &ControllerRevision, now: Timestamp) -> Vec<Value> {
        vec![
            print::name(&object.metadata),
            Value::from(print::controller(&object.metadata)),
            Value::from(object.revision),
            print::age(&object.metadata, now),
        ]
    }
}

fn contents(object: &ControllerRevision) -> FieldErrors {
    let missing = object.data.is_none();
    let data = missing.then(|| FieldError::required("data", "data is mandatory"));
    data.into_iter()
        .chain(non_negative("revision", Some(object.revision)))
        .collect()
}
