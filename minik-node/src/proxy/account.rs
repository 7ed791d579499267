//! How the reconciler's doings become numbers: which events count for which of kube-proxy's metrics. Costs what
//! changed, never what there is.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use imbl::OrdMap;
use imbl::ordmap::DiffItem;

use super::metrics::{Counter, Metrics};
use crate::model::ObjectName;
use crate::plan::service_table::{ServiceEntry, Treatment};
use crate::reconcile::Pass;
use crate::view::ClusterView;

impl Metrics {
    /// A view has come in that differs from the one before.
    pub(super) fn queued(&self, before: &ClusterView, after: &ClusterView) {
        let services = count(before.services.diff(&after.services));
        let endpoints = count(before.slices.diff(&after.slices));
        if services + endpoints == 0 {
            return;
        }
        self.sync_proxy_rules_service_changes_total.add(services);
        self.sync_proxy_rules_service_changes_pending.add(services);
        self.sync_proxy_rules_endpoint_changes_total.add(endpoints);
        self.sync_proxy_rules_endpoint_changes_pending.add(endpoints);
        self.sync_proxy_rules_last_queued_timestamp_seconds.set(now());
    }

    /// The kernel is as every view that has come in wants it.
    pub(super) fn covered(&self) {
        self.sync_proxy_rules_service_changes_pending.set(0);
        self.sync_proxy_rules_endpoint_changes_pending.set(0);
    }

    /// A pass has ended well.
    pub(super) fn synced(&self, pass: Pass, took: Duration) {
        self.covered();
        self.sync_proxy_rules_duration_seconds.observe(took);
        match pass {
            Pass::Full => self.sync_full_proxy_rules_duration_seconds.observe(took),
            Pass::Changed => self.sync_partial_proxy_rules_duration_seconds.observe(took),
        }
        self.sync_proxy_rules_last_timestamp_seconds.set(now());
    }

    /// So many rules there should be, in `filter` and `nat`.
    pub(super) fn rules(&self, [filter, nat]: [usize; 2]) {
        self.sync_proxy_rules_iptables_total.filter.set(filter as u64);
        self.sync_proxy_rules_iptables_total.nat.set(nat as u64);
    }

    /// So many rules are written now.
    pub(super) fn wrote(&self, [filter, nat]: [usize; 2]) {
        self.sync_proxy_rules_iptables_last.filter.set(filter as u64);
        self.sync_proxy_rules_iptables_last.nat.set(nat as u64);
    }

    /// The program that writes has failed.
    pub(super) fn write_failed(&self, pass: Pass) {
        self.sync_proxy_rules_iptables_restore_failures_total.add(1);
        if pass == Pass::Changed {
            self.sync_proxy_rules_iptables_partial_restore_failures_total.add(1);
        }
    }

    /// The table has changed from `before` to `after`.
    pub(super) fn count_no_local(&self, before: &Entries, after: &Entries) {
        let gauges = &self.sync_proxy_rules_no_local_endpoints_total;
        for item in before.diff(after) {
            let (old, new) = match item {
                DiffItem::Add(_, new) => (None, Some(new)),
                DiffItem::Update {
                    old: (_, old),
                    new: (_, new),
                } => (Some(old), Some(new)),
                DiffItem::Remove(_, old) => (Some(old), None),
            };
            let (old, new) = (no_local(old), no_local(new));
            shift(&gauges.internal, old.0, new.0);
            shift(&gauges.external, old.1, new.1);
        }
    }
}

type Entries = OrdMap<ObjectName, Arc<ServiceEntry>>;

fn count(diff: impl Iterator) -> u64 {
    diff.map(|_| 1).sum()
}

fn shift(gauge: &Counter, old: u64, new: u64) {
    gauge.set(gauge.get() + new - old);
}

/// Ports whose traffic from inside, and from outside, finds endpoints elsewhere but none here.
fn no_local(entry: Option<&Arc<ServiceEntry>>) -> (u64, u64) {
    let ports = || entry.into_iter().flat_map(|entry| &entry.ports);
    let inside = |treatment| matches!(treatment, Treatment::Drop);
    let outside = |treatment| matches!(treatment, Treatment::KeepSource { local_endpoints: false });
    let ports_with = |dropped: &dyn Fn(Treatment) -> bool| {
        let any = ports().filter(|port| port.ways_in.iter().any(|way_in| dropped(way_in.treatment)));
        any.map(|_| 1).sum()
    };
    (ports_with(&inside), ports_with(&outside))
}

/// Seconds since the epoch; 0 on a machine whose clock stands before it.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}
