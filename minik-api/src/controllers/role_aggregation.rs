//! The clusterrole-aggregation controller: a ClusterRole with an aggregation rule has the rules of every
//! ClusterRole that the rule selects.

use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::cache::Key;
use super::context::Context;
use super::error::{ReconcileError, is_not_found};
use super::queue::{Queue, drive};
use crate::resource::validation::labels::selects;

/// The controller; its queue holds the keys of ClusterRoles with an aggregation rule.
pub struct RoleAggregationController {
    context: Arc<Context>,
    queue: Arc<Queue<Key>>,
}

impl RoleAggregationController {
    /// A controller that learns of changes from now on.
    pub fn new(context: Arc<Context>) -> Self {
        let queue: Arc<Queue<Key>> = Arc::default();
        let (own, all) = (queue.clone(), context.cluster_roles.clone());
        context.cluster_roles.on_change(move |_| {
            let roles = all.snapshot();
            let aggregated = roles.iter().filter(|role| role.aggregation_rule.is_some());
            aggregated.for_each(|role| own.add(Key::of(&**role)));
        });
        Self { context, queue }
    }

    /// Works until dropped.
    pub async fn run(&self) {
        self.context.cluster_roles.synced().await;
        drive(&self.queue, 1, |key| self.reconcile(key)).await;
    }

    async fn reconcile(&self, key: Key) -> Result<(), ReconcileError> {
        let Some(role) = self.context.cluster_roles.get(&key) else {
            return Ok(());
        };
        let all = self.context.cluster_roles.snapshot();
        let all: Vec<&ClusterRole> = all.iter().map(|role| &**role).collect();
        let rules = aggregated(&role, &all);
        if role.aggregation_rule.is_none() || role.rules.as_deref().unwrap_or_default() == rules {
            return Ok(());
        }
        let change = json!({"metadata": {"resourceVersion": role.resource_version()}, "rules": rules});
        let api: Api<ClusterRole> = Api::all(self.context.client.clone());
        match api
            .patch(&key.name, &PatchParams::default(), &Patch::Merge(change))
            .await
        {
            Err(source) if !is_not_found(&source) => Err(ReconcileError::Update {
                what: format!("ClusterRole {key}"),
                source,
            }),
            _ => Ok(()),
        }
    }
}

/// The rules of every other role that `role` selects, each once, in the order of the selectors and of the
/// roles' names.
fn aggregated(role: &ClusterRole, all: &[&ClusterRole]) -> Vec<PolicyRule> {
    let rule = role.aggregation_rule.as_ref();
    let selectors = rule
        .and_then(|rule| rule.cluster_role_selectors.as_deref())
        .unwrap_or_default();
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in selectors {
        let others = all.iter().filter(|other| other.name_any() != role.name_any());
        for other in others.filter(|other| selects(selector, other.labels())) {
            for rule in other.rules.iter().flatten() {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selected_roles_add_their_rules_once() {
        let role = |name: &str, label: &str, resource: &str| -> ClusterRole {
            serde_json::from_value(json!({"metadata": {"name": name, "labels": {label: "true"}},
                "rules": [{"apiGroups": [""], "resources": [resource], "verbs": ["get"]}]}))
            .unwrap()
        };
        let whole: ClusterRole = serde_json::from_value(json!({
            "metadata": {"name": "whole", "labels": {"into": "true"}},
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"into": "true"}}]},
        }))
        .unwrap();
        let all = [
            role("a", "into", "pods"),
            role("b", "other", "nodes"),
            role("c", "into", "pods"),
            role("d", "into", "services"),
            whole.clone(),
        ];
        let resources: Vec<_> = aggregated(&whole, &all.each_ref())
            .into_iter()
            .filter_map(|rule| rule.resources)
            .flatten()
            .collect();
        assert_eq!(resources, ["pods", "services"]);
    }
}
