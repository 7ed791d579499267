//! `GET /metrics`: the proxy's numbers in Prometheus' text format, with kube-proxy's help, types and labels.
//!
//! As there, a labelled metric that was never counted is not listed. Sorted by name.

use prometheus::proto::{self, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};

use crate::proxy::metrics::{Counter, Gauge, Histogram, Metrics, PerCode, PerTable};

const FAMILY: (&str, &str) = ("ip_family", "IPv4");

/// The text.
///
/// # Errors
/// When a metric has no samples, which the format has no words for; none of ours.
pub fn exposition(metrics: &Metrics) -> prometheus::Result<String> {
    let mut families = families(metrics);
    families.retain(|family| !family.get_metric().is_empty());
    families.sort_by(|a, b| a.name().cmp(b.name()));
    let mut text = Vec::new();
    TextEncoder::new().encode(&families, &mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn families(metrics: &Metrics) -> Vec<MetricFamily> {
    let all = [durations(metrics), changes(metrics), rules(metrics), answers(metrics)];
    all.into_iter().flatten().collect()
}

fn durations(m: &Metrics) -> Vec<MetricFamily> {
    let named = [
        (
            "conntrack_reconciler_sync_duration_seconds",
            "ReconcileConntrackFlowsLatency latency in seconds",
            &m.conntrack_reconciler_sync_duration_seconds,
        ),
        (
            "network_programming_duration_seconds",
            "In Cluster Network Programming Latency in seconds",
            &m.network_programming_duration_seconds.0,
        ),
        (
            "sync_full_proxy_rules_duration_seconds",
            "SyncProxyRules latency in seconds for full resyncs",
            &m.sync_full_proxy_rules_duration_seconds,
        ),
        (
            "sync_partial_proxy_rules_duration_seconds",
            "SyncProxyRules latency in seconds for partial resyncs",
            &m.sync_partial_proxy_rules_duration_seconds,
        ),
        (
            "sync_proxy_rules_duration_seconds",
            "SyncProxyRules latency in seconds",
            &m.sync_proxy_rules_duration_seconds,
        ),
    ];
    named
        .map(|(name, help, metric)| family(name, help, MetricType::HISTOGRAM, histogram(metric)))
        .into()
}

fn changes(m: &Metrics) -> Vec<MetricFamily> {
    let pending =
        |name, help, metric: &Counter| family(name, help, MetricType::GAUGE, [gauge(metric.get() as f64, &[])]);
    let total = |name, help, metric: &Counter| family(name, help, MetricType::COUNTER, [counter(metric, &[])]);
    let moment = |name, help, metric: &Gauge| family(name, help, MetricType::GAUGE, moment(metric));
    vec![
        pending(
            "sync_proxy_rules_endpoint_changes_pending",
            "Pending proxy rules Endpoint changes",
            &m.sync_proxy_rules_endpoint_changes_pending,
        ),
        total(
            "sync_proxy_rules_endpoint_changes_total",
            "Cumulative proxy rules Endpoint changes",
            &m.sync_proxy_rules_endpoint_changes_total,
        ),
        pending(
            "sync_proxy_rules_service_changes_pending",
            "Pending proxy rules Service changes",
            &m.sync_proxy_rules_service_changes_pending,
        ),
        total(
            "sync_proxy_rules_service_changes_total",
            "Cumulative proxy rules Service changes",
            &m.sync_proxy_rules_service_changes_total,
        ),
        moment(
            "sync_proxy_rules_last_queued_timestamp_seconds",
            "The last time a sync of proxy rules was queued",
            &m.sync_proxy_rules_last_queued_timestamp_seconds,
        ),
        moment(
            "sync_proxy_rules_last_timestamp_seconds",
            "The last time proxy rules were successfully synced",
            &m.sync_proxy_rules_last_timestamp_seconds,
        ),
    ]
}

fn rules(m: &Metrics) -> Vec<MetricFamily> {
    let per_table = |name, help, metric: &PerTable| {
        let tables = [("filter", &metric.filter), ("nat", &metric.nat)];
        let sample = |(table, metric): (&str, &Counter)| gauge(metric.get() as f64, &[FAMILY, ("table", table)]);
        family(name, help, MetricType::GAUGE, tables.map(sample))
    };
    let failures = |name, help, metric: &Counter| {
        let sample = (metric.get() > 0).then(|| counter(metric, &[FAMILY]));
        family(name, help, MetricType::COUNTER, sample)
    };
    let local = &m.sync_proxy_rules_no_local_endpoints_total;
    let per_policy = [("external", &local.external), ("internal", &local.internal)]
        .map(|(policy, metric)| gauge(metric.get() as f64, &[FAMILY, ("traffic_policy", policy)]));
    vec![
        per_table(
            "sync_proxy_rules_iptables_last",
            "Number of iptables rules written by kube-proxy in last sync",
            &m.sync_proxy_rules_iptables_last,
        ),
        per_table(
            "sync_proxy_rules_iptables_total",
            "Total number of iptables rules owned by kube-proxy",
            &m.sync_proxy_rules_iptables_total,
        ),
        failures(
            "sync_proxy_rules_iptables_partial_restore_failures_total",
            "Cumulative proxy iptables partial restore failures",
            &m.sync_proxy_rules_iptables_partial_restore_failures_total,
        ),
        failures(
            "sync_proxy_rules_iptables_restore_failures_total",
            "Cumulative proxy iptables restore failures",
            &m.sync_proxy_rules_iptables_restore_failures_total,
        ),
        family(
            "sync_proxy_rules_no_local_endpoints_total",
            "Number of services with a Local traffic policy and no endpoints",
            MetricType::GAUGE,
            per_policy,
        ),
    ]
}

fn answers(m: &Metrics) -> Vec<MetricFamily> {
    let deleted = &m.conntrack_reconciler_deleted_entries_total;
    vec![
        family(
            "conntrack_reconciler_deleted_entries_total",
            "Cumulative conntrack flows deleted by conntrack reconciler",
            MetricType::COUNTER,
            (deleted.get() > 0).then(|| counter(deleted, &[FAMILY])),
        ),
        family(
            "proxy_healthz_total",
            "Cumulative proxy healthz HTTP status",
            MetricType::COUNTER,
            per_code(&m.proxy_healthz_total),
        ),
        family(
            "proxy_livez_total",
            "Cumulative proxy livez HTTP status",
            MetricType::COUNTER,
            per_code(&m.proxy_livez_total),
        ),
    ]
}

fn family(name: &str, help: &str, kind: MetricType, samples: impl IntoIterator<Item = Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(format!("kubeproxy_{name}"));
    family.set_help(format!("[ALPHA] {help}"));
    family.set_field_type(kind);
    family.set_metric(samples.into_iter().collect());
    family
}

fn labelled(labels: &[(&str, &str)]) -> Metric {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    let mut metric = Metric::default();
    metric.set_label(labels.iter().map(pair).collect());
    metric
}

fn gauge(value: f64, labels: &[(&str, &str)]) -> Metric {
    let mut metric = labelled(labels);
    let mut gauge = proto::Gauge::default();
    gauge.set_value(value);
    metric.set_gauge(gauge);
    metric
}

/// A time; none before it was first set.
fn moment(metric: &Gauge) -> Option<Metric> {
    (metric.get() > 0.0).then(|| gauge(metric.get(), &[FAMILY]))
}

fn counter(metric: &Counter, labels: &[(&str, &str)]) -> Metric {
    let mut labelled = labelled(labels);
    let mut counter = proto::Counter::default();
    counter.set_value(metric.get() as f64);
    labelled.set_counter(counter);
    labelled
}

fn per_code(metric: &PerCode) -> Vec<Metric> {
    [("200", &metric.ok), ("503", &metric.unavailable)]
        .into_iter()
        .filter(|(_, metric)| metric.get() > 0)
        .map(|(code, metric)| counter(metric, &[("code", code)]))
        .collect()
}

fn histogram(metric: &Histogram) -> Option<Metric> {
    let seen = metric.read();
    let bucket = |(bound, count): (f64, u64)| {
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(count);
        bucket
    };
    let mut histogram = proto::Histogram::default();
    histogram.set_sample_count(seen.count);
    histogram.set_sample_sum(seen.sum);
    histogram.set_bucket(seen.cumulative.into_iter().map(bucket).collect());
    let mut labelled = labelled(&[FAMILY]);
    labelled.set_histogram(histogram);
    (seen.count > 0).then_some(labelled)
}
