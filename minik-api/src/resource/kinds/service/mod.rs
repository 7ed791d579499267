//! v1 Service: a stable address and its ports in front of changing Pods.
//!
//! Pure: cluster IPs and node ports are handed out by `crate::alloc` once this strategy has found nothing
//! to refuse.

pub(super) mod addresses;
mod defaults;
mod families;
mod needs;
mod prepare;
mod status;
mod table;
mod validate;
mod warnings;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use serde_json::Value;

use self::needs::Needs;
use crate::resource::field::FieldErrors;
use crate::resource::{Column, KindInfo, Strategy, Subresource};

pub(super) const INFO: KindInfo = KindInfo {
    kind: "Service",
    plural: "services",
    singular: "service",
    short_names: &["svc"],
    categories: &["all"],
    schema: "io.k8s.api.core.v1.Service",
    subresources: &[Subresource::Status, Subresource::Proxy],
    ..super::CORE
};

/// The protocols that a port may have, sorted.
pub(super) const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

/// How Services behave.
pub(super) struct Services;

impl Strategy for Services {
    type Object = Service;

    fn default(&self, object: &mut Service) {
        defaults::fill(object);
    }

    fn prepare_for_create(&self, object: &mut Service) {
        prepare::create(object);
    }

    fn prepare_for_update(&self, new: &mut Service, old: &Service) {
        prepare::update(new, old);
    }

    fn prepare_for_status_update(&self, new: &mut Service, old: &Service) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(&self, object: &Service) -> FieldErrors {
        validate::create(object)
    }

    fn validate_update(&self, new: &Service, old: &Service) -> FieldErrors {
        validate::update(new, old)
    }

    fn warnings(&self, object: &Service) -> Vec<String> {
        warnings::of(object)
    }

    fn columns(&self) -> &'static [Column] {
        table::COLUMNS
    }

    fn row(&self, object: &Service, now: Timestamp) -> Vec<Value> {
        table::row(object, now)
    }

    fn selectable_field(&self, object: &Service, label: &str) -> Option<String> {
        let spec = object.spec.as_ref();
        match label {
            "spec.clusterIP" => Some(spec.and_then(|spec| spec.cluster_ip.clone()).unwrap_or_default()),
            "spec.type" => Some(spec.map(Needs::kind).unwrap_or_default().to_owned()),
            _ => None,
        }
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["spec.clusterIP", "spec.type"]
    }
}

#[cfg(test)]
mod tests;
