//! Who may do what, as an API server with `--authorization-mode=Node,RBAC` decides it. Pure: the identity, what
//! it wants and the stored roles go in, a decision with its reason comes out. `http::auth` asks.

pub mod escalation;
mod node;
mod rbac;

pub use node::node_name;
pub use rbac::{Policy, Rules};

use crate::identity::Identity;

/// Members may do everything.
const MASTERS: &str = "system:masters";

/// What a request wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// `get`, `list`, `create` …; for paths the HTTP method in lower case.
    pub verb: &'a str,
    /// To what.
    pub target: Target<'a>,
}

/// What a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// Objects of a kind.
    Resource(Resource<'a>),
    /// A path outside the resources.
    Path(&'a str),
}

/// Objects of a kind, or one of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resource<'a> {
    /// API group, empty for the core group.
    pub group: &'a str,
    /// Plural name.
    pub resource: &'a str,
    /// `status`, `log` …, or empty.
    pub subresource: &'a str,
    /// Namespace, or empty for the cluster scope.
    pub namespace: &'a str,
    /// The object, or empty.
    pub name: &'a str,
}

/// Whether a request may go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Yes or no.
    pub allowed: bool,
    /// Why, in Kubernetes' words; may be empty.
    pub reason: String,
}

impl Decision {
    fn allowed(reason: impl Into<String>) -> Self {
        Self {
            allowed: true,
            reason: reason.into(),
        }
    }

    fn denied(reason: impl Into<String>) -> Self {
        Self {
            allowed: false,
            reason: reason.into(),
        }
    }
}

/// Whether `identity` may do what `wanted` says.
#[must_use]
pub fn authorize(identity: &Identity, wanted: &Attributes<'_>, policy: &Policy) -> Decision {
    if has_group(identity, MASTERS) {
        return Decision::allowed("");
    }
    if let (Some(node), Target::Resource(resource)) = (node_name(identity), &wanted.target)
        && node::may(node, wanted.verb, resource)
    {
        return Decision::allowed("");
    }
    policy.decide(identity, wanted)
}

/// Whether `identity` may do everything, whatever the roles say.
#[must_use]
pub fn is_master(identity: &Identity) -> bool {
    has_group(identity, MASTERS)
}

fn has_group(identity: &Identity, group: &str) -> bool {
    identity.groups.iter().any(|have| have == group)
}

#[cfg(test)]
mod tests;
