//! What to do next for one Pod: a pure function of the Pod, what runs of it, and the time.
//!
//! Level-triggered: the worker carries the steps out, looks again, and asks again until there are none. Rules are
//! the kubelet's (`computePodActions`): init containers one after another, then all others; ended containers
//! start again as `restartPolicy` says, after a back-off; deletion stops, waits, kills, removes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::backoff::Backoff;
use crate::runtime::client::States;
use crate::runtime::protocol::{ContainerState, Ended};

/// A Pod's sandbox as its worker knows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sandbox {
    /// None was made, or it was removed.
    #[default]
    Absent,
    /// The shim answers.
    Ready,
    /// The shim died; what it left must go first.
    Lost,
}

/// Why something could not be done, and when it is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// For `state.waiting.reason`: `ErrImagePull`, `CreateContainerConfigError`.
    pub reason: String,
    /// For people.
    pub message: String,
    /// When it happened last.
    pub at: Timestamp,
    /// How long to wait from then.
    pub backoff: Backoff,
}

/// What a worker knows of its Pod beside the object itself.
#[derive(Debug, Clone, Default)]
pub struct Knowledge {
    /// The sandbox.
    pub sandbox: Sandbox,
    /// What the shim reports, or reported last.
    pub states: States,
    /// Containers that could not be started.
    pub troubles: BTreeMap<String, Trouble>,
    /// The sandbox could not be made.
    pub sandbox_trouble: Option<Trouble>,
    /// Containers that were started again.
    pub crashes: BTreeMap<String, Backoff>,
    /// Containers asked to stop, and when they will be killed; `None` once they are.
    pub stopping: BTreeMap<String, Option<Timestamp>>,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make network, directories and shim.
    CreateSandbox,
    /// End the shim and remove what is not kept for `kubectl logs`.
    RemoveSandbox,
    /// Start a container by name.
    Start(String),
    /// Ask a container to stop, to be killed at the given time.
    Stop(String, Timestamp),
    /// Kill a container.
    Kill(String),
    /// Tell the API server that the Pod is gone, and forget it.
    Release,
}

/// Steps in order, and when to look again though nothing changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// What to do.
    pub steps: Vec<Step>,
    /// When the next back-off or grace period ends.
    pub wake: Option<Timestamp>,
}

impl Plan {
    fn of(steps: impl IntoIterator<Item = Step>) -> Self {
        Self {
            steps: steps.into_iter().collect(),
            wake: None,
        }
    }

    fn wake_at(&mut self, time: Timestamp) {
        self.wake = Some(self.wake.map_or(time, |wake| wake.min(time)));
    }
}

/// Decides. `gone` says that the API server has no such Pod any more.
#[must_use]
pub fn decide(pod: &Pod, gone: bool, knowledge: &Knowledge, now: Timestamp) -> Plan {
    let Some(spec) = &pod.spec else { return Plan::default() };
    if gone || pod.metadata.deletion_timestamp.is_some() {
        return wind_down(pod, gone, knowledge, now);
    }
    if is_finished(pod, spec, knowledge) {
        return Plan::of((knowledge.sandbox != Sandbox::Absent).then_some(Step::RemoveSandbox));
    }
    match knowledge.sandbox {
        Sandbox::Lost => Plan::of([Step::RemoveSandbox]),
        Sandbox::Absent => create(knowledge, now),
        Sandbox::Ready => run(spec, knowledge, now),
    }
}

fn create(knowledge: &Knowledge, now: Timestamp) -> Plan {
    let wait = knowledge
        .sandbox_trouble
        .as_ref()
        .and_then(|trouble| trouble.backoff.wait(trouble.at, now));
    match wait {
        Some(until) => Plan {
            steps: Vec::new(),
            wake: Some(until),
        },
        None => Plan::of([Step::CreateSandbox]),
    }
}

fn wind_down(pod: &Pod, gone: bool, knowledge: &Knowledge, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let deadline = match (&pod.metadata.deletion_timestamp, gone) {
        (Some(time), false) => time.0,
        _ => now,
    };
    for name in running(knowledge) {
        match knowledge.stopping.get(name) {
            Some(None) => {}
            None if now < deadline => plan.steps.push(Step::Stop(name.clone(), deadline)),
            Some(Some(kill_at)) if now < (*kill_at).min(deadline) => plan.wake_at((*kill_at).min(deadline)),
            None | Some(Some(_)) => plan.steps.push(Step::Kill(name.clone())),
        }
    }
    if running(knowledge).next().is_none() {
        if knowledge.sandbox != Sandbox::Absent {
            plan.steps.push(Step::RemoveSandbox);
        }
        plan.steps.push(Step::Release);
    }
    plan
}

fn running(knowledge: &Knowledge) -> impl Iterator<Item = &String> {
    let alive = knowledge.sandbox == Sandbox::Ready;
    knowledge
        .states
        .iter()
        .filter(move |(_, state)| alive && state.current.ended.is_none())
        .map(|(name, _)| name)
}

fn run(spec: &PodSpec, knowledge: &Knowledge, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let initialised = spec
        .containers
        .iter()
        .any(|container| knowledge.states.contains_key(&container.name));
    for container in spec.init_containers.iter().flatten() {
        let state = knowledge.states.get(&container.name);
        if is_sidecar(container) {
            if !alive(state) {
                start(container, knowledge, now, &mut plan);
                if state.is_none() {
                    return plan;
                }
            }
        } else if !initialised && !succeeded(state) {
            if !alive(state) {
                start(container, knowledge, now, &mut plan);
            }
            return plan;
        }
    }
    for container in &spec.containers {
        let state = knowledge.states.get(&container.name);
        if !alive(state) && state.is_none_or(|state| restarts(spec, container, state)) {
            start(container, knowledge, now, &mut plan);
        }
    }
    plan
}

fn start(container: &Container, knowledge: &Knowledge, now: Timestamp, plan: &mut Plan) {
    match wait(&container.name, knowledge, now) {
        Some(until) => plan.wake_at(until),
        None => plan.steps.push(Step::Start(container.name.clone())),
    }
}

/// Until when a container must wait; for `CrashLoopBackOff` and `ImagePullBackOff`.
#[must_use]
pub fn wait(name: &str, knowledge: &Knowledge, now: Timestamp) -> Option<Timestamp> {
    let trouble = knowledge
        .troubles
        .get(name)
        .and_then(|trouble| trouble.backoff.wait(trouble.at, now));
    trouble.or_else(|| crash_wait(name, knowledge, now))
}

/// Until when a container that ended must wait.
#[must_use]
pub fn crash_wait(name: &str, knowledge: &Knowledge, now: Timestamp) -> Option<Timestamp> {
    let ended = ended(knowledge.states.get(name)?)?;
    knowledge.crashes.get(name)?.wait(ended.at, now)
}

fn alive(state: Option<&ContainerState>) -> bool {
    state.is_some_and(|state| state.current.ended.is_none())
}

fn ended(state: &ContainerState) -> Option<&Ended> {
    state.current.ended.as_ref()
}

fn succeeded(state: Option<&ContainerState>) -> bool {
    state.and_then(ended).is_some_and(|ended| ended.exit.code == 0)
}

/// An init container that runs beside the others (`restartPolicy: Always`).
#[must_use]
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Whether a container that ended so is to run again.
fn restarts(spec: &PodSpec, container: &Container, state: &ContainerState) -> bool {
    if is_sidecar(container) {
        return true;
    }
    match spec.restart_policy.as_deref() {
        Some("Never") => false,
        Some("OnFailure") => !succeeded(Some(state)),
        _ => true,
    }
}

/// Whether every container has ended for good.
#[must_use]
pub fn is_finished(pod: &Pod, spec: &PodSpec, knowledge: &Knowledge) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return true;
    }
    let over = |container: &Container| {
        let state = knowledge.states.get(&container.name);
        state.is_some_and(|state| !alive(Some(state)) && !restarts(spec, container, state))
    };
    spec.containers.iter().all(over) || init_failed(spec, knowledge)
}

/// Whether an init container failed that must not be tried again.
#[must_use]
pub fn init_failed(spec: &PodSpec, knowledge: &Knowledge) -> bool {
    spec.init_containers.iter().flatten().any(|container| {
        let state = knowledge.states.get(&container.name);
        state.is_some_and(|state| !alive(Some(state)) && !succeeded(Some(state)) && !restarts(spec, container, state))
    })
}

#[cfg(test)]
mod tests;
