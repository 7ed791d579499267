//! The API server as a whole: configuration, the router, and the listeners that say who is asking.
//!
//! Listeners are handed in already bound (the supervisor holds them across restarts), so that this
//! crate never touches a network namespace and tests need no ports.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use ipnet::Ipv4Net;

/// Who is asking. Decided by the listener (path socket) or the TLS client certificate
/// (`CN` is the user, every `O` a group); carried as a request extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `kubernetes-admin`, `system:node:worker1`, `system:anonymous` …
    pub user: String,
    /// `system:masters`, `system:nodes`, `system:authenticated` …
    pub groups: Vec<String>,
}

/// What a cluster's API server needs to know.
#[derive(Debug, Clone)]
pub struct ApiConfig {
    /// Range of cluster IPs; its first address is Service `kubernetes`, its tenth `kube-dns`.
    pub service_cidr: Ipv4Net,
    /// Range of Pod addresses of the whole cluster.
    pub pod_cidr: Ipv4Net,
    /// Ports that NodePort Services may use.
    pub node_ports: RangeInclusive<u16>,
    /// `cluster.local`.
    pub cluster_domain: String,
    /// The address that Service `kubernetes` points to: the control-plane node's.
    pub advertise_address: Ipv4Addr,
    /// The port beside it, 6443.
    pub advertise_port: u16,
    /// Directory of the durable log.
    pub data_dir: PathBuf,
    /// Where each node's agent serves logs and exec: `NODES_DIR/NODE/kubelet.sock`.
    pub nodes_dir: PathBuf,
}
