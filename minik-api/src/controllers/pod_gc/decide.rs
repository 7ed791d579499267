//! Which Pods nobody else will remove. Pure; time comes in as `now`.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};

use crate::controllers::pod::{is_terminating, node_name};

/// How long a node may be missing before its Pods are taken for lost: it may be registering anew.
pub const QUARANTINE: Duration = Duration::from_secs(40);
/// On a node: somebody vouches that nothing runs there any more.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// What becomes of a Pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Others see to it.
    Stay,
    /// To be looked at again after this long.
    Wait(Duration),
    /// Its node is gone, and it with it.
    Lost,
    /// It was asked to go, and whoever should say that it has cannot.
    Gone,
}

/// Decides. `missing` is since when the Pod's node is missing, if it is.
pub fn fate(pod: &Pod, node: Option<&Node>, missing: Option<Timestamp>, now: Timestamp) -> Fate {
    if node_name(pod).is_none() {
        return if is_terminating(pod) { Fate::Gone } else { Fate::Stay };
    }
    let Some(node) = node else {
        let since = missing.unwrap_or(now);
        let passed = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        return match QUARANTINE.checked_sub(passed).filter(|left| !left.is_zero()) {
            Some(left) => Fate::Wait(left),
            None => Fate::Lost,
        };
    };
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let vouched = taints.into_iter().any(|taint| taint.key == OUT_OF_SERVICE);
    if is_terminating(pod) && !ready && vouched {
        return Fate::Gone;
    }
    Fate::Stay
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    fn pod(node: Value, going: bool) -> Pod {
        let deleted = if going {
            json!("2026-11-21T10:00:00Z")
        } else {
            Value::Null
        };
        serde_json::from_value(
            json!({"metadata": {"deletionTimestamp": deleted}, "spec": {"nodeName": node, "containers": []}}),
        )
        .unwrap()
    }

    fn node(ready: &str, taint: &str) -> Node {
        let spec = json!({"taints": [{"key": taint, "effect": "NoExecute"}]});
        let status = json!({"conditions": [{"type": "Ready", "status": ready}]});
        serde_json::from_value(json!({"metadata": {"name": "n"}, "spec": spec, "status": status})).unwrap()
    }

    #[test]
    fn pods_of_a_node_that_is_gone_are_lost_after_a_while() {
        let bound = pod(json!("n"), false);
        assert_eq!(fate(&bound, None, None, at(0)), Fate::Wait(QUARANTINE));
        assert_eq!(
            fate(&bound, None, Some(at(0)), at(30)),
            Fate::Wait(Duration::from_secs(10))
        );
        assert_eq!(fate(&bound, None, Some(at(0)), at(40)), Fate::Lost);
        assert_eq!(fate(&bound, Some(&node("Unknown", "other")), None, at(900)), Fate::Stay);
    }

    /// Non-graceful node shutdown (KEP-2268).
    #[test]
    fn pods_that_go_are_gone_where_somebody_vouches_for_it() {
        let going = pod(json!("n"), true);
        assert_eq!(
            fate(&going, Some(&node("Unknown", OUT_OF_SERVICE)), None, at(0)),
            Fate::Gone
        );
        assert_eq!(
            fate(&going, Some(&node("True", OUT_OF_SERVICE)), None, at(0)),
            Fate::Stay
        );
        assert_eq!(fate(&going, Some(&node("Unknown", "other")), None, at(0)), Fate::Stay);
        assert_eq!(
            fate(
                &pod(json!("n"), false),
                Some(&node("Unknown", OUT_OF_SERVICE)),
                None,
                at(0)
            ),
            Fate::Stay
        );
        assert_eq!(fate(&pod(Value::Null, true), None, None, at(0)), Fate::Gone);
        assert_eq!(fate(&pod(Value::Null, false), None, None, at(0)), Fate::Stay);
    }
}
