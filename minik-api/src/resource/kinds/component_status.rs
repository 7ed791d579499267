//! ComponentStatus: whether the parts of the control plane are well, as `kubectl get componentstatuses` shows it.
//! Worked out by `http::component_status` when it is asked for, and never kept.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ComponentStatus;
use serde_json::Value;

use crate::resource::field::FieldErrors;
use crate::resource::kind_info::READ_ONLY;
use crate::resource::{Column, KindInfo, Strategy, print};

pub(super) const INFO: KindInfo = KindInfo {
    kind: "ComponentStatus",
    plural: "componentstatuses",
    singular: "componentstatus",
    short_names: &["cs"],
    namespaced: false,
    schema: "io.k8s.api.core.v1.ComponentStatus",
    verbs: READ_ONLY,
    stored: false,
    deprecation: Some("v1 ComponentStatus is deprecated in v1.19+"),
    ..super::CORE
};

/// How ComponentStatuses behave.
pub(super) struct ComponentStatuses;

const fn text(name: &'static str, description: &'static str) -> Column {
    Column {
        name,
        kind: "string",
        format: "",
        priority: 0,
        description,
    }
}

impl Strategy for ComponentStatuses {
    type Object = ComponentStatus;

    fn default(&self, _object: &mut ComponentStatus) {}

    fn validate(&self, _object: &ComponentStatus) -> FieldErrors {
        FieldErrors::new()
    }

    fn validate_update(&self, _new: &ComponentStatus, _old: &ComponentStatus) -> FieldErrors {
        FieldErrors::new()
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            print::NAME,
            text("Status", "Status of the component conditions"),
            text("Message", "Message of the component conditions"),
            text("Error", "Error of the component conditions"),
        ];
        COLUMNS
    }

    fn row(&self, object: &ComponentStatus, _now: Timestamp) -> Vec<Value> {
        let conditions = object.conditions.as_deref().unwrap_or_default();
        let health = conditions.iter().find(|condition| condition.type_ == "Healthy");
        let state = match health.map(|condition| condition.status.as_str()) {
            Some("True") => "Healthy",
            Some(_) => "Unhealthy",
            None => "Unknown",
        };
        let said = |text: Option<&String>| Value::from(text.cloned().unwrap_or_default());
        vec![
            print::name(&object.metadata),
            state.into(),
            said(health.and_then(|condition| condition.message.as_ref())),
            said(health.and_then(|condition| condition.error.as_ref())),
        ]
    }
}
