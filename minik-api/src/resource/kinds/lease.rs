//! Lease.

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use serde_json::Value;

use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::validation::meta::{self, Scope};
use crate::resource::validation::names;
use crate::resource::{Column, KindInfo, Strategy, print};

pub(super) const INFO: KindInfo = KindInfo {
    group: "coordination.k8s.io",
    kind: "Lease",
    plural: "leases",
    singular: "lease",
    schema: "io.k8s.api.coordination.v1.Lease",
    ..super::CORE
};

const COLUMNS: &[Column] = &[
    print::NAME,
    print::text(
        "Holder",
        0,
        "holderIdentity contains the identity of the holder of a current lease. If Coordinated Leader Election is used, the holder identity must be equal to the elected LeaseCandidate.metadata.name field.",
    ),
    print::AGE,
];

/// How Leases behave.
pub(super) struct Leases;

impl Strategy for Leases {
    type Object = Lease;

    fn default(&self, _object: &mut Lease) {}

    fn validate(&self, object: &Lease) -> FieldErrors {
        let mut errors = meta::validate(&object.metadata, Scope::Namespaced, names::dns_subdomain);
        errors.extend(spec(object));
        errors
    }

    fn validate_update(&self, new: &Lease, _old: &Lease) -> FieldErrors {
        let mut errors = meta::contents(&new.metadata);
        errors.extend(spec(new));
        errors
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &Lease, now: Timestamp) -> Vec<Value> {
        let holder = object
            .spec
            .as_ref()
            .and_then(|spec| spec.holder_identity.clone())
            .unwrap_or_default();
        vec![
            print::name(&object.metadata),
            Value::from(holder),
            print::age(&object.metadata, now),
        ]
    }
}

fn spec(lease: &Lease) -> FieldErrors {
    let mut errors = Vec::new();
    let Some(spec) = &lease.spec else { return errors };
    if let Some(seconds) = spec.lease_duration_seconds.filter(|seconds| *seconds <= 0) {
        errors.push(FieldError::invalid(
            "spec.leaseDurationSeconds",
            seconds,
            "must be greater than 0",
        ));
    }
    if let Some(transitions) = spec.lease_transitions.filter(|n| *n < 0) {
        errors.push(FieldError::invalid(
            "spec.leaseTransitions",
            transitions,
            "must be greater than or equal to 0",
        ));
    }
    errors
}
