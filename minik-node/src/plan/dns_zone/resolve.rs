//! From a name's labels to what the name stands for. Labels are read from the right, as the specification
//! lays names out: `[_PORT._PROTOCOL. | ENDPOINT.]SERVICE.NAMESPACE.svc` and `A-B-C-D.NAMESPACE.pod`.

use std::net::{IpAddr, Ipv4Addr};

use super::Zone;
use super::names::{Meaning, NamedPort, ServiceNames};
use crate::model::ObjectName;

/// The cluster's name server, whose cluster IP `ns.dns.ORIGIN` has.
const NAME_SERVER: (&str, &str) = ("kube-system", "kube-dns");

/// A name that does not exist.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoSuchName;

/// One thing that a name stands for.
#[derive(Debug)]
pub(super) struct Item {
    /// Labels of its own name, under the origin.
    pub owner: Vec<String>,
    pub host: Host,
    /// `None` when the Service declares no ports; such items have no SRV records.
    pub port: Option<u16>,
}

#[derive(Debug)]
pub(super) enum Host {
    Address(Ipv4Addr),
    Alias(String),
}

impl Zone {
    /// Its cluster IP.
    pub(super) fn name_server(&self) -> Option<Ipv4Addr> {
        let names = self.services.get(&ObjectName::new(NAME_SERVER.0, NAME_SERVER.1))?;
        match names.meaning {
            Meaning::ClusterIp(address) => address,
            Meaning::Alias(_) | Meaning::Headless => None,
        }
    }

    /// What a name stands for: nothing, when it exists only because longer names do.
    pub(super) fn resolve(&self, labels: &[String]) -> Result<Vec<Item>, NoSuchName> {
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        match labels.as_slice() {
            ["svc" | "pod"] => Ok(Vec::new()),
            ["ns", "dns"] => {
                let addresses = self.name_server().into_iter();
                Ok(addresses
                    .map(|ip| Item::new(&["ns", "dns"], Host::Address(ip), None))
                    .collect())
            }
            [rest @ .., namespace, kind @ ("svc" | "pod")] => {
                if !self.namespaces.contains(*namespace) {
                    return Err(NoSuchName);
                }
                match (rest, *kind) {
                    ([], _) => Ok(Vec::new()),
                    ([pod] | [_, pod] | [_, _, pod], "pod") => {
                        let ip = dashed_address(pod).ok_or(NoSuchName)?;
                        Ok(vec![Item::new(&labels[rest.len() - 1..], Host::Address(ip), None)])
                    }
                    ([service], _) => self.service(service, namespace, None, None),
                    ([endpoint, service], _) => self.service(service, namespace, Some(endpoint), None),
                    ([port, protocol, service], _) => self.service(service, namespace, None, Some((port, protocol))),
                    _ => Err(NoSuchName),
                }
            }
            _ => Err(NoSuchName),
        }
    }

    fn service(
        &self,
        service: &str,
        namespace: &str,
        endpoint: Option<&str>,
        port: Option<(&str, &str)>,
    ) -> Result<Vec<Item>, NoSuchName> {
        let names = self
            .services
            .get(&ObjectName::new(namespace, service))
            .ok_or(NoSuchName)?;
        let owner = [service, namespace, "svc"];
        let wanted = |offered: Option<&NamedPort>| match (port, offered) {
            (None, _) => true,
            (Some((name, protocol)), Some(offered)) => {
                name.trim_start_matches('_') == offered.name.to_ascii_lowercase()
                    && protocol.trim_start_matches('_') == offered.protocol.as_str()
            }
            (Some(_), None) => false,
        };
        let items = match (&names.meaning, endpoint) {
            (Meaning::Alias(target), None) if port.is_none() && target.parse::<IpAddr>().is_err() => {
                return Ok(vec![Item::new(&owner, Host::Alias(target.clone()), None)]);
            }
            (Meaning::Alias(_), _) => return Err(NoSuchName),
            (Meaning::ClusterIp(address), None) => {
                let ports: Vec<_> = or_none(&names.ports).filter(|port| wanted(*port)).collect();
                if ports.is_empty() {
                    return Err(NoSuchName);
                }
                return Ok(ports
                    .into_iter()
                    .filter_map(|port| {
                        Some(Item::new(
                            &owner,
                            Host::Address((*address)?),
                            port.map(|port| port.number),
                        ))
                    })
                    .collect());
            }
            (Meaning::ClusterIp(_), Some(_)) | (Meaning::Headless, _) => {
                endpoint_items(names, &owner, endpoint, wanted)
            }
        };
        if items.is_empty() { Err(NoSuchName) } else { Ok(items) }
    }
}

impl Item {
    fn new<L: AsRef<str>>(owner: &[L], host: Host, port: Option<u16>) -> Self {
        Self {
            owner: owner.iter().map(|label| label.as_ref().to_owned()).collect(),
            host,
            port,
        }
    }
}

fn endpoint_items(
    names: &ServiceNames,
    owner: &[&str],
    endpoint: Option<&str>,
    wanted: impl Fn(Option<&NamedPort>) -> bool,
) -> Vec<Item> {
    let mut items = Vec::new();
    for known in &names.endpoints {
        if endpoint.is_some_and(|label| !label.eq_ignore_ascii_case(&known.label)) {
            continue;
        }
        let own: Vec<&str> = std::iter::once(known.label.as_str())
            .chain(owner.iter().copied())
            .collect();
        let ports = or_none(&known.ports).filter(|port| wanted(*port));
        items.extend(ports.map(|port| Item::new(&own, Host::Address(known.address), port.map(|port| port.number))));
    }
    items
}

/// All ports, or once nothing: a name without ports exists all the same.
fn or_none(ports: &[NamedPort]) -> impl Iterator<Item = Option<&NamedPort>> {
    ports.iter().map(Some).chain(ports.is_empty().then_some(None))
}

/// `10-244-1-2` as an address.
fn dashed_address(label: &str) -> Option<Ipv4Addr> {
    label.replace('-', ".").parse().ok().filter(|_| !label.contains('.'))
}
