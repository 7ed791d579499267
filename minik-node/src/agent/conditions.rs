//! What a node says of its own state, in the kubelet's words (`pkg/kubelet/nodestatus`). Pure; time comes in as `now`.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{NodeCondition, NodeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::disk::Disk;

const DISK_PRESSURE: &str = "DiskPressure";

/// The conditions of a node that is well but for its disk. `old` is what was said last: what has not changed keeps the time
/// since when it is so.
pub fn conditions(now: Timestamp, old: Option<&NodeStatus>, disk: Disk) -> Vec<NodeCondition> {
    let disk = match disk {
        Disk::Roomy => ("False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        Disk::Full => ("True", "KubeletHasDiskPressure", "kubelet has disk pressure"),
    };
    let memory = (
        "False",
        "KubeletHasSufficientMemory",
        "kubelet has sufficient memory available",
    );
    let processes = (
        "False",
        "KubeletHasSufficientPID",
        "kubelet has sufficient PID available",
    );
    let ready = ("True", "KubeletReady", "kubelet is posting ready status");
    [
        ("MemoryPressure", memory),
        (DISK_PRESSURE, disk),
        ("PIDPressure", processes),
        ("Ready", ready),
    ]
    .map(|(type_, (status, reason, message))| {
        let before = old
            .and_then(|old| said(old, type_))
            .filter(|before| before.status == status);
        NodeCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_heartbeat_time: Some(Time(now)),
            last_transition_time: before
                .and_then(|before| before.last_transition_time.clone())
                .or(Some(Time(now))),
        }
    })
    .into()
}

/// Whether the node is known to be ready.
pub fn is_ready(status: &NodeStatus) -> bool {
    said(status, "Ready").is_some_and(|condition| condition.status == "True")
}

/// What is known of the node's disk, if anything.
pub fn disk(status: &NodeStatus) -> Option<Disk> {
    match said(status, DISK_PRESSURE)?.status.as_str() {
        "True" => Some(Disk::Full),
        "False" => Some(Disk::Roomy),
        _ => None,
    }
}

fn said<'s>(status: &'s NodeStatus, type_: &str) -> Option<&'s NodeCondition> {
    let conditions = status.conditions.iter().flatten();
    conditions.into_iter().find(|condition| condition.type_ == type_)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(second: i64, old: Option<&NodeStatus>, disk: Disk) -> NodeStatus {
        let now = Timestamp::from_second(second).unwrap();
        NodeStatus {
            conditions: Some(conditions(now, old, disk)),
            ..NodeStatus::default()
        }
    }

    fn since(status: &NodeStatus, type_: &str) -> i64 {
        let said = said(status, type_).unwrap();
        said.last_transition_time.as_ref().unwrap().0.as_second()
    }

    #[test]
    fn a_full_disk_is_pressure_and_the_node_goes_on() {
        let full = status(1, None, Disk::Full);
        let found = said(&full, "DiskPressure").unwrap();
        assert_eq!(
            (found.status.as_str(), found.reason.as_deref(), found.message.as_deref()),
            (
                "True",
                Some("KubeletHasDiskPressure"),
                Some("kubelet has disk pressure")
            )
        );
        assert!(is_ready(&full));
        assert_eq!(disk(&full), Some(Disk::Full));
    }

    #[test]
    fn only_what_changed_has_a_new_date() {
        let first = status(1, None, Disk::Roomy);
        let full = status(2, Some(&first), Disk::Full);
        let still = status(3, Some(&full), Disk::Full);
        assert_eq!((since(&still, "DiskPressure"), since(&still, "Ready")), (2, 1));
    }

    #[test]
    fn of_a_node_that_others_gave_up_nothing_is_known() {
        let mut lost = status(1, None, Disk::Roomy);
        for condition in lost.conditions.iter_mut().flatten() {
            condition.status = "Unknown".to_owned();
        }
        assert_eq!((is_ready(&lost), disk(&lost)), (false, None));
    }
}
