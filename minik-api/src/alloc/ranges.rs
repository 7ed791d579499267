//! The ranges that cluster IPs come from, one for each ServiceCIDR that is ready. Ranges may overlap: an
//! address that is taken is taken in all of them.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use rand::Rng;

use super::numbers::{Addresses, Refused};

/// Every range in use, in the order in which addresses are looked for.
#[derive(Debug)]
pub struct Ranges(Vec<Addresses>);

impl Ranges {
    /// Ranges in which only `held` is taken.
    pub fn new(networks: &[Ipv4Net], held: impl Iterator<Item = Ipv4Addr>) -> Self {
        let mut ranges = Self(networks.iter().copied().map(Addresses::new).collect());
        for address in held {
            ranges.hold(address);
        }
        ranges
    }

    /// Takes one address.
    pub fn take(&mut self, address: Ipv4Addr) -> Result<(), Refused> {
        let mut containing = self.0.iter_mut().filter(|range| range.contains(address)).peekable();
        if containing.peek().is_none() {
            return Err(Refused::OutOfRange);
        }
        // The network's own address may be free in a wider range and not in a narrower one: one refusal counts.
        if containing.any(|range| range.is_taken(address)) {
            return Err(Refused::Taken);
        }
        self.hold(address);
        Ok(())
    }

    /// Takes any address of the first range that has one.
    pub fn take_any(&mut self, random: &mut impl Rng) -> Option<Ipv4Addr> {
        let address = self.0.iter_mut().find_map(|range| range.take_any(random))?;
        self.hold(address);
        Some(address)
    }

    /// Marks an address as taken wherever it is in range.
    pub fn hold(&mut self, address: Ipv4Addr) {
        for range in &mut self.0 {
            range.hold(address);
        }
    }

    /// Frees an address everywhere.
    pub fn give_back(&mut self, address: Ipv4Addr) {
        for range in &mut self.0 {
            range.give_back(address);
        }
    }
}
