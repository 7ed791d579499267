//! Takes stale flows out of the kernel after its rules are as desired, so that their next packets meet them.
//!
//! Which flows are stale is decided in [`crate::plan::conntrack`]. A pass after a change looks at the Services
//! that changed, a full pass at all: a packet may slip through old rules while new ones are being written, and
//! Pods may have been replaced while no agent ran. Never touches TCP.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::kernel::conntrack::{Conntrack, ConntrackError};
use crate::kernel::netlink::{Netlink, NetlinkError};
use crate::kernel::route::RouteError;
use crate::plan::conntrack::Destinations;
use crate::plan::service_table::ServiceTable;
use crate::reconcile::Pass;
use crate::view::ClusterView;

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum CleanError {
    /// The socket to the node's addresses.
    #[error("read the node's addresses")]
    Open(#[from] NetlinkError),
    /// The node's addresses.
    #[error("read the node's addresses")]
    Addresses(#[from] RouteError),
    /// The flows.
    #[error(transparent)]
    Conntrack(#[from] ConntrackError),
}

/// Remembers up to which view flows are clean.
#[derive(Debug, Default)]
pub(super) struct FlowCleaner {
    /// Opened on first use, inside the node's namespace.
    sockets: Option<(Conntrack, Netlink)>,
    /// `None` before the first pass and after a failure: look at everything.
    clean: Option<Arc<ClusterView>>,
}

impl FlowCleaner {
    /// Deletes the flows that `view` made stale and says how many they were; `None` when no Service that has
    /// flows has changed. `table` is what the rules in the kernel were made from.
    pub async fn clean(
        &mut self,
        view: &Arc<ClusterView>,
        table: &ServiceTable,
        pass: Pass,
    ) -> Result<Option<u64>, CleanError> {
        let destinations = match (pass, self.clean.take()) {
            (Pass::Changed, Some(seen)) => Destinations::of(view, table, &view.changes_since(&seen).services),
            (Pass::Full, _) | (Pass::Changed, None) => Destinations::all(view, table),
        };
        let mut deleted = None;
        for protocol in destinations.protocols() {
            let (conntrack, netlink) = self.sockets()?;
            let local = addresses(netlink).await?;
            let stale = conntrack
                .flows(protocol, |flow| destinations.is_stale(flow, &local))
                .await?;
            let count = deleted.get_or_insert(0);
            for flow in &stale {
                tracing::debug!(?flow, "delete stale flow");
                *count += u64::from(conntrack.delete(flow).await?);
            }
        }
        self.clean = Some(view.clone());
        Ok(deleted)
    }

    fn sockets(&mut self) -> Result<&(Conntrack, Netlink), CleanError> {
        match &mut self.sockets {
            Some(sockets) => Ok(sockets),
            none => Ok(none.insert((Conntrack::open()?, Netlink::open()?))),
        }
    }
}

async fn addresses(netlink: &Netlink) -> Result<BTreeSet<Ipv4Addr>, RouteError> {
    let by_link = netlink.addresses().await?;
    Ok(by_link.into_values().flatten().map(|net| net.addr()).collect())
}
