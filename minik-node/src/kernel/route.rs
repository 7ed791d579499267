//! Addresses, neighbours and routes of one namespace, IPv4: lay what a [`LinkState`] says on a link, and read
//! a link back into one.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use futures::TryStreamExt;
use ipnet::Ipv4Net;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::neighbour::{NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::route::{RouteMessage, RouteProtocol, RouteScope};

use super::link::LinkError;
use super::netlink::{Netlink, cause, is};
use super::route_message::{read_neighbour, read_route, route_message};
use crate::plan::link::{LinkState, Mac, PROTOCOL_KERNEL, Route};

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// `RTM_NEWADDR`
    #[error("add address {address}")]
    AddAddress {
        /// The address.
        address: Ipv4Net,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// `RTM_NEWNEIGH`
    #[error("add neighbour {address}")]
    AddNeighbour {
        /// The neighbour.
        address: Ipv4Addr,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// `RTM_NEWROUTE`
    #[error("add route to {destination}")]
    AddRoute {
        /// Where it leads.
        destination: Ipv4Net,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// `RTM_DELROUTE`
    #[error("delete route to {destination}")]
    DeleteRoute {
        /// Where it led.
        destination: Ipv4Net,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A dump of addresses, neighbours or routes.
    #[error("list {what}")]
    List {
        /// `addresses`, `neighbours` or `routes`.
        what: &'static str,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The link that is to carry them.
    #[error(transparent)]
    Link(#[from] LinkError),
}

impl Netlink {
    /// Raises a link and lays addresses, neighbours and routes on it. What is there already is replaced; what
    /// is there beyond them stays.
    ///
    /// # Errors
    /// [`RouteError::Link`] and the `Add…` variants.
    pub async fn lay(&self, link: u32, state: &LinkState) -> Result<(), RouteError> {
        self.set_up(link).await?;
        for address in &state.addresses {
            self.add_address(link, *address).await?;
            // It came with the address, but does not come again with one that is there and has lost it.
            if let Some(route) = Route::connected(*address) {
                self.replace_route(Some(link), &route).await?;
            }
        }
        for (address, mac) in &state.neighbours {
            self.add_neighbour(link, *address, *mac).await?;
        }
        // In order of destination a default route would come before the route to its gateway.
        let (direct, indirect): (Vec<_>, Vec<_>) = state.routes.iter().partition(|route| route.gateways.is_empty());
        for route in direct.into_iter().chain(indirect) {
            self.replace_route(Some(link), route).await?;
        }
        Ok(())
    }

    /// Reads back what a link carries; `None` when it is missing or down.
    ///
    /// # Errors
    /// [`RouteError::List`], [`RouteError::Link`].
    pub async fn observe(&self, name: &str) -> Result<Option<LinkState>, RouteError> {
        let Some(link) = self.find_link(name).await?.filter(|link| link.up) else {
            return Ok(None);
        };
        let state = LinkState {
            mac: link.mac,
            mtu: link.mtu,
            addresses: self.addresses().await?.remove(&link.index).unwrap_or_default(),
            routes: self.routes_of(link.index).await?,
            neighbours: self.permanent_neighbours(link.index).await?,
        };
        Ok(Some(state))
    }

    /// Gives a link an address; one it has already is kept.
    ///
    /// # Errors
    /// [`RouteError::AddAddress`].
    pub async fn add_address(&self, link: u32, address: Ipv4Net) -> Result<(), RouteError> {
        let request = self
            .handle
            .address()
            .add(link, IpAddr::V4(address.addr()), address.prefix_len());
        request
            .replace()
            .execute()
            .await
            .map_err(|error| RouteError::AddAddress {
                address,
                source: cause(error),
            })
    }

    /// Tells who has `address` on the link for good: no ARP is sent, the entry never expires.
    ///
    /// # Errors
    /// [`RouteError::AddNeighbour`].
    pub async fn add_neighbour(&self, link: u32, address: Ipv4Addr, mac: Mac) -> Result<(), RouteError> {
        let request = self
            .handle
            .neighbours()
            .add(link, IpAddr::V4(address))
            .link_layer_address(&mac);
        request
            .replace()
            .execute()
            .await
            .map_err(|error| RouteError::AddNeighbour {
                address,
                source: cause(error),
            })
    }

    /// Adds a route. Without a link, the gateways say which.
    ///
    /// # Errors
    /// [`RouteError::AddRoute`]; `EEXIST` when there is one to the same destination, whoever made it.
    pub async fn add_route(&self, link: Option<u32>, route: &Route) -> Result<(), RouteError> {
        self.new_route(link, route, false).await
    }

    /// Adds a route or replaces the one to the same destination, whoever made it.
    ///
    /// # Errors
    /// [`RouteError::AddRoute`].
    pub async fn replace_route(&self, link: Option<u32>, route: &Route) -> Result<(), RouteError> {
        self.new_route(link, route, true).await
    }

    async fn new_route(&self, link: Option<u32>, route: &Route, replace: bool) -> Result<(), RouteError> {
        let request = self.handle.route().add(route_message(link, route));
        let request = if replace { request.replace() } else { request };
        request.execute().await.map_err(|error| RouteError::AddRoute {
            destination: route.destination,
            source: cause(error),
        })
    }

    /// Removes the route to a destination that `protocol` put there; a missing one is no error.
    ///
    /// # Errors
    /// [`RouteError::DeleteRoute`].
    pub async fn delete_route(&self, destination: Ipv4Net, protocol: u8) -> Result<(), RouteError> {
        let message = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(destination.network(), destination.prefix_len())
            .protocol(RouteProtocol::from(protocol))
            // Any scope: deletion, unlike creation, takes this for "whichever".
            .scope(RouteScope::NoWhere)
            .build();
        match self.handle.route().del(message).execute().await.map_err(cause) {
            Err(source) if !is(&source, nix::Error::ESRCH) => Err(RouteError::DeleteRoute { destination, source }),
            _ => Ok(()),
        }
    }

    /// All IPv4 addresses of the namespace, by link index.
    ///
    /// # Errors
    /// [`RouteError::List`].
    pub async fn addresses(&self) -> Result<BTreeMap<u32, BTreeSet<Ipv4Net>>, RouteError> {
        let mut by_link = BTreeMap::<u32, BTreeSet<Ipv4Net>>::new();
        let mut dump = std::pin::pin!(self.handle.address().get().execute());
        while let Some(message) = dump.try_next().await.map_err(|error| listing("addresses", error))? {
            for attribute in &message.attributes {
                if let AddressAttribute::Local(IpAddr::V4(address)) = attribute
                    && let Ok(address) = Ipv4Net::new(*address, message.header.prefix_len)
                {
                    by_link.entry(message.header.index).or_default().insert(address);
                }
            }
        }
        Ok(by_link)
    }

    /// All IPv4 unicast routes of the main table with the index of the link they leave by, those included that
    /// the kernel made for addresses (protocol 2).
    ///
    /// # Errors
    /// [`RouteError::List`].
    pub async fn routes(&self) -> Result<Vec<(u32, Route)>, RouteError> {
        let dump = self
            .handle
            .route()
            .get(RouteMessageBuilder::<Ipv4Addr>::new().build())
            .execute();
        let messages: Vec<RouteMessage> = dump.try_collect().await.map_err(|error| listing("routes", error))?;
        Ok(messages.iter().filter_map(read_route).collect())
    }

    async fn routes_of(&self, link: u32) -> Result<BTreeSet<Route>, RouteError> {
        let routes = self.routes().await?.into_iter();
        Ok(routes
            .filter(|(of, route)| *of == link && route.protocol != PROTOCOL_KERNEL)
            .map(|(_, r)| r)
            .collect())
    }

    async fn permanent_neighbours(&self, link: u32) -> Result<BTreeMap<Ipv4Addr, Mac>, RouteError> {
        let request = self.handle.neighbours().get().set_address_family(AddressFamily::Inet);
        let messages: Vec<NeighbourMessage> = request
            .execute()
            .try_collect()
            .await
            .map_err(|error| listing("neighbours", error))?;
        Ok(messages
            .iter()
            .filter(|message| message.header.ifindex == link)
            .filter(|message| message.header.state == NeighbourState::Permanent)
            .filter_map(read_neighbour)
            .collect())
    }
}

fn listing(what: &'static str, error: rtnetlink::Error) -> RouteError {
    RouteError::List {
        what,
        source: cause(error),
    }
}
