//! Lays and removes a Pod's veth pair as planned by `plan::pod_network`, over netlink sockets that live
//! in the two namespaces; facts about why it is shaped so are at the plan.

use crate::plan::pod_network::PodNetwork;

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum PodNetworkError {
    /// The Pod's network namespace.
    #[error(transparent)]
    Namespace(#[from] super::netns::NetNsError),
    /// A netlink request, named by what it was for.
    #[error("{operation}")]
    Netlink {
        /// For example `add veth minikab12cd34`.
        operation: String,
        /// Cause.
        #[source]
        source: rtnetlink::Error,
    },
}

/// Handle on the node's side of all its Pods' links; cheap to clone.
#[derive(Debug, Clone)]
pub struct PodNetworks {}

impl PodNetworks {
    /// Opens a netlink socket in the namespace the process is in (the node's). Needs a tokio runtime.
    pub fn open() -> Result<Self, PodNetworkError> {
        todo!()
    }

    /// Makes the namespace, the pair, addresses, routes and permanent neighbours. Idempotent: what is there
    /// and right is kept, what is there and wrong is replaced.
    pub async fn attach(&self, _pod: &PodNetwork) -> Result<(), PodNetworkError> {
        todo!()
    }

    /// Removes the pair and the namespace's name, and waits until the link's name is free again.
    /// What is missing is no error.
    pub async fn detach(&self, _pod: &PodNetwork) -> Result<(), PodNetworkError> {
        todo!()
    }
}
