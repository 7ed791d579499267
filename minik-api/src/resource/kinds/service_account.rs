//! ServiceAccount.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ServiceAccount;
use serde_json::Value;

use crate::resource::field::FieldErrors;
use crate::resource::validation::meta::{self, Scope};
use crate::resource::validation::names;
use crate::resource::{Column, KindInfo, Strategy, Subresource, print};

pub(super) const INFO: KindInfo = KindInfo {
    kind: "ServiceAccount",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    short_names: &["sa"],
    schema: "io.k8s.api.core.v1.ServiceAccount",
    subresources: &[Subresource::Token],
    ..super::CORE
};

const COLUMNS: &[Column] = &[print::NAME, print::AGE];

/// How ServiceAccounts behave.
pub(super) struct ServiceAccounts;

impl Strategy for ServiceAccounts {
    type Object = ServiceAccount;

    fn default(&self, _object: &mut ServiceAccount) {}

    fn validate(&self, object: &ServiceAccount) -> FieldErrors {
        meta::validate(&object.metadata, Scope::Namespaced, names::dns_subdomain)
    }

    fn validate_update(&self, new: &ServiceAccount, _old: &ServiceAccount) -> FieldErrors {
        meta::contents(&new.metadata)
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &ServiceAccount, now: Timestamp) -> Vec<Value> {
        vec![print::name(&object.metadata), print::age(&object.metadata, now)]
    }
}
