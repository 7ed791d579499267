//! Wires one node together: API client → view → planners → reconcilers, and shuts them down in order.
//!
//! Owns the node's Node object, its Lease and the kubelet socket. Decides nothing about packets.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use ipnet::Ipv4Net;

/// What an agent is told when it starts. It finds out everything else from the API and the kernel.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Cluster name, part of every name we give to kernel objects.
    pub cluster: String,
    /// Node name, as in the API.
    pub node: String,
    /// `control-plane` or nothing: becomes the label `node-role.kubernetes.io/ROLE`.
    pub role: Option<String>,
    /// Whether this node carries the taint `node-role.kubernetes.io/control-plane:NoSchedule`.
    pub tainted: bool,
    /// The node's own address.
    pub node_ip: Ipv4Addr,
    /// Addresses of this node's Pods.
    pub node_pod_cidr: Ipv4Net,
    /// Addresses of all Pods of the cluster.
    pub pod_cidr: Ipv4Net,
    /// Range of cluster IPs.
    pub service_cidr: Ipv4Net,
    /// Address of Service `kube-dns`.
    pub cluster_dns: Ipv4Addr,
    /// `cluster.local`.
    pub cluster_domain: String,
    /// Path socket of the API server for this node.
    pub api_socket: PathBuf,
    /// `/run/minik/CLUSTER/nodes/NODE`: sockets, FIFOs, locks; gone after a reboot.
    pub run_dir: PathBuf,
    /// `STATE/nodes/NODE`: Pod volumes, container file systems, logs, exit codes.
    pub state_dir: PathBuf,
    /// Where built-in images are unpacked, shared by the nodes of a machine.
    pub image_dir: PathBuf,
}
