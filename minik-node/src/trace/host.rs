//! What a packet meets on a node besides rules: links, addresses, routes. Routing as the main table does it:
//! local addresses first, then the longest prefix. No policy routing. Pure.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// A link of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostLink {
    /// Its name.
    pub name: String,
    /// Its addresses with their prefix lengths, in the kernel's order.
    pub addresses: Vec<Ipv4Net>,
}

/// A route of the main table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRoute {
    /// Where it leads.
    pub destination: Ipv4Net,
    /// Next hop; `None` when the destination is on the link.
    pub gateway: Option<Ipv4Addr>,
    /// Name of the link; `None` for a route that refuses (`unreachable`, `blackhole`, `prohibit`).
    pub link: Option<String>,
    /// Source address that it prefers.
    pub source: Option<Ipv4Addr>,
}

/// What kind of address a node takes an address for, as `-m addrtype` knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressKind {
    /// 0.0.0.0
    Unspecified,
    /// One of the node's own, or of 127.0.0.0/8.
    Local,
    /// Of a link's subnet, to all in it.
    Broadcast,
    /// 224.0.0.0/4
    Multicast,
    /// Reached by a route.
    Unicast,
    /// Refused or not known to any route.
    Unreachable,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// In the order of their index, loopback among them.
    pub links: Vec<HostLink>,
    /// The main table, without what follows from addresses of links.
    pub routes: Vec<HostRoute>,
}

/// A way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Way<'a> {
    pub link: &'a str,
    pub gateway: Option<Ipv4Addr>,
    /// What a local sender gets as its address.
    pub source: Option<Ipv4Addr>,
}

const LOOPBACK: &str = "lo";

impl Host {
    /// What kind of address this is here.
    #[must_use]
    pub fn kind(&self, address: Ipv4Addr) -> AddressKind {
        let on_link = |test: &dyn Fn(&Ipv4Net) -> bool| self.networks().any(|(_, network)| test(network));
        match address {
            Ipv4Addr::UNSPECIFIED => AddressKind::Unspecified,
            _ if address.is_loopback() || on_link(&|network| network.addr() == address) => AddressKind::Local,
            Ipv4Addr::BROADCAST => AddressKind::Broadcast,
            _ if on_link(&|network| network.prefix_len() < 31 && network.broadcast() == address) => {
                AddressKind::Broadcast
            }
            _ if address.is_multicast() => AddressKind::Multicast,
            _ if self.way(address).is_some() => AddressKind::Unicast,
            _ => AddressKind::Unreachable,
        }
    }

    /// Whether packets to this address end here.
    #[must_use]
    pub fn is_local(&self, address: Ipv4Addr) -> bool {
        self.kind(address) == AddressKind::Local
    }

    fn networks(&self) -> impl Iterator<Item = (&HostLink, &Ipv4Net)> {
        let of_link = |link| HostLink::networks(link).map(move |network| (link, network));
        self.links.iter().flat_map(of_link)
    }

    /// Where packets to this address go, by the routes of addresses and of the main table.
    pub(super) fn way(&self, address: Ipv4Addr) -> Option<Way<'_>> {
        if self.is_own(address) {
            return Some(Way {
                link: LOOPBACK,
                gateway: None,
                source: Some(address),
            });
        }
        let connected = self
            .networks()
            .filter(|(_, network)| network.prefix_len() < 32 && network.contains(&address))
            .map(|(link, network)| {
                let way = Way {
                    link: &link.name,
                    gateway: None,
                    source: Some(network.addr()),
                };
                (network.prefix_len(), Some(way))
            });
        let routed = self
            .routes
            .iter()
            .filter(|route| route.destination.contains(&address))
            .map(|route| {
                let way = route.link.as_deref().map(|link| Way {
                    link,
                    gateway: route.gateway,
                    source: route
                        .source
                        .or_else(|| self.source_for(link, route.gateway.unwrap_or(address))),
                });
                (route.destination.prefix_len(), way)
            });
        // Of two equally long ones the first counts, which `max_by_key` would take last.
        let all: Vec<(u8, Option<Way<'_>>)> = connected.chain(routed).collect();
        all.into_iter().rev().max_by_key(|(length, _)| *length)?.1
    }

    /// Name of the link by which packets to this address leave; `lo` for the node's own.
    #[must_use]
    pub fn link_to(&self, address: Ipv4Addr) -> Option<&str> {
        self.way(address).map(|way| way.link)
    }

    fn is_own(&self, address: Ipv4Addr) -> bool {
        address.is_loopback() || self.networks().any(|(_, network)| network.addr() == address)
    }

    /// The address that packets leaving by this link towards `next_hop` get when they are masqueraded: the
    /// link's one in the same subnet, else its first, else the first of any other link. Addresses of
    /// loopback's own range do not count.
    #[must_use]
    pub fn source_for(&self, link: &str, next_hop: Ipv4Addr) -> Option<Ipv4Addr> {
        let usable = |network: &&Ipv4Net| !network.addr().is_loopback();
        let own = || {
            let link = self.links.iter().filter(|known| known.name == link);
            link.flat_map(HostLink::networks).filter(usable)
        };
        own()
            .find(|network| network.contains(&next_hop))
            .or_else(|| own().next())
            .or_else(|| self.networks().map(|(_, network)| network).find(usable))
            .map(Ipv4Net::addr)
    }

    /// First address of a link, which `REDIRECT` sends to.
    pub(super) fn first_address(&self, link: &str) -> Option<Ipv4Addr> {
        let link = self.links.iter().find(|known| known.name == link)?;
        link.addresses.first().map(Ipv4Net::addr)
    }
}

impl HostLink {
    fn networks(&self) -> impl Iterator<Item = &Ipv4Net> {
        self.addresses.iter()
    }
}
