//! Ending containers as the kubelet does (`killContainer`): the hook, the turn, the signal, the kill, each within what
//! is left of the grace period.

use jiff::{SignedDuration, Timestamp};

use super::{Plan, Sandbox, Stage, Step, View, grace, is_sidecar};

/// What a container has after its signal, whatever its hook took (`minimumGracePeriodInSeconds`).
const LEAST: SignedDuration = SignedDuration::from_secs(2);
/// What the kubelet gives when asked for less.
const SHORTEST: SignedDuration = SignedDuration::from_secs(1);

impl View<'_> {
    /// Ends every container, then takes the sandbox down; `release` says that the Pod's object goes too.
    pub(super) fn wind_down(&self, gone: bool, release: bool) -> Plan {
        let mut plan = Plan::default();
        let grace = if gone { SHORTEST } else { grace(self.pod) };
        let running = || self.knowledge.states.keys().filter(|name| self.knowledge.alive(name));
        for name in running() {
            self.stop(name, grace, format!("Stopping container {name}"), &mut plan);
        }
        if running().next().is_none() {
            if self.knowledge.sandbox != Sandbox::Absent {
                plan.steps.push(Step::RemoveSandbox);
            }
            if release {
                plan.steps.push(Step::Release);
            }
        }
        plan
    }

    /// Brings one container nearer to its end. A grace period only ever gets shorter.
    pub(super) fn stop(&self, name: &str, grace: SignedDuration, why: String, plan: &mut Plan) {
        let grace = grace.max(SHORTEST);
        let container = name.to_owned();
        let Some(stopping) = self.knowledge.stopping(name) else {
            return plan.steps.push(Step::Stop { container, grace, why });
        };
        if stopping.stage == Stage::Killed {
            return;
        }
        if grace < stopping.grace {
            return plan.steps.push(Step::Stop { container, grace, why });
        }
        let end = add(stopping.since, stopping.grace);
        match stopping.stage {
            Stage::Signalled(kill_at) if kill_at <= self.now => plan.steps.push(Step::Kill(container)),
            Stage::Signalled(kill_at) => plan.wake_at(kill_at),
            Stage::Hook if self.now < end => plan.wake_at(end),
            Stage::Waiting if self.now < end && !self.has_its_turn(name) => plan.wake_at(end),
            Stage::Hook | Stage::Waiting => {
                // The kubelet counts in whole seconds.
                let took = SignedDuration::from_secs(self.now.duration_since(stopping.since).as_secs());
                let left = (stopping.grace - took).max(LEAST);
                plan.steps.push(Step::Signal(container, add(self.now, left)));
            }
            Stage::Killed => {}
        }
    }

    /// Sidecars end after the Pod's own containers, the last first.
    fn has_its_turn(&self, name: &str) -> bool {
        let init = self.spec.init_containers.as_deref().unwrap_or_default();
        let Some(index) = init
            .iter()
            .position(|container| container.name == name && is_sidecar(container))
        else {
            return true;
        };
        let later = init[index + 1..].iter().filter(|container| is_sidecar(container));
        !later
            .chain(&self.spec.containers)
            .any(|container| self.knowledge.alive(&container.name))
    }
}

fn add(time: Timestamp, duration: SignedDuration) -> Timestamp {
    time.saturating_add(duration).unwrap_or(Timestamp::MAX)
}
