//! Routes and neighbours as netlink spells them, and back.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHop, RouteNextHopFlags,
    RouteProtocol, RouteScope, RouteType,
};

use crate::plan::link::{Mac, Route};

/// A request for the main table. Without a link, the gateways say which.
pub(super) fn route_message(link: Option<u32>, route: &Route) -> RouteMessage {
    let mut builder = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(route.destination.network(), route.destination.prefix_len())
        .protocol(RouteProtocol::from(route.protocol));
    if let Some(source) = route.source {
        builder = builder.pref_source(source);
    }
    let mut gateways = route.gateways.iter();
    match (gateways.next(), gateways.len()) {
        (None, _) => builder = builder.scope(RouteScope::Link),
        (Some(gateway), 0) => builder = builder.gateway(*gateway),
        (Some(_), _) => {
            let hops = route
                .gateways
                .iter()
                .map(|gateway| next_hop(link, *gateway, route.onlink));
            return builder.multipath(hops.collect()).build();
        }
    }
    if route.onlink {
        builder = builder.onlink();
    }
    if let Some(link) = link {
        builder = builder.output_interface(link);
    }
    builder.build()
}

fn next_hop(link: Option<u32>, gateway: Ipv4Addr, onlink: bool) -> RouteNextHop {
    let mut hop = RouteNextHop::default();
    hop.interface_index = link.unwrap_or_default();
    hop.attributes
        .push(RouteAttribute::Gateway(RouteAddress::Inet(gateway)));
    hop.flags.set(RouteNextHopFlags::Onlink, onlink);
    hop
}

/// `None` for what is not a unicast route of the main table.
pub(super) fn read_route(message: &RouteMessage) -> Option<(u32, Route)> {
    let header = &message.header;
    if header.table != RouteHeader::RT_TABLE_MAIN || header.kind != RouteType::Unicast {
        return None;
    }
    let mut link = 0;
    let mut destination = Ipv4Addr::UNSPECIFIED;
    let mut route = Route {
        protocol: header.protocol.into(),
        ..Route::direct(Ipv4Net::default())
    };
    route.onlink = header.flags.contains(RouteFlags::Onlink);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => destination = *address,
            RouteAttribute::PrefSource(RouteAddress::Inet(address)) => route.source = Some(*address),
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => route.gateways = [*address].into(),
            RouteAttribute::Oif(index) => link = *index,
            RouteAttribute::MultiPath(hops) => {
                link = hops.first()?.interface_index;
                route.onlink = hops.iter().any(|hop| hop.flags.contains(RouteNextHopFlags::Onlink));
                route.gateways = hops
                    .iter()
                    .flat_map(|hop| &hop.attributes)
                    .filter_map(gateway)
                    .collect();
            }
            _ => {}
        }
    }
    route.destination = Ipv4Net::new(destination, header.destination_prefix_length).ok()?;
    Some((link, route))
}

fn gateway(attribute: &RouteAttribute) -> Option<Ipv4Addr> {
    match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(address)) => Some(*address),
        _ => None,
    }
}

/// `None` for what has no IPv4 or no Ethernet address.
pub(super) fn read_neighbour(message: &NeighbourMessage) -> Option<(Ipv4Addr, Mac)> {
    let mut address = None;
    let mut mac = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => address = Some(*ip),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = Mac::try_from(bytes.as_slice()).ok(),
            _ => {}
        }
    }
    address.zip(mac)
}
