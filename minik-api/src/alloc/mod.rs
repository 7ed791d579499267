//! Cluster IPs and node ports: who has which, and the next free one.
//!
//! Pure bitmaps behind one lock. A write path asks for a [`Reservation`], stores the Service, and commits;
//! a reservation that is dropped takes everything back. Never reads storage: at start the server adopts the
//! stored Services one by one, and `http::addresses` says which ranges there are. Cluster IPs are also
//! IPAddress objects, which decide when the two disagree; the bitmaps are where a free one is found at once.

mod bitmap;
mod numbers;
mod ranges;
mod service;

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Service;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde::Deserialize;
use serde_json::Value;

use self::numbers::Ports;
use self::ranges::Ranges;
use crate::resource::field::{FieldError, FieldErrors};

/// Label: the family of an IPAddress.
pub const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";
/// Label: who made an IPAddress.
pub const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
/// Value of [`MANAGED_BY`]: who makes those of Services.
pub const MANAGER: &str = "ipallocator.k8s.io";

/// One number that a Service holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    Address(Ipv4Addr),
    Port(u16),
}

#[derive(Debug)]
struct Held {
    /// What the ranges were made from: each ServiceCIDR's key and revision.
    known: Vec<(Arc<str>, u64)>,
    addresses: Ranges,
    ports: Ports,
    random: SmallRng,
}

impl Held {
    fn give_back(&mut self, claim: Claim) {
        match claim {
            Claim::Address(address) => self.addresses.give_back(address),
            Claim::Port(port) => self.ports.give_back(port),
        }
    }
}

/// The cluster's allocators; cheap to clone.
#[derive(Debug, Clone)]
pub struct Allocators {
    held: Arc<Mutex<Held>>,
}

/// Why a Service does not get what it needs.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It asks for what it cannot have.
    #[error("the Service asks for what it cannot have")]
    Invalid(FieldErrors),
    /// What it needs cannot be had, and no field of it says so.
    #[error("{0}")]
    Exhausted(String),
}

/// Numbers that a write has taken and will give up. Dropping it uncommitted undoes what was taken.
#[must_use = "an uncommitted reservation gives its numbers back"]
#[derive(Debug)]
pub struct Reservation {
    allocators: Allocators,
    taken: Vec<Claim>,
    given_up: Vec<Claim>,
    committed: bool,
}

impl Allocators {
    /// Everything free but what Kubernetes keeps from being handed out: the network's own address and its
    /// broadcast address.
    #[must_use]
    pub fn new(service_cidr: Ipv4Net, node_ports: RangeInclusive<u16>) -> Self {
        let held = Held {
            known: Vec::new(),
            addresses: Ranges::new(&[service_cidr], std::iter::empty()),
            ports: Ports::new(node_ports),
            random: SmallRng::from_os_rng(),
        };
        Self {
            held: Arc::new(Mutex::new(held)),
        }
    }

    /// Marks what a stored Service holds as taken.
    ///
    /// # Errors
    /// The object is no Service.
    pub fn adopt(&self, service: &Value) -> Result<(), serde_json::Error> {
        let service = Service::deserialize(service)?;
        let mut held = self.lock();
        for claim in service::claims(&service) {
            // A number outside today's ranges, or held twice, stays with its Service: the object is the truth.
            match claim {
                Claim::Address(address) => held.addresses.hold(address),
                Claim::Port(port) => held.ports.hold(port),
            }
        }
        Ok(())
    }

    /// Whether the ranges were made from just these ServiceCIDRs.
    #[must_use]
    pub fn knows(&self, cidrs: &[(Arc<str>, u64)]) -> bool {
        self.lock().known == cidrs
    }

    /// Replaces the ranges by `networks`, made from `cidrs`, in which the addresses in `held` are taken.
    pub fn set_ranges(
        &self,
        cidrs: Vec<(Arc<str>, u64)>,
        networks: &[Ipv4Net],
        held_addresses: impl Iterator<Item = Ipv4Addr>,
    ) {
        let addresses = Ranges::new(networks, held_addresses);
        let mut held = self.lock();
        held.known = cidrs;
        held.addresses = addresses;
    }

    /// Marks an address that an IPAddress names.
    pub fn hold_address(&self, address: Ipv4Addr) {
        self.lock().addresses.hold(address);
    }

    /// Frees an address whose IPAddress is gone.
    pub fn free_address(&self, address: Ipv4Addr) {
        self.lock().addresses.give_back(address);
    }

    /// The cluster IPs in a Service that its type has a use for.
    ///
    /// # Errors
    /// The object is no Service.
    pub fn addresses_of(service: &Value) -> Result<Vec<Ipv4Addr>, serde_json::Error> {
        let claims = service::claims(&Service::deserialize(service)?);
        Ok(claims.into_iter().filter_map(Claim::address).collect())
    }

    /// Fills in what a new Service asks for, and refuses what it cannot have.
    ///
    /// # Errors
    /// A number is taken or out of range, or a range is full; the first of these.
    pub fn for_create(&self, service: &mut Value) -> Result<Reservation, Refusal> {
        self.allocate(service, None)
    }

    /// Fills in what the changed Service needs beyond what the old one holds. What the new one has no use for
    /// is given up when the reservation is committed.
    ///
    /// # Errors
    /// As [`Allocators::for_create`].
    pub fn for_update(&self, service: &mut Value, old: &Value) -> Result<Reservation, Refusal> {
        let old = Service::deserialize(old).map_err(|error| internal(&error))?;
        self.allocate(service, Some(&old))
    }

    /// Takes back what a deleted Service held.
    ///
    /// # Errors
    /// The object is no Service.
    pub fn release(&self, service: &Value) -> Result<(), serde_json::Error> {
        let service = Service::deserialize(service)?;
        let mut held = self.lock();
        for claim in service::claims(&service) {
            held.give_back(claim);
        }
        Ok(())
    }

    fn allocate(&self, service: &mut Value, old: Option<&Service>) -> Result<Reservation, Refusal> {
        let mut typed = Service::deserialize(&*service).map_err(|error| internal(&error))?;
        let held_before = old.map(service::claims).unwrap_or_default();
        let mut reservation = Reservation {
            allocators: self.clone(),
            taken: Vec::new(),
            given_up: Vec::new(),
            committed: false,
        };
        let mut held = self.lock();
        let result = service::fill(&mut typed, old, &mut held, &mut reservation.taken);
        drop(held);
        result?;
        let needed = service::claims(&typed);
        reservation.given_up = held_before.difference(&needed).copied().collect();
        *service = serde_json::to_value(&typed).map_err(|error| internal(&error))?;
        Ok(reservation)
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // A panic while the lock is held leaves at worst a number taken that nobody has.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    fn address(self) -> Option<Ipv4Addr> {
        match self {
            Self::Address(address) => Some(address),
            Self::Port(_) => None,
        }
    }
}

impl Reservation {
    /// The addresses that it took.
    #[must_use]
    pub fn taken_addresses(&self) -> Vec<Ipv4Addr> {
        self.taken.iter().copied().filter_map(Claim::address).collect()
    }

    /// The addresses that are free once it is committed.
    #[must_use]
    pub fn given_up_addresses(&self) -> Vec<Ipv4Addr> {
        self.given_up.iter().copied().filter_map(Claim::address).collect()
    }

    /// The Service is stored: what it took is its own, what it gave up is free.
    pub fn commit(mut self) {
        self.committed = true;
        let mut held = self.allocators.lock();
        for claim in &self.given_up {
            held.give_back(*claim);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.committed {
            let mut held = self.allocators.lock();
            for claim in &self.taken {
                held.give_back(*claim);
            }
        }
    }
}

fn internal(error: &serde_json::Error) -> Refusal {
    Refusal::Invalid(vec![FieldError::invalid("spec", Value::Null, error.to_string())])
}

#[cfg(test)]
mod tests;
