//! Whether a proxy keeps up, as kube-proxy reckons: pure, told the time.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

/// Twice kube-proxy's `syncPeriod` of 30 s, as there: what is pending for longer will not be done by itself.
const LIMIT: Duration = Duration::from_secs(60);

/// When rules were written last, and since when they should have been.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    updated: Option<Timestamp>,
    pending_since: Option<Timestamp>,
}

/// `GET /healthz` and `GET /livez`, in kube-proxy's order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    last_updated: Timestamp,
    current_time: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_eligible: Option<bool>,
    healthy: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    status: BTreeMap<&'static str, Family>,
}

/// One address family; minik's clusters have IPv4 alone.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Family {
    last_updated: Timestamp,
    healthy: bool,
}

impl Health {
    /// Something changed that rules must follow.
    pub fn queued(&mut self, now: Timestamp) {
        self.pending_since.get_or_insert(now);
    }

    /// Rules are as they should be.
    pub fn updated(&mut self, now: Timestamp) {
        *self = Self {
            updated: Some(now),
            pending_since: None,
        };
    }

    /// False when changes have been waiting too long. A proxy that has not written anything yet is starting, which
    /// is healthy.
    #[must_use]
    pub fn is_healthy(&self, now: Timestamp) -> bool {
        let waiting = self.pending_since.map(|since| now.duration_since(since));
        self.updated.is_none() || waiting.is_none_or(|waiting| waiting.unsigned_abs() < LIMIT)
    }

    /// What to answer, and whether that is good news. `node_eligible` is told in `/healthz` alone.
    #[must_use]
    pub fn report(&self, now: Timestamp, node_eligible: Option<bool>) -> (bool, Report) {
        let healthy = self.is_healthy(now);
        let good = healthy && node_eligible != Some(false);
        let family = self.updated.map(|last_updated| Family { last_updated, healthy });
        let report = Report {
            // Load balancers of old read this one: recent means healthy.
            last_updated: if good { now } else { self.updated.unwrap_or(now) },
            current_time: now,
            node_eligible,
            healthy,
            status: family.map(|family| ("IPv4", family)).into_iter().collect(),
        };
        (good, report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_795_227_600 + second).expect("a time")
    }

    fn json(health: &Health, now: i64, eligible: Option<bool>) -> (bool, String) {
        let (good, report) = health.report(at(now), eligible);
        (good, serde_json::to_string(&report).expect("JSON"))
    }

    #[test]
    fn what_waits_for_two_periods_is_late() {
        let mut health = Health::default();
        health.queued(at(0));
        assert!(health.is_healthy(at(600)), "starting up");
        health.updated(at(600));
        assert!(health.is_healthy(at(6000)), "nothing to do");
        health.queued(at(6000));
        health.queued(at(6050));
        assert!(health.is_healthy(at(6059)));
        assert!(!health.is_healthy(at(6060)), "since the first of what waits");
        health.updated(at(6061));
        assert!(health.is_healthy(at(6200)));
    }

    #[test]
    fn answers_have_kube_proxy_s_fields_in_its_order() {
        let mut health = Health::default();
        assert_eq!(
            json(&health, 5, None),
            (
                true,
                r#"{"lastUpdated":"2026-11-21T02:20:05Z","currentTime":"2026-11-21T02:20:05Z","healthy":true}"#
                    .to_owned()
            )
        );
        health.updated(at(0));
        health.queued(at(1));
        assert_eq!(
            json(&health, 5, Some(true)),
            (true, r#"{"lastUpdated":"2026-11-21T02:20:05Z","currentTime":"2026-11-21T02:20:05Z","nodeEligible":true,"healthy":true,"status":{"IPv4":{"lastUpdated":"2026-11-21T02:20:00Z","healthy":true}}}"#.to_owned())
        );
        assert_eq!(
            json(&health, 5, Some(false)),
            (false, r#"{"lastUpdated":"2026-11-21T02:20:00Z","currentTime":"2026-11-21T02:20:05Z","nodeEligible":false,"healthy":true,"status":{"IPv4":{"lastUpdated":"2026-11-21T02:20:00Z","healthy":true}}}"#.to_owned())
        );
        assert_eq!(
            json(&health, 100, None),
            (false, r#"{"lastUpdated":"2026-11-21T02:20:00Z","currentTime":"2026-11-21T02:21:40Z","healthy":false,"status":{"IPv4":{"lastUpdated":"2026-11-21T02:20:00Z","healthy":false}}}"#.to_owned())
        );
    }
}
