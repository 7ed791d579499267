//! What a node is told when it starts, and what it has to give. Everything else it finds out from the API and the kernel.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// The kubelet's `maxPods`: what a /24 has addresses for, where the kubelet's default of 110 would leave most unused.
const MAX_PODS: &str = "253";

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
    /// Resolver settings for Pods with the node's own (`dnsPolicy: Default`), as the kubelet's `--resolv-conf`; `None`
    /// where Pods can reach no name server but the cluster's.
    pub resolv_conf: Option<PathBuf>,
    /// Path socket of the API server for this node.
    pub api_socket: PathBuf,
    /// `/run/minik/CLUSTER/nodes/NODE`: sockets, FIFOs, locks; gone after a reboot.
    pub run_dir: PathBuf,
    /// `STATE/nodes/NODE`: Pod volumes, container file systems, logs, exit codes.
    pub state_dir: PathBuf,
    /// Where built-in images are unpacked, shared by the nodes of a machine.
    pub image_dir: PathBuf,
}

/// What the node gives to Pods.
pub fn allocatable(config: &AgentConfig) -> BTreeMap<String, Quantity> {
    [
        (
            "cpu",
            std::thread::available_parallelism().map_or(1, usize::from).to_string(),
        ),
        ("memory", memory()),
        ("ephemeral-storage", storage(&config.state_dir)),
        ("pods", MAX_PODS.to_owned()),
    ]
    .map(|(name, amount)| (name.to_owned(), Quantity(amount)))
    .into()
}

/// The size of the file system that holds what Pods write.
fn storage(directory: &Path) -> String {
    let kibibytes = std::fs::create_dir_all(directory)
        .ok()
        .and_then(|()| nix::sys::statvfs::statvfs(directory).ok())
        .map_or(0, |found| found.blocks() * found.fragment_size() / 1024);
    format!("{kibibytes}Ki")
}

fn memory() -> String {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next());
    format!("{}Ki", kilobytes.unwrap_or("0"))
}
