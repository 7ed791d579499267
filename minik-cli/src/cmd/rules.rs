//! `minik rules`

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use http::Method;
use k8s_openapi::List;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use minik_node::kernel::sysctl;
use minik_node::model::{Node, ObjectName, Service, Slice};
use minik_node::plan::service_table::{
    Backend, HintsIgnored, NodeFacts, NodePortAddresses, Pool, PoolReason, PortEntry, ServiceTable, Why,
};
use minik_node::proxy::CONNTRACK_TCP_LIBERAL;
use minik_node::proxy::iptables::explain::{Explained, State, explain};
use minik_node::proxy::iptables::kernel::Kernel;
use minik_node::proxy::iptables::ruleset::Ruleset;
use minik_node::view::ClusterView;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Cluster;
use super::get::Namespace;
use crate::cluster::ClusterSpec;
use crate::provider::netns::node_netns;
use crate::{client, store};

/// Show what is programmed for one Service on a node, in the order in which a packet meets it, each rule with its
/// reason. A rule that should be there and is not is marked `-`, one that should not be there `+`; exits with 1 if
/// there are any.
#[derive(Debug, Args)]
pub struct Rules {
    #[command(flatten)]
    cluster: Cluster,
    /// svc/NAME
    service: String,
    #[command(flatten)]
    namespace: Namespace,
    /// On this node; the control plane's unless told otherwise
    #[arg(long)]
    node: Option<String>,
    /// Print as JSON
    #[arg(short, long)]
    output: Option<Output>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Output {
    Json,
}

/// What is printed; the JSON form is an interface.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    namespace: String,
    name: String,
    node: String,
    proxy_mode: &'static str,
    ports: Vec<PortReport>,
    rules: Vec<RuleReport>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PortReport {
    name: String,
    protocol: String,
    port: u16,
    pools: Vec<PoolReport>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PoolReport {
    traffic_policy: &'static str,
    reason: &'static str,
    endpoints: Vec<String>,
    /// Address and port, and why not.
    left_out: BTreeMap<String, &'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hints_ignored: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct RuleReport {
    table: String,
    chain: String,
    rule: String,
    reason: String,
    /// `present`, `missing` or `foreign`.
    state: &'static str,
}

impl Rules {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let spec = store::load_running(&self.cluster.name)?;
        let node = self.node.clone().unwrap_or_else(|| spec.control_plane().name.clone());
        if spec.node(&node).is_none() {
            let names: Vec<&str> = spec.nodes.iter().map(|node| node.name.as_str()).collect();
            bail!("node {node:?} not found: there are {}", names.join(", "));
        }
        let name = match self.service.split_once('/') {
            Some(("svc" | "service" | "services", name)) => name,
            _ => bail!("{:?} is no Service: say svc/NAME", self.service),
        };
        let service = ObjectName::new(&self.namespace.namespace, name);
        let view = super::runtime()?.block_on(look(&spec, &node, &service))?;

        node_netns(&spec, &node)?
            .enter()
            .with_context(|| format!("enter node {node}"))?;
        let lock_file = spec.node_run_dir(&node).join("xtables.lock");
        let observed: Ruleset = super::runtime()?.block_on(async { Kernel::probe(lock_file).await?.save().await })?;

        let table = ServiceTable::full(&view, facts(&spec, &view, &node)?);
        let report = report(&table, &service, &observed);
        let text = match self.output {
            Some(Output::Json) => serde_json::to_string_pretty(&report)? + "\n",
            None => text(&report)?,
        };
        std::io::stdout().write_all(text.as_bytes())?;
        let equal = report.rules.iter().all(|rule| rule.state == "present");
        Ok(if equal { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// The Service, its slices and the node, as the node's agent sees them.
async fn look(spec: &ClusterSpec, node: &str, service: &ObjectName) -> anyhow::Result<ClusterView> {
    let client = client::connect(&spec.name)?;
    let ObjectName { namespace, name } = service;
    let object: core::Service = get(&client, &format!("/api/v1/namespaces/{namespace}/services/{name}")).await?;
    let selector = super::percent_encode(&format!("kubernetes.io/service-name={name}"));
    let slices = format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?labelSelector={selector}");
    let slices: List<EndpointSlice> = get(&client, &slices).await?;
    let this: core::Node = get(&client, &format!("/api/v1/nodes/{node}")).await?;

    let mut view = ClusterView {
        node: Some(node.to_owned()),
        ..ClusterView::default()
    };
    if let Some(object) = Service::from_api(object) {
        view.services.insert(service.clone(), Arc::new(object));
    }
    for slice in slices.items.into_iter().filter_map(Slice::from_api) {
        let slices = view.slices.entry(service.clone()).or_default();
        slices.insert(slice.name.name.clone(), Arc::new(slice));
    }
    if let Some(this) = Node::from_api(this) {
        view.nodes.insert(node.to_owned(), Arc::new(this));
    }
    Ok(view)
}

async fn get<T: DeserializeOwned>(client: &kube::Client, path: &str) -> anyhow::Result<T> {
    let request = client::request(Method::GET, path, "application/json", Vec::new())?;
    Ok(serde_json::from_slice(&client::call(client, request).await?)?)
}

/// What the node's agent is told and finds out. Called inside the node.
fn facts(spec: &ClusterSpec, view: &ClusterView, node: &str) -> anyhow::Result<NodeFacts> {
    let this = spec.node(node).context("a node of the cluster")?;
    Ok(NodeFacts {
        name: node.to_owned(),
        address: this.ip,
        cluster_cidr: spec.pod_network_cidr,
        zone: view.this_node().and_then(|node| node.zone.clone()),
        node_port_addresses: NodePortAddresses::All,
        conntrack_tcp_liberal: sysctl::get(CONNTRACK_TCP_LIBERAL).is_some_and(|value| value != "0"),
    })
}

fn report(table: &ServiceTable, service: &ObjectName, observed: &Ruleset) -> Report {
    let entry = table.services.get(service);
    Report {
        namespace: service.namespace.clone(),
        name: service.name.clone(),
        node: table.node.name.clone(),
        proxy_mode: "iptables",
        ports: entry.iter().flat_map(|entry| &entry.ports).map(port_report).collect(),
        rules: explain(table, service, observed).into_iter().map(rule_report).collect(),
    }
}

fn port_report(port: &PortEntry) -> PortReport {
    let pools = [("Cluster", &port.pools.cluster), ("Local", &port.pools.local)];
    let used = pools.into_iter().filter(|(_, pool)| pool.reason != PoolReason::Unused);
    PortReport {
        name: port.name.port.clone(),
        protocol: port.name.protocol.as_str().to_uppercase(),
        port: port.port,
        pools: used.map(|(policy, pool)| pool_report(policy, pool)).collect(),
    }
}

fn pool_report(traffic_policy: &'static str, pool: &Pool) -> PoolReport {
    let target = |backend: &Backend| backend.target.to_string();
    PoolReport {
        traffic_policy,
        reason: match pool.reason {
            PoolReason::Unused => "unused",
            PoolReason::Ready => "ready",
            PoolReason::SameNode => "ready and meant for this node",
            PoolReason::SameZone => "ready and meant for this zone",
            PoolReason::Terminating => "none is ready: still serving while they terminate",
            PoolReason::Empty => "none is ready or serving",
        },
        endpoints: pool.backends.iter().map(target).collect(),
        left_out: pool
            .left_out
            .iter()
            .map(|left| (target(&left.backend), why(left.why)))
            .collect(),
        hints_ignored: pool.hints_ignored.map(|ignored| match ignored {
            HintsIgnored::SomeWithout => "some endpoints have no hint",
            HintsIgnored::NodeWithoutZone => "the node has no label topology.kubernetes.io/zone",
            HintsIgnored::NoneForHere => "no hint is for here",
        }),
    }
}

fn why(why: Why) -> &'static str {
    match why {
        Why::OtherNode => "on another node",
        Why::NotReady => "not ready",
        Why::Terminated => "terminating, and no longer serving",
        Why::Terminating => "terminating",
        Why::HintedToOtherNodes => "meant for other nodes",
        Why::HintedToOtherZones => "meant for other zones",
    }
}

fn rule_report(rule: Explained) -> RuleReport {
    RuleReport {
        table: rule.table.to_string(),
        chain: rule.chain,
        rule: rule.rule.to_string(),
        reason: rule.reason,
        state: match rule.state {
            State::Present => "present",
            State::Missing => "missing",
            State::Foreign => "foreign",
        },
    }
}

fn text(report: &Report) -> Result<String, std::fmt::Error> {
    let mut text = format!(
        "service {}/{} on node {}, mode {}\n",
        report.namespace, report.name, report.node, report.proxy_mode
    );
    if report.ports.is_empty() {
        text.push_str("\nnot handled by this proxy: it has no address here\n");
    }
    for port in &report.ports {
        writeln!(text, "\nport {} {}/{}", named(&port.name), port.port, port.protocol)?;
        for pool in &port.pools {
            let (policy, reason) = (pool.traffic_policy, pool.reason);
            writeln!(text, "  policy {policy}: {} ({reason})", list(&pool.endpoints))?;
            if let Some(ignored) = pool.hints_ignored {
                writeln!(text, "    hints are not followed: {ignored}")?;
            }
            for (endpoint, why) in &pool.left_out {
                writeln!(text, "    not {endpoint}: {why}")?;
            }
        }
    }
    let mut place = ("", "");
    for rule in &report.rules {
        if place.0 != rule.table {
            writeln!(text, "\ntable {}", rule.table)?;
        }
        if place != (&rule.table, &rule.chain) {
            writeln!(text, "  chain {}", rule.chain)?;
        }
        place = (&rule.table, &rule.chain);
        let mark = match rule.state {
            "missing" => '-',
            "foreign" => '+',
            _ => ' ',
        };
        writeln!(text, "    # {}\n    {mark} {}", rule.reason, rule.rule)?;
    }
    Ok(text)
}

fn named(name: &str) -> &str {
    if name.is_empty() { "<unset>" } else { name }
}

fn list(endpoints: &[String]) -> String {
    if endpoints.is_empty() {
        "no endpoint".to_owned()
    } else {
        endpoints.join(", ")
    }
}
