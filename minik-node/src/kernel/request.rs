//! One route-netlink request of the calling thread, in its own namespace, for threads that may block. Needs no runtime.

use std::io;

use rtnetlink::LinkUnspec;
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

/// Sends one request on a socket of its own and waits for the answer: the kernel does all the work within `send`.
pub(super) fn request_blocking(request: RouteNetlinkMessage) -> io::Result<()> {
    let mut request = NetlinkMessage::from(request);
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);

    let socket = Socket::new(NETLINK_ROUTE)?;
    socket.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map_err(io::Error::other)?;
    match answer.payload {
        NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
        _ => Ok(()),
    }
}

/// Raises the loopback, for the short-lived thread that has just made the namespace.
pub(super) fn raise_loopback() -> io::Result<()> {
    request_blocking(RouteNetlinkMessage::NewLink(
        LinkUnspec::new_with_name("lo").up().build(),
    ))
}
