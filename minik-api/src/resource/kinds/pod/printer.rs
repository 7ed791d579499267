//! The Pod's row in `kubectl get`, after Kubernetes' printer: what STATUS says and what RESTARTS counts.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use crate::resource::{Column, print};

pub(super) const COLUMNS: &[Column] = &[
    print::NAME,
    print::text(
        "Ready",
        0,
        "The aggregate readiness state of this pod for accepting traffic.",
    ),
    print::text("Status", 0, "The aggregate status of the containers in this pod."),
    print::text(
        "Restarts",
        0,
        "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.",
    ),
    print::AGE,
    print::text(
        "IP",
        1,
        "podIP address allocated to the pod. Routable at least within the cluster. Empty if not yet allocated.",
    ),
    print::text(
        "Node",
        1,
        "NodeName indicates in which node this pod is scheduled. If empty, this pod is a candidate for scheduling by the scheduler defined in schedulerName. Once this field is set, the kubelet for this node becomes responsible for the lifecycle of this pod. This field should not be used to express a desire for the pod to be scheduled on a specific node. https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#nodename",
    ),
    print::text(
        "Nominated Node",
        1,
        "nominatedNodeName is set only when this pod preempts other pods on the node, but it cannot be scheduled right away as preemption victims receive their graceful termination periods. This field does not guarantee that the pod will be scheduled on this node. Scheduler may decide to place the pod elsewhere if other nodes become available sooner. Scheduler may also decide to give the resources on this node to a higher priority pod that is created after preemption. As a result, this field may be different than PodSpec.nodeName when the pod is scheduled.",
    ),
    print::text(
        "Readiness Gates",
        1,
        "If specified, all readiness gates will be evaluated for pod readiness. A pod is ready when all its containers are ready AND all conditions specified in the readiness gates have status equal to \"True\" More info: https://git.k8s.io/enhancements/keps/sig-network/580-pod-readiness-gates",
    ),
];

/// The cells of a Pod.
pub(super) fn row(pod: &Pod, now: Timestamp) -> Vec<Value> {
    let summary = Summary::of(pod);
    let status = pod.status.as_ref();
    let spec = pod.spec.as_ref();
    let restarts = match &summary.last_restart {
        Some(time) if summary.restarts != 0 => format!("{} ({} ago)", summary.restarts, print::since(Some(time), now)),
        _ => summary.restarts.to_string(),
    };
    vec![
        print::name(&pod.metadata),
        Value::from(format!("{}/{}", summary.ready, summary.total)),
        Value::from(summary.reason),
        Value::from(restarts),
        print::age(&pod.metadata, now),
        print::or_none(status.and_then(|s| s.pod_ip.as_deref())),
        print::or_none(spec.and_then(|s| s.node_name.as_deref())),
        print::or_none(status.and_then(|s| s.nominated_node_name.as_deref())),
        Value::from(readiness_gates(pod)),
    ]
}

/// What the containers of a Pod amount to.
struct Summary {
    reason: String,
    ready: usize,
    total: usize,
    restarts: i32,
    last_restart: Option<Time>,
}

/// What the init containers amount to.
struct Initialization {
    /// STATUS while it is under way or has failed.
    reason: Option<String>,
    restarts: Restarts,
    /// Restarts of the init containers that go on running beside the others.
    sidecar_restarts: Restarts,
    ready_sidecars: usize,
}

#[derive(Default, Clone)]
struct Restarts {
    count: i32,
    last: Option<Time>,
}

impl Restarts {
    fn add(&mut self, container: &ContainerStatus) {
        self.count += container.restart_count;
        let ended = container
            .last_state
            .as_ref()
            .and_then(|s| s.terminated.as_ref())
            .and_then(|t| t.finished_at.clone());
        self.last = self.last.take().max(ended);
    }
}

impl Summary {
    fn of(pod: &Pod) -> Self {
        let empty = PodStatus::default();
        let status = pod.status.as_ref().unwrap_or(&empty);
        let sidecars = init_containers(pod).filter(|c| is_sidecar(c)).count();
        let mut summary = Self {
            reason: first_reason(status),
            ready: 0,
            total: pod.spec.as_ref().map_or(0, |s| s.containers.len()) + sidecars,
            restarts: 0,
            last_restart: None,
        };
        let start = initialization(pod, status);
        summary.ready = start.ready_sidecars;
        let initializing = start.reason.is_some();
        let mut restarts = start.restarts;
        if let Some(reason) = start.reason {
            summary.reason = reason;
        }
        if !initializing || condition(status, "Initialized") {
            restarts = start.sidecar_restarts;
            summary.containers(status, &mut restarts);
        }
        if pod.metadata.deletion_timestamp.is_some() {
            let phase = status.phase.as_deref();
            if status.reason.as_deref() == Some("NodeLost") {
                "Unknown".clone_into(&mut summary.reason);
            } else if !matches!(phase, Some("Failed" | "Succeeded")) {
                "Terminating".clone_into(&mut summary.reason);
            }
        }
        Self {
            restarts: restarts.count,
            last_restart: restarts.last,
            ..summary
        }
    }

    fn containers(&mut self, status: &PodStatus, restarts: &mut Restarts) {
        let mut is_running = false;
        for container in status.container_statuses.iter().flatten().rev() {
            restarts.add(container);
            let state = container.state.as_ref();
            let waiting = state
                .and_then(|s| s.waiting.as_ref())
                .and_then(|w| w.reason.clone())
                .filter(|r| !r.is_empty());
            let terminated = state.and_then(|s| s.terminated.as_ref());
            let running = state.is_some_and(|s| s.running.is_some());
            if let Some(reason) = waiting {
                self.reason = reason;
            } else if let Some(end) = terminated {
                self.reason = end_reason("", end.reason.as_deref(), end.signal, end.exit_code);
            } else if container.ready && running {
                is_running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && is_running {
            let word = if condition(status, "Ready") {
                "Running"
            } else {
                "NotReady"
            };
            word.clone_into(&mut self.reason);
        }
    }
}

fn first_reason(status: &PodStatus) -> String {
    let gated = status
        .conditions
        .iter()
        .flatten()
        .any(|c| c.type_ == "PodScheduled" && c.reason.as_deref() == Some("SchedulingGated"));
    if gated {
        return "SchedulingGated".to_owned();
    }
    let given = status.reason.clone().filter(|r| !r.is_empty());
    given.or_else(|| status.phase.clone()).unwrap_or_default()
}

fn initialization(pod: &Pod, status: &PodStatus) -> Initialization {
    let mut start = Initialization {
        reason: None,
        restarts: Restarts::default(),
        sidecar_restarts: Restarts::default(),
        ready_sidecars: 0,
    };
    let total = init_containers(pod).count();
    for (index, container) in status.init_container_statuses.iter().flatten().enumerate() {
        start.restarts.add(container);
        let sidecar = init_containers(pod).any(|c| c.name == container.name && is_sidecar(c));
        if sidecar {
            start.sidecar_restarts.add(container);
        }
        let state = container.state.as_ref();
        let terminated = state.and_then(|s| s.terminated.as_ref());
        let waiting = state.and_then(|s| s.waiting.as_ref()).and_then(|w| w.reason.as_deref());
        start.reason = Some(match (terminated, waiting) {
            (Some(end), _) if end.exit_code == 0 => continue,
            _ if sidecar && container.started == Some(true) => {
                start.ready_sidecars += usize::from(container.ready);
                continue;
            }
            (Some(end), _) => end_reason("Init:", end.reason.as_deref(), end.signal, end.exit_code),
            (None, Some(reason)) if !reason.is_empty() && reason != "PodInitializing" => format!("Init:{reason}"),
            _ => format!("Init:{index}/{total}"),
        });
        break;
    }
    start
}

fn end_reason(prefix: &str, reason: Option<&str>, signal: Option<i32>, exit_code: i32) -> String {
    match (reason, signal) {
        (Some(reason), _) if !reason.is_empty() => format!("{prefix}{reason}"),
        (_, Some(signal)) if signal != 0 => format!("{prefix}Signal:{signal}"),
        _ => format!("{prefix}ExitCode:{exit_code}"),
    }
}

fn init_containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.spec.iter().filter_map(|s| s.init_containers.as_ref()).flatten()
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

fn condition(status: &PodStatus, kind: &str) -> bool {
    status
        .conditions
        .iter()
        .flatten()
        .any(|c| c.type_ == kind && c.status == "True")
}

fn readiness_gates(pod: &Pod) -> String {
    let gates = pod
        .spec
        .as_ref()
        .and_then(|s| s.readiness_gates.as_deref())
        .unwrap_or_default();
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let open = |kind: &str| pod.status.as_ref().is_some_and(|status| condition(status, kind));
    format!(
        "{}/{}",
        gates.iter().filter(|g| open(&g.condition_type)).count(),
        gates.len()
    )
}
