//! `minik internal agent`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use minik_node::agent::AgentConfig;

use super::Process;
use crate::cluster::{ClusterSpec, NodeSpec};
use crate::provider::netns::node_netns;
use crate::supervisor::KUBELET;

/// Agent of a node.
#[derive(Debug, Args)]
pub struct Agent {
    #[command(flatten)]
    process: Process,
    /// Node
    #[arg(long)]
    node: String,
}

impl Agent {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let mut inherited = super::inherited::sockets()?.into_iter();
        let kubelet = inherited.find_map(|(name, socket)| (name == KUBELET).then_some(socket));
        let kubelet = kubelet.context("no socket for the kubelet was passed")?;
        let spec = self.process.spec()?;
        let node = spec
            .node(&self.node)
            .with_context(|| format!("cluster has no node {:?}", self.node))?;
        node_netns(&spec, &node.name)?.enter()?;
        super::log_to_stderr();
        crate::cmd::runtime()?.block_on(async {
            minik_node::agent::run(config(&spec, node), kubelet.into(), super::until_terminated()?).await?;
            Ok(ExitCode::SUCCESS)
        })
    }
}

/// All that the agent of a node is told.
pub fn config(spec: &ClusterSpec, node: &NodeSpec) -> AgentConfig {
    let is_control_plane = node.index == 0;
    let run_dir = spec.node_run_dir(&node.name);
    AgentConfig {
        cluster: spec.name.clone(),
        node: node.name.clone(),
        role: is_control_plane.then(|| "control-plane".to_owned()),
        // Alone, it must take Pods like any other.
        tainted: is_control_plane && spec.nodes.len() > 1,
        node_ip: node.ip,
        node_pod_cidr: node.pod_cidr,
        pod_cidr: spec.pod_network_cidr,
        service_cidr: spec.service_cidr,
        cluster_dns: spec.cluster_dns(),
        cluster_domain: spec.cluster_domain.clone(),
        resolv_conf: spec.egress.then(resolv_conf),
        api_socket: run_dir.join("api.sock"),
        run_dir,
        state_dir: spec.state_dir.join("nodes").join(&node.name),
        image_dir: spec.image_dir(),
    }
}

/// Where this machine's name servers are found: not in `/etc/resolv.conf` when systemd-resolved has put itself there,
/// on loopback, where no Pod reaches it (kubeadm looks for the same file).
fn resolv_conf() -> PathBuf {
    let beyond_resolved = PathBuf::from("/run/systemd/resolve/resolv.conf");
    if beyond_resolved.exists() {
        beyond_resolved
    } else {
        PathBuf::from("/etc/resolv.conf")
    }
}
