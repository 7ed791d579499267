//! A cluster's parameters and the names and paths that follow from them. Chosen once by the first `minik up`,
//! kept in `STATE_DIR/cluster.json`, read by every process of the cluster.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// Which rules the node agents write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyMode {
    /// kube-proxy's iptables layout.
    Iptables,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// `control-plane`, `worker1`, …
    pub name: String,
    /// 0 is the control plane.
    pub index: u8,
    /// `node_network_cidr` + 10 + index: 172.30.0.10, .11, …
    pub ip: Ipv4Addr,
    /// The index-th /24 of `pod_network_cidr`: 10.244.0.0/24, 10.244.1.0/24, …
    pub pod_cidr: Ipv4Net,
}

/// A cluster, complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSpec {
    /// `minik` unless `--name`; a DNS label.
    pub name: String,
    /// In order of index.
    pub nodes: Vec<NodeSpec>,
    /// Underlay; the outside world has its first address (172.30.0.1).
    pub node_network_cidr: Ipv4Net,
    /// All Pods.
    pub pod_network_cidr: Ipv4Net,
    /// Cluster IPs.
    pub service_cidr: Ipv4Net,
    /// `cluster.local`
    pub cluster_domain: String,
    /// Whether the outside world is a namespace of its own.
    pub isolated: bool,
    /// Whether Pods may reach beyond the machine.
    pub egress: bool,
    /// Which rules.
    pub proxy_mode: ProxyMode,
    /// `/var/lib/minik/NAME` unless `--state-dir`.
    pub state_dir: PathBuf,
}

impl ClusterSpec {
    /// `/run/minik/NAME`
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        PathBuf::from("/run/minik").join(&self.name)
    }

    /// Root's own API socket.
    #[must_use]
    pub fn api_socket(&self) -> PathBuf {
        self.run_dir().join("api.sock")
    }

    /// `/run/minik/NAME/nodes/NODE`
    #[must_use]
    pub fn node_run_dir(&self, node: &str) -> PathBuf {
        self.run_dir().join("nodes").join(node)
    }

    /// The network namespace of a node.
    #[must_use]
    pub fn node_netns(&self, node: &str) -> String {
        format!("minik.{}.{node}", self.name)
    }

    /// The network namespace that holds the underlay bridge.
    #[must_use]
    pub fn fabric_netns(&self) -> String {
        format!("minik.{}.fabric", self.name)
    }

    /// The outside world of an isolated cluster; of any other it is the namespace `minik up` runs in.
    #[must_use]
    pub fn outside_netns(&self) -> Option<String> {
        self.isolated.then(|| format!("minik.{}.outside", self.name))
    }

    /// The outside world's address in the underlay: its first.
    #[must_use]
    pub fn outside_ip(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.node_network_cidr.network()) + 1)
    }

    /// Address of Service `kube-dns`: the tenth of the service range.
    #[must_use]
    pub fn cluster_dns(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.service_cidr.network()) + 10)
    }
}
