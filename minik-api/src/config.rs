//! The facts of a cluster that its API server is told when it starts. Plain values.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use ipnet::Ipv4Net;

use crate::account_tokens::AccountKey;

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
    /// Signs the tokens of ServiceAccounts.
    pub account_key: AccountKey,
    /// Where each node's agent serves logs and exec: `NODES_DIR/NODE/kubelet.sock`.
    pub nodes_dir: PathBuf,
}
