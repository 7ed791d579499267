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

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    fn address(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_in_two_ranges_is_had_once() {
        let networks = ["10.1.0.0/30", "10.1.0.0/28"].map(|network| network.parse().unwrap());
        let mut ranges = Ranges::new(&networks, [address("10.1.0.9")].into_iter());
        assert_eq!(ranges.take(address("10.1.0.9")), Err(Refused::Taken));
        assert_eq!(ranges.take(address("10.2.0.1")), Err(Refused::OutOfRange));
        let mut random = SmallRng::seed_from_u64(1);
        let mut got: Vec<Ipv4Addr> = std::iter::from_fn(|| ranges.take_any(&mut random)).collect();
        got.sort();
        // Fourteen hosts of the wider range, but for the one that was held.
        let expected: Vec<Ipv4Addr> = (1..15)
            .filter(|n| *n != 9)
            .map(|n| Ipv4Addr::new(10, 1, 0, n))
            .collect();
        assert_eq!(got, expected);
        ranges.give_back(address("10.1.0.2"));
        assert_eq!(ranges.take_any(&mut random), Some(address("10.1.0.2")));
    }
}
