//! What an agent may do: what a kubelet and a kube-proxy need (Kubernetes' node authorizer, and
//! `system:node-proxier`).

use super::{Resource, has_group};
use crate::identity::Identity;

/// The node that `identity` is the agent of.
#[must_use]
pub fn node_name(identity: &Identity) -> Option<&str> {
    identity
        .user
        .strip_prefix("system:node:")
        .filter(|_| has_group(identity, "system:nodes"))
}

/// Whether the agent of `node` may.
pub(super) fn may(node: &str, verb: &str, wanted: &Resource<'_>) -> bool {
    let reads = matches!(verb, "get" | "list" | "watch");
    let writes = matches!(verb, "update" | "patch");
    match (wanted.group, wanted.resource, wanted.subresource) {
        ("", "services" | "endpoints" | "nodes" | "namespaces" | "pods", "") if reads => true,
        ("discovery.k8s.io", "endpointslices", "") => reads,
        // One at a time, as a Pod refers to them; never the whole collection.
        ("", "configmaps" | "secrets" | "serviceaccounts" | "persistentvolumeclaims" | "persistentvolumes", "") => {
            reads && !wanted.name.is_empty()
        }
        ("", "serviceaccounts", "token") => verb == "create",
        ("", "nodes", "") => verb == "create" || (writes && wanted.name == node),
        ("", "nodes", "status") => writes && wanted.name == node,
        ("", "pods", "") => verb == "delete",
        ("", "pods", "status") => writes,
        ("coordination.k8s.io", "leases", "") if wanted.namespace == "kube-node-lease" => {
            verb == "create" || wanted.name == node
        }
        ("" | "events.k8s.io", "events", "") => matches!(verb, "create" | "update" | "patch"),
        _ => false,
    }
}
