//! A Pod's `status` from what runs of it. Pure; field by field as the kubelet fills it (`generateAPIPodStatus`).

mod conditions;
mod container;
mod patch;
mod phase;

use std::net::Ipv4Addr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, HostIP, Pod, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::decide::{Knowledge, deadline};
use super::refusal::{Refusal, refusal};
use conditions::Conditions;
pub use patch::{is_known, patch};

/// Addresses that a status names.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// The node's.
    pub host: Ipv4Addr,
    /// The Pod's, once its network is laid.
    pub pod: Option<Ipv4Addr>,
}

/// Computes the status. `started` is when the kubelet first saw the Pod.
#[must_use]
pub fn status(pod: &Pod, knowledge: &Knowledge, addresses: Addresses, started: Timestamp, now: Timestamp) -> PodStatus {
    let Some(spec) = &pod.spec else {
        return PodStatus::default();
    };
    let old = pod.status.clone().unwrap_or_default();
    if let Some(refusal) = refusal(spec) {
        return refused(pod, refusal, old, started);
    }
    let view = container::View { pod, knowledge, now };
    let init = spec.init_containers.iter().flatten();
    let init: Vec<ContainerStatus> = init.map(|container| view.status(container, true)).collect();
    let containers: Vec<ContainerStatus> = spec
        .containers
        .iter()
        .map(|container| view.status(container, false))
        .collect();
    let (phase, cause) = match old.phase.as_deref() {
        Some(phase @ ("Succeeded" | "Failed")) => (phase, (old.reason.clone(), old.message.clone())),
        _ if deadline(pod, spec).is_some_and(|deadline| deadline <= now) => (
            "Failed",
            (
                Some(DEADLINE_EXCEEDED.0.to_owned()),
                Some(DEADLINE_EXCEEDED.1.to_owned()),
            ),
        ),
        _ => {
            let ended = !knowledge.states.keys().any(|name| knowledge.alive(name));
            let terminal = pod.metadata.deletion_timestamp.is_some() && ended;
            (phase::phase(spec, &init, &containers, terminal), (None, None))
        }
    };
    let conditions = Conditions { pod, spec, now, phase }.all(knowledge, &init, &containers);
    let pod_ip = addresses.pod.map(|address| address.to_string()).or(old.pod_ip);
    PodStatus {
        observed_generation: pod.metadata.generation,
        phase: Some(phase.to_owned()),
        reason: cause.0,
        message: cause.1,
        conditions: Some(conditions),
        host_ip: Some(addresses.host.to_string()),
        host_ips: Some(vec![HostIP {
            ip: addresses.host.to_string(),
        }]),
        pod_ips: pod_ip.clone().map(|ip| vec![PodIP { ip }]),
        pod_ip,
        start_time: Some(old.start_time.unwrap_or(Time(started))),
        init_container_statuses: (!init.is_empty()).then_some(init),
        container_statuses: Some(containers),
        ..PodStatus::default()
    }
}

/// The status of a Pod that the node does not run (`rejectPod`): what others said of it stays, and of its containers nothing
/// is said.
fn refused(pod: &Pod, refusal: Refusal, old: PodStatus, started: Timestamp) -> PodStatus {
    PodStatus {
        observed_generation: pod.metadata.generation,
        phase: Some("Failed".to_owned()),
        reason: Some(refusal.reason.to_owned()),
        message: Some(format!("Pod was rejected: {}", refusal.message)),
        conditions: old.conditions,
        start_time: Some(old.start_time.unwrap_or(Time(started))),
        ..PodStatus::default()
    }
}

/// Reason and message of a Pod that was active for too long, and of the event about it.
pub const DEADLINE_EXCEEDED: (&str, &str) = (
    "DeadlineExceeded",
    "Pod was active on the node longer than the specified deadline",
);

#[cfg(test)]
mod tests;
