//! Links of one namespace: make, find, remove, raise, name. Veth pairs are made with both ends where they
//! belong: an end that is moved to its namespace later costs a grace period of the kernel (16 ms, not 0.5).

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

use futures::TryStreamExt;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkFlags, LinkMessage, Prop};
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::netlink::{Netlink, cause, is};
use super::request::request_blocking;
use crate::plan::link::Mac;

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// `RTM_NEWLINK`, kind veth.
    #[error("add veth {name}")]
    AddVeth {
        /// Name of the end in the socket's namespace.
        name: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// `RTM_NEWLINK`, kind bridge.
    #[error("add bridge {name}")]
    AddBridge {
        /// Link name.
        name: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// `RTM_GETLINK`
    #[error("look up link {name}")]
    Find {
        /// Link name.
        name: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// `RTM_DELLINK`
    #[error("delete link {name}")]
    Delete {
        /// Link name.
        name: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// `RTM_NEWLINK` with the flag `IFF_UP`.
    #[error("set link {index} up")]
    SetUp {
        /// Link index.
        index: u32,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// `RTM_NEWLINK` without the flag `IFF_UP`.
    #[error("set link {index} down")]
    SetDown {
        /// Link index.
        index: u32,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A link that was just made is not there: somebody else removed it.
    #[error("link {name} vanished")]
    Vanished {
        /// Link name.
        name: String,
    },
    /// A link could not be watched for its carrier.
    #[error("watch link {index}")]
    Wait {
        /// Link index.
        index: u32,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A link does not carry packets although both of its ends are up.
    #[error("link {index} has no carrier")]
    NoCarrier {
        /// Link index.
        index: u32,
    },
    /// `RTM_GETLINK` of all.
    #[error("list links")]
    List(#[source] io::Error),
    /// `RTM_NEWLINKPROP`
    #[error("name link {index} also {altname}")]
    AddAltname {
        /// Link index.
        index: u32,
        /// The name.
        altname: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
}

/// One end of a veth pair to be made.
#[derive(Debug, Clone, Copy)]
pub struct VethEnd<'a> {
    /// Link name.
    pub name: &'a str,
    /// Link-layer address.
    pub mac: Mac,
    /// Maximum transmission unit in bytes.
    pub mtu: u32,
    /// Where it appears; `None` is the socket's own namespace.
    pub netns: Option<BorrowedFd<'a>>,
    /// Index of the bridge it becomes a port of.
    pub bridge: Option<u32>,
}

/// A link as the kernel reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Link-layer address; zeros for a link without one.
    pub mac: Mac,
    /// Maximum transmission unit in bytes.
    pub mtu: u32,
    /// Whether it was set up.
    pub up: bool,
    /// Index of the other end of a veth pair, in that end's namespace.
    pub peer: Option<u32>,
    /// Index of the bridge it is a port of.
    pub bridge: Option<u32>,
    /// Further names.
    pub altnames: Vec<String>,
}

impl Netlink {
    /// Makes a veth pair. The near end, in the socket's namespace, is up; the far one is not, since the kernel
    /// makes it first and raises none without a peer (`ENOTCONN`).
    ///
    /// # Errors
    /// [`LinkError::AddVeth`]; `EEXIST` when either name is taken.
    pub async fn add_veth(&self, near: VethEnd<'_>, far: VethEnd<'_>) -> Result<(), LinkError> {
        let peer = end(LinkUnspec::new_with_name(far.name), far).build();
        let message = end(LinkVeth::new(near.name, far.name), near)
            .up()
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        self.handle
            .link()
            .add(message)
            .execute()
            .await
            .map_err(|error| LinkError::AddVeth {
                name: near.name.to_owned(),
                source: cause(error),
            })
    }

    /// Makes a bridge that is up and forwards at once: no spanning tree, so no listening and learning before,
    /// and no multicast snooping.
    ///
    /// # Errors
    /// [`LinkError::AddBridge`]; `EEXIST` when the name is taken.
    pub async fn add_bridge(&self, name: &str, mac: Mac) -> Result<(), LinkError> {
        let message = LinkBridge::new(name)
            .mcast_snooping(false)
            .address(mac.to_vec())
            .up()
            .build();
        self.handle
            .link()
            .add(message)
            .execute()
            .await
            .map_err(|error| LinkError::AddBridge {
                name: name.to_owned(),
                source: cause(error),
            })
    }

    /// Looks a link up by its name, or by a further name of it.
    ///
    /// # Errors
    /// [`LinkError::Find`].
    pub async fn find_link(&self, name: &str) -> Result<Option<Link>, LinkError> {
        let mut found = std::pin::pin!(self.handle.link().get().match_name(name).execute());
        match found.try_next().await.map_err(cause) {
            Ok(message) => Ok(message.map(Link::from)),
            Err(error) if is(&error, nix::Error::ENODEV) => Ok(None),
            Err(source) => Err(LinkError::Find {
                name: name.to_owned(),
                source,
            }),
        }
    }

    /// All links of the namespace, by index.
    ///
    /// # Errors
    /// [`LinkError::List`].
    pub async fn links(&self) -> Result<BTreeMap<u32, Link>, LinkError> {
        let messages: Vec<LinkMessage> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|e| LinkError::List(cause(e)))?;
        Ok(messages
            .into_iter()
            .map(Link::from)
            .map(|link| (link.index, link))
            .collect())
    }

    /// Removes a link, and with it its other end, wherever that is. A missing one is no error.
    ///
    /// Afterwards the name is free on both sides, even if the other end's namespace is just dying: the kernel
    /// takes both off its lists before it answers, and answers `ENODEV` about one that it is taking off already
    /// only when that is done.
    ///
    /// The kernel keeps the sender until nobody can still look at the link, 15 ms and more; so a thread sends
    /// this, not the runtime.
    ///
    /// # Errors
    /// [`LinkError::Delete`].
    pub async fn delete_link(&self, name: &str) -> Result<(), LinkError> {
        let netns = Arc::clone(&self.netns);
        let message = RouteNetlinkMessage::DelLink(LinkUnspec::new_with_name(name).build());
        let deletion = move || netns.run(|| request_blocking(message)).map_err(io::Error::other)?;
        let deleted = tokio::task::spawn_blocking(deletion).await.map_err(io::Error::other);
        match deleted.flatten() {
            Err(source) if !is(&source, nix::Error::ENODEV) => Err(LinkError::Delete {
                name: name.to_owned(),
                source,
            }),
            _ => Ok(()),
        }
    }

    /// Raises a link.
    ///
    /// # Errors
    /// [`LinkError::SetUp`].
    pub async fn set_up(&self, index: u32) -> Result<(), LinkError> {
        let message = LinkUnspec::new_with_index(index).up().build();
        let request = self.handle.link().change(message);
        request.execute().await.map_err(|error| LinkError::SetUp {
            index,
            source: cause(error),
        })
    }

    /// Lowers a link, which takes the routes through it away.
    ///
    /// # Errors
    /// [`LinkError::SetDown`].
    pub async fn set_down(&self, index: u32) -> Result<(), LinkError> {
        let message = LinkUnspec::new_with_index(index).down().build();
        let request = self.handle.link().change(message);
        request.execute().await.map_err(|error| LinkError::SetDown {
            index,
            source: cause(error),
        })
    }

    /// Gives a link a further name, which may be longer than the 15 bytes of the first.
    ///
    /// # Errors
    /// [`LinkError::AddAltname`]; `EEXIST` when any link has the name.
    pub async fn add_altname(&self, index: u32, altname: &str) -> Result<(), LinkError> {
        let request = self.handle.link().property_add(index).alt_ifname(&[altname]);
        request.execute().await.map_err(|error| LinkError::AddAltname {
            index,
            altname: altname.to_owned(),
            source: cause(error),
        })
    }
}

/// One queue an end: the default is one for every processor, all allocated at once and of no use to a lab.
fn end<T>(builder: LinkMessageBuilder<T>, end: VethEnd<'_>) -> LinkMessageBuilder<T> {
    let mut builder = builder
        .address(end.mac.to_vec())
        .mtu(end.mtu)
        .append_extra_attribute(LinkAttribute::NumTxQueues(1))
        .append_extra_attribute(LinkAttribute::NumRxQueues(1));
    if let Some(netns) = end.netns {
        builder = builder.append_extra_attribute(LinkAttribute::NetNsFd(netns.as_raw_fd()));
    }
    if let Some(bridge) = end.bridge {
        builder = builder.append_extra_attribute(LinkAttribute::Controller(bridge));
    }
    builder
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            mac: Mac::default(),
            mtu: 0,
            up: message.header.flags.contains(LinkFlags::Up),
            peer: None,
            bridge: None,
            altnames: Vec::new(),
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Address(address) => link.mac = address.try_into().unwrap_or_default(),
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Link(peer) => link.peer = Some(peer),
                LinkAttribute::Controller(bridge) => link.bridge = Some(bridge),
                LinkAttribute::PropList(properties) => {
                    link.altnames = properties.into_iter().filter_map(altname).collect();
                }
                _ => {}
            }
        }
        link
    }
}

fn altname(property: Prop) -> Option<String> {
    match property {
        Prop::AltIfName(name) => Some(name),
        _ => None,
    }
}
