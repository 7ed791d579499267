//! Whether a node still gives signs of life, and what is said of one that does not. Pure; time comes in.
//!
//! Silence is measured by a clock that nobody sets: a step of the machine's is no silence.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// How long a node may be silent (`--node-monitor-grace-period`).
pub const GRACE: Duration = Duration::from_secs(50);
/// How long a new node may be silent (`--node-startup-grace-period`).
pub const STARTUP_GRACE: Duration = Duration::from_secs(60);
/// The conditions that a silent node loses.
const CONDITIONS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// The last sign of life: when we noticed it, by our clock, and what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sign {
    at: Instant,
    renewed: Option<Timestamp>,
    heartbeat: Option<Timestamp>,
}

/// What is to be said of a node.
#[derive(Debug, PartialEq)]
pub enum Judgement {
    /// It lives; to be asked again after this long.
    Alive(Duration),
    /// It is silent, and that is known already.
    KnownSilent,
    /// It is silent: these conditions are what is left to say.
    Silent(Vec<NodeCondition>),
}

/// A node's condition of a type.
pub fn condition<'a>(node: &'a Node, type_: &str) -> Option<&'a NodeCondition> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether the node says that it is ready.
pub fn is_ready(node: &Node) -> bool {
    condition(node, "Ready").is_some_and(|condition| condition.status == "True")
}

/// The last sign of life, given the one before. The clock of the node is not trusted: a sign counts from when we saw it.
pub fn sign(before: Option<&Sign>, node: &Node, lease: Option<&Lease>, now: Instant) -> Sign {
    let spec = lease.and_then(|lease| lease.spec.as_ref());
    let renewed = spec.and_then(|spec| spec.renew_time.as_ref()).map(|time| time.0);
    let ready = condition(node, "Ready").filter(|ready| ready.status != "Unknown");
    let heartbeat = ready
        .and_then(|ready| ready.last_heartbeat_time.as_ref())
        .map(|time| time.0);
    match before {
        Some(before) => {
            let heartbeat = heartbeat.or(before.heartbeat);
            // Another time is a sign, be it an earlier one: the node's clock may have been set back.
            let renewed = renewed.or(before.renewed);
            let new = renewed != before.renewed || heartbeat != before.heartbeat;
            Sign {
                at: if new { now } else { before.at },
                renewed,
                heartbeat,
            }
        }
        None => Sign {
            at: now,
            renewed,
            heartbeat,
        },
    }
}

/// What is to be said of a node whose last sign of life was this; `date` is what it is said to have happened at.
pub fn judge(node: &Node, sign: &Sign, now: Instant, date: Timestamp) -> Judgement {
    let grace = match condition(node, "Ready") {
        Some(_) => GRACE,
        None => STARTUP_GRACE,
    };
    let silent = now.saturating_duration_since(sign.at);
    if silent < grace {
        return Judgement::Alive(grace - silent);
    }
    let known = |type_: &&str| condition(node, type_).is_some_and(|condition| condition.status == "Unknown");
    if CONDITIONS.iter().all(known) {
        return Judgement::KnownSilent;
    }
    Judgement::Silent(CONDITIONS.iter().map(|type_| unknown(node, type_, date)).collect())
}

fn unknown(node: &Node, type_: &str, now: Timestamp) -> NodeCondition {
    let said = |reason: &str, message: &str, heartbeat: Option<Time>| NodeCondition {
        type_: type_.to_owned(),
        status: "Unknown".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_heartbeat_time: heartbeat,
        last_transition_time: Some(Time(now)),
    };
    match condition(node, type_) {
        None => said(
            "NodeStatusNeverUpdated",
            "Kubelet never posted node status.",
            node.metadata.creation_timestamp.clone(),
        ),
        Some(before) if before.status == "Unknown" => before.clone(),
        Some(before) => said(
            "NodeStatusUnknown",
            "Kubelet stopped posting node status.",
            before.last_heartbeat_time.clone(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::LazyLock;

    /// Seconds from any moment.
    fn at(second: u64) -> Instant {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        *START + Duration::from_secs(second)
    }

    /// A date that has nothing to do with it.
    const DATE: Timestamp = Timestamp::UNIX_EPOCH;

    fn node(status: &str) -> Node {
        let conditions: Vec<_> = CONDITIONS
            .iter()
            .map(|type_| json!({"type": type_, "status": status, "lastHeartbeatTime": "2026-11-21T10:00:00Z"}))
            .collect();
        serde_json::from_value(json!({"metadata": {"name": "worker1"}, "status": {"conditions": conditions}})).unwrap()
    }

    fn lease(renewed: &str) -> Lease {
        serde_json::from_value(json!({"metadata": {"name": "worker1"}, "spec": {"renewTime": renewed}})).unwrap()
    }

    #[test]
    fn a_lease_that_is_renewed_keeps_a_node_alive() {
        let node = node("True");
        let first = sign(None, &node, Some(&lease("2026-11-21T10:00:00.000000Z")), at(0));
        assert_eq!(
            judge(&node, &first, at(10), DATE),
            Judgement::Alive(Duration::from_secs(40))
        );
        let same = sign(Some(&first), &node, Some(&lease("2026-11-21T10:00:00.000000Z")), at(30));
        assert_eq!(same, first);
        // Whatever the node's clock says: what counts is that it changed.
        let renewed = sign(Some(&same), &node, Some(&lease("2026-11-21T10:00:00.000001Z")), at(40));
        assert_eq!(
            judge(&node, &renewed, at(89), DATE),
            Judgement::Alive(Duration::from_secs(1))
        );
        assert!(matches!(judge(&node, &renewed, at(90), DATE), Judgement::Silent(_)));
        let set_back = sign(
            Some(&renewed),
            &node,
            Some(&lease("2026-11-21T07:00:00.000000Z")),
            at(80),
        );
        assert_eq!(
            judge(&node, &set_back, at(90), DATE),
            Judgement::Alive(Duration::from_secs(40))
        );
    }

    #[test]
    fn a_silent_node_loses_what_it_said_of_itself() {
        let node = node("True");
        let first = sign(None, &node, None, at(0));
        let Judgement::Silent(conditions) = judge(&node, &first, at(50), DATE) else {
            panic!("50 s are the default grace period of 1.36");
        };
        assert_eq!(conditions.len(), 4);
        for condition in conditions {
            assert_eq!(condition.status, "Unknown");
            assert_eq!(condition.reason.as_deref(), Some("NodeStatusUnknown"));
            assert_eq!(
                condition.message.as_deref(),
                Some("Kubelet stopped posting node status.")
            );
            assert_eq!(condition.last_transition_time, Some(Time(DATE)));
            assert!(condition.last_heartbeat_time.is_some());
        }
        let known = super::tests::node("Unknown");
        assert_eq!(judge(&known, &first, at(500), DATE), Judgement::KnownSilent);
    }

    #[test]
    fn one_that_never_spoke_has_longer_and_is_told_apart() {
        let node: Node = serde_json::from_value(json!({"metadata": {"name": "new"}})).unwrap();
        let first = sign(None, &node, None, at(0));
        assert_eq!(
            judge(&node, &first, at(50), DATE),
            Judgement::Alive(Duration::from_secs(10))
        );
        let Judgement::Silent(conditions) = judge(&node, &first, at(60), DATE) else {
            panic!("60 s are the default startup grace period");
        };
        assert_eq!(conditions[0].reason.as_deref(), Some("NodeStatusNeverUpdated"));
        assert_eq!(
            conditions[0].message.as_deref(),
            Some("Kubelet never posted node status.")
        );
    }
}
