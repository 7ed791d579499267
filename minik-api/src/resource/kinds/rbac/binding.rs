//! RoleBinding and ClusterRoleBinding.

use std::marker::PhantomData;

use jiff::Timestamp;
use k8s_openapi::Metadata;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::GROUP;
use crate::resource::field::{FieldError, FieldErrors, Shown};
use crate::resource::validation::meta::{self, Scope};
use crate::resource::validation::names;
use crate::resource::{Column, KindInfo, Strategy, print};

pub(in crate::resource::kinds) const INFO: KindInfo = KindInfo {
    kind: "RoleBinding",
    plural: "rolebindings",
    singular: "rolebinding",
    schema: "io.k8s.api.rbac.v1.RoleBinding",
    ..super::RBAC
};

pub(in crate::resource::kinds) const CLUSTER_INFO: KindInfo = KindInfo {
    kind: "ClusterRoleBinding",
    plural: "clusterrolebindings",
    singular: "clusterrolebinding",
    namespaced: false,
    schema: "io.k8s.api.rbac.v1.ClusterRoleBinding",
    ..super::RBAC
};

const COLUMNS: &[Column] = &[
    print::NAME,
    print::text(
        "Role",
        0,
        "RoleRef can reference a Role in the current namespace or a ClusterRole in the global namespace. If the RoleRef cannot be resolved, the Authorizer must return an error.",
    ),
    print::AGE,
    print::text("Users", 1, "Users in the roleBinding"),
    print::text("Groups", 1, "Groups in the roleBinding"),
    print::text("ServiceAccounts", 1, "ServiceAccounts in the roleBinding"),
];

const CLUSTER_COLUMNS: &[Column] = &[
    print::NAME,
    print::text(
        "Role",
        0,
        "RoleRef can only reference a ClusterRole in the global namespace. If the RoleRef cannot be resolved, the Authorizer must return an error.",
    ),
    print::AGE,
    print::text("Users", 1, "Users in the clusterRoleBinding"),
    print::text("Groups", 1, "Groups in the clusterRoleBinding"),
    print::text("ServiceAccounts", 1, "ServiceAccounts in the clusterRoleBinding"),
];

/// What a binding refers to and whom it serves; the two kinds differ in where they live.
trait Binding {
    const SCOPE: Scope;
    /// The kinds that it may refer to.
    const ROLES: &'static [&'static str];
    const COLUMNS: &'static [Column];

    fn parts(&self) -> (&RoleRef, Option<&[Subject]>);
    fn parts_mut(&mut self) -> (&mut RoleRef, Option<&mut [Subject]>);
}

impl Binding for RoleBinding {
    const SCOPE: Scope = Scope::Namespaced;
    const ROLES: &'static [&'static str] = &["Role", "ClusterRole"];
    const COLUMNS: &'static [Column] = COLUMNS;

    fn parts(&self) -> (&RoleRef, Option<&[Subject]>) {
        (&self.role_ref, self.subjects.as_deref())
    }

    fn parts_mut(&mut self) -> (&mut RoleRef, Option<&mut [Subject]>) {
        (&mut self.role_ref, self.subjects.as_deref_mut())
    }
}

impl Binding for ClusterRoleBinding {
    const SCOPE: Scope = Scope::Cluster;
    const ROLES: &'static [&'static str] = &["ClusterRole"];
    const COLUMNS: &'static [Column] = CLUSTER_COLUMNS;

    fn parts(&self) -> (&RoleRef, Option<&[Subject]>) {
        (&self.role_ref, self.subjects.as_deref())
    }

    fn parts_mut(&mut self) -> (&mut RoleRef, Option<&mut [Subject]>) {
        (&mut self.role_ref, self.subjects.as_deref_mut())
    }
}

/// How RoleBindings and ClusterRoleBindings behave.
pub(in crate::resource::kinds) struct Bindings<B>(PhantomData<fn() -> B>);

impl<B> Bindings<B> {
    pub(in crate::resource::kinds) const STRATEGY: Self = Self(PhantomData);
}

impl<B> Strategy for Bindings<B>
where
    B: Binding + Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
{
    type Object = B;

    fn default(&self, object: &mut B) {
        let (role_ref, subjects) = object.parts_mut();
        fill(role_ref, subjects);
    }

    fn validate(&self, object: &B) -> FieldErrors {
        let (reference, members) = object.parts();
        let mut errors = meta::validate(object.metadata(), B::SCOPE, names::path_segment);
        errors.extend(role_ref(reference, B::ROLES));
        errors.extend(subjects(members, B::SCOPE == Scope::Namespaced));
        errors
    }

    fn validate_update(&self, new: &B, old: &B) -> FieldErrors {
        let mut errors = self.validate(new);
        errors.extend(unchanged(new.parts().0, old.parts().0));
        errors
    }

    fn columns(&self) -> &'static [Column] {
        B::COLUMNS
    }

    fn row(&self, object: &B, now: Timestamp) -> Vec<Value> {
        let (reference, subjects) = object.parts();
        let metadata = object.metadata();
        let mut row = vec![print::name(metadata), role(reference), print::age(metadata, now)];
        row.extend(members(subjects));
        row
    }
}

fn fill(role_ref: &mut RoleRef, subjects: Option<&mut [Subject]>) {
    let rbac = || GROUP.to_owned();
    role_ref.api_group = Some(
        role_ref
            .api_group
            .take()
            .filter(|group| !group.is_empty())
            .unwrap_or_else(rbac),
    );
    for subject in subjects.into_iter().flatten() {
        if matches!(subject.kind.as_str(), "User" | "Group") {
            let given = subject.api_group.take().filter(|group| !group.is_empty());
            subject.api_group = Some(given.unwrap_or_else(rbac));
        }
    }
}

fn role(role_ref: &RoleRef) -> Value {
    Value::from(format!("{}/{}", role_ref.kind, role_ref.name))
}

/// Users, groups and ServiceAccounts, one cell each.
fn members(subjects: Option<&[Subject]>) -> [Value; 3] {
    let listed = |kind: &str| {
        let of_kind = subjects
            .unwrap_or_default()
            .iter()
            .filter(|subject| subject.kind == kind);
        let names: Vec<String> = of_kind
            .map(|subject| match subject.namespace.as_deref() {
                Some(namespace) if kind == "ServiceAccount" => format!("{namespace}/{}", subject.name),
                _ => subject.name.clone(),
            })
            .collect();
        Value::from(names.join(", "))
    };
    [listed("User"), listed("Group"), listed("ServiceAccount")]
}

fn role_ref(reference: &RoleRef, kinds: &[&str]) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let group = reference.api_group.as_deref().unwrap_or_default();
    if group != GROUP {
        errors.push(FieldError::not_supported("roleRef.apiGroup", group, &[GROUP]));
    }
    if !kinds.contains(&reference.kind.as_str()) {
        errors.push(FieldError::not_supported(
            "roleRef.kind",
            reference.kind.as_str(),
            kinds,
        ));
    }
    if reference.name.is_empty() {
        errors.push(FieldError::required("roleRef.name", ""));
    } else {
        let problems = names::path_segment(&reference.name);
        errors.extend(FieldError::each("roleRef.name", reference.name.as_str(), problems));
    }
    errors
}

fn unchanged(new: &RoleRef, old: &RoleRef) -> Option<FieldError> {
    let shown = || {
        Shown::go([
            ("APIGroup", json!(new.api_group.as_deref().unwrap_or_default()).into()),
            ("Kind", json!(new.kind).into()),
            ("Name", json!(new.name).into()),
        ])
    };
    (new != old).then(|| FieldError::invalid_shown("roleRef", shown(), "cannot change roleRef"))
}

fn subjects(subjects: Option<&[Subject]>, namespaced: bool) -> FieldErrors {
    let subjects = subjects.unwrap_or_default().iter().enumerate();
    subjects
        .flat_map(|(index, given)| subject(&format!("subjects[{index}]"), given, namespaced))
        .collect()
}

fn subject(field: &str, subject: &Subject, namespaced: bool) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let name = format!("{field}.name");
    let group = subject.api_group.as_deref().unwrap_or_default();
    let wrong_group = |wanted: &str| {
        (group != wanted).then(|| FieldError::not_supported(format!("{field}.apiGroup"), group, &[wanted]))
    };
    if subject.name.is_empty() {
        errors.push(FieldError::required(name.as_str(), ""));
    }
    match subject.kind.as_str() {
        "ServiceAccount" => {
            if !subject.name.is_empty() {
                let problems = names::dns_subdomain(&subject.name);
                errors.extend(FieldError::each(&name, subject.name.as_str(), problems));
            }
            errors.extend(wrong_group(""));
            let namespace = subject.namespace.as_deref().unwrap_or_default();
            if !namespaced && namespace.is_empty() {
                errors.push(FieldError::required(format!("{field}.namespace"), ""));
            }
        }
        "User" | "Group" => errors.extend(wrong_group(GROUP)),
        other => errors.push(FieldError::not_supported(
            format!("{field}.kind"),
            other,
            &["ServiceAccount", "User", "Group"],
        )),
    }
    errors
}
