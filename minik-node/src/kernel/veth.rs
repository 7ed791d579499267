//! A veth pair between two namespaces as a whole: kept when it is there and right, made anew when it is not.

use std::os::fd::{AsFd, BorrowedFd};

use super::link::{Link, LinkError, VethEnd};
use super::netlink::{Netlink, NetlinkError};
use super::netns::NetNs;
use super::sysctl::{self, Sysctl, SysctlError};
use crate::plan::link::Mac;

/// A namespace that links are laid in: the namespace itself, to put links there, and a socket inside.
#[derive(Debug)]
pub struct Place {
    /// The namespace.
    pub netns: NetNs,
    /// Its links, addresses and routes.
    pub netlink: Netlink,
}

/// A namespace could not be made ready for links.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// It could not be entered, or no socket opened in it.
    #[error(transparent)]
    Socket(#[from] NetlinkError),
    /// One of its parameters.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
}

impl Place {
    /// Sets parameters of the namespace and opens a socket in it, in one visit. Parameters come first since
    /// links inherit theirs when they are made. Needs a tokio runtime.
    ///
    /// # Errors
    /// What failed first.
    pub fn open(netns: NetNs, sysctls: &[Sysctl]) -> Result<Self, PlaceError> {
        let runtime = tokio::runtime::Handle::current();
        let visit = || -> Result<Netlink, PlaceError> {
            sysctl::set(sysctls)?;
            let _runtime = runtime.enter();
            Ok(Netlink::open()?)
        };
        let netlink = netns.run(visit).map_err(NetlinkError::from)??;
        Ok(Self { netns, netlink })
    }
}

/// One end of a pair, and where it belongs.
#[derive(Debug, Clone, Copy)]
pub struct PairEnd<'a> {
    /// The socket of its namespace.
    pub netlink: &'a Netlink,
    /// Its namespace; `None` for the far end when it is the near end's.
    pub netns: Option<BorrowedFd<'a>>,
    /// Link name.
    pub name: &'a str,
    /// Link-layer address.
    pub mac: Mac,
    /// Index of the bridge it is a port of; only a near end can be one.
    pub bridge: Option<u32>,
}

impl<'a> PairEnd<'a> {
    /// An end of no bridge.
    #[must_use]
    pub fn new(place: &'a Place, name: &'a str, mac: Mac) -> Self {
        Self {
            netlink: &place.netlink,
            netns: Some(place.netns.as_fd()),
            name,
            mac,
            bridge: None,
        }
    }

    fn is(&self, link: &Link, peer: &Link, mtu: u32) -> bool {
        link.mac == self.mac && link.mtu == mtu && link.bridge == self.bridge && link.peer == Some(peer.index)
    }
}

/// A pair that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// Index of the near end.
    pub near: u32,
    /// Index of the far end.
    pub far: u32,
    /// Whether it was there before. Otherwise it carries nothing yet, and its far end is down.
    pub kept: bool,
}

/// Makes sure that the two ends exist and are each other's. Whatever else has one of the names is removed.
///
/// # Errors
/// What failed first; calling again goes on from there.
pub async fn ensure(near: PairEnd<'_>, far: PairEnd<'_>, mtu: u32) -> Result<Pair, LinkError> {
    let find = || async { tokio::try_join!(near.netlink.find_link(near.name), far.netlink.find_link(far.name)) };
    let found = find().await?;
    if let (Some(a), Some(b)) = &found
        && near.is(a, b, mtu)
        && far.is(b, a, mtu)
    {
        return Ok(Pair {
            near: a.index,
            far: b.index,
            kept: true,
        });
    }
    // Each by itself, since they need not belong together.
    if found.0.is_some() {
        near.netlink.delete_link(near.name).await?;
    }
    if found.1.is_some() {
        far.netlink.delete_link(far.name).await?;
    }
    let near_end = VethEnd {
        name: near.name,
        mac: near.mac,
        mtu,
        netns: None,
        bridge: near.bridge,
    };
    let far_end = VethEnd {
        name: far.name,
        mac: far.mac,
        mtu,
        netns: far.netns,
        bridge: far.bridge,
    };
    near.netlink.add_veth(near_end, far_end).await?;
    match find().await? {
        (Some(near), Some(far)) => Ok(Pair {
            near: near.index,
            far: far.index,
            kept: false,
        }),
        (None, _) => Err(LinkError::Vanished {
            name: near.name.to_owned(),
        }),
        (_, None) => Err(LinkError::Vanished {
            name: far.name.to_owned(),
        }),
    }
}
