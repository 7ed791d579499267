//! What the workers of a node share, what each is told of its Pod, and what it may fail at.

use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use tokio::sync::watch;

use super::hostname::TooLong;
use super::objects::Objects;
use crate::clock::Clock;
use crate::config::AgentConfig;
use crate::kernel::pod_network::{PodNetworkError, PodNetworks};
use crate::reconcile::host_ports::{HostPortTable, HostPortsError};
use crate::runtime::client::ShimClientError;
use crate::runtime::image::Images;
use crate::view::ClusterView;

/// Everything that the workers of a node share.
pub struct NodeContext {
    /// The node.
    pub config: AgentConfig,
    /// The API server.
    pub client: Client,
    /// Images of this machine.
    pub images: Images,
    /// Objects that Pods name.
    pub objects: Objects,
    /// Pod links.
    pub networks: PodNetworks,
    /// Ports of the node that lead to Pods.
    pub host_ports: HostPortTable,
    /// Services, for environment variables.
    pub view: watch::Receiver<Option<Arc<ClusterView>>>,
    /// The program that has the shim: this one.
    pub program: PathBuf,
    /// What waits are measured with.
    pub clock: Clock,
    /// Steps of the wall clock.
    pub steps: watch::Receiver<()>,
}

/// What a worker could not do; it tries again.
#[derive(Debug, thiserror::Error)]
pub enum PodError {
    /// All addresses of the node's range are taken.
    #[error("no address is free in {0}")]
    NoAddress(ipnet::Ipv4Net),
    /// The Pod's host name.
    #[error(transparent)]
    Name(#[from] TooLong),
    /// The Pod's link.
    #[error("lay the network")]
    Network(#[from] PodNetworkError),
    /// The Pod's host ports.
    #[error(transparent)]
    HostPorts(#[from] HostPortsError),
    /// The Pod's shim.
    #[error(transparent)]
    Shim(#[from] ShimClientError),
    /// A directory or file of the Pod.
    #[error("{operation} {path}")]
    File {
        /// For example `remove`.
        operation: &'static str,
        /// Which.
        path: PathBuf,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// A status that is no JSON.
    #[error("write the Pod's status")]
    Status(#[source] serde_json::Error),
    /// A request to the API server.
    #[error("{0}")]
    Api(&'static str, #[source] Box<kube::Error>),
}

/// The newest that the API says of a Pod.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The object.
    pub pod: Arc<Pod>,
    /// Whether the API server has it no more.
    pub gone: bool,
}

/// An error and its causes in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
