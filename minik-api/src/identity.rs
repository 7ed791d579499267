//! Who is asking. Plain values: listeners, certificates and tokens say who it is, [`crate::authz`] what they may do.

use std::collections::BTreeMap;

/// The key of what is known of a user under which the credential stands that was shown: a certificate's digest, a
/// token's number.
pub const CREDENTIAL: &str = "authentication.kubernetes.io/credential-id";

/// Who is asking. Decided by the listener (path socket) or the TLS client certificate
/// (`CN` is the user, every `O` a group); carried as a request extension.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// `kubernetes-admin`, `system:node:worker1`, `system:anonymous` …
    pub user: String,
    /// `system:masters`, `system:nodes`, `system:authenticated` …
    pub groups: Vec<String>,
    /// What tells the user from others of the same name over time; empty when nothing does.
    pub uid: String,
    /// What else is known of the user, by key.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Identity {
    /// Whoever gave no name.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::new("system:anonymous", &["system:unauthenticated"])
    }

    /// Root of this machine, over the cluster's own socket.
    #[must_use]
    pub fn admin() -> Self {
        Self::new("kubernetes-admin", &["system:masters", "system:authenticated"])
    }

    /// The agent of `node`, over the node's socket.
    #[must_use]
    pub fn node(node: &str) -> Self {
        Self::new(
            &format!("system:node:{node}"),
            &["system:nodes", "system:authenticated"],
        )
    }

    /// The API server itself, who makes the first objects of a cluster and keeps Service `kubernetes`.
    #[must_use]
    pub fn api_server() -> Self {
        Self::new("system:apiserver", &["system:masters", "system:authenticated"])
    }

    /// Who watches for all controllers in this process and writes their events.
    #[must_use]
    pub fn controllers() -> Self {
        Self::new("system:kube-controller-manager", &["system:authenticated"])
    }

    /// The scheduler in this process.
    #[must_use]
    pub fn scheduler() -> Self {
        Self::new("system:kube-scheduler", &["system:authenticated"])
    }

    /// One controller in this process: what it writes, it writes as the ServiceAccount of its name in kube-system.
    #[must_use]
    pub fn controller(name: &str) -> Self {
        Self::new(
            &format!("system:serviceaccount:kube-system:{name}"),
            &[
                "system:serviceaccounts",
                "system:serviceaccounts:kube-system",
                "system:authenticated",
            ],
        )
    }

    fn new(user: &str, groups: &[&str]) -> Self {
        Self {
            user: user.to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            ..Self::default()
        }
    }
}
