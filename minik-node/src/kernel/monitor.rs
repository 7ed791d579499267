//! Notices that links, addresses, routes or parameters of a network namespace changed. Reports what the kernel tells;
//! never looks closer and never mends.
//!
//! Additions of addresses and routes are left out, since nobody has to mend them. Parameters are told through the
//! kernel's `netconf` group: forwarding and reverse-path filtering, which are what a lab's packets depend on.

use std::io;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::netns::{NetNs, NetNsError};

/// `RTNLGRP_LINK`, `RTNLGRP_IPV4_IFADDR`, `RTNLGRP_IPV4_ROUTE`, `RTNLGRP_IPV4_NETCONF`
const GROUPS: [u32; 4] = [1, 5, 7, 24];
/// `RTM_NEWNETCONF`, which the crate does not parse.
const NEW_NETCONF: u16 = 80;
/// `nlmsghdr` and `netconfmsg`, padded.
const NETCONF_HEADER: usize = 16 + 4;
/// `NETCONFA_IFINDEX`
const NETCONF_INDEX: u16 = 1;

/// Something that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// A link of that name came, went, rose or fell.
    Link(String),
    /// A link of that name lost an address.
    Address(String),
    /// A route went that the given protocol had put there.
    Route(Ipv4Net, u8),
    /// A parameter of the whole namespace.
    Parameter,
    /// More happened than could be told.
    Unknown,
}

/// A namespace that is watched.
#[derive(Debug)]
pub struct Monitor(AsyncFd<Socket>);

/// A namespace could not be watched.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// It could not be entered.
    #[error(transparent)]
    Namespace(#[from] NetNsError),
    /// `socket`, `bind`, `setsockopt`
    #[error("listen for changes of the network")]
    Listen(#[source] io::Error),
}

impl Monitor {
    /// Listens in the namespace of the calling thread. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`MonitorError::Listen`].
    pub fn open() -> Result<Self, MonitorError> {
        Self::listen(listening().map_err(MonitorError::Listen)?)
    }

    /// Listens in `namespace`, from wherever. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`MonitorError`].
    pub fn open_in(namespace: &NetNs) -> Result<Self, MonitorError> {
        let socket = namespace.run(listening)?.map_err(MonitorError::Listen)?;
        Self::listen(socket)
    }

    fn listen(socket: Socket) -> Result<Self, MonitorError> {
        // SAFETY: the socket owns its descriptor, names no other for as long as it lives, and closes it only when the
        // `AsyncFd`, which it moves into, is done with it.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
        Ok(Self(socket.map_err(|error| MonitorError::Listen(error.into()))?))
    }

    /// Waits for changes and gives what the kernel tells at once. Loses nothing when it is cancelled.
    ///
    /// # Errors
    /// When the socket fails.
    pub async fn changes(&self) -> io::Result<Vec<Change>> {
        loop {
            let mut ready = self.0.readable().await?;
            let received = ready.try_io(|socket| {
                let mut bytes = Vec::with_capacity(64 << 10);
                socket.get_ref().recv(&mut bytes, 0).map(|_length| bytes)
            });
            let changes = match received {
                Ok(Ok(bytes)) => read(bytes.as_slice()),
                Ok(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => vec![Change::Unknown],
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => continue,
            };
            if !changes.is_empty() {
                return Ok(changes);
            }
        }
    }
}

fn listening() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    for group in GROUPS {
        socket.add_membership(group)?;
    }
    socket.set_non_blocking(true)?;
    Ok(socket)
}

/// What one datagram tells.
fn read(mut bytes: &[u8]) -> Vec<Change> {
    let mut changes = Vec::new();
    while let Some((length, kind)) = header(bytes) {
        let message = &bytes[..length.min(bytes.len())];
        changes.extend(if kind == NEW_NETCONF {
            netconf(message)
        } else {
            NetlinkMessage::<RouteNetlinkMessage>::deserialize(message)
                .ok()
                .and_then(|message| change(message.payload))
        });
        // Messages start at multiples of four.
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    changes
}

/// Length and type of the first message.
fn header(bytes: &[u8]) -> Option<(usize, u16)> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    (length >= 16).then_some((length, kind))
}

fn change(payload: NetlinkPayload<RouteNetlinkMessage>) -> Option<Change> {
    let NetlinkPayload::InnerMessage(message) = payload else {
        return None;
    };
    match message {
        RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link) => {
            link.attributes.into_iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(Change::Link(name)),
                _ => None,
            })
        }
        RouteNetlinkMessage::DelAddress(address) => {
            address.attributes.into_iter().find_map(|attribute| match attribute {
                AddressAttribute::Label(name) => Some(Change::Address(name)),
                _ => None,
            })
        }
        RouteNetlinkMessage::DelRoute(route) => {
            destination(&route).map(|destination| Change::Route(destination, u8::from(route.header.protocol)))
        }
        _ => None,
    }
}

fn destination(route: &RouteMessage) -> Option<Ipv4Net> {
    let address = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(*address),
        _ => None,
    });
    // The default route names none.
    let address = address.unwrap_or(Ipv4Addr::UNSPECIFIED);
    Ipv4Net::new(address, route.header.destination_prefix_length).ok()
}

/// A parameter of `all` (-1), `default` (-2) or loopback (1): those of other links come and go with them.
fn netconf(message: &[u8]) -> Option<Change> {
    let mut attributes = message.get(NETCONF_HEADER..)?;
    while let Some(head) = attributes.get(..4) {
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        if u16::from_ne_bytes([head[2], head[3]]) == NETCONF_INDEX {
            let index = i32::from_ne_bytes(attributes.get(4..8)?.try_into().ok()?);
            return matches!(index, -2..=1).then_some(Change::Parameter);
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::sysctl::{self, sysctl};
    use crate::private_net::{Space, ip};

    #[test]
    fn truncated_messages_are_no_changes() {
        assert_eq!(read(&[]), []);
        assert_eq!(read(&[20, 0, 0, 0, 80, 0]), []);
        assert_eq!(read(&[255; 40]), []);
    }

    #[test]
    fn what_other_hands_do_is_told() {
        Space::new().block_on(|| async {
            let monitor = Monitor::open().unwrap();
            let mut seen = std::collections::BTreeSet::new();
            ip(&["link", "add", "v0", "type", "veth", "peer", "name", "v1"]);
            ip(&["address", "add", "10.1.2.3/32", "dev", "v0"]);
            ip(&["link", "set", "v0", "up"]);
            ip(&["route", "add", "10.9.0.0/16", "dev", "v0"]);
            ip(&["route", "del", "10.9.0.0/16"]);
            sysctl::set(&[sysctl("net.ipv4.conf.all.rp_filter", "2")]).unwrap();
            ip(&["address", "del", "10.1.2.3/32", "dev", "v0"]);
            let last = Change::Address("v0".to_owned());
            while !seen.contains(&last) {
                seen.extend(monitor.changes().await.unwrap());
            }
            // `boot` is what iproute2 puts down as the protocol of a route that is made by hand.
            let route = Change::Route("10.9.0.0/16".parse().unwrap(), 3);
            for expected in [Change::Link("v0".to_owned()), route, Change::Parameter] {
                assert!(seen.contains(&expected), "{expected:?} is not in {seen:?}");
            }
        });
    }
}
