//! Binding: what a scheduler posts to give a Pod its node. Answered by `http::binding` and never kept.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Binding;
use serde_json::Value;

use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::kind_info::CREATED_ONLY;
use crate::resource::{Column, KindInfo, Strategy, print};

pub(super) const INFO: KindInfo = KindInfo {
    kind: "Binding",
    plural: "bindings",
    singular: "binding",
    schema: "io.k8s.api.core.v1.Binding",
    verbs: CREATED_ONLY,
    stored: false,
    ..super::CORE
};

/// How Bindings behave.
pub(super) struct Bindings;

impl Strategy for Bindings {
    type Object = Binding;

    fn default(&self, _object: &mut Binding) {}

    fn validate(&self, object: &Binding) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let target = &object.target;
        if let Some(kind) = target.kind.as_deref()
            && !matches!(kind, "" | "Node")
        {
            errors.push(FieldError::not_supported("target.kind", kind, &["Node", "<empty>"]));
        }
        if target.name.as_deref().unwrap_or_default().is_empty() {
            errors.push(FieldError::required("target.name", ""));
        }
        errors
    }

    fn validate_update(&self, new: &Binding, _old: &Binding) -> FieldErrors {
        Strategy::validate(self, new)
    }

    fn columns(&self) -> &'static [Column] {
        &[print::NAME, print::AGE]
    }

    fn row(&self, object: &Binding, now: Timestamp) -> Vec<Value> {
        vec![print::name(&object.metadata), print::age(&object.metadata, now)]
    }
}
