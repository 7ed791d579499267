//! A Pod's `status` from what runs of it. Pure; field by field as the kubelet fills it.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState as ApiState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodSpec, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::decide::{Knowledge, Sandbox, crash_wait, init_failed, is_finished, is_sidecar};
use crate::runtime::protocol::{Attempt, Exit};

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
    let init: Vec<ContainerStatus> = spec
        .init_containers
        .iter()
        .flatten()
        .map(|container| container_status(container, pod, knowledge, now))
        .collect();
    let containers: Vec<ContainerStatus> = spec
        .containers
        .iter()
        .map(|container| container_status(container, pod, knowledge, now))
        .collect();
    let phase = phase(pod, spec, knowledge);
    let conditions = Conditions { pod, old: &old, now }.all(spec, &phase, knowledge, &init, &containers);
    let pod_ip = addresses.pod.map(|address| address.to_string()).or(old.pod_ip);
    PodStatus {
        observed_generation: pod.metadata.generation,
        phase: Some(phase),
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

fn phase(pod: &Pod, spec: &PodSpec, knowledge: &Knowledge) -> String {
    let old = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let phase = match old {
        Some(phase @ ("Succeeded" | "Failed")) => phase,
        _ if init_failed(spec, knowledge) => "Failed",
        _ if is_finished(pod, spec, knowledge) => {
            let clean = |container: &Container| exit_code(knowledge, &container.name) == Some(0);
            if spec.containers.iter().all(clean) {
                "Succeeded"
            } else {
                "Failed"
            }
        }
        _ if !spec.containers.is_empty()
            && spec
                .containers
                .iter()
                .all(|container| knowledge.states.contains_key(&container.name)) =>
        {
            "Running"
        }
        _ => "Pending",
    };
    phase.to_owned()
}

fn exit_code(knowledge: &Knowledge, name: &str) -> Option<i32> {
    Some(knowledge.states.get(name)?.current.ended.as_ref()?.exit.code)
}

fn container_status(container: &Container, pod: &Pod, knowledge: &Knowledge, now: Timestamp) -> ContainerStatus {
    let image = container.image.clone().unwrap_or_default();
    let Some(state) = knowledge.states.get(&container.name) else {
        return remembered(container, pod).unwrap_or_else(|| ContainerStatus {
            name: container.name.clone(),
            image,
            ready: false,
            started: Some(false),
            state: Some(waiting(container, pod, knowledge, now)),
            last_state: Some(ApiState::default()),
            ..ContainerStatus::default()
        });
    };
    let current = &state.current;
    let trouble =
        knowledge.troubles.contains_key(&container.name) || crash_wait(&container.name, knowledge, now).is_some();
    let held_back = current.ended.is_some() && trouble;
    let (shown, last) = if held_back {
        (waiting(container, pod, knowledge, now), Some(current))
    } else {
        (api_state(current), state.previous.as_ref())
    };
    let running = current.ended.is_none();
    let init_done = !running && exit_code(knowledge, &container.name) == Some(0) && is_init(pod, container);
    ContainerStatus {
        name: container.name.clone(),
        image: current.image.clone(),
        image_id: current.image_id.clone(),
        container_id: Some(container_id(current)),
        ready: running && (!is_init(pod, container) || is_sidecar(container)) || init_done,
        started: Some(running),
        restart_count: i32::try_from(current.attempt).unwrap_or(i32::MAX),
        state: Some(shown),
        last_state: Some(last.map(api_state).unwrap_or_default()),
        ..ContainerStatus::default()
    }
}

/// What the API remembers of a container that ended in a Pod that is over: its shim has gone.
fn remembered(container: &Container, pod: &Pod) -> Option<ContainerStatus> {
    let old = pod.status.as_ref()?;
    let mut statuses = old
        .container_statuses
        .iter()
        .chain(&old.init_container_statuses)
        .flatten();
    let status = statuses.find(|status| status.name == container.name)?;
    status.state.as_ref()?.terminated.as_ref()?;
    Some(status.clone())
}

fn is_init(pod: &Pod, container: &Container) -> bool {
    let init = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_ref());
    init.is_some_and(|init| init.iter().any(|other| other.name == container.name))
}

fn container_id(attempt: &Attempt) -> String {
    format!("minik://{}", attempt.id)
}

fn api_state(attempt: &Attempt) -> ApiState {
    let started_at = Time(attempt.started_at);
    match &attempt.ended {
        None => ApiState {
            running: Some(ContainerStateRunning {
                started_at: Some(started_at),
            }),
            ..ApiState::default()
        },
        Some(ended) => {
            if ended.exit == Exit::LOST {
                return lost();
            }
            let reason = match (&ended.start_error, ended.exit.code) {
                (Some(_), _) => "StartError",
                (None, 0) => "Completed",
                (None, _) => "Error",
            };
            let terminated = ContainerStateTerminated {
                container_id: Some(container_id(attempt)),
                exit_code: ended.exit.code,
                finished_at: Some(Time(ended.at)),
                message: ended.start_error.clone(),
                reason: Some(reason.to_owned()),
                signal: None,
                started_at: Some(if ended.start_error.is_some() {
                    Time(Timestamp::UNIX_EPOCH)
                } else {
                    started_at
                }),
            };
            ApiState {
                terminated: Some(terminated),
                ..ApiState::default()
            }
        }
    }
}

/// The kubelet's words for a container that is not where it should be.
fn lost() -> ApiState {
    let terminated = ContainerStateTerminated {
        exit_code: Exit::LOST.code,
        reason: Some("ContainerStatusUnknown".to_owned()),
        message: Some("The container could not be located when the pod was terminated".to_owned()),
        ..ContainerStateTerminated::default()
    };
    ApiState {
        terminated: Some(terminated),
        ..ApiState::default()
    }
}

fn waiting(container: &Container, pod: &Pod, knowledge: &Knowledge, now: Timestamp) -> ApiState {
    let name = &container.name;
    let (reason, message) = if let Some(trouble) = knowledge.troubles.get(name) {
        (trouble.reason.clone(), Some(trouble.message.clone()))
    } else if let (Some(_), Some(backoff)) = (crash_wait(name, knowledge, now), knowledge.crashes.get(name)) {
        let metadata = &pod.metadata;
        let message = format!(
            "back-off {} restarting failed container={name} pod={}_{}({})",
            backoff.text(),
            metadata.name.as_deref().unwrap_or_default(),
            metadata.namespace.as_deref().unwrap_or_default(),
            metadata.uid.as_deref().unwrap_or_default(),
        );
        ("CrashLoopBackOff".to_owned(), Some(message))
    } else {
        let has_init = pod
            .spec
            .as_ref()
            .is_some_and(|spec| spec.init_containers.as_ref().is_some_and(|init| !init.is_empty()));
        (
            if has_init {
                "PodInitializing"
            } else {
                "ContainerCreating"
            }
            .to_owned(),
            None,
        )
    };
    ApiState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason),
            message,
        }),
        ..ApiState::default()
    }
}

struct Conditions<'a> {
    pod: &'a Pod,
    old: &'a PodStatus,
    now: Timestamp,
}

impl Conditions<'_> {
    fn all(
        &self,
        spec: &PodSpec,
        phase: &str,
        knowledge: &Knowledge,
        init: &[ContainerStatus],
        containers: &[ContainerStatus],
    ) -> Vec<PodCondition> {
        let kept = self
            .old
            .conditions
            .iter()
            .flatten()
            .filter(|condition| !OURS.contains(&condition.type_.as_str()));
        let mut conditions =
            vec![self.condition("PodReadyToStartContainers", knowledge.sandbox == Sandbox::Ready, None)];
        let incomplete: Vec<&str> = init
            .iter()
            .filter(|status| !status.ready)
            .map(|status| status.name.as_str())
            .collect();
        let initialised = incomplete.is_empty()
            || spec
                .containers
                .iter()
                .any(|container| knowledge.states.contains_key(&container.name));
        let why = (!initialised).then(|| {
            (
                "ContainersNotInitialized",
                format!("containers with incomplete status: [{}]", incomplete.join(" ")),
            )
        });
        conditions.push(self.condition("Initialized", initialised, why));
        let unready: Vec<&str> = containers
            .iter()
            .filter(|status| !status.ready)
            .map(|status| status.name.as_str())
            .collect();
        let ready = phase == "Running" && unready.is_empty();
        let why = || match phase {
            "Succeeded" => Some(("PodCompleted", String::new())),
            "Failed" => Some(("PodFailed", String::new())),
            _ if ready => None,
            _ => Some((
                "ContainersNotReady",
                format!("containers with unready status: [{}]", unready.join(" ")),
            )),
        };
        conditions.push(self.condition("Ready", ready, why()));
        conditions.push(self.condition("ContainersReady", ready, why()));
        conditions.extend(kept.cloned());
        conditions
    }

    fn condition(&self, type_: &str, value: bool, why: Option<(&str, String)>) -> PodCondition {
        let status = if value { "True" } else { "False" };
        let before = self
            .old
            .conditions
            .iter()
            .flatten()
            .find(|condition| condition.type_ == type_ && condition.status == status);
        let (reason, message) = match why {
            Some((reason, message)) => (Some(reason.to_owned()), (!message.is_empty()).then_some(message)),
            None => (None, None),
        };
        PodCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason,
            message,
            observed_generation: self.pod.metadata.generation,
            last_probe_time: None,
            last_transition_time: before
                .and_then(|before| before.last_transition_time.clone())
                .or(Some(Time(self.now))),
        }
    }
}

const OURS: [&str; 4] = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady"];
