//! Role and ClusterRole.

use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::validation::meta::{self, Scope};
use crate::resource::validation::{labels, names};
use crate::resource::{Column, KindInfo, Strategy, print};

pub(in crate::resource::kinds) const INFO: KindInfo = KindInfo {
    kind: "Role",
    plural: "roles",
    singular: "role",
    schema: "io.k8s.api.rbac.v1.Role",
    ..super::RBAC
};

pub(in crate::resource::kinds) const CLUSTER_INFO: KindInfo = KindInfo {
    kind: "ClusterRole",
    plural: "clusterroles",
    singular: "clusterrole",
    namespaced: false,
    schema: "io.k8s.api.rbac.v1.ClusterRole",
    ..super::RBAC
};

const COLUMNS: &[Column] = &[
    print::NAME,
    Column {
        name: "Created At",
        ..print::AGE
    },
];

/// How Roles behave.
pub(in crate::resource::kinds) struct Roles;

/// How ClusterRoles behave.
pub(in crate::resource::kinds) struct ClusterRoles;

impl Strategy for Roles {
    type Object = Role;

    fn default(&self, _object: &mut Role) {}

    fn validate(&self, object: &Role) -> FieldErrors {
        let mut errors = meta::validate(&object.metadata, Scope::Namespaced, names::path_segment);
        errors.extend(rules(object.rules.as_deref(), true));
        errors
    }

    fn validate_update(&self, new: &Role, _old: &Role) -> FieldErrors {
        self.validate(new)
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &Role, _now: Timestamp) -> Vec<Value> {
        row(&object.metadata)
    }
}

impl Strategy for ClusterRoles {
    type Object = ClusterRole;

    fn default(&self, _object: &mut ClusterRole) {}

    fn validate(&self, object: &ClusterRole) -> FieldErrors {
        let mut errors = meta::validate(&object.metadata, Scope::Cluster, names::path_segment);
        errors.extend(rules(object.rules.as_deref(), false));
        if let Some(aggregation) = &object.aggregation_rule {
            const FIELD: &str = "aggregationRule.clusterRoleSelectors";
            let selectors = aggregation.cluster_role_selectors.as_deref().unwrap_or_default();
            if selectors.is_empty() {
                let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
                errors.push(FieldError::required(FIELD, detail));
            }
            for (index, selector) in selectors.iter().enumerate() {
                errors.extend(labels::selector(&format!("{FIELD}[{index}]"), selector));
            }
        }
        errors
    }

    fn validate_update(&self, new: &ClusterRole, _old: &ClusterRole) -> FieldErrors {
        self.validate(new)
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &ClusterRole, _now: Timestamp) -> Vec<Value> {
        row(&object.metadata)
    }
}

fn row(metadata: &ObjectMeta) -> Vec<Value> {
    let created = metadata.creation_timestamp.as_ref().map(|time| time.0.to_string());
    vec![print::name(metadata), Value::from(created.unwrap_or_default())]
}

fn rules(rules: Option<&[PolicyRule]>, namespaced: bool) -> FieldErrors {
    let rules = rules.unwrap_or_default().iter().enumerate();
    rules
        .flat_map(|(index, given)| rule(&format!("rules[{index}]"), given, namespaced))
        .collect()
}

fn rule(field: &str, rule: &PolicyRule, namespaced: bool) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let listed = |list: &Option<Vec<String>>| list.as_ref().map_or(0, Vec::len);
    if rule.verbs.is_empty() {
        let detail = "verbs must contain at least one value";
        errors.push(FieldError::required(format!("{field}.verbs"), detail));
    }
    if listed(&rule.non_resource_urls) > 0 {
        let mut refuse = |detail: &str| {
            let value = json!(rule.non_resource_urls);
            errors.push(FieldError::invalid(format!("{field}.nonResourceURLs"), value, detail));
        };
        if namespaced {
            refuse("namespaced rules cannot apply to non-resource URLs");
        }
        if listed(&rule.api_groups) + listed(&rule.resources) + listed(&rule.resource_names) > 0 {
            refuse("rules cannot apply to both regular resources and non-resource URLs");
        }
        return errors;
    }
    if listed(&rule.api_groups) == 0 {
        let detail = "resource rules must supply at least one api group";
        errors.push(FieldError::required(format!("{field}.apiGroups"), detail));
    }
    if listed(&rule.resources) == 0 {
        let detail = "resource rules must supply at least one resource";
        errors.push(FieldError::required(format!("{field}.resources"), detail));
    }
    errors
}
