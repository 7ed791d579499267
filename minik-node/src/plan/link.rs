//! What a link should carry, and, in the same words, what was seen on one: comparing the two is all it takes
//! to know whether a link is right.
//!
//! Plain values. Plans make them, `kernel::link` and `kernel::route` lay and observe them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// A link-layer (Ethernet) address.
pub type Mac = [u8; 6];

/// Bytes the kernel allows in a link's name (`IFNAMSIZ` less the terminating zero).
pub const LINK_NAME_MAX: usize = 15;

/// Everything of ours on one link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkState {
    /// Link-layer address.
    pub mac: Mac,
    /// Maximum transmission unit in bytes.
    pub mtu: u32,
    /// IPv4 addresses with their prefix lengths; the host part is the address.
    pub addresses: BTreeSet<Ipv4Net>,
    /// Routes of the main table out of this link, those apart that the kernel made for `addresses`.
    pub routes: BTreeSet<Route>,
    /// Permanent neighbours. Others come and go with traffic and are nobody's wish.
    pub neighbours: BTreeMap<Ipv4Addr, Mac>,
}

impl LinkState {
    /// A link that is up and carries nothing.
    #[must_use]
    pub fn bare(mac: Mac, mtu: u32) -> Self {
        Self {
            mac,
            mtu,
            addresses: BTreeSet::new(),
            routes: BTreeSet::new(),
            neighbours: BTreeMap::new(),
        }
    }
}

/// One unicast IPv4 route out of one link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Where to.
    pub destination: Ipv4Net,
    /// Next hops; none when the destination is on the link itself, several to spread flows over them.
    pub gateways: BTreeSet<Ipv4Addr>,
    /// Source address of what starts here; without it the kernel picks the link's first.
    pub source: Option<Ipv4Addr>,
    /// Whether the gateways are taken to be on the link although no address of ours says so.
    pub onlink: bool,
    /// Who put it there (`rtm_protocol`, the numbers of `/etc/iproute2/rt_protos`).
    pub protocol: u8,
}

/// `static`: laid once, by whoever set the link up.
pub const PROTOCOL_STATIC: u8 = 4;

/// `kernel`: comes with an address.
pub const PROTOCOL_KERNEL: u8 = 2;

impl Route {
    /// The route to a link's own network, as the kernel makes it for an address; none for a single host's.
    #[must_use]
    pub fn connected(address: Ipv4Net) -> Option<Self> {
        (address.prefix_len() < 32).then(|| Self {
            protocol: PROTOCOL_KERNEL,
            ..Self::direct(address.trunc()).from(address.addr())
        })
    }

    /// A route to what is on the link itself.
    #[must_use]
    pub fn direct(destination: Ipv4Net) -> Self {
        Self {
            destination,
            gateways: BTreeSet::new(),
            source: None,
            onlink: false,
            protocol: PROTOCOL_STATIC,
        }
    }

    /// A route through other machines, one or several.
    #[must_use]
    pub fn via(destination: Ipv4Net, gateways: impl IntoIterator<Item = Ipv4Addr>) -> Self {
        Self {
            gateways: gateways.into_iter().collect(),
            ..Self::direct(destination)
        }
    }

    /// The same with the address that local senders get.
    #[must_use]
    pub fn from(self, source: Ipv4Addr) -> Self {
        Self {
            source: Some(source),
            ..self
        }
    }
}

/// Everywhere: `0.0.0.0/0`.
#[must_use]
pub fn everywhere() -> Ipv4Net {
    Ipv4Net::default()
}

/// The link-layer address of whoever has `address`: locally administered, and it spells the address, so that
/// `ip neigh` can be read without a table (`0a:58:0a:f4:01:02` is 10.244.1.2, as container networks have it).
#[must_use]
pub const fn mac_of(address: Ipv4Addr) -> Mac {
    let [a, b, c, d] = address.octets();
    [0x0a, 0x58, a, b, c, d]
}
