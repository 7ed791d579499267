//! The cluster's DNS zone: which names exist and what they mean, by the Kubernetes DNS specification 1.1.0
//! and, where that is silent, by what CoreDNS's `kubernetes` plugin answers with `pods insecure` and `ttl 30`.
//!
//! Built from a [`ClusterView`], incrementally by Service, and asked by [`lookup`](fn@lookup). Pure: no sockets, no
//! shuffling, no clock (the serial comes in). Knows nothing of names outside the cluster.

mod lookup;
mod names;
mod resolve;

#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;
use std::sync::Arc;

use hickory_proto::rr::Name;
use imbl::{OrdMap, OrdSet};

pub use lookup::{Answer, lookup};

use self::names::{Reverse, ServiceNames};
use crate::model::{ObjectName, Service};
use crate::view::{Changes, ClusterView};

/// Seconds for which answers may be cached, also negative ones; kubeadm's `ttl 30`.
pub const TTL: u32 = 30;

/// The zone. Cheap to clone: versions share what is equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// Lower case and absolute: `cluster.local.`
    origin: Name,
    /// Serial of the SOA; grows with every change.
    serial: u32,
    services: OrdMap<ObjectName, Arc<ServiceNames>>,
    namespaces: OrdSet<String>,
    /// What addresses are called.
    reverse: OrdMap<Ipv4Addr, OrdSet<Reverse>>,
}

/// A cluster domain that is no domain name.
#[derive(Debug, thiserror::Error)]
#[error("cluster domain {domain:?} is not a domain name")]
pub struct DomainError {
    /// What was given.
    pub domain: String,
    /// Cause.
    #[source]
    source: hickory_proto::ProtoError,
}

/// Reads a cluster domain such as `cluster.local`, with or without the final dot.
pub fn origin(domain: &str) -> Result<Name, DomainError> {
    let mut name = Name::from_ascii(domain).map_err(|source| DomainError {
        domain: domain.to_owned(),
        source,
    })?;
    name.set_fqdn(true);
    Ok(name.to_lowercase())
}

impl Zone {
    /// Builds the zone anew.
    #[must_use]
    pub fn full(view: &ClusterView, origin: Name, serial: u32) -> Self {
        let mut zone = Self {
            origin,
            serial,
            services: OrdMap::new(),
            namespaces: view.namespaces.clone(),
            reverse: OrdMap::new(),
        };
        for service in view.services.values() {
            zone.insert(view, service);
        }
        zone
    }

    /// Brings the zone from an earlier view to `view`, given what lies between.
    pub fn update(&mut self, view: &ClusterView, changes: &Changes, serial: u32) {
        self.serial = serial;
        self.namespaces = view.namespaces.clone();
        for name in &changes.services {
            self.remove(name);
            if let Some(service) = view.services.get(name) {
                self.insert(view, service);
            }
        }
    }

    /// Whether an address is a cluster IP; a name server must not take one for an upstream of its own.
    #[must_use]
    pub fn is_cluster_ip(&self, address: Ipv4Addr) -> bool {
        self.reverse
            .get(&address)
            .is_some_and(|names| names.iter().any(Reverse::is_service))
    }

    fn insert(&mut self, view: &ClusterView, service: &Service) {
        let names = ServiceNames::new(service, view.slices_of(&service.name).map(Arc::as_ref));
        for (address, reverse) in names.reverse(&service.name) {
            self.reverse.entry(address).or_default().insert(reverse);
        }
        self.services.insert(service.name.clone(), Arc::new(names));
    }

    fn remove(&mut self, name: &ObjectName) {
        let Some(names) = self.services.remove(name) else {
            return;
        };
        for (address, reverse) in names.reverse(name) {
            let empty = self.reverse.get_mut(&address).map(|names| {
                names.remove(&reverse);
                names.is_empty()
            });
            if empty == Some(true) {
                self.reverse.remove(&address);
            }
        }
    }
}
