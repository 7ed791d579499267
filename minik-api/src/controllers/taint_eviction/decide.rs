//! When a Pod has to leave a node because of its taints. Pure; time comes in as `now`.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Taint, Toleration};

use crate::controllers::scheduler::is_about;

/// When a Pod has to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stay {
    /// Never.
    Forever,
    /// After so long.
    For(Duration),
    /// Now.
    Over,
}

/// Whether a taint drives Pods off.
pub fn drives_off(taint: &Taint) -> bool {
    taint.effect == "NoExecute"
}

/// How long a Pod with these tolerations may stay where these taints are: from when each was added, as long as the
/// shortest of the tolerations that are about it.
pub fn stay(taints: &[Taint], tolerations: &[Toleration], now: Timestamp) -> Stay {
    let mut earliest: Option<Timestamp> = None;
    for taint in taints.iter().filter(|taint| drives_off(taint)) {
        let mut about = tolerations
            .iter()
            .filter(|toleration| is_about(toleration, taint))
            .peekable();
        if about.peek().is_none() {
            return Stay::Over;
        }
        let Some(seconds) = about.filter_map(|toleration| toleration.toleration_seconds).min() else {
            continue;
        };
        let added = taint.time_added.as_ref().map_or(now, |time| time.0);
        let end = added
            .checked_add(jiff::SignedDuration::from_secs(seconds.max(0)))
            .unwrap_or(Timestamp::MAX);
        earliest = Some(earliest.map_or(end, |earliest| earliest.min(end)));
    }
    match earliest {
        None => Stay::Forever,
        Some(end) => match Duration::try_from(end.duration_since(now)) {
            Ok(left) if !left.is_zero() => Stay::For(left),
            _ => Stay::Over,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    fn lost(added: i64) -> Taint {
        let taint =
            json!({"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": at(added).to_string()});
        serde_json::from_value(taint).unwrap()
    }

    fn tolerating(seconds: Option<i64>) -> Toleration {
        let toleration = json!({
            "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute",
            "tolerationSeconds": seconds,
        });
        serde_json::from_value(toleration).unwrap()
    }

    #[test]
    fn pods_stay_as_long_as_they_tolerate() {
        let stay = |taints: &[Taint], tolerations: &[Toleration], now| stay(taints, tolerations, at(now));
        assert_eq!(stay(&[], &[], 0), Stay::Forever);
        assert_eq!(stay(&[lost(0)], &[], 0), Stay::Over);
        assert_eq!(stay(&[lost(0)], &[tolerating(None)], 900), Stay::Forever);
        let some = [tolerating(Some(300))];
        assert_eq!(stay(&[lost(0)], &some, 100), Stay::For(Duration::from_secs(200)));
        assert_eq!(stay(&[lost(0)], &some, 300), Stay::Over);
        assert_eq!(stay(&[lost(0)], &[tolerating(Some(-1))], 0), Stay::Over);
        let shorter = [tolerating(Some(300)), tolerating(Some(20))];
        assert_eq!(stay(&[lost(0)], &shorter, 0), Stay::For(Duration::from_secs(20)));
        let mine: Taint = serde_json::from_value(json!({"key": "mine", "effect": "NoExecute"})).unwrap();
        assert_eq!(stay(&[lost(0), mine], &some, 0), Stay::Over);
        let other: Taint = serde_json::from_value(json!({"key": "mine", "effect": "NoSchedule"})).unwrap();
        assert_eq!(stay(&[other], &[], 0), Stay::Forever);
    }
}
