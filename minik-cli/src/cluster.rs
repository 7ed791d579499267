//! A cluster's parameters and the names and paths that follow from them. Chosen once by the first `minik up`,
//! kept in `STATE_DIR/cluster.json`, read by every process of the cluster.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

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
    /// The port on 127.0.0.1 that the supervisor bound, and binds again if it can; `None` before the first time.
    #[serde(default)]
    pub api_port: Option<u16>,
}

/// What follows from a cluster's name alone, for commands that must work without its parameters.
pub mod names {
    use std::path::{Path, PathBuf};

    /// Where every cluster's run directory lies.
    pub const RUN: &str = "/run/minik";
    /// Where every cluster's state lies unless told otherwise.
    pub const STATE: &str = "/var/lib/minik";
    /// Beside the clusters' state; so no cluster may have this name.
    pub const IMAGES: &str = "images";

    /// `/run/minik/NAME`
    #[must_use]
    pub fn run_dir(cluster: &str) -> PathBuf {
        Path::new(RUN).join(cluster)
    }

    /// `/var/lib/minik/NAME`
    #[must_use]
    pub fn default_state_dir(cluster: &str) -> PathBuf {
        Path::new(STATE).join(cluster)
    }

    /// In the run directory, a link to the state directory: how commands find a running cluster's parameters.
    #[must_use]
    pub fn state_link(cluster: &str) -> PathBuf {
        run_dir(cluster).join("state")
    }

    /// Held with `flock` by the supervisor as long as it lives: the one sign of a running cluster that
    /// cannot be left behind.
    #[must_use]
    pub fn supervisor_lock(cluster: &str) -> PathBuf {
        run_dir(cluster).join("supervisor.lock")
    }

    /// Prefix of the names of a cluster's network namespaces.
    #[must_use]
    pub fn netns_prefix(cluster: &str) -> String {
        format!("minik.{cluster}.")
    }

    /// `minik`, or `minik-NAME`: cluster, user and context in the kubeconfig.
    #[must_use]
    pub fn context(cluster: &str) -> String {
        if cluster == "minik" {
            cluster.to_owned()
        } else {
            format!("minik-{cluster}")
        }
    }
}

impl ClusterSpec {
    /// `/run/minik/NAME`
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        names::run_dir(&self.name)
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

    /// Address of Service `kubernetes`: the first of the service range.
    #[must_use]
    pub fn kubernetes_ip(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.service_cidr.network()) + 1)
    }

    /// The node that carries the control plane: the first.
    #[must_use]
    pub fn control_plane(&self) -> &NodeSpec {
        &self.nodes[0]
    }

    /// The node of that name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&NodeSpec> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// `STATE/log`
    #[must_use]
    pub fn log_dir(&self) -> PathBuf {
        self.state_dir.join("log")
    }

    /// `STATE/pki`
    #[must_use]
    pub fn pki_dir(&self) -> PathBuf {
        self.state_dir.join("pki")
    }

    /// Built-in images, unpacked: shared by the clusters of a machine, except where the state lies elsewhere.
    #[must_use]
    pub fn image_dir(&self) -> PathBuf {
        let parent = if self.state_dir == names::default_state_dir(&self.name) {
            Path::new(names::STATE)
        } else {
            &self.state_dir
        };
        parent.join(names::IMAGES)
    }
}
