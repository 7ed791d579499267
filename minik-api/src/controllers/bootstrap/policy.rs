//! The roles that every cluster has, and who has them: `policy.yaml` and `controllers.yaml`, spelt out as objects. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::rbac::v1::{AggregationRule, ClusterRole, ClusterRoleBinding, PolicyRule, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::Deserialize;

const GROUP: &str = "rbac.authorization.k8s.io";
/// Marks a ClusterRole whose rules become part of ClusterRole `admin`, `edit` or `view`.
const AGGREGATE_TO: &str = "rbac.authorization.k8s.io/aggregate-to-";

/// The objects.
pub struct Bootstrap {
    /// ClusterRoles.
    pub roles: Vec<ClusterRole>,
    /// ClusterRoleBindings.
    pub bindings: Vec<ClusterRoleBinding>,
}

#[derive(Deserialize)]
struct Written {
    roles: Vec<WrittenRole>,
    bindings: Vec<WrittenBinding>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenRole {
    name: String,
    #[serde(default)]
    rules: Vec<PolicyRule>,
    /// Takes the rules of every role that has this among its `aggregates_to`.
    aggregated_from: Option<String>,
    #[serde(default)]
    aggregates_to: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenBinding {
    name: String,
    role: Option<String>,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    accounts: Vec<String>,
}

/// `controllers.yaml`.
#[derive(Deserialize)]
struct Controllers {
    controllers: Vec<Controller>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Controller {
    name: String,
    rules: Vec<PolicyRule>,
}

/// The roles and bindings of every cluster.
///
/// # Errors
/// The text beside this file is malformed, which a test excludes.
pub fn bootstrap() -> Result<Bootstrap, serde_saphyr::Error> {
    let mut written: Written = serde_saphyr::from_str(include_str!("policy.yaml"))?;
    let controllers: Controllers = serde_saphyr::from_str(include_str!("controllers.yaml"))?;
    for Controller { name, rules } in controllers.controllers {
        let role = format!("system:controller:{name}");
        written.roles.push(WrittenRole {
            name: role.clone(),
            rules,
            aggregated_from: None,
            aggregates_to: Vec::new(),
        });
        written.bindings.push(WrittenBinding {
            name: role,
            role: None,
            groups: Vec::new(),
            users: Vec::new(),
            accounts: vec![name],
        });
    }
    Ok(Bootstrap {
        roles: written.roles.into_iter().map(role).collect(),
        bindings: written.bindings.into_iter().map(binding).collect(),
    })
}

fn metadata(name: &str) -> ObjectMeta {
    let marks = [("kubernetes.io/bootstrapping".to_owned(), "rbac-defaults".to_owned())];
    let updates = [(
        "rbac.authorization.kubernetes.io/autoupdate".to_owned(),
        "true".to_owned(),
    )];
    ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some(marks.into()),
        annotations: Some(updates.into()),
        ..ObjectMeta::default()
    }
}

fn role(written: WrittenRole) -> ClusterRole {
    let mut metadata = metadata(&written.name);
    let labels = metadata.labels.get_or_insert_default();
    labels.extend(
        written
            .aggregates_to
            .iter()
            .map(|to| (format!("{AGGREGATE_TO}{to}"), "true".to_owned())),
    );
    let aggregation_rule = written.aggregated_from.map(|from| {
        let labels = BTreeMap::from([(format!("{AGGREGATE_TO}{from}"), "true".to_owned())]);
        let selector = LabelSelector {
            match_labels: Some(labels),
            match_expressions: None,
        };
        AggregationRule {
            cluster_role_selectors: Some(vec![selector]),
        }
    });
    ClusterRole {
        metadata,
        rules: Some(written.rules),
        aggregation_rule,
    }
}

fn binding(written: WrittenBinding) -> ClusterRoleBinding {
    let subject = |kind: &str, name: String| Subject {
        kind: kind.to_owned(),
        name,
        api_group: Some(GROUP.to_owned()),
        namespace: None,
    };
    let mut subjects: Vec<Subject> = written.groups.into_iter().map(|name| subject("Group", name)).collect();
    subjects.extend(written.users.into_iter().map(|name| subject("User", name)));
    subjects.extend(written.accounts.into_iter().map(|name| Subject {
        kind: "ServiceAccount".to_owned(),
        name,
        api_group: None,
        namespace: Some("kube-system".to_owned()),
    }));
    ClusterRoleBinding {
        metadata: metadata(&written.name),
        role_ref: RoleRef {
            api_group: Some(GROUP.to_owned()),
            kind: "ClusterRole".to_owned(),
            name: written.role.unwrap_or(written.name),
        },
        subjects: Some(subjects),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_roles_of_every_cluster_are_there_and_every_binding_has_its_role() {
        let Bootstrap { roles, bindings } = bootstrap().unwrap();
        let names: Vec<&str> = roles.iter().filter_map(|role| role.metadata.name.as_deref()).collect();
        for name in [
            "cluster-admin",
            "admin",
            "edit",
            "view",
            "system:node",
            "system:discovery",
            "system:basic-user",
            "system:kube-controller-manager",
            "system:kube-scheduler",
            "system:controller:deployment-controller",
            "system:controller:ttl-controller",
        ] {
            assert!(names.contains(&name), "{name}");
        }
        for binding in &bindings {
            assert!(
                names.contains(&binding.role_ref.name.as_str()),
                "{}",
                binding.role_ref.name
            );
        }
    }
}
