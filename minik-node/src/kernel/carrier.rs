//! Waits until a link really carries packets. Raising both ends of a veth pair is not enough: the end raised
//! first sends nothing, and its bridge forwards nothing, until the kernel's link watch has seen the carrier,
//! which it does some time after it has answered. A packet lost to that costs a connection a whole second.

use std::io;
use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc::UnboundedReceiver;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage, State};
use rtnetlink::sys::SocketAddr;
use rtnetlink::{MulticastGroup, new_multicast_connection};

use super::link::LinkError;
use super::netlink::Netlink;

/// The link watch takes up to a second for what it does not think urgent.
const PATIENCE: Duration = Duration::from_secs(5);

type Notifications = UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>;

impl Netlink {
    /// Waits until a link that is up, and whose other end is, carries packets.
    ///
    /// Recent kernels (6.9) catch up when they are asked for the link, so the first look is all it takes; with
    /// others the notification is awaited.
    ///
    /// # Errors
    /// [`LinkError::Wait`], [`LinkError::NoCarrier`] after five seconds.
    pub async fn wait_operational(&self, link: u32) -> Result<(), LinkError> {
        if self.is_operational(link).await? {
            return Ok(());
        }
        // Listening comes before the second look, so that what happens between them is not missed.
        let notifications = self.listen(link)?;
        if self.is_operational(link).await? {
            return Ok(());
        }
        match tokio::time::timeout(PATIENCE, seen_operational(notifications, link)).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(LinkError::NoCarrier { index: link }),
        }
    }

    async fn is_operational(&self, link: u32) -> Result<bool, LinkError> {
        let mut found = std::pin::pin!(self.handle.link().get().match_index(link).execute());
        match found.next().await {
            Some(Ok(message)) => Ok(operational(&message)),
            Some(Err(error)) => Err(LinkError::Wait {
                index: link,
                source: super::netlink::cause(error),
            }),
            None => Ok(false),
        }
    }

    fn listen(&self, link: u32) -> Result<Notifications, LinkError> {
        let runtime = tokio::runtime::Handle::current();
        let opened = self.netns.run(|| {
            let _runtime = runtime.enter();
            let (connection, _, notifications) = new_multicast_connection(&[MulticastGroup::Link])?;
            Ok((connection, notifications))
        });
        let (connection, notifications) = opened
            .map_err(io::Error::other)
            .flatten()
            .map_err(|source| LinkError::Wait { index: link, source })?;
        // Ends when the receiver is dropped.
        tokio::spawn(connection);
        Ok(notifications)
    }
}

/// False when the socket closes first.
async fn seen_operational(mut notifications: Notifications, link: u32) -> bool {
    while let Some((notification, _)) = notifications.next().await {
        if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message)) = notification.payload
            && message.header.index == link
            && operational(&message)
        {
            return true;
        }
    }
    false
}

fn operational(link: &LinkMessage) -> bool {
    link.attributes
        .iter()
        .any(|attribute| matches!(attribute, LinkAttribute::OperState(State::Up)))
}
