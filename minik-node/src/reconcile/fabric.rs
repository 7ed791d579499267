//! Keeps the node's routes to other nodes' Pods as [`plan::fabric`](crate::plan::fabric) says, while nodes
//! come and go. Touches only routes that carry minik's protocol number; decides nothing. The kernel tells when other hands
//! took one away, or when the link they lie on came back.

use std::sync::Arc;

use super::{Outcome, Pass, Reconciler};
use crate::kernel::monitor::{Change, Monitor, MonitorError};
use crate::kernel::netlink::{Netlink, NetlinkError};
use crate::kernel::netns::NetNs;
use crate::kernel::route::RouteError;
use crate::plan::fabric::{FabricPlan, PROTOCOL, Routes};

/// Every node's link to the others.
const NODE_LINK: &str = "eth0";

/// The node's network could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum FabricError {
    /// A netlink socket.
    #[error(transparent)]
    Socket(#[from] NetlinkError),
    /// The watch for changes.
    #[error(transparent)]
    Watch(#[from] MonitorError),
}

/// The reconciler; one a node.
#[derive(Debug)]
pub struct Fabric {
    node: Netlink,
    monitor: Monitor,
}

impl Fabric {
    /// Works on the namespace the process is in (the node's). Needs a tokio runtime.
    ///
    /// # Errors
    /// When no netlink socket can be opened.
    pub fn open() -> Result<Self, FabricError> {
        Ok(Self {
            node: Netlink::open()?,
            monitor: Monitor::open()?,
        })
    }

    /// The same for a node that is not the calling thread's namespace.
    ///
    /// # Errors
    /// When the namespace cannot be entered or no netlink socket can be opened.
    pub fn open_in(node: &NetNs) -> Result<Self, FabricError> {
        Ok(Self {
            node: Netlink::open_in(node)?,
            monitor: Monitor::open_in(node)?,
        })
    }

    async fn observe(&self) -> Result<Routes, RouteError> {
        let routes = self.node.routes().await?.into_iter().map(|(_, route)| route);
        let ours = routes.filter(|route| route.protocol == PROTOCOL);
        Ok(ours.map(|route| (route.destination, route)).collect())
    }

    /// Goes on after a failure: one node that is out of reach must not cost the others their routes. Reports
    /// the first.
    async fn apply(&self, plan: &FabricPlan) -> Result<(), RouteError> {
        let mut first_error = Ok(());
        for destination in &plan.delete {
            let deleted = self.node.delete_route(*destination, PROTOCOL).await;
            first_error = first_error.and(deleted);
        }
        for route in &plan.replace {
            let replaced = self.node.replace_route(None, route).await;
            first_error = first_error.and(replaced);
        }
        for route in &plan.add {
            let added = self.node.add_route(None, route).await;
            first_error = first_error.and(added);
        }
        first_error
    }
}

impl Reconciler for Fabric {
    type Desired = Routes;

    fn name(&self) -> &'static str {
        "fabric"
    }

    /// Nodes change so rarely that every pass observes.
    async fn reconcile(&mut self, desired: Arc<Routes>, _pass: Pass) -> Outcome {
        let reconciled = async {
            let plan = FabricPlan::new(&self.observe().await?, &desired);
            self.apply(&plan).await
        };
        match reconciled.await {
            Ok(()) => Outcome::Synced,
            Err(error) => Outcome::failed(&error),
        }
    }

    async fn disturbed(&mut self) {
        let disturbs = |change: &Change| match change {
            Change::Link(name) => name == NODE_LINK,
            Change::Route(_, protocol) => *protocol == PROTOCOL,
            Change::Unknown => true,
            Change::Address(_) | Change::Parameter => false,
        };
        loop {
            match self.monitor.changes().await {
                Ok(changes) if changes.iter().any(disturbs) => return,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "changes of the node's routes are noticed by the next look only");
                    std::future::pending::<()>().await;
                }
            }
        }
    }
}
