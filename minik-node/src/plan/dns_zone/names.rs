//! What one Service and its slices contribute to the zone.

use std::net::Ipv4Addr;

use crate::model::{ObjectName, Protocol, Service, Slice};

/// A port that SRV records can name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NamedPort {
    pub name: String,
    pub protocol: Protocol,
    pub number: u16,
}

/// An endpoint that is ready, or is to be published although it is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NamedEndpoint {
    /// Its name under the Service's: its hostname, or its address with dashes.
    pub label: String,
    pub address: Ipv4Addr,
    pub ports: Vec<NamedPort>,
}

/// What a Service's own name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Another name.
    Alias(String),
    /// Its cluster IP, if it has one by now.
    ClusterIp(Option<Ipv4Addr>),
    /// Its endpoints.
    Headless,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServiceNames {
    pub meaning: Meaning,
    pub ports: Vec<NamedPort>,
    pub endpoints: Vec<NamedEndpoint>,
}

/// The name of an address. Services order before endpoints: a cluster IP has one name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reverse {
    /// Of a cluster IP.
    Service(ObjectName),
    /// Of an endpoint of a headless Service.
    Endpoint(ObjectName, String),
}

impl Reverse {
    pub fn is_service(&self) -> bool {
        matches!(self, Self::Service(_))
    }
}

impl ServiceNames {
    pub fn new<'a>(service: &Service, slices: impl Iterator<Item = &'a Slice>) -> Self {
        let meaning = match service.external_name() {
            Some(target) => Meaning::Alias(target.to_owned()),
            None if service.headless => Meaning::Headless,
            None => Meaning::ClusterIp(service.cluster_ip),
        };
        let ports = service.ports.iter();
        Self {
            meaning,
            ports: ports
                .map(|port| NamedPort {
                    name: port.name.clone(),
                    protocol: port.protocol,
                    number: port.port,
                })
                .collect(),
            endpoints: slices.flat_map(endpoints).collect(),
        }
    }

    /// Every address that this Service gives a name.
    pub fn reverse(&self, service: &ObjectName) -> Vec<(Ipv4Addr, Reverse)> {
        match &self.meaning {
            Meaning::Alias(_) | Meaning::ClusterIp(None) => Vec::new(),
            Meaning::ClusterIp(Some(address)) => {
                vec![(*address, Reverse::Service(service.clone()))]
            }
            Meaning::Headless => {
                let named = |endpoint: &NamedEndpoint| {
                    (
                        endpoint.address,
                        Reverse::Endpoint(service.clone(), endpoint.label.clone()),
                    )
                };
                self.endpoints.iter().map(named).collect()
            }
        }
    }
}

/// `publishNotReadyAddresses` needs no look here: the slices of such a Service say that all are ready.
fn endpoints(slice: &Slice) -> impl Iterator<Item = NamedEndpoint> {
    let number = |port: &crate::model::SlicePort| {
        port.port.map(|number| NamedPort {
            name: port.name.clone(),
            protocol: port.protocol,
            number,
        })
    };
    let ports: Vec<NamedPort> = slice.ports.iter().filter_map(number).collect();
    slice
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.ready)
        .map(move |endpoint| NamedEndpoint {
            label: endpoint
                .hostname
                .clone()
                .unwrap_or_else(|| endpoint.address.to_string().replace('.', "-")),
            address: endpoint.address,
            ports: ports.clone(),
        })
}
