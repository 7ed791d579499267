//! Who may do what: a pure function of the identity and the request's attributes, and the 403 that
//! says no. There are no roles yet; each identity that minik hands out has its fixed list here.

use crate::error::ApiError;
use crate::resource::KindInfo;
use crate::server::Identity;

use super::request::{Target, Verb, segment};

/// What a request wants to do.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    /// The verb.
    pub verb: Verb,
    /// The kind it is about.
    pub info: &'a KindInfo,
    /// `status`, `binding` …, or empty.
    pub subresource: &'static str,
    /// Namespace, or empty.
    pub namespace: &'a str,
    /// The object, or empty. A list or watch that a field selector limits to one object names it.
    pub name: &'a str,
}

impl<'a> Attributes<'a> {
    /// The attributes of `verb` on `target`; `selected` is the one name a field selector allows.
    #[must_use]
    pub fn new(verb: Verb, target: &'a Target<'_>, selected: Option<&'a str>) -> Self {
        let info = &target.kind.info;
        let about_namespace = info.group.is_empty() && info.plural == "namespaces";
        Self {
            verb,
            info,
            subresource: target.subresource.map_or("", segment),
            namespace: if about_namespace {
                &target.name
            } else {
                &target.namespace
            },
            name: selected.filter(|_| target.name.is_empty()).unwrap_or(&target.name),
        }
    }
}

/// Paths outside the resources that anyone may read.
const PUBLIC_PATHS: [&str; 4] = ["healthz", "livez", "readyz", "version"];

/// Whether `identity` may read a path that is no resource.
///
/// # Errors
/// It may not.
pub fn authorize_path(identity: &Identity, path: &str, verb: &str) -> Result<(), ApiError> {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    if PUBLIC_PATHS.contains(&first) || has_group(identity, "system:authenticated") || is_master(identity) {
        return Ok(());
    }
    let user = &identity.user;
    Err(ApiError::ForbiddenPath(format!(
        "forbidden: User \"{user}\" cannot {verb} path \"{path}\""
    )))
}

/// Whether `identity` may do what `wanted` says.
///
/// # Errors
/// It may not.
pub fn authorize(identity: &Identity, wanted: &Attributes<'_>) -> Result<(), ApiError> {
    let allowed = is_master(identity)
        || node_name(identity).is_some_and(|node| node_may(node, wanted))
        || (identity.user == "system:serviceaccount:kube-system:coredns" && dns_may(wanted));
    if allowed {
        Ok(())
    } else {
        Err(forbidden(identity, wanted))
    }
}

/// The node that `identity` is the agent of.
#[must_use]
pub fn node_name(identity: &Identity) -> Option<&str> {
    identity
        .user
        .strip_prefix("system:node:")
        .filter(|_| has_group(identity, "system:nodes"))
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

fn has_group(identity: &Identity, group: &str) -> bool {
    identity.groups.iter().any(|have| have == group)
}

fn is_master(identity: &Identity) -> bool {
    has_group(identity, "system:masters")
}

/// What a kubelet and a kube-proxy need (NodeAuthorizer, NodeRestriction, `system:node-proxier`).
fn node_may(node: &str, wanted: &Attributes<'_>) -> bool {
    let reads = matches!(wanted.verb, Verb::Get | Verb::List | Verb::Watch);
    let writes = matches!(wanted.verb, Verb::Update | Verb::Patch);
    match (wanted.info.plural, wanted.subresource) {
        ("services" | "endpoints" | "endpointslices" | "nodes" | "namespaces" | "pods", "") if reads => true,
        // One at a time, as a Pod refers to them; never the whole collection.
        ("configmaps" | "secrets" | "serviceaccounts", "") => reads && !wanted.name.is_empty(),
        ("nodes", "") => wanted.verb == Verb::Create || (writes && wanted.name == node),
        ("nodes", "status") => writes && wanted.name == node,
        ("pods", "") => wanted.verb == Verb::Delete,
        ("pods", "status") => writes,
        ("leases", "") if wanted.namespace == "kube-node-lease" => wanted.verb == Verb::Create || wanted.name == node,
        ("events", "") => matches!(wanted.verb, Verb::Create | Verb::Update | Verb::Patch),
        _ => false,
    }
}

fn dns_may(wanted: &Attributes<'_>) -> bool {
    matches!(wanted.verb, Verb::List | Verb::Watch)
        && matches!(
            wanted.info.plural,
            "services" | "endpointslices" | "namespaces" | "pods"
        )
}

fn forbidden(identity: &Identity, wanted: &Attributes<'_>) -> ApiError {
    let Attributes {
        verb,
        info,
        subresource,
        namespace,
        name,
    } = *wanted;
    let slash = if subresource.is_empty() { "" } else { "/" };
    let scope = if namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace \"{namespace}\"")
    };
    ApiError::Forbidden {
        resource: info.into(),
        name: name.to_owned(),
        reason: format!(
            "User \"{}\" cannot {} resource \"{}{slash}{subresource}\" in API group \"{}\" {scope}",
            identity.user,
            verb.as_str(),
            info.plural,
            info.group,
        ),
        causes: Vec::new(),
    }
}
