//! What is said of a kind before any of its objects: names, where it is served, what can be done with it; and with it how
//! its objects behave.

use serde_json::Value;

use super::DynStrategy;

/// A subresource with a path of its own under an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subresource {
    /// `/status`: same kind, only status changes.
    Status,
    /// `/scale`: an `autoscaling/v1` Scale over `spec.replicas`.
    Scale,
    /// `/binding`: POST of a Binding that sets a Pod's node.
    Binding,
    /// `/log`: GET, answered by the node's agent.
    Log,
    /// `/exec`: upgraded connection, answered by the node's agent.
    Exec,
    /// `/finalize`: PUT that empties a Namespace's finalizers.
    Finalize,
    /// `/attach`: upgraded connection to a container that runs, answered by the node's agent.
    Attach,
    /// `/portforward`: upgraded connection to ports of a Pod, answered by the node's agent.
    PortForward,
    /// `/proxy`: any HTTP request, carried to a Pod, an endpoint of a Service, or a node's agent.
    Proxy,
    /// `/eviction`: POST of an Eviction, a deletion that budgets may refuse.
    Eviction,
    /// `/ephemeralcontainers`: same kind, only ephemeral containers are added.
    EphemeralContainers,
    /// `/resize`: same kind, only what containers may use changes.
    Resize,
    /// `/token`: POST of a TokenRequest, answered with a signed token.
    Token,
}

/// Everything that can be done with objects that are kept.
pub const EVERY_VERB: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];
/// What can be done with objects that are answered and not kept.
pub const CREATED_ONLY: &[&str] = &["create"];
/// What can be done with objects that nobody makes.
pub const READ_ONLY: &[&str] = &["get", "list"];

/// The names and shape of a kind, as discovery shows them.
#[derive(Debug, Clone, Copy)]
pub struct KindInfo {
    /// API group, empty for the core group.
    pub group: &'static str,
    /// API version.
    pub version: &'static str,
    /// `Service`.
    pub kind: &'static str,
    /// `services`.
    pub plural: &'static str,
    /// `service`.
    pub singular: &'static str,
    /// `["svc"]`.
    pub short_names: &'static [&'static str],
    /// `["all"]` for the kinds that `kubectl get all` lists.
    pub categories: &'static [&'static str],
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Name of the kind's definition in the schema, for example `io.k8s.api.core.v1.Service`.
    pub schema: &'static str,
    /// Subresources, in discovery order.
    pub subresources: &'static [Subresource],
    /// What can be done with objects, in alphabetical order.
    pub verbs: &'static [&'static str],
    /// Whether objects are kept. What is not is answered at once: a review, a Binding, how a
    /// component is.
    pub stored: bool,
    /// Whose objects it shows, where they are another kind's.
    pub view: Option<View>,
    /// What every request about the kind is warned of, where the kind is deprecated.
    pub deprecation: Option<&'static str>,
}

/// A kind whose objects are those of the kind of the same plural in another group, under other field names.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// The group that they are stored in.
    pub group: &'static str,
    /// Field names at the top of the object: as stored, as shown.
    pub fields: &'static [(&'static str, &'static str)],
}

impl View {
    /// Gives a stored object the names of the view.
    pub fn show(&self, object: &mut Value) {
        self.fields
            .iter()
            .for_each(|(stored, shown)| rename(object, stored, shown));
    }

    /// Gives an object of the view the names that it is stored under.
    pub fn store(&self, object: &mut Value) {
        self.fields
            .iter()
            .for_each(|(stored, shown)| rename(object, shown, stored));
    }
}

fn rename(object: &mut Value, from: &str, to: &str) {
    if let Value::Object(fields) = object
        && let Some(value) = fields.remove(from)
    {
        fields.insert(to.to_owned(), value);
    }
}

impl KindInfo {
    /// The group in whose part of the store the objects are.
    #[must_use]
    pub fn stored_in(&self) -> &'static str {
        self.view.map_or(self.group, |view| view.group)
    }

    /// `v1`, `apps/v1`.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Writes `apiVersion` and `kind` into an object of this kind.
    pub fn stamp(&self, object: &mut Value) {
        if let Value::Object(fields) = object {
            fields.insert("apiVersion".to_owned(), Value::String(self.api_version()));
            fields.insert("kind".to_owned(), Value::String(self.kind.to_owned()));
        }
    }
}

/// One row of the registry.
pub struct Registered {
    /// Names and shape.
    pub info: KindInfo,
    /// Behaviour.
    pub strategy: Box<dyn DynStrategy>,
}
