//! What the proxy counts about its own work, in kube-proxy's names and meanings (prefix `kubeproxy_`).
//!
//! Written by the reconciler alone, read by whoever serves `/metrics`: plain atomics, no lock, no registry and no
//! text format. Everything here is about IPv4, kube-proxy's label `ip_family="IPv4"`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// One proxy's numbers. A field is named as its metric is, without the prefix.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Histogram: how long a sync took, whatever its kind.
    pub sync_proxy_rules_duration_seconds: Histogram,
    /// Histogram: syncs that compared and wrote everything.
    pub sync_full_proxy_rules_duration_seconds: Histogram,
    /// Histogram: syncs that wrote what had changed.
    pub sync_partial_proxy_rules_duration_seconds: Histogram,
    /// Histogram: from what changed a Service's endpoints, as their slice tells it, to the rules being written.
    pub network_programming_duration_seconds: Latency,
    /// Gauge: seconds since the epoch, when rules were last written with success.
    pub sync_proxy_rules_last_timestamp_seconds: Gauge,
    /// Gauge: seconds since the epoch, when a change that needs a sync was last seen.
    pub sync_proxy_rules_last_queued_timestamp_seconds: Gauge,
    /// Gauge: Services with changed endpoints that no successful sync has covered yet.
    pub sync_proxy_rules_endpoint_changes_pending: Counter,
    /// Counter: Services whose endpoints changed.
    pub sync_proxy_rules_endpoint_changes_total: Counter,
    /// Gauge: changed Services that no successful sync has covered yet.
    pub sync_proxy_rules_service_changes_pending: Counter,
    /// Counter: Services that changed themselves.
    pub sync_proxy_rules_service_changes_total: Counter,
    /// Gauge: rules that the proxy owns, labelled `table`.
    pub sync_proxy_rules_iptables_total: PerTable,
    /// Gauge: rules that the last sync wrote, labelled `table`.
    pub sync_proxy_rules_iptables_last: PerTable,
    /// Counter: runs of `iptables-restore` that failed.
    pub sync_proxy_rules_iptables_restore_failures_total: Counter,
    /// Counter: those of them that were to write a part only.
    pub sync_proxy_rules_iptables_partial_restore_failures_total: Counter,
    /// Gauge: Service ports with a `Local` policy and endpoints, none of them on this node; labelled `traffic_policy`.
    pub sync_proxy_rules_no_local_endpoints_total: PerPolicy,
    /// Histogram: how long looking for stale flows and deleting them took.
    pub conntrack_reconciler_sync_duration_seconds: Histogram,
    /// Counter: stale flows deleted.
    pub conntrack_reconciler_deleted_entries_total: Counter,
    /// Counter: answers to `/healthz`, labelled `code`.
    pub proxy_healthz_total: PerCode,
    /// Counter: answers to `/livez`, labelled `code`.
    pub proxy_livez_total: PerCode,
}

/// One value for each HTTP status, label `code`.
#[derive(Debug, Default)]
pub struct PerCode {
    /// `code="200"`
    pub ok: Counter,
    /// `code="503"`
    pub unavailable: Counter,
}

/// One value for each table, label `table`.
#[derive(Debug, Default)]
pub struct PerTable {
    /// `table="filter"`
    pub filter: Counter,
    /// `table="nat"`
    pub nat: Counter,
}

/// One value for each traffic policy, label `traffic_policy`.
#[derive(Debug, Default)]
pub struct PerPolicy {
    /// `traffic_policy="internal"`
    pub internal: Counter,
    /// `traffic_policy="external"`
    pub external: Counter,
}

/// A whole number that grows, or is set anew where its metric is a gauge.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// What it stands at.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts `by` more.
    pub fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    /// Replaces the value, for gauges.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// A number that is set anew each time.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// What it was set to last; 0 before.
    #[must_use]
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    /// Replaces the value.
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }
}

/// Durations, counted by how long they are. By default with kube-proxy's bounds for syncs: fifteen, each twice the one
/// before.
#[derive(Debug)]
pub struct Histogram {
    /// One for each upper bound, in seconds and growing; not cumulative. What is longer is in `count` alone.
    buckets: Vec<(f64, AtomicU64)>,
    count: AtomicU64,
    micros: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self::with((0..15).map(|power| 0.001 * f64::from(1 << power)))
    }
}

/// Durations from a change of endpoints to its rules, with kube-proxy's bounds: two of a quarter of a second, then up to
/// a minute by the second, to two minutes by five, and to five minutes by thirty.
#[derive(Debug)]
pub struct Latency(pub Histogram);

impl Default for Latency {
    fn default() -> Self {
        let seconds = (1..60).chain((60..120).step_by(5)).chain((120..=300).step_by(30));
        Self(Histogram::with([0.25, 0.5].into_iter().chain(seconds.map(f64::from))))
    }
}

/// A histogram at one moment, as the text format wants it.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// For each bound, label `le`, how many lasted no longer; the last, `+Inf`, is `count`.
    pub cumulative: Vec<(f64, u64)>,
    /// How many there were.
    pub count: u64,
    /// Seconds of all together.
    pub sum: f64,
}

impl Histogram {
    fn with(bounds: impl Iterator<Item = f64>) -> Self {
        Self {
            buckets: bounds.map(|bound| (bound, AtomicU64::new(0))).collect(),
            count: AtomicU64::new(0),
            micros: AtomicU64::new(0),
        }
    }

    /// Counts one.
    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        if let Some((_, bucket)) = self.buckets.iter().find(|(bound, _)| seconds <= *bound) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// What was counted so far. While durations are being counted, buckets and sum may be one apart.
    #[must_use]
    pub fn read(&self) -> Observed {
        let mut so_far = 0;
        let cumulative = self.buckets.iter().map(|(bound, bucket)| {
            so_far += bucket.load(Ordering::Relaxed);
            (*bound, so_far)
        });
        let cumulative = cumulative.collect();
        Observed {
            cumulative,
            count: self.count.load(Ordering::Relaxed).max(so_far),
            sum: Duration::from_micros(self.micros.load(Ordering::Relaxed)).as_secs_f64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_cumulative_and_counts_what_no_bucket_takes() {
        let histogram = Histogram::default();
        for millis in [1, 3, 20_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let seen = histogram.read();
        assert_eq!(seen.cumulative[..3], [(0.001, 1), (0.002, 1), (0.004, 2)]);
        assert_eq!(seen.cumulative.last(), Some(&(16.384, 2)));
        assert_eq!((seen.count, seen.sum), (3, 20.004));
    }

    #[test]
    fn bounds_are_kube_proxy_s() {
        let bounds = |histogram: &Histogram| histogram.read().cumulative.iter().map(|(bound, _)| *bound).collect();
        let sync: Vec<f64> = bounds(&Histogram::default());
        assert_eq!((sync[0], sync[3], sync[10], sync[14]), (0.001, 0.008, 1.024, 16.384));
        let latency: Vec<f64> = bounds(&Latency::default().0);
        assert_eq!(latency[..4], [0.25, 0.5, 1.0, 2.0]);
        assert_eq!(latency[60..64], [59.0, 60.0, 65.0, 70.0]);
        assert_eq!(
            latency[71..],
            [110.0, 115.0, 120.0, 150.0, 180.0, 210.0, 240.0, 270.0, 300.0]
        );
    }

    #[test]
    fn a_gauge_keeps_fractions() {
        let gauge = Gauge::default();
        assert_eq!(gauge.get(), 0.0);
        gauge.set(1.795_227_995_333_114e9);
        assert_eq!(gauge.get(), 1.795_227_995_333_114e9);
    }
}
