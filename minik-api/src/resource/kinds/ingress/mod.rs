//! networking.k8s.io/v1 Ingress: hosts and paths in front of Services.
//!
//! Stored and shown; what carries the traffic is an ingress controller's business, which writes the status.

mod table;
pub(super) mod validate;

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{Ingress, IngressStatus};
use serde_json::Value;

use crate::resource::field::FieldErrors;
use crate::resource::{Column, KindInfo, Strategy, Subresource};

pub(super) const INFO: KindInfo = KindInfo {
    group: "networking.k8s.io",
    kind: "Ingress",
    plural: "ingresses",
    singular: "ingress",
    short_names: &["ing"],
    schema: "io.k8s.api.networking.v1.Ingress",
    subresources: &[Subresource::Status],
    ..super::CORE
};

/// The annotation that named the class before the field did.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// How Ingresses behave.
pub(super) struct Ingresses;

impl Strategy for Ingresses {
    type Object = Ingress;

    fn default(&self, _object: &mut Ingress) {}

    fn prepare_for_create(&self, object: &mut Ingress) {
        object.status = Some(IngressStatus {
            load_balancer: Some(Default::default()),
        });
        object.metadata.generation = Some(1);
    }

    fn prepare_for_update(&self, new: &mut Ingress, old: &Ingress) {
        new.status.clone_from(&old.status);
        new.metadata.generation = super::next_generation(&old.metadata, new.spec == old.spec);
    }

    fn prepare_for_status_update(&self, new: &mut Ingress, old: &Ingress) {
        new.spec.clone_from(&old.spec);
        new.metadata.generation = old.metadata.generation;
    }

    fn validate(&self, object: &Ingress) -> FieldErrors {
        validate::create(object)
    }

    fn validate_update(&self, new: &Ingress, old: &Ingress) -> FieldErrors {
        validate::update(new, old)
    }

    fn warnings(&self, object: &Ingress) -> Vec<String> {
        let annotated = object.metadata.annotations.iter().flatten();
        let unnamed = object
            .spec
            .as_ref()
            .is_none_or(|spec| spec.ingress_class_name.is_none());
        annotated
            .filter(|(key, _)| unnamed && *key == CLASS_ANNOTATION)
            .map(|(key, _)| format!("annotation {key:?} is deprecated, please use 'spec.ingressClassName' instead"))
            .collect()
    }

    fn columns(&self) -> &'static [Column] {
        table::COLUMNS
    }

    fn row(&self, object: &Ingress, now: Timestamp) -> Vec<Value> {
        table::row(object, now)
    }
}
