//! Role-based access control: the union of all rules whose binding names the asker. Rules only ever allow.

use std::collections::BTreeMap;

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject};
use kube::ResourceExt;

use super::{Attributes, Decision, Target};
use crate::identity::Identity;

/// Every role and binding of the cluster.
#[derive(Debug, Default)]
pub struct Policy {
    roles: BTreeMap<(String, String), Vec<PolicyRule>>,
    cluster_roles: BTreeMap<String, Vec<PolicyRule>>,
    bindings: BTreeMap<String, Vec<RoleBinding>>,
    cluster_bindings: Vec<ClusterRoleBinding>,
}

/// The rules that hold for somebody, and what kept others from being found.
#[derive(Debug, Default)]
pub struct Rules {
    /// The rules.
    pub rules: Vec<PolicyRule>,
    /// Roles that a binding names and that are not there.
    pub problems: Vec<String>,
}

/// A binding that names the asker, from a namespace or from the cluster.
struct Granted<'p> {
    source: String,
    rules: Result<&'p [PolicyRule], String>,
}

impl Policy {
    /// A policy of these objects.
    #[must_use]
    pub fn new(
        roles: Vec<Role>,
        cluster_roles: Vec<ClusterRole>,
        bindings: Vec<RoleBinding>,
        cluster_bindings: Vec<ClusterRoleBinding>,
    ) -> Self {
        let mut by_namespace: BTreeMap<String, Vec<RoleBinding>> = BTreeMap::new();
        for binding in bindings {
            by_namespace
                .entry(binding.namespace().unwrap_or_default())
                .or_default()
                .push(binding);
        }
        Self {
            roles: roles
                .into_iter()
                .map(|role| {
                    (
                        (role.namespace().unwrap_or_default(), role.name_any()),
                        role.rules.unwrap_or_default(),
                    )
                })
                .collect(),
            cluster_roles: cluster_roles
                .into_iter()
                .map(|role| (role.name_any(), role.rules.unwrap_or_default()))
                .collect(),
            bindings: by_namespace,
            cluster_bindings,
        }
    }

    /// Whether a rule allows `identity` what it wants, and which binding gave the rule.
    pub(super) fn decide(&self, identity: &Identity, wanted: &Attributes<'_>) -> Decision {
        let namespace = match &wanted.target {
            Target::Resource(resource) => resource.namespace,
            Target::Path(_) => "",
        };
        let mut problems = Vec::new();
        for granted in self.granted(identity, namespace) {
            match granted.rules {
                Ok(rules) if rules.iter().any(|rule| allows(rule, wanted)) => {
                    return Decision::allowed(format!("RBAC: allowed by {}", granted.source));
                }
                Ok(_) => {}
                Err(problem) => problems.push(problem),
            }
        }
        Decision::denied(match problems.as_slice() {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            several => format!("RBAC: [{}]", several.join(", ")),
        })
    }

    /// Every rule that holds for `identity` in a namespace, those of the cluster included.
    #[must_use]
    pub fn rules(&self, identity: &Identity, namespace: &str) -> Rules {
        let mut found = Rules::default();
        for granted in self.granted(identity, namespace) {
            match granted.rules {
                Ok(rules) => found.rules.extend(rules.iter().cloned()),
                Err(problem) => found.problems.push(problem),
            }
        }
        found
    }

    fn granted<'p>(&'p self, identity: &'p Identity, namespace: &'p str) -> impl Iterator<Item = Granted<'p>> {
        let cluster = self.cluster_bindings.iter().filter_map(move |binding| {
            let subject = named(identity, binding.subjects.as_deref(), "")?;
            Some(Granted {
                source: source("ClusterRoleBinding", &binding.name_any(), &binding.role_ref, subject),
                rules: self.referenced(&binding.role_ref, ""),
            })
        });
        let local = self
            .bindings
            .get(namespace)
            .into_iter()
            .flatten()
            .filter_map(move |binding| {
                let subject = named(identity, binding.subjects.as_deref(), namespace)?;
                let name = format!("{}/{namespace}", binding.name_any());
                Some(Granted {
                    source: source("RoleBinding", &name, &binding.role_ref, subject),
                    rules: self.referenced(&binding.role_ref, namespace),
                })
            });
        cluster.chain(local)
    }

    fn referenced(&self, reference: &RoleRef, namespace: &str) -> Result<&[PolicyRule], String> {
        let name = &reference.name;
        let found = match reference.kind.as_str() {
            "Role" => self.roles.get(&(namespace.to_owned(), name.clone())),
            _ => self.cluster_roles.get(name),
        };
        let kind = reference.kind.to_lowercase();
        found
            .map(Vec::as_slice)
            .ok_or_else(|| format!("{kind}.rbac.authorization.k8s.io {name:?} not found"))
    }
}

/// The subject that is `identity`. A ServiceAccount without a namespace is one of the binding's.
fn named<'s>(identity: &Identity, subjects: Option<&'s [Subject]>, namespace: &str) -> Option<&'s Subject> {
    subjects?.iter().find(|subject| match subject.kind.as_str() {
        "User" => subject.name == identity.user,
        "Group" => identity.groups.contains(&subject.name),
        "ServiceAccount" => {
            let own = subject
                .namespace
                .as_deref()
                .filter(|own| !own.is_empty())
                .unwrap_or(namespace);
            !own.is_empty() && identity.user == format!("system:serviceaccount:{own}:{}", subject.name)
        }
        _ => false,
    })
}

fn source(kind: &str, name: &str, role: &RoleRef, subject: &Subject) -> String {
    let who = match (subject.kind.as_str(), &subject.namespace) {
        ("ServiceAccount", Some(namespace)) => format!("{}/{namespace}", subject.name),
        _ => subject.name.clone(),
    };
    format!(
        "{kind} {name:?} of {} {:?} to {} {who:?}",
        role.kind, role.name, subject.kind
    )
}

fn allows(rule: &PolicyRule, wanted: &Attributes<'_>) -> bool {
    let has = |list: &[String], value: &str| list.iter().any(|item| item == "*" || item == value);
    let listed = |list: &Option<Vec<String>>, value: &str| has(list.as_deref().unwrap_or_default(), value);
    if !has(&rule.verbs, wanted.verb) {
        return false;
    }
    match &wanted.target {
        Target::Path(path) => rule.non_resource_urls.iter().flatten().any(|url| covers(url, path)),
        Target::Resource(resource) => {
            let names = rule.resource_names.as_deref().unwrap_or_default();
            let whole = match resource.subresource {
                "" => resource.resource.to_owned(),
                part => format!("{}/{part}", resource.resource),
            };
            let any_of_part = format!("*/{}", resource.subresource);
            listed(&rule.api_groups, resource.group)
                && (listed(&rule.resources, &whole)
                    || (!resource.subresource.is_empty() && listed(&rule.resources, &any_of_part)))
                && (names.is_empty() || names.iter().any(|name| name == resource.name))
        }
    }
}

fn covers(url: &str, path: &str) -> bool {
    url == path || url.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
}
