//! The two ranges as people write them: addresses of a network, ports of an interval.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use ipnet::Ipv4Net;
use rand::Rng;

use super::bitmap::Bitmap;

/// Why a number that was asked for cannot be had; the texts are those of 1.36's allocators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Somebody has it.
    Taken,
    /// It is not in the range.
    OutOfRange,
}

/// Cluster IPs.
#[derive(Debug)]
pub struct Addresses {
    network: Ipv4Net,
    taken: Bitmap,
}

impl Addresses {
    pub fn new(network: Ipv4Net) -> Self {
        let size = 1u32
            .checked_shl(u32::from(32 - network.prefix_len()))
            .unwrap_or(u32::MAX);
        // KEP-3070: min(max(16, size / 16), 256), nothing where the range is too small for two bands.
        let band = if size <= 16 { 0 } else { (size / 16).clamp(16, 256) };
        let mut taken = Bitmap::new(size, band);
        for offset in [0, size - 1] {
            taken.take(offset);
        }
        Self {
            network: network.trunc(),
            taken,
        }
    }

    /// Whether the address is in the network.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        self.network.contains(&address)
    }

    /// Whether somebody has it.
    pub fn is_taken(&self, address: Ipv4Addr) -> bool {
        self.offset(address).is_some_and(|offset| self.taken.contains(offset))
    }

    /// Marks it as taken if it is in the network.
    pub fn hold(&mut self, address: Ipv4Addr) {
        if let Some(offset) = self.offset(address) {
            self.taken.take(offset);
        }
    }

    pub fn take_any(&mut self, random: &mut impl Rng) -> Option<Ipv4Addr> {
        let offset = self.taken.take_any(random)?;
        Some(Ipv4Addr::from(u32::from(self.network.network()) + offset))
    }

    pub fn give_back(&mut self, address: Ipv4Addr) {
        if let Some(offset) = self.offset(address) {
            self.taken.give_back(offset);
        }
    }

    fn offset(&self, address: Ipv4Addr) -> Option<u32> {
        self.network
            .contains(&address)
            .then(|| u32::from(address) - u32::from(self.network.network()))
    }
}

/// Node ports.
#[derive(Debug)]
pub struct Ports {
    range: RangeInclusive<u16>,
    taken: Bitmap,
}

impl Ports {
    pub fn new(range: RangeInclusive<u16>) -> Self {
        let size = u32::from(*range.end()).saturating_sub(u32::from(*range.start())) + 1;
        // KEP-3668: min(max(16, size / 32), 128), nothing where the range is too small for two bands.
        let band = if size <= 16 { 0 } else { (size / 32).clamp(16, 128) };
        Self {
            range,
            taken: Bitmap::new(size, band),
        }
    }

    /// Marks it as taken if it is in the range.
    pub fn hold(&mut self, port: u16) {
        if let Some(offset) = self.offset(port) {
            self.taken.take(offset);
        }
    }

    pub fn take(&mut self, port: u16) -> Result<(), Refused> {
        let offset = self.offset(port).ok_or(Refused::OutOfRange)?;
        if self.taken.take(offset) {
            Ok(())
        } else {
            Err(Refused::Taken)
        }
    }

    pub fn take_any(&mut self, random: &mut impl Rng) -> Option<u16> {
        let offset = self.taken.take_any(random)?;
        u16::try_from(u32::from(*self.range.start()) + offset).ok()
    }

    pub fn give_back(&mut self, port: u16) {
        if let Some(offset) = self.offset(port) {
            self.taken.give_back(offset);
        }
    }

    /// `30000-32767`
    pub fn describe(&self) -> String {
        format!("{}-{}", self.range.start(), self.range.end())
    }

    fn offset(&self, port: u16) -> Option<u32> {
        self.range.contains(&port).then(|| u32::from(port - self.range.start()))
    }
}
