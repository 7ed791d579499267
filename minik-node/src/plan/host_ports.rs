//! Host ports: which packet rules lead from a node's ports to its Pods. Pure.
//!
//! Chains, rules and names are those of the CNI plugin `portmap`, which kubelets leave this to:
//!
//! ```text
//! PREROUTING, OUTPUT ─ (to an address of the node) ─ CNI-HOSTPORT-DNAT ─ CNI-DN-… ┬ CNI-HOSTPORT-SETMARK
//!                                                                                └ DNAT
//! POSTROUTING ─ CNI-HOSTPORT-MASQ (marked 0x2000: MASQUERADE)
//! ```
//! A Pod that reaches itself, and a client at 127.0.0.1, are masqueraded, since the answer would not come back
//! otherwise. The Service proxy's jumps stay before these: a node port wins over a host port.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

use k8s_openapi::api::core::v1::PodSpec;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha512};

use super::conntrack::Flow;
use crate::model::Protocol;

/// Name of the network in chain names and comments.
const NETWORK: &str = "minik";
/// Longest name of a chain, as the plugin cuts it.
const MAX_CHAIN: usize = 28;
/// Ports that one `multiport` takes.
const MAX_PORTS: usize = 15;
const SHARED: &str = "CNI-HOSTPORT-";
const PER_POD: &str = "CNI-DN-";
const DNAT: &str = "CNI-HOSTPORT-DNAT";
const SET_MARK: &str = "CNI-HOSTPORT-SETMARK";
const MASQUERADE: &str = "CNI-HOSTPORT-MASQ";

/// One port of a node that leads to a container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HostPort {
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// The node's address; any of them where none is named.
    pub host_ip: Option<Ipv4Addr>,
    /// The node's port.
    pub host_port: u16,
    /// The container's.
    pub container_port: u16,
}

/// A Pod's address, and the ports of the node that lead to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodPorts {
    /// Address of the Pod.
    pub address: Ipv4Addr,
    /// Never empty.
    pub ports: Vec<HostPort>,
}

/// The host ports of a node, by the UID of the Pod.
pub type HostPorts = BTreeMap<String, PodPorts>;

/// The host ports that a Pod's containers name. One in the node's own network listens there itself.
#[must_use]
pub fn of(spec: &PodSpec) -> Vec<HostPort> {
    if spec.host_network == Some(true) {
        return Vec::new();
    }
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let ports = sidecars
        .chain(&spec.containers)
        .flat_map(|container| container.ports.iter().flatten());
    let number = |port: i32| u16::try_from(port).ok().filter(|port| *port != 0);
    ports
        .filter_map(|port| {
            let host_ip = match port.host_ip.as_deref() {
                None | Some("") => None,
                // An address of the other family has no rule in an IPv4 cluster.
                Some(text) => Some(text.parse::<Ipv4Addr>().ok()?),
            };
            Some(HostPort {
                protocol: Protocol::from_api(port.protocol.as_deref())?,
                host_ip: host_ip.filter(|address| !address.is_unspecified()),
                host_port: number(port.host_port?)?,
                container_port: number(port.container_port)?,
            })
        })
        .collect()
}

/// Rules of the table `nat` that carry the plugin's names, in the words of `iptables-save`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// In built-in chains.
    hooks: BTreeMap<String, Vec<String>>,
    /// In chains of our names.
    chains: BTreeMap<String, Vec<String>>,
}

impl Rules {
    /// The rules for these ports; none where there are none.
    #[must_use]
    pub fn new(pods: &HostPorts) -> Self {
        let mut rules = Self::default();
        if pods.is_empty() {
            return rules;
        }
        let to_node = format!("-m addrtype --dst-type LOCAL -j {DNAT}");
        let leaving = format!("-m comment --comment \"CNI portfwd requiring masquerade\" -j {MASQUERADE}");
        for (chain, rule) in [
            ("PREROUTING", &to_node),
            ("OUTPUT", &to_node),
            ("POSTROUTING", &leaving),
        ] {
            rules.hooks.insert(chain.to_owned(), vec![rule.clone()]);
        }
        let mark = "-m comment --comment \"CNI portfwd masquerade mark\" -j MARK --set-xmark 0x2000/0x2000";
        let masquerade = "-m mark --mark 0x2000/0x2000 -j MASQUERADE";
        rules.chains.insert(SET_MARK.to_owned(), vec![mark.to_owned()]);
        rules.chains.insert(MASQUERADE.to_owned(), vec![masquerade.to_owned()]);
        let mut entries = Vec::new();
        for (uid, pod) in pods {
            let chain = chain(uid);
            entries.extend(self::entries(uid, &chain, pod));
            let to_pod = pod.ports.iter().flat_map(|port| to_pod(pod.address, port));
            rules.chains.insert(chain, to_pod.collect());
        }
        rules.chains.insert(DNAT.to_owned(), entries);
        rules
    }

    /// Reads the output of `iptables-save`, keeping what is ours.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut rules = Self::default();
        let mut table = "";
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('*') {
                table = name;
            } else if table != "nat" {
            } else if let Some((chain, _)) = line.strip_prefix(':').and_then(|rest| rest.split_once(' ')) {
                if ours(chain) {
                    rules.chains.entry(chain.to_owned()).or_default();
                }
            } else if let Some((chain, rule)) = line.strip_prefix("-A ").and_then(|rest| rest.split_once(' ')) {
                if ours(chain) {
                    rules.chains.entry(chain.to_owned()).or_default().push(rule.to_owned());
                } else if rule
                    .rsplit_once("-j ")
                    .is_some_and(|(_, target)| target.starts_with(SHARED))
                {
                    rules.hooks.entry(chain.to_owned()).or_default().push(rule.to_owned());
                }
            }
        }
        rules
    }
}

fn ours(chain: &str) -> bool {
    chain.starts_with(SHARED) || chain.starts_with(PER_POD)
}

/// `CNI-DN-` and the hash of network and Pod.
fn chain(uid: &str) -> String {
    let hash = Sha512::digest(format!("{NETWORK}{uid}"));
    let mut name = format!("{PER_POD}{}", data_encoding::HEXLOWER.encode(&hash));
    name.truncate(MAX_CHAIN);
    name
}

/// The jumps to a Pod's chain, a protocol and fifteen ports each.
fn entries(uid: &str, chain: &str, pod: &PodPorts) -> Vec<String> {
    let mut by_protocol: BTreeMap<Protocol, BTreeSet<u16>> = BTreeMap::new();
    for port in &pod.ports {
        by_protocol.entry(port.protocol).or_default().insert(port.host_port);
    }
    let mut entries = Vec::new();
    for (protocol, ports) in by_protocol {
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        for ports in ports.chunks(MAX_PORTS) {
            let comment = format!("dnat name: \\\"{NETWORK}\\\" id: \\\"{uid}\\\"");
            let ports = ports.join(",");
            entries.push(format!(
                "-p {protocol} -m comment --comment \"{comment}\" -m multiport --dports {ports} -j {chain}",
                protocol = protocol.as_str()
            ));
        }
    }
    entries
}

/// The rules for one port: mark the Pod's own connections and those of 127.0.0.1, then translate.
fn to_pod(address: Ipv4Addr, port: &HostPort) -> [String; 3] {
    let protocol = port.protocol.as_str();
    let to = port.host_ip.map(|ip| format!("-d {ip}/32 ")).unwrap_or_default();
    let base = format!("{to}-p {protocol} -m {protocol} --dport {}", port.host_port);
    [
        format!("-s {address}/32 {base} -j {SET_MARK}"),
        format!("-s 127.0.0.1/32 {base} -j {SET_MARK}"),
        format!("{base} -j DNAT --to-destination {address}:{}", port.container_port),
    ]
}

/// The difference between two sets of rules; prints as the input of one `iptables-restore --noflush`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    write: BTreeMap<String, Vec<String>>,
    remove: BTreeSet<String>,
    /// Rules to take out of built-in chains, and then rules to put at their end.
    hooks: BTreeMap<String, (Vec<String>, Vec<String>)>,
}

impl Plan {
    /// What makes `desired` out of `observed`; `None` when there is nothing to do.
    #[must_use]
    pub fn new(observed: &Rules, desired: &Rules) -> Option<Self> {
        let mut plan = Self::default();
        for (chain, rules) in &desired.chains {
            if observed.chains.get(chain) != Some(rules) {
                plan.write.insert(chain.clone(), rules.clone());
            }
        }
        let gone = observed
            .chains
            .keys()
            .filter(|chain| !desired.chains.contains_key(*chain));
        plan.remove = gone.cloned().collect();
        let builtins: BTreeSet<&String> = observed.hooks.keys().chain(desired.hooks.keys()).collect();
        for chain in builtins {
            let there = observed.hooks.get(chain).cloned().unwrap_or_default();
            let wanted = desired.hooks.get(chain).cloned().unwrap_or_default();
            if there != wanted {
                plan.hooks.insert(chain.clone(), (there, wanted));
            }
        }
        (plan != Self::default()).then_some(plan)
    }
}

impl fmt::Display for Plan {
    /// Chains are declared before they are filled, jumps set after that, and what is gone goes last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "*nat")?;
        for chain in self.write.keys().chain(&self.remove) {
            writeln!(f, ":{chain} - [0:0]")?;
        }
        for (chain, rules) in &self.write {
            rules.iter().try_for_each(|rule| writeln!(f, "-A {chain} {rule}"))?;
        }
        for (chain, (delete, append)) in &self.hooks {
            delete.iter().try_for_each(|rule| writeln!(f, "-D {chain} {rule}"))?;
            append.iter().try_for_each(|rule| writeln!(f, "-A {chain} {rule}"))?;
        }
        self.remove.iter().try_for_each(|chain| writeln!(f, "-X {chain}"))?;
        writeln!(f, "COMMIT")
    }
}

/// The node's ports of which a change made flows stale: what is in one of two states alone.
#[must_use]
pub fn changed(before: &HostPorts, after: &HostPorts) -> BTreeSet<(Protocol, u16)> {
    let all = |pods: &HostPorts| -> BTreeSet<(Ipv4Addr, HostPort)> {
        let ports = |pod: &PodPorts| {
            pod.ports
                .iter()
                .map(|port| (pod.address, port.clone()))
                .collect::<Vec<_>>()
        };
        pods.values().flat_map(ports).collect()
    };
    let (before, after) = (all(before), all(after));
    let differing = before.symmetric_difference(&after);
    differing.map(|(_, port)| (port.protocol, port.host_port)).collect()
}

/// Whether a flow without a connection was sent to a port of the node and leads elsewhere than its rules say.
/// `local` are the node's addresses.
#[must_use]
pub fn is_stale(flow: &Flow, ports: &BTreeSet<(Protocol, u16)>, pods: &HostPorts, local: &BTreeSet<Ipv4Addr>) -> bool {
    let to = flow.destination;
    let concerned = ports.contains(&(flow.protocol, to.port())) && (to.ip().is_loopback() || local.contains(to.ip()));
    let leads = |pod: &PodPorts| {
        pod.ports.iter().any(|port| {
            let meant = port.protocol == flow.protocol
                && port.host_port == to.port()
                && port.host_ip.is_none_or(|address| address == *to.ip());
            meant && flow.answers_from == SocketAddrV4::new(pod.address, port.container_port)
        })
    };
    concerned && !pods.values().any(leads)
}

#[cfg(test)]
mod tests;
