//! Who may do what: the stored roles as one policy, the question to [`crate::authz`], and the 403 that says no;
//! and what the NodeRestriction admission keeps agents from.

use std::sync::Arc;

use crate::authz::{self, Policy, Resource};
pub use crate::authz::{Attributes, node_name};
use crate::error::{self, ApiError};
use crate::identity::Identity;
use crate::resource::KindInfo;

use super::request::{Target, Verb, segment};
use super::state::State;

/// Paths outside the resources that anyone may read, whatever the roles say.
const PUBLIC_PATHS: [&str; 4] = ["healthz", "livez", "readyz", "version"];

/// The policy of the stored roles and bindings.
///
/// # Errors
/// One of them is damaged.
pub fn policy(state: &State) -> Result<Arc<Policy>, ApiError> {
    Ok(state.policies.get(&state.storage.cache().snapshot())?)
}

/// The attributes of `verb` on `target`; `selected` is the one name a field selector allows.
#[must_use]
pub fn attributes<'a>(verb: Verb, target: &'a Target<'_>, selected: Option<&'a str>) -> Attributes<'a> {
    let info = &target.kind.info;
    let about_namespace = info.group.is_empty() && info.plural == "namespaces";
    Attributes {
        verb: verb.as_str(),
        target: authz::Target::Resource(Resource {
            group: info.group,
            resource: info.plural,
            subresource: target.subresource.map_or("", segment),
            namespace: if about_namespace {
                &target.name
            } else {
                &target.namespace
            },
            name: selected.filter(|_| target.name.is_empty()).unwrap_or(&target.name),
        }),
    }
}

/// Whether `identity` may do what a request about a resource wants.
///
/// # Errors
/// It may not.
pub fn authorize(
    state: &State,
    identity: &Identity,
    about: impl Into<error::Resource>,
    wanted: &Attributes<'_>,
) -> Result<(), ApiError> {
    // Who may do everything needs no policy.
    if authz::is_master(identity) {
        return Ok(());
    }
    let decision = authz::authorize(identity, wanted, &*policy(state)?);
    if decision.allowed {
        return Ok(());
    }
    let name = match &wanted.target {
        authz::Target::Resource(resource) => resource.name.to_owned(),
        authz::Target::Path(_) => String::new(),
    };
    Err(ApiError::Forbidden {
        resource: about.into(),
        name,
        reason: explained(cannot(&identity.user, wanted), &decision.reason),
        causes: Vec::new(),
    })
}

/// Whether `identity` may read a path that is no resource.
///
/// # Errors
/// It may not.
pub fn authorize_path(state: &State, identity: &Identity, path: &str, verb: &str) -> Result<(), ApiError> {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    if PUBLIC_PATHS.contains(&first) || authz::is_master(identity) {
        return Ok(());
    }
    let wanted = Attributes {
        verb,
        target: authz::Target::Path(path),
    };
    let decision = authz::authorize(identity, &wanted, &*policy(state)?);
    if decision.allowed {
        return Ok(());
    }
    let text = explained(cannot(&identity.user, &wanted), &decision.reason);
    Err(ApiError::ForbiddenPath(format!("forbidden: {text}")))
}

fn explained(text: String, reason: &str) -> String {
    if reason.is_empty() {
        text
    } else {
        format!("{text}: {reason}")
    }
}

fn cannot(user: &str, wanted: &Attributes<'_>) -> String {
    let verb = wanted.verb;
    let resource = match &wanted.target {
        authz::Target::Path(path) => return format!("User {user:?} cannot {verb} path {path:?}"),
        authz::Target::Resource(resource) => resource,
    };
    let what = match resource.subresource {
        "" => resource.resource.to_owned(),
        part => format!("{}/{part}", resource.resource),
    };
    let scope = match resource.namespace {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    let group = resource.group;
    format!("User {user:?} cannot {verb} resource {what:?} in API group {group:?} {scope}")
}

/// Keeps an agent to the Pods of its own node, as the NodeRestriction admission does.
///
/// # Errors
/// The Pod is bound to another node, or to none.
pub fn restrict_to_own_pods(
    identity: &Identity,
    info: &KindInfo,
    pod: &serde_json::Value,
    name: &str,
    action: &str,
) -> Result<(), ApiError> {
    let Some(node) = node_name(identity) else { return Ok(()) };
    let bound_to = pod.pointer("/spec/nodeName").and_then(serde_json::Value::as_str);
    if info.plural != "pods" || bound_to == Some(node) {
        return Ok(());
    }
    Err(ApiError::Forbidden {
        resource: info.into(),
        name: name.to_owned(),
        reason: format!("node \"{node}\" can only {action} pods with spec.nodeName set to itself"),
        causes: Vec::new(),
    })
}

/// Keeps an agent to its own Node and Lease, as the NodeRestriction admission does. Where the path names
/// the object, [`authorize`] has seen to it.
///
/// # Errors
/// The object to be made has another name.
pub fn restrict_to_own_node(identity: &Identity, info: &KindInfo, name: &str) -> Result<(), ApiError> {
    let Some(node) = node_name(identity).filter(|node| *node != name) else {
        return Ok(());
    };
    let reason = match info.kind {
        "Node" => format!("node \"{node}\" is not allowed to modify node \"{name}\""),
        "Lease" => "can only access node lease with the same name as the requesting node".to_owned(),
        _ => return Ok(()),
    };
    Err(ApiError::Forbidden {
        resource: info.into(),
        name: name.to_owned(),
        reason,
        causes: Vec::new(),
    })
}
