//! Namespace.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceStatus};
use serde_json::Value;

use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::validation::meta::{self, Scope};
use crate::resource::validation::names;
use crate::resource::{Column, KindInfo, Strategy, Subresource, print};

pub(super) const INFO: KindInfo = KindInfo {
    kind: "Namespace",
    plural: "namespaces",
    singular: "namespace",
    short_names: &["ns"],
    namespaced: false,
    schema: "io.k8s.api.core.v1.Namespace",
    // Namespaces are emptied one by one.
    verbs: &["create", "delete", "get", "list", "patch", "update", "watch"],
    subresources: &[Subresource::Finalize, Subresource::Status],
    ..super::CORE
};

/// The label that carries a namespace's own name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// The finalizer that holds a namespace until it is empty.
const FINALIZER: &str = "kubernetes";

const COLUMNS: &[Column] = &[
    print::NAME,
    print::text("Status", 0, "The status of the namespace"),
    print::AGE,
];

/// How Namespaces behave.
pub(super) struct Namespaces;

impl Strategy for Namespaces {
    type Object = Namespace;

    fn default(&self, object: &mut Namespace) {
        if let Some(name) = object.metadata.name.clone() {
            object
                .metadata
                .labels
                .get_or_insert_default()
                .insert(NAME_LABEL.to_owned(), name);
        }
    }

    fn prepare_for_create(&self, object: &mut Namespace) {
        object.status = Some(NamespaceStatus {
            phase: Some("Active".to_owned()),
            conditions: None,
        });
        let finalizers = object.spec.get_or_insert_default().finalizers.get_or_insert_default();
        if !finalizers.iter().any(|f| f == FINALIZER) {
            finalizers.push(FINALIZER.to_owned());
        }
    }

    fn prepare_for_update(&self, new: &mut Namespace, old: &Namespace) {
        new.spec.clone_from(&old.spec);
        new.status.clone_from(&old.status);
    }

    fn prepare_for_status_update(&self, new: &mut Namespace, old: &Namespace) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(&self, object: &Namespace) -> FieldErrors {
        let mut errors = meta::validate(&object.metadata, Scope::Cluster, names::dns_label);
        let finalizers = object.spec.iter().filter_map(|spec| spec.finalizers.as_ref()).flatten();
        errors.extend(finalizers.flat_map(|f| meta::finalizer_name("spec.finalizers", f)));
        errors
    }

    fn validate_update(&self, new: &Namespace, old: &Namespace) -> FieldErrors {
        let mut errors = meta::contents(&new.metadata);
        if new.spec != old.spec {
            let finalizers = new.spec.iter().filter_map(|spec| spec.finalizers.as_ref()).flatten();
            let checked = finalizers.enumerate();
            errors.extend(checked.flat_map(|(n, f)| meta::finalizer_name(&format!("spec.finalizers[{n}]"), f)));
        }
        if new.status != old.status {
            errors.extend(phase(new));
        }
        errors
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &Namespace, now: Timestamp) -> Vec<Value> {
        let phase = object.status.as_ref().and_then(|s| s.phase.clone()).unwrap_or_default();
        vec![
            print::name(&object.metadata),
            Value::from(phase),
            print::age(&object.metadata, now),
        ]
    }

    fn selectable_field(&self, object: &Namespace, label: &str) -> Option<String> {
        let phase = || object.status.as_ref().and_then(|s| s.phase.clone()).unwrap_or_default();
        (label == "status.phase").then(phase)
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["status.phase"]
    }
}

/// The phase follows from whether deletion has begun.
fn phase(namespace: &Namespace) -> Option<FieldError> {
    let phase = namespace
        .status
        .as_ref()
        .and_then(|s| s.phase.as_deref())
        .unwrap_or_default();
    let (expected, detail) = match namespace.metadata.deletion_timestamp {
        None => ("Active", "may only be 'Active' if `deletionTimestamp` is empty"),
        Some(_) => (
            "Terminating",
            "may only be 'Terminating' if `deletionTimestamp` is not empty",
        ),
    };
    (phase != expected).then(|| FieldError::invalid("status.Phase", phase, detail))
}
