//! One Service's share of the ruleset. Pure.
//!
//! A way in leads to one chain: the cluster IP straight to the chain of its pool (`KUBE-SVC-`, or `KUBE-SVL-`
//! for policy `Local`), everything from outside to `KUBE-EXT-`, which decides about masquerading first. A
//! chain of a pool picks one endpoint's chain (`KUBE-SEP-`), and that translates the destination.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use ipnet::Ipv4Net;

use super::chain;
use super::ruleset::{Rule, Rules, Table};
use crate::model::TrafficPolicy;
use crate::plan::service_table::{
    Backend, Masquerade, NodeFacts, Pool, PortEntry, ServiceEntry, Treatment, Way, WayIn,
};

/// A chain in which every Service may have rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shared {
    NatServices,
    NatNodePorts,
    FilterServices,
    FilterExternal,
    FilterNodePorts,
    FilterFirewall,
}

/// All shared chains.
pub(super) const SHARED: [Shared; 6] = [
    Shared::NatServices,
    Shared::NatNodePorts,
    Shared::FilterServices,
    Shared::FilterExternal,
    Shared::FilterNodePorts,
    Shared::FilterFirewall,
];

impl Shared {
    pub fn chain(self) -> (Table, &'static str) {
        match self {
            Self::NatServices => (Table::Nat, "KUBE-SERVICES"),
            Self::NatNodePorts => (Table::Nat, "KUBE-NODEPORTS"),
            Self::FilterServices => (Table::Filter, "KUBE-SERVICES"),
            Self::FilterExternal => (Table::Filter, "KUBE-EXTERNAL-SERVICES"),
            Self::FilterNodePorts => (Table::Filter, "KUBE-NODEPORTS"),
            Self::FilterFirewall => (Table::Filter, "KUBE-PROXY-FIREWALL"),
        }
    }
}

/// Rules for the chains that all Services share, and the Service's own chains.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fragment {
    nat_services: Vec<Rule>,
    nat_node_ports: Vec<Rule>,
    pub nat_chains: BTreeMap<Arc<str>, Rules>,
    filter_services: Vec<Rule>,
    filter_external: Vec<Rule>,
    filter_node_ports: Vec<Rule>,
    filter_firewall: Vec<Rule>,
}

impl Fragment {
    /// What it has in a shared chain.
    pub fn shared(&self, shared: Shared) -> &[Rule] {
        match shared {
            Shared::NatServices => &self.nat_services,
            Shared::NatNodePorts => &self.nat_node_ports,
            Shared::FilterServices => &self.filter_services,
            Shared::FilterExternal => &self.filter_external,
            Shared::FilterNodePorts => &self.filter_node_ports,
            Shared::FilterFirewall => &self.filter_firewall,
        }
    }

    pub fn compile(entry: &ServiceEntry, node: &NodeFacts) -> Self {
        let mut fragment = Self::default();
        for port in &entry.ports {
            for way_in in &port.ways_in {
                fragment.way_in(port, way_in);
            }
            if let Some(number) = port.health_check_node_port {
                fragment.filter_node_ports.push(
                    format!(
                        r#"-p tcp -m comment --comment "{} health check node port" -m tcp --dport {number} -j ACCEPT"#,
                        port.name
                    )
                    .into(),
                );
            }
            if port.pools.any {
                fragment.chains(port, node);
            }
        }
        fragment
    }

    fn way_in(&mut self, port: &PortEntry, WayIn { way, treatment }: &WayIn) {
        let (name, number) = (&port.name, port.port);
        let external = || chain::external(name);
        match way {
            Way::ClusterIp(address) => match (treatment, refusal(*treatment)) {
                (Treatment::Balance { policy, .. }, _) => {
                    let target = pool_chain(port, *policy);
                    self.nat_services
                        .push(to(port, *address, number, "cluster IP", &target));
                }
                (_, Some((why, target))) => self.filter_services.push(to(port, *address, number, why, target)),
                (_, None) => {}
            },
            Way::ExternalIp(address) => {
                if port.pools.any {
                    self.nat_services
                        .push(to(port, *address, number, "external IP", &external()));
                }
                if let Some((why, target)) = refusal(*treatment) {
                    self.filter_external.push(to(port, *address, number, why, target));
                }
            }
            Way::LoadBalancerIp { address, sources } => {
                if port.pools.any {
                    let target = if sources.is_some() {
                        chain::firewall(name)
                    } else {
                        external()
                    };
                    self.nat_services
                        .push(to(port, *address, number, "loadbalancer IP", &target));
                    if sources.is_some() {
                        let why = format!("traffic not accepted by {target}");
                        self.filter_firewall.push(to(port, *address, number, &why, "DROP"));
                    }
                }
                if let Some((why, target)) = refusal(*treatment) {
                    self.filter_external.push(to(port, *address, number, why, target));
                }
            }
            Way::NodePort(number) => {
                let protocol = name.protocol;
                if port.pools.any {
                    self.nat_node_ports.push(
                        format!(
                            r#"-p {protocol} -m comment --comment "{name}" -m {protocol} --dport {number} -j {}"#,
                            external()
                        )
                        .into(),
                    );
                }
                if let Some((why, target)) = refusal(*treatment) {
                    self.filter_external.push(format!(
                        r#"-p {protocol} -m comment --comment "{name} {why}" -m addrtype --dst-type LOCAL -m {protocol} --dport {number} -j {target}"#
                    ).into());
                }
            }
        }
    }

    /// The chains that belong to the port alone.
    fn chains(&mut self, port: &PortEntry, node: &NodeFacts) {
        let (name, protocol) = (&port.name, port.name.protocol);
        let mut chains = BTreeMap::<String, Vec<String>>::new();
        for WayIn { way, treatment } in &port.ways_in {
            match (way, treatment) {
                (Way::ClusterIp(address), Treatment::Balance { policy, .. }) => {
                    let masquerade = format!(
                        r#"! -s {} -d {address}/32 -p {protocol} -m comment --comment "{name} cluster IP" -m {protocol} --dport {} -j KUBE-MARK-MASQ"#,
                        node.cluster_cidr.trunc(),
                        port.port
                    );
                    chains.entry(pool_chain(port, *policy)).or_default().push(masquerade);
                }
                (Way::ClusterIp(_), _) => {}
                (_, treatment) => {
                    chains
                        .entry(chain::external(name))
                        .or_insert_with(|| external_rules(port, *treatment, node));
                }
            }
            if let Way::LoadBalancerIp {
                sources: Some(sources), ..
            } = way
            {
                chains
                    .entry(chain::firewall(name))
                    .or_insert_with(|| firewall_rules(port, sources));
            }
        }
        for (chain, pool) in [
            (chain::cluster(name), &port.pools.cluster),
            (chain::local(name), &port.pools.local),
        ] {
            if !pool.backends.is_empty() {
                chains.entry(chain).or_default().extend(balance_rules(port, pool));
            }
        }
        for backend in port.pools.reachable() {
            let target = backend.target.to_string();
            let chain = chain::endpoint(name, &target);
            let rules = endpoint_rules(port, backend, &chain);
            chains.insert(chain, rules);
        }
        self.nat_chains.extend(
            chains
                .into_iter()
                .map(|(chain, rules)| (chain.into(), shared_rules(rules))),
        );
    }
}

fn shared_rules(rules: Vec<String>) -> Rules {
    Arc::new(rules.into_iter().map(Rule::from).collect())
}

fn pool_chain(port: &PortEntry, policy: TrafficPolicy) -> String {
    match policy {
        TrafficPolicy::Cluster => chain::cluster(&port.name),
        TrafficPolicy::Local => chain::local(&port.name),
    }
}

/// Why and how packets are refused in the filter table, if they are.
fn refusal(treatment: Treatment) -> Option<(&'static str, &'static str)> {
    match treatment {
        Treatment::Reject => Some(("has no endpoints", "REJECT --reject-with icmp-port-unreachable")),
        Treatment::Drop | Treatment::KeepSource { local_endpoints: false } => Some(("has no local endpoints", "DROP")),
        Treatment::Balance { .. } | Treatment::KeepSource { local_endpoints: true } => None,
    }
}

/// A rule for one address and port of a Service.
fn to(port: &PortEntry, address: Ipv4Addr, number: u16, comment: &str, target: &str) -> Rule {
    let (name, protocol) = (&port.name, port.name.protocol);
    format!(
        r#"-d {address}/32 -p {protocol} -m comment --comment "{name} {comment}" -m {protocol} --dport {number} -j {target}"#
    )
    .into()
}

/// `KUBE-EXT-`: whose source is changed, and which pool follows.
fn external_rules(port: &PortEntry, treatment: Treatment, node: &NodeFacts) -> Vec<String> {
    let name = &port.name;
    let cluster = chain::cluster(name);
    match treatment {
        Treatment::Balance {
            masquerade: Masquerade::Always,
            ..
        } => vec![
            format!(r#"-m comment --comment "masquerade traffic for {name} external destinations" -j KUBE-MARK-MASQ"#),
            format!("-j {cluster}"),
        ],
        Treatment::KeepSource { local_endpoints } => {
            let cidr = node.cluster_cidr.trunc();
            let mut rules = vec![
                format!(
                    r#"-s {cidr} -m comment --comment "pod traffic for {name} external destinations" -j {cluster}"#
                ),
                format!(
                    r#"-m comment --comment "masquerade LOCAL traffic for {name} external destinations" -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ"#
                ),
                format!(
                    r#"-m comment --comment "route LOCAL traffic for {name} external destinations" -m addrtype --src-type LOCAL -j {cluster}"#
                ),
            ];
            if local_endpoints {
                rules.push(format!("-j {}", chain::local(name)));
            }
            rules
        }
        Treatment::Balance { .. } | Treatment::Reject | Treatment::Drop => Vec::new(),
    }
}

/// `KUBE-FW-`: who may use a load balancer's address. What falls through keeps its destination and meets the
/// drop in `KUBE-PROXY-FIREWALL`; the last rule only says so.
fn firewall_rules(port: &PortEntry, sources: &[Ipv4Net]) -> Vec<String> {
    let name = &port.name;
    let external = chain::external(name);
    let admit = |source: &Ipv4Net| {
        let source = source.trunc();
        // iptables does not store a match on every address, and so does not print it.
        let matched = if source.prefix_len() == 0 {
            String::new()
        } else {
            format!("-s {source} ")
        };
        format!(r#"{matched}-m comment --comment "{name} loadbalancer IP" -j {external}"#)
    };
    let rest = format!(r#"-m comment --comment "other traffic to {name} will be dropped by KUBE-PROXY-FIREWALL""#);
    sources.iter().map(admit).chain([rest]).collect()
}

/// Picks an endpoint: one that the client used within the affinity time if there is one, else a random one.
fn balance_rules(port: &PortEntry, pool: &Pool) -> Vec<String> {
    let name = &port.name;
    let count = pool.backends.len();
    let chains: Vec<(String, String)> = pool
        .backends
        .iter()
        .map(|backend| backend.target.to_string())
        .map(|target| {
            (
                chain::endpoint(name, &target),
                format!(r#"-m comment --comment "{name} -> {target}""#),
            )
        })
        .collect();
    let sticky = port.affinity_seconds.iter().flat_map(|seconds| {
        chains.iter().map(move |(chain, comment)| {
            format!(
                "{comment} -m recent --rcheck --seconds {seconds} --reap --name {chain} --mask 255.255.255.255 --rsource -j {chain}"
            )
        })
    });
    let random = chains
        .iter()
        .enumerate()
        .map(|(index, (chain, comment))| match count - index {
            1 => format!("{comment} -j {chain}"),
            left => format!(
                "{comment} -m statistic --mode random --probability {} -j {chain}",
                probability(left)
            ),
        });
    sticky.chain(random).collect()
}

/// One chance in `count` as the kernel keeps it, in steps of 2⁻³¹, after kube-proxy's ten digits.
fn probability(count: usize) -> String {
    const STEPS: f64 = 2_147_483_648.0;
    let asked = (1e10 / count as f64).round() / 1e10;
    format!("{:.11}", (asked * STEPS).round() / STEPS)
}

/// `KUBE-SEP-`: an endpoint that reaches itself through its Service must see an address that answers through
/// the node, or it would answer itself past the translation.
fn endpoint_rules(port: &PortEntry, backend: &Backend, chain: &str) -> Vec<String> {
    let (name, protocol, target) = (&port.name, port.name.protocol, backend.target);
    let remember = match port.affinity_seconds {
        Some(_) => format!("-m recent --set --name {chain} --mask 255.255.255.255 --rsource "),
        None => String::new(),
    };
    vec![
        format!(
            r#"-s {}/32 -m comment --comment "{name}" -j KUBE-MARK-MASQ"#,
            target.ip()
        ),
        format!(
            r#"-p {protocol} -m comment --comment "{name}" {remember}-m {protocol} -j DNAT --to-destination {target}"#
        ),
    ]
}
