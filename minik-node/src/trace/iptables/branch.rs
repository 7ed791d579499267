//! A packet on one of its ways through the rules: what is known of it there, and how translation changes it.

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::super::{Outcome, Packet, Path, Probability, State, Verdict};
use super::rule::SourcePort;

/// A packet on one of its ways, with what is known of it.
#[derive(Debug, Clone)]
pub(super) struct Branch {
    pub packet: Packet,
    pub in_link: Option<Arc<str>>,
    pub out_link: Option<Arc<str>>,
    /// As it was sent; `None` until conntrack has looked.
    pub original: Option<Packet>,
    /// Whether its source was, or was decided not to be, translated.
    pub source_settled: bool,
    /// The same for its destination.
    pub destination_settled: bool,
    pub snat: bool,
    pub dnat: bool,
    pub probability: Probability,
    pub path: Path,
    pub state: State,
}

impl Branch {
    /// Its last word.
    pub fn ends(self, verdict: Verdict) -> Outcome {
        Outcome {
            probability: self.probability,
            verdict,
            packet: self.packet,
            path: self.path,
            state: self.state,
        }
    }

    /// DNAT, as far as given.
    pub fn turn_destination(&mut self, address: Option<Ipv4Addr>, port: Option<u16>) {
        let before = (self.packet.destination, self.packet.destination_port);
        self.packet.destination = address.unwrap_or(before.0);
        self.packet.destination_port = port.unwrap_or(before.1);
        self.dnat |= before != (self.packet.destination, self.packet.destination_port);
    }

    /// SNAT, as far as given.
    pub fn turn_source(&mut self, address: Option<Ipv4Addr>, port: SourcePort) {
        let before = (self.packet.source, self.packet.source_port);
        self.packet.source = address.unwrap_or(before.0);
        self.packet.source_port = match port {
            // An ICMP identifier is no port that rules could see.
            _ if !self.packet.protocol.has_ports() => before.1,
            SourcePort::Kept => before.1,
            SourcePort::Fixed(port) => Some(port),
            SourcePort::Chosen => None,
        };
        self.snat |= before != (self.packet.source, self.packet.source_port);
    }
}
