//! The Service proxy: brings a node's packet rules to what the service table says, in one of several modes.
//!
//! Semantics come decided from [`crate::plan::service_table`]; a mode spells them, compares rulesets and
//! writes the difference. [`spawn`] joins view, table and mode in one reconciler. Reads the view, owns the
//! rules that carry kube-proxy's names in this network namespace, and touches nothing else.

mod account;
mod conntrack;
pub mod iptables;
pub mod metrics;
mod reconciler;
pub mod serve;
#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::future::Future;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv4Net;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use reconciler::ProxyReconciler;

use self::iptables::Iptables;
use self::metrics::Metrics;
use crate::kernel::sysctl::{Sysctl, sysctl_if_any};
use crate::plan::service_table::ServiceTable;
use crate::reconcile::{self, Status, Timing};
use crate::view::ClusterView;

/// A way of putting Services into the kernel.
///
/// Compiling and planning are pure; observing and applying are all that touches the kernel. A ruleset is
/// whatever the mode can read back and compare.
pub trait ServiceProxy: Send + 'static {
    /// As `kube-proxy --proxy-mode` names it.
    const MODE: &'static str;
    /// Canonical rules: the same table gives the same text.
    type Ruleset: Display + PartialEq + Send + Sync + 'static;
    /// Difference of two rulesets, printable as what will be done.
    type Plan: Display + Send + Sync + 'static;
    /// What can fail.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Spells a table. May remember earlier results; must not depend on them.
    fn compile(&mut self, table: &ServiceTable) -> Self::Ruleset;

    /// What makes `desired` out of `observed`; `None` when there is nothing to do.
    fn plan(observed: &Self::Ruleset, desired: &Self::Ruleset) -> Option<Self::Plan>;

    /// What the kernel holds.
    fn observe(&mut self) -> impl Future<Output = Result<Self::Ruleset, Self::Error>> + Send;

    /// Carries a plan out, all of it or as much as the mode's transactions allow.
    fn apply(&mut self, plan: &Self::Plan) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Number of rules, of the tables `filter` and `nat`.
    fn size(ruleset: &Self::Ruleset) -> [usize; 2];

    /// Number of rules that a plan writes, of the same tables.
    fn written(plan: &Self::Plan) -> [usize; 2];

    /// Ends when other hands have changed what the kernel holds. Loses nothing when it is cancelled.
    fn disturbed(&mut self) -> impl Future<Output = ()> + Send;
}

/// Setting that makes conntrack place packets outside their window; asked when the proxy starts, as kube-proxy does.
pub const CONNTRACK_TCP_LIBERAL: &str = "net.netfilter.nf_conntrack_tcp_be_liberal";

/// What the proxy is told about its node.
#[derive(Debug, Clone)]
pub struct ProxyConfig {
    /// Name of the node.
    pub node: String,
    /// Its own address.
    pub node_ip: Ipv4Addr,
    /// Addresses of all Pods.
    pub cluster_cidr: Ipv4Net,
    /// Lock that `iptables-legacy` takes, one a node: `RUN_DIR/xtables.lock`.
    pub lock_file: PathBuf,
    /// Whether `nf_conntrack_tcp_be_liberal` was set when the node came up.
    pub conntrack_tcp_liberal: bool,
    /// What the proxy counts; shared with whoever serves it.
    pub metrics: Arc<Metrics>,
}

/// Rules are written at once after a change, looked over as soon as other hands have changed them and every hour
/// (as kube-proxy does without a cause), and tried again soon after a failure.
const TIMING: Timing = Timing {
    resync: Duration::from_secs(3600),
    retry_min: Duration::from_millis(10),
    retry_max: Duration::from_secs(10),
};

/// How long tracked connections live: kube-proxy's defaults. A client that closes late (CLOSE_WAIT) keeps its
/// connection translated for an hour.
pub const TIMEOUTS: [Sysctl; 2] = [
    sysctl_if_any("net.netfilter.nf_conntrack_tcp_timeout_established", "86400"),
    sysctl_if_any("net.netfilter.nf_conntrack_tcp_timeout_close_wait", "3600"),
];

/// Runs the proxy in iptables mode until `shutdown`; the rules outlive it. The first status that is
/// [`Synced`](crate::reconcile::Outcome::Synced) says that Services work on this node.
pub fn spawn(
    view: watch::Receiver<Option<Arc<ClusterView>>>,
    config: ProxyConfig,
    shutdown: CancellationToken,
) -> watch::Receiver<Status> {
    let proxy = Iptables::new(config.lock_file.clone());
    reconcile::spawn(ProxyReconciler::new(proxy, config), view, TIMING, shutdown)
}
