//! The tracked flows of one network namespace over ctnetlink: list those of a protocol, delete one.
//!
//! Decides nothing; which flows are stale is in [`crate::plan::conntrack`].

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use futures::{Stream, StreamExt};
use netlink_packet_netfilter::conntrack::{
    self as packet, ConntrackAttribute, ConntrackMessage, ConntrackMessageType, IPTuple, ProtoTuple, Tuple,
};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};
use rtnetlink::packet_core::{
    DefaultNla, Emitable, NLA_F_NESTED, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload, Nla,
};
use rtnetlink::proto::{ConnectionHandle, new_connection};
use rtnetlink::sys::SocketAddr;
use rtnetlink::sys::protocols::NETLINK_NETFILTER;

use super::netlink::is;
use crate::model::Protocol;
use crate::plan::conntrack::Flow;

/// A socket to the connection tracking of the namespace it was opened in; closes when dropped.
#[derive(Debug)]
pub struct Conntrack {
    handle: ConnectionHandle<NetfilterMessage>,
}

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum ConntrackError {
    /// `socket(NETLINK_NETFILTER)`
    #[error("open connection tracking")]
    Open(#[source] io::Error),
    /// `IPCTNL_MSG_CT_GET`
    #[error("list {protocol} flows")]
    List {
        /// Of which protocol.
        protocol: Protocol,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// `IPCTNL_MSG_CT_DELETE`
    #[error("delete {} flow from {} to {}", flow.protocol, flow.source, flow.destination)]
    Delete {
        /// Which one.
        flow: Flow,
        /// Cause.
        #[source]
        source: io::Error,
    },
}

impl Conntrack {
    /// Opens a socket in the namespace of the calling thread. Needs a tokio runtime, which drives the socket.
    ///
    /// # Errors
    /// [`ConntrackError::Open`].
    pub fn open() -> Result<Self, ConntrackError> {
        let (connection, handle, _) = new_connection(NETLINK_NETFILTER).map_err(ConntrackError::Open)?;
        // Ends by itself when the handle is dropped.
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// The IPv4 flows of a protocol that `wanted` picks; at most as many as the kernel tracks.
    ///
    /// # Errors
    /// [`ConntrackError::List`], also where the kernel has no ctnetlink.
    pub async fn flows(&self, protocol: Protocol, wanted: impl Fn(&Flow) -> bool) -> Result<Vec<Flow>, ConntrackError> {
        let failed = |source| ConntrackError::List { protocol, source };
        let mut answers = self.request(only(protocol), NLM_F_DUMP).map_err(failed)?;
        let mut flows = Vec::new();
        while let Some(answer) = answers.next().await {
            match answer.payload {
                NetlinkPayload::InnerMessage(message) => {
                    // A kernel older than 5.8 does not know the filter and tells of every protocol.
                    let flow = read(&message).filter(|flow| flow.protocol == protocol);
                    flows.extend(flow.filter(|flow| wanted(flow)));
                }
                NetlinkPayload::Error(error) => return Err(failed(error.to_io())),
                _ => {}
            }
        }
        Ok(flows)
    }

    /// Deletes a flow; false when it is gone, or another one between the same ends has taken its place.
    ///
    /// # Errors
    /// [`ConntrackError::Delete`].
    pub async fn delete(&self, flow: &Flow) -> Result<bool, ConntrackError> {
        let failed = |source| ConntrackError::Delete { flow: *flow, source };
        let request = ConntrackMessage::Delete(vec![
            ConntrackAttribute::CtaTupleOrig(tuple(flow)),
            ConntrackAttribute::Other(DefaultNla::new(CTA_ID, flow.id.to_be_bytes().to_vec())),
        ]);
        let mut answers = self.request(request, NLM_F_ACK).map_err(failed)?;
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(error) = answer.payload
                && error.code.is_some()
            {
                let error = error.to_io();
                return if is(&error, nix::Error::ENOENT) {
                    Ok(false)
                } else {
                    Err(failed(error))
                };
            }
        }
        Ok(true)
    }

    fn request(
        &self,
        message: ConntrackMessage,
        flags: u16,
    ) -> io::Result<impl Stream<Item = NetlinkMessage<NetfilterMessage>> + use<>> {
        let header = NetfilterHeader::new(NetfilterProtoFamily::IPv4, 0, 0);
        let mut request = NetlinkMessage::from(NetfilterMessage::new(header, message));
        request.header.flags = NLM_F_REQUEST | flags;
        self.handle
            .request(request, SocketAddr::new(0, 0))
            .map_err(io::Error::other)
    }
}

// linux/netfilter/nfnetlink_conntrack.h
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_ID: u16 = 12;
const CTA_FILTER: u16 = 25;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
/// `CTA_FILTER_F_CTA_PROTO_NUM`: of the tuple, compare the protocol alone.
const PROTOCOL_ALONE: u32 = 1 << 3;

/// Leaves the choice of protocol to the kernel: most flows of a node are TCP. Spelled in plain attributes, since
/// those of the packet crate cannot say of an attribute they do not know that it is nested.
fn only(protocol: Protocol) -> ConntrackMessage {
    let tuple = Tuple::Proto(vec![ProtoTuple::Protocol(number(protocol))]);
    let flags = DefaultNla::new(CTA_FILTER_ORIG_FLAGS, PROTOCOL_ALONE.to_ne_bytes().to_vec());
    ConntrackMessage::Other {
        message_type: ConntrackMessageType::Get.into(),
        attributes: vec![nested(CTA_TUPLE_ORIG, &tuple), nested(CTA_FILTER, &flags)],
    }
}

fn nested(kind: u16, inner: &impl Emitable) -> DefaultNla {
    let mut bytes = vec![0; inner.buffer_len()];
    inner.emit(&mut bytes);
    DefaultNla::new(kind | NLA_F_NESTED, bytes)
}

fn tuple(flow: &Flow) -> Vec<Tuple> {
    vec![
        Tuple::Ip(vec![
            IPTuple::SourceAddress(IpAddr::V4(*flow.source.ip())),
            IPTuple::DestinationAddress(IpAddr::V4(*flow.destination.ip())),
        ]),
        Tuple::Proto(vec![
            ProtoTuple::Protocol(number(flow.protocol)),
            ProtoTuple::SourcePort(flow.source.port()),
            ProtoTuple::DestinationPort(flow.destination.port()),
        ]),
    ]
}

fn number(protocol: Protocol) -> packet::Protocol {
    match protocol {
        Protocol::Tcp => packet::Protocol::Tcp,
        Protocol::Udp => packet::Protocol::Udp,
        Protocol::Sctp => packet::Protocol::Sctp,
    }
}

/// One end to the other, as one direction of a flow is told.
struct Ends {
    protocol: Protocol,
    source: SocketAddrV4,
    destination: SocketAddrV4,
}

/// `None` for what has no ports.
fn read(message: &NetfilterMessage) -> Option<Flow> {
    let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) = &message.inner else {
        return None;
    };
    let (mut there, mut back, mut id) = (None, None, None);
    for attribute in attributes {
        match attribute {
            ConntrackAttribute::CtaTupleOrig(tuples) => there = ends(tuples),
            ConntrackAttribute::CtaTupleReply(tuples) => back = ends(tuples),
            ConntrackAttribute::Other(other) if other.kind() == CTA_ID => id = be_u32(other),
            _ => {}
        }
    }
    let there = there?;
    Some(Flow {
        protocol: there.protocol,
        source: there.source,
        destination: there.destination,
        answers_from: back?.source,
        id: id?,
    })
}

fn be_u32(attribute: &DefaultNla) -> Option<u32> {
    let mut bytes = vec![0; attribute.value_len()];
    attribute.emit_value(&mut bytes);
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

fn ends(tuples: &[Tuple]) -> Option<Ends> {
    let (mut from, mut to) = (None::<Ipv4Addr>, None::<Ipv4Addr>);
    let (mut protocol, mut source, mut destination) = (None, None, None);
    for tuple in tuples {
        match tuple {
            Tuple::Ip(parts) => parts.iter().for_each(|part| match part {
                IPTuple::SourceAddress(IpAddr::V4(address)) => from = Some(*address),
                IPTuple::DestinationAddress(IpAddr::V4(address)) => to = Some(*address),
                _ => {}
            }),
            Tuple::Proto(parts) => parts.iter().for_each(|part| match part {
                ProtoTuple::Protocol(packet::Protocol::Tcp) => protocol = Some(Protocol::Tcp),
                ProtoTuple::Protocol(packet::Protocol::Udp) => protocol = Some(Protocol::Udp),
                ProtoTuple::Protocol(packet::Protocol::Sctp) => protocol = Some(Protocol::Sctp),
                ProtoTuple::SourcePort(port) => source = Some(*port),
                ProtoTuple::DestinationPort(port) => destination = Some(*port),
                _ => {}
            }),
            _ => {}
        }
    }
    Some(Ends {
        protocol: protocol?,
        source: SocketAddrV4::new(from?, source?),
        destination: SocketAddrV4::new(to?, destination?),
    })
}
