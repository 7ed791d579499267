//! `minik debug trace`

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use minik_node::trace::iptables::Rules;
use minik_node::trace::{Host, Origin, Packet, Protocol, State};

use super::report::Report;
use super::{Output, node};
use crate::cluster::{ClusterSpec, NodeSpec};
use crate::cmd::Cluster;
use crate::cmd::get::Namespace;
use crate::{client, store};

/// The first of the ports that Linux gives to clients.
const CLIENT_PORT: u16 = 32_768;

/// Follow a packet through a node's rules, on paper: which rules match, which do not and why, and what becomes of it.
///
/// Reads the node's real rules, addresses and routes, and sends nothing. The packet is the first of a connection from a
/// client that no rule remembers. The way ends where the packet leaves the node.
#[derive(Debug, Args)]
pub struct Trace {
    #[command(flatten)]
    cluster: Cluster,
    #[command(flatten)]
    namespace: Namespace,
    /// Where it comes from: pod/NAME, node/NAME or outside
    from: Sender,
    /// Where it is sent to: ADDRESS:PORT
    to: SocketAddrV4,
    /// tcp, udp or sctp
    #[arg(long, default_value = "tcp")]
    protocol: Carries,
    /// Node that takes it, when it comes from outside; without, the one that has the address, or the first
    #[arg(long)]
    node: Option<String>,
    /// Print as JSON
    #[arg(short, long)]
    output: Option<Output>,
}

/// Who sends.
#[derive(Debug, Clone)]
enum Sender {
    Pod(String),
    Node(String),
    Outside,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Carries {
    Tcp,
    Udp,
    Sctp,
}

#[derive(Debug, thiserror::Error)]
#[error("neither pod/NAME, node/NAME nor outside")]
struct NoSender;

impl FromStr for Sender {
    type Err = NoSender;

    fn from_str(text: &str) -> Result<Self, NoSender> {
        match text.split_once('/') {
            Some(("pod" | "pods" | "po", name)) if !name.is_empty() => Ok(Self::Pod(name.to_owned())),
            Some(("node" | "nodes" | "no", name)) if !name.is_empty() => Ok(Self::Node(name.to_owned())),
            None if text == "outside" => Ok(Self::Outside),
            _ => Err(NoSender),
        }
    }
}

impl Trace {
    pub fn run(self) -> anyhow::Result<()> {
        let spec = store::load_running(&self.cluster.name)?;
        let (at, source) = self.sender(&spec)?;
        let (rules, host) = node::inside(&spec, &at.name, async || {
            Ok((node::rules(&spec, at).await?, node::host().await?))
        })
        .with_context(|| format!("read node {}", at.name))?;
        let rules = Rules::parse(&rules).context("read the node's rules")?;
        let protocol = match self.protocol {
            Carries::Tcp => Protocol::Tcp,
            Carries::Udp => Protocol::Udp,
            Carries::Sctp => Protocol::Sctp,
        };
        let origin = match source {
            None => Origin::Local,
            Some(address) => Origin::Link(link_of(&host, address)?),
        };
        let source = (source.unwrap_or(Ipv4Addr::UNSPECIFIED), CLIENT_PORT);
        let packet = Packet::new(protocol, source, (*self.to.ip(), self.to.port()));
        let outcomes = rules.trace(&host, &State::default(), Duration::ZERO, &origin, packet.clone())?;
        let report = Report::new(&at.name, &origin, &packet, &outcomes);
        let text = match self.output {
            Some(Output::Json) => serde_json::to_string_pretty(&report)? + "\n",
            None => report.to_string(),
        };
        std::io::stdout().write_all(text.as_bytes())?;
        Ok(())
    }

    /// The node that sees the packet first, and its source; `None` for a process on that node.
    fn sender<'a>(&self, spec: &'a ClusterSpec) -> anyhow::Result<(&'a NodeSpec, Option<Ipv4Addr>)> {
        match &self.from {
            Sender::Node(name) => Ok((node::find(spec, name)?, None)),
            Sender::Pod(name) => {
                let (on, address) = crate::cmd::runtime()?.block_on(self.pod(name))?;
                Ok((node::find(spec, &on)?, Some(address)))
            }
            Sender::Outside => {
                let owner = || spec.nodes.iter().find(|node| node.ip == *self.to.ip());
                let at = match &self.node {
                    Some(name) => node::find(spec, name)?,
                    None => owner().unwrap_or_else(|| spec.control_plane()),
                };
                Ok((at, Some(spec.outside_ip())))
            }
        }
    }

    /// Node and address of a Pod.
    async fn pod(&self, name: &str) -> anyhow::Result<(String, Ipv4Addr)> {
        let pods: Api<Pod> = Api::namespaced(client::connect(&self.cluster.name)?, &self.namespace.namespace);
        let pod = pods.get(name).await?;
        let node = pod.spec.and_then(|spec| spec.node_name);
        let address = pod.status.and_then(|status| status.pod_ip);
        match (node, address) {
            (Some(node), Some(address)) => Ok((node, address.parse().context("read the Pod's address")?)),
            _ => bail!("pod {name} has no address yet"),
        }
    }
}

/// The link by which packets from this address come in: the one by which answers go out.
fn link_of(host: &Host, address: Ipv4Addr) -> anyhow::Result<String> {
    host.link_to(address)
        .map(str::to_owned)
        .with_context(|| format!("no route of the node leads to {address}"))
}

#[cfg(test)]
mod tests {
    use super::Sender;

    #[test]
    fn senders_are_named_as_kubectl_names_objects() {
        assert!(matches!("pod/a".parse(), Ok(Sender::Pod(name)) if name == "a"));
        assert!(matches!("node/worker1".parse(), Ok(Sender::Node(name)) if name == "worker1"));
        assert!(matches!("outside".parse(), Ok(Sender::Outside)));
        for wrong in ["a", "pod/", "svc/a", "outside/a"] {
            assert!(wrong.parse::<Sender>().is_err(), "{wrong}");
        }
    }
}
