//! Addresses of a node's Pods: from the third of the range upward (network and gateway come first), the
//! broadcast address never, and the one that was free for longest last. Pure.

use std::collections::{BTreeSet, VecDeque};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// How many released addresses rest before they are given out again, as long as others are free.
const RESTING: usize = 32;

/// Which addresses are taken.
#[derive(Debug)]
pub struct Ipam {
    range: Ipv4Net,
    taken: BTreeSet<Ipv4Addr>,
    resting: VecDeque<Ipv4Addr>,
}

impl Ipam {
    /// With everything free.
    #[must_use]
    pub const fn new(range: Ipv4Net) -> Self {
        Self {
            range,
            taken: BTreeSet::new(),
            resting: VecDeque::new(),
        }
    }

    /// The node's address on every Pod link: the first of the range.
    #[must_use]
    pub fn gateway(range: Ipv4Net) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(range.network()).saturating_add(1))
    }

    /// Marks the address of a Pod that runs already.
    pub fn adopt(&mut self, address: Ipv4Addr) {
        self.taken.insert(address);
    }

    /// Takes the lowest address that is neither taken nor resting, or the one that has rested longest.
    pub fn allocate(&mut self) -> Option<Ipv4Addr> {
        let gateway = Self::gateway(self.range);
        let free = |address: &Ipv4Addr| *address != gateway && !self.taken.contains(address);
        let fresh = self
            .range
            .hosts()
            .find(|address| free(address) && !self.resting.contains(address));
        let address = fresh.or_else(|| self.resting.pop_front())?;
        self.taken.insert(address);
        Some(address)
    }

    /// Gives an address back.
    pub fn release(&mut self, address: Ipv4Addr) {
        if self.taken.remove(&address) {
            self.resting.push_back(address);
            if self.resting.len() > RESTING {
                self.resting.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn last(address: Ipv4Addr) -> u8 {
        address.octets()[3]
    }

    #[test]
    fn addresses_rise_from_two_and_a_released_one_rests() {
        let mut ipam = Ipam::new("10.244.1.0/24".parse().unwrap());
        ipam.adopt("10.244.1.3".parse().unwrap());
        let first = ipam.allocate().unwrap();
        assert_eq!((last(first), last(ipam.allocate().unwrap())), (2, 4));
        ipam.release(first);
        assert_eq!(last(ipam.allocate().unwrap()), 5);
    }

    #[test]
    fn a_small_range_runs_out_and_comes_back() {
        let mut ipam = Ipam::new("10.0.0.0/30".parse().unwrap());
        let only = ipam.allocate().unwrap();
        assert_eq!((last(only), ipam.allocate()), (2, None));
        ipam.release(only);
        assert_eq!(ipam.allocate(), Some(only));
    }

    proptest! {
        #[test]
        fn no_address_is_given_twice(releases in proptest::collection::vec(any::<bool>(), 1..400)) {
            let mut ipam = Ipam::new("10.0.0.0/26".parse().unwrap());
            let mut held = Vec::new();
            for release in releases {
                if release && !held.is_empty() {
                    ipam.release(held.remove(0));
                } else if let Some(address) = ipam.allocate() {
                    prop_assert!(!held.contains(&address) && last(address) >= 2 && last(address) < 63);
                    held.push(address);
                } else {
                    prop_assert_eq!(held.len(), 61);
                }
            }
        }
    }
}
