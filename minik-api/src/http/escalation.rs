//! Roles and bindings grant no more than their writer has, unless that one may `escalate` the role or `bind` it (the
//! policy-based storage of `pkg/registry/rbac`). Asked before validation, as there. What a role grants is judged by
//! [`crate::authz::escalation`].

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role, RoleRef};
use serde::Deserialize;
use serde_json::Value;

use crate::authz::{self, Attributes, Resource, Target, escalation};
use crate::error::ApiError;

use super::auth;
use super::call::Call;
use super::object::text;
use super::request::key;

const GROUP: &str = "rbac.authorization.k8s.io";
const AGGREGATION: &str = "must have cluster-admin privileges to use the aggregationRule";

/// Whether the writer of `call` may put `new` in place of `old`; objects of other groups concern nobody here.
///
/// # Errors
/// It would grant what the writer does not hold, or binds a role that is not there.
pub fn check(call: &Call, old: Option<&Value>, new: &Value) -> Result<(), ApiError> {
    let info = call.info();
    if info.group != GROUP || authz::is_master(&call.identity) {
        return Ok(());
    }
    if old.is_some_and(|old| only_collected(old, new)) {
        return Ok(());
    }
    match info.kind {
        "Role" | "ClusterRole" => role(call, old, new),
        _ => binding(call, new),
    }
}

fn role(call: &Call, old: Option<&Value>, new: &Value) -> Result<(), ApiError> {
    let name = text(new, "/metadata/name");
    if may(call, "escalate", call.info().plural, name)? {
        return Ok(());
    }
    let rules: Option<Vec<PolicyRule>> = Deserialize::deserialize(&new["rules"])?;
    confirm(call, name, &rules.unwrap_or_default())?;
    let aggregates = |object: &Value| !object["aggregationRule"].is_null();
    if aggregates(new) || old.is_some_and(aggregates) {
        confirm(call, name, &escalation::everything())
            .map_err(|_words| forbidden(call, name, AGGREGATION.to_owned()))?;
    }
    Ok(())
}

fn binding(call: &Call, new: &Value) -> Result<(), ApiError> {
    let reference: RoleRef = Deserialize::deserialize(&new["roleRef"])?;
    let plural = match reference.kind.as_str() {
        "ClusterRole" => "clusterroles",
        "Role" => "roles",
        // Validation refuses it.
        _ => return Ok(()),
    };
    if may(call, "bind", plural, &reference.name)? {
        return Ok(());
    }
    let rules = granted(call, &reference)?;
    confirm(call, text(new, "/metadata/name"), &rules)
}

/// The rules of the role that a binding refers to.
fn granted(call: &Call, reference: &RoleRef) -> Result<Vec<PolicyRule>, ApiError> {
    let registered = call.state.registry.by_kind(GROUP, &reference.kind);
    let info = &registered.ok_or(ApiError::NoSuchResource)?.info;
    let namespace = if info.namespaced {
        call.target.namespace.as_str()
    } else {
        ""
    };
    let entry = call.state.storage.cache().get(&key(info, namespace, &reference.name));
    let entry = entry.ok_or_else(|| ApiError::not_found(info, &reference.name))?;
    let rules = if info.namespaced {
        serde_json::from_slice::<Role>(&entry.value)?.rules
    } else {
        serde_json::from_slice::<ClusterRole>(&entry.value)?.rules
    };
    Ok(rules.unwrap_or_default())
}

/// Whether the writer has a verb that lifts the check.
fn may(call: &Call, verb: &str, plural: &str, name: &str) -> Result<bool, ApiError> {
    let target = Target::Resource(Resource {
        group: GROUP,
        resource: plural,
        subresource: "",
        namespace: &call.target.namespace,
        name,
    });
    let policy = auth::policy(&call.state)?;
    Ok(authz::authorize(&call.identity, &Attributes { verb, target }, &policy).allowed)
}

fn confirm(call: &Call, name: &str, granted: &[PolicyRule]) -> Result<(), ApiError> {
    let held = auth::policy(&call.state)?.rules(&call.identity, &call.target.namespace);
    match escalation::refusal(&call.identity, &held, granted) {
        Some(reason) => Err(forbidden(call, name, reason)),
        None => Ok(()),
    }
}

fn forbidden(call: &Call, name: &str, reason: String) -> ApiError {
    ApiError::Forbidden {
        resource: call.info().into(),
        name: name.to_owned(),
        reason,
        causes: Vec::new(),
    }
}

/// Whether a write changes nothing but what garbage collection goes by.
fn only_collected(old: &Value, new: &Value) -> bool {
    let without = |object: &Value| {
        let mut object = object.clone();
        if let Some(metadata) = object["metadata"].as_object_mut() {
            for field in ["finalizers", "ownerReferences", "managedFields", "resourceVersion"] {
                metadata.remove(field);
            }
        }
        object
    };
    without(old) == without(new)
}
