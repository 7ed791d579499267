//! The packet that is followed: what rules can look at, and nothing else. Pure data.

use std::fmt;
use std::net::Ipv4Addr;

/// What follows the IPv4 header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// A segment of a TCP connection: SYN alone while [`Tracking::New`], ACK alone later.
    Tcp,
    /// A datagram.
    Udp,
    /// A packet of an SCTP association.
    Sctp,
    /// An ICMP message; it has no ports.
    Icmp {
        /// 8 for an echo request.
        kind: u8,
        /// Meaning depends on the kind.
        code: u8,
    },
}

impl Protocol {
    /// Number in the IPv4 header.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Icmp { .. } => 1,
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// Whether it has ports.
    #[must_use]
    pub fn has_ports(self) -> bool {
        !matches!(self, Self::Icmp { .. })
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
            Self::Icmp { .. } => "icmp",
        })
    }
}

/// What conntrack thinks of a packet when it arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tracking {
    /// First packet of a connection: the only one that passes the `nat` table.
    New,
    /// Of a connection that has seen both directions. Translated as its first packet was, which is not
    /// repeated here: give it with the addresses that it has.
    Established,
    /// First packet of a connection that another one announced.
    Related,
    /// Of no connection, and no beginning of one.
    Invalid,
}

/// Where a packet comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A process on the node.
    Local,
    /// Another machine or a Pod, by this link of the node.
    Link(String),
}

/// A packet's header, and the mark that the node keeps with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// What it carries.
    pub protocol: Protocol,
    /// Source address.
    pub source: Ipv4Addr,
    /// Source port, 0 without ports; `None` once a translation has chosen one by chance.
    pub source_port: Option<u16>,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Destination port, 0 without ports.
    pub destination_port: u16,
    /// The mark.
    pub mark: u32,
    /// Its place in a connection.
    pub tracking: Tracking,
}

impl Packet {
    /// The first packet of a connection, without a mark.
    #[must_use]
    pub fn new(protocol: Protocol, source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16)) -> Self {
        Self {
            protocol,
            source: source.0,
            source_port: Some(source.1),
            destination: destination.0,
            destination_port: destination.1,
            mark: 0,
            tracking: Tracking::New,
        }
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.protocol.has_ports() {
            return write!(f, "{} {} -> {}", self.protocol, self.source, self.destination);
        }
        let port = self.source_port.map_or("*".to_owned(), |port| port.to_string());
        let (source, destination) = (self.source, self.destination);
        write!(
            f,
            "{} {source}:{port} -> {destination}:{}",
            self.protocol, self.destination_port
        )
    }
}
