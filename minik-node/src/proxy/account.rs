//! How the reconciler's doings become numbers: which events count for which of kube-proxy's metrics. Costs what
//! changed, never what there is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use jiff::Timestamp;

use super::metrics::{Counter, Metrics};
use crate::model::ObjectName;
use crate::plan::service_table::{ServiceEntry, Treatment};
use crate::reconcile::Pass;
use crate::view::ClusterView;

/// Changes of slices that no written rules cover yet, by what set them off.
#[derive(Debug)]
pub(super) struct Triggers {
    /// What happened before is not this proxy's to have been late for.
    since: Timestamp,
    /// The oldest of each slice: changes that one write covers are one.
    waiting: BTreeMap<(ObjectName, String), Timestamp>,
}

impl Triggers {
    /// None yet, for a proxy that starts at `since`.
    pub(super) fn new(since: Timestamp) -> Self {
        Self {
            since,
            waiting: BTreeMap::new(),
        }
    }

    /// A view has come in. What is deleted tells when it changed last, not when it went, and counts for nothing.
    pub(super) fn note(&mut self, before: &ClusterView, after: &ClusterView) {
        let none = OrdMap::new();
        for item in before.slices.diff(&after.slices) {
            let (service, old, new) = match item {
                DiffItem::Add(service, new) => (service, &none, new),
                DiffItem::Update {
                    old: (_, old),
                    new: (service, new),
                } => (service, old, new),
                DiffItem::Remove(service, old) => (service, old, &none),
            };
            for item in old.diff(new) {
                match item {
                    DiffItem::Add(name, slice) | DiffItem::Update { new: (name, slice), .. } => {
                        if let Some(time) = slice.triggered.filter(|time| *time > self.since) {
                            self.waiting.entry((service.clone(), name.clone())).or_insert(time);
                        }
                    }
                    DiffItem::Remove(name, _) => drop(self.waiting.remove(&(service.clone(), name.clone()))),
                }
            }
        }
    }

    /// The kernel is as every view that has come in wants it, at `now`.
    pub(super) fn covered(&mut self, metrics: &Metrics, now: Timestamp) {
        for time in std::mem::take(&mut self.waiting).into_values() {
            // A clock that was set back tells nothing.
            let late = Duration::try_from(now.duration_since(time)).unwrap_or_default();
            metrics.network_programming_duration_seconds.0.observe(late);
        }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::testing;

    fn view(slices: &[(&str, &str)]) -> ClusterView {
        let slice = |(name, time): &(&str, &str)| {
            format!(
                "---
kind: EndpointSlice
metadata:
  namespace: d
  name: {name}
  labels: {{kubernetes.io/service-name: s}}
  annotations: {{endpoints.kubernetes.io/last-change-trigger-time: '{time}'}}
addressType: IPv4
endpoints: []
"
            )
        };
        testing::view(None, &slices.iter().map(slice).collect::<String>())
    }

    #[test]
    fn what_happened_to_slices_is_counted_once_its_rules_are_written() {
        let metrics = Metrics::default();
        let time = |text: &str| text.parse::<Timestamp>().expect("a time");
        let mut triggers = Triggers::new(time("2026-01-01T00:00:10Z"));
        let views = [
            view(&[]),
            view(&[("old", "2026-01-01T00:00:09Z"), ("a", "2026-01-01T00:00:11Z")]),
            view(&[
                ("a", "2026-01-01T00:00:12.5Z"),
                ("b", "2026-01-01T00:00:13Z"),
                ("c", "soon"),
            ]),
            view(&[("a", "2026-01-01T00:00:12.5Z"), ("c", "soon")]),
        ];
        views.windows(2).for_each(|pair| triggers.note(&pair[0], &pair[1]));
        triggers.covered(&metrics, time("2026-01-01T00:00:14Z"));
        let seen = metrics.network_programming_duration_seconds.0.read();
        assert_eq!((seen.count, seen.sum), (1, 3.0), "a alone, from its first change on");
        triggers.covered(&metrics, time("2026-01-01T00:00:15Z"));
        assert_eq!(metrics.network_programming_duration_seconds.0.read().count, 1);
    }
}
