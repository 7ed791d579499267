//! What to do next for one Pod: a pure function of the Pod, what runs of it, and the time, which is that of a
//! [`Clock`](crate::clock::Clock).
//!
//! Level-triggered: the worker carries the steps out, looks again, and asks again until there are none. Rules are
//! the kubelet's (`computePodActions`): init containers one after another ([`init`]), then all others; ended
//! containers start again as their policy says ([`restart`]), after a back-off; what must end is asked, waited for
//! and killed ([`stop`]).

mod init;
mod knowledge;
pub mod restart;
mod stop;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

pub use knowledge::{Failure, Health, Hook, Knowledge, Sandbox, Stage, Stopping, Trouble};
use restart::{init_failed, is_over};

use super::refusal::refusal;

/// Waiting reason of a container whose image was looked for and not found.
pub const ERR_IMAGE_PULL: &str = "ErrImagePull";
/// Waiting reason from the next look on, until it is looked for again.
pub const IMAGE_PULL_BACK_OFF: &str = "ImagePullBackOff";
/// How long `ErrImagePull` is shown: the kubelet looks again when it hears from the runtime, within a second.
const NEXT_LOOK: SignedDuration = SignedDuration::from_secs(1);

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make network, directories and shim.
    CreateSandbox,
    /// End the shim and remove what is not kept for `kubectl logs`.
    RemoveSandbox,
    /// Start a container by name.
    Start(String),
    /// Say that a container waits for an image that was not there.
    BackOff(String),
    /// Say that a container is to end, and run what it wants to be run before.
    Stop {
        /// Its name.
        container: String,
        /// How long it has; at least a second.
        grace: SignedDuration,
        /// Why, for the `Killing` event.
        why: String,
    },
    /// Send a container its stop signal, to be killed at the given time.
    Signal(String, Timestamp),
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
    /// When the next back-off, grace period or deadline ends.
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

/// All that a decision is made from.
#[derive(Clone, Copy)]
struct View<'a> {
    pod: &'a Pod,
    spec: &'a PodSpec,
    knowledge: &'a Knowledge,
    now: Timestamp,
}

/// Decides. `gone` says that the API server has no such Pod any more.
#[must_use]
pub fn decide(pod: &Pod, gone: bool, knowledge: &Knowledge, now: Timestamp) -> Plan {
    let Some(spec) = &pod.spec else { return Plan::default() };
    let view = View {
        pod,
        spec,
        knowledge,
        now,
    };
    if gone || pod.metadata.deletion_timestamp.is_some() {
        return view.wind_down(gone, true);
    }
    if is_finished(pod, spec, knowledge, now) {
        return view.wind_down(false, false);
    }
    let mut plan = match knowledge.sandbox {
        Sandbox::Lost => Plan::of([Step::RemoveSandbox]),
        Sandbox::Absent => view.create(),
        Sandbox::Ready => view.run(),
    };
    if let Some(deadline) = deadline(pod, spec) {
        plan.wake_at(knowledge.steady(deadline));
    }
    plan
}

impl View<'_> {
    fn create(&self) -> Plan {
        let trouble = self.knowledge.sandbox_trouble.as_ref();
        match trouble.and_then(|trouble| trouble.backoff.wait(trouble.at, self.now)) {
            Some(until) => Plan {
                steps: Vec::new(),
                wake: Some(until),
            },
            None => Plan::of([Step::CreateSandbox]),
        }
    }

    fn run(&self) -> Plan {
        let mut plan = Plan::default();
        if !self.initialise(&mut plan) {
            return plan;
        }
        // One container after another: each waits for the `postStart` of those before it.
        let mut blocked = false;
        for container in &self.spec.containers {
            if self.knowledge.alive(&container.name) {
                self.keep_or_stop(container, "Container", ", will be restarted", &mut plan);
            } else if !blocked && !is_over(self.spec, container, self.knowledge) {
                self.start(container, &mut plan);
                let lifecycle = container.lifecycle.as_ref();
                blocked = lifecycle.is_some_and(|lifecycle| lifecycle.post_start.is_some()) && !plan.steps.is_empty();
            }
            blocked |= self.knowledge.starts(&container.name);
        }
        plan
    }

    /// Stops a running container that must not go on as it is, and goes on stopping one that was begun with.
    fn keep_or_stop(&self, container: &Container, noun: &str, suffix: &str, plan: &mut Plan) {
        let name = &container.name;
        let restarted = || {
            let again = restart::after(self.spec, container, 137);
            if again { suffix } else { "" }
        };
        let default = grace(self.pod);
        let probe_grace = |probe: Option<i64>| {
            let deleted = self.pod.metadata.deletion_grace_period_seconds.is_some();
            probe.filter(|_| !deleted).map_or(default, SignedDuration::from_secs)
        };
        let health = self.knowledge.health(name);
        let fails = |verdict| verdict == Some(crate::probe::schedule::Verdict::Failure);
        let of = |probe: &Option<k8s_openapi::api::core::v1::Probe>| {
            probe_grace(probe.as_ref().and_then(|probe| probe.termination_grace_period_seconds))
        };
        if self.knowledge.changed(container) {
            let why = format!("{noun} {name} definition changed{suffix}");
            self.stop(name, default, why, plan);
        } else if fails(health.and_then(|health| health.liveness)) {
            let why = format!("{noun} {name} failed liveness probe{}", restarted());
            self.stop(name, of(&container.liveness_probe), why, plan);
        } else if fails(health.and_then(|health| health.startup)) {
            let why = format!("{noun} {name} failed startup probe{}", restarted());
            self.stop(name, of(&container.startup_probe), why, plan);
        } else if self.knowledge.post_start_failed(name) {
            self.stop(name, default, "FailedPostStartHook".to_owned(), plan);
        } else if self.knowledge.stopping(name).is_some() {
            self.stop(name, default, String::new(), plan);
        }
    }

    fn start(&self, container: &Container, plan: &mut Plan) {
        let name = &container.name;
        let Some(until) = wait(name, self.knowledge, self.now) else {
            plan.steps.push(Step::Start(name.clone()));
            return;
        };
        plan.wake_at(until);
        let trouble = self.knowledge.troubles.get(name);
        if let Some(trouble) = trouble.filter(|trouble| trouble.reason == ERR_IMAGE_PULL) {
            let look = trouble.at.saturating_add(NEXT_LOOK).unwrap_or(Timestamp::MAX);
            if look <= self.now {
                plan.steps.push(Step::BackOff(name.clone()));
            } else {
                plan.wake_at(look);
            }
        }
    }
}

/// How long the Pod's containers have to end, unless a probe says otherwise.
fn grace(pod: &Pod) -> SignedDuration {
    let deletion = pod.metadata.deletion_grace_period_seconds;
    let spec = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    SignedDuration::from_secs(deletion.or(spec).unwrap_or(30))
}

/// Until when a container must wait; for `CrashLoopBackOff` and `ImagePullBackOff`.
#[must_use]
pub fn wait(name: &str, knowledge: &Knowledge, now: Timestamp) -> Option<Timestamp> {
    let trouble = knowledge.troubles.get(name);
    let trouble = trouble.and_then(|trouble| trouble.backoff.wait(trouble.at, now));
    trouble.or_else(|| crash_wait(name, knowledge, now))
}

/// Until when a container that ended must wait.
#[must_use]
pub fn crash_wait(name: &str, knowledge: &Knowledge, now: Timestamp) -> Option<Timestamp> {
    let ended = knowledge.ended_at(knowledge.current(name)?)?;
    knowledge.crashes.get(name)?.wait(ended, now)
}

/// An init container that runs beside the others (`restartPolicy: Always`).
#[must_use]
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// When the Pod has run for as long as it may (`activeDeadlineSeconds`), by the wall clock as the kubelet has it.
#[must_use]
pub fn deadline(pod: &Pod, spec: &PodSpec) -> Option<Timestamp> {
    let started = pod.status.as_ref()?.start_time.as_ref()?.0;
    let seconds = SignedDuration::from_secs(spec.active_deadline_seconds?);
    Some(started.saturating_add(seconds).unwrap_or(Timestamp::MAX))
}

/// Whether the Pod is over: every container has ended for good, or must.
#[must_use]
pub fn is_finished(pod: &Pod, spec: &PodSpec, knowledge: &Knowledge, now: Timestamp) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
        || refusal(spec).is_some()
        || deadline(pod, spec).is_some_and(|deadline| knowledge.steady(deadline) <= now)
        || init_failed(spec, knowledge)
        || !spec.containers.is_empty()
            && spec
                .containers
                .iter()
                .all(|container| is_over(spec, container, knowledge))
}

#[cfg(test)]
mod tests;
