//! The Pod's conditions that are the kubelet's, in its order (`pkg/kubelet/status/generate.go`).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::phase::has_run;
use crate::pods::decide::{Knowledge, Sandbox, is_sidecar};

/// Reason and message of a condition that does not hold, or that holds for a reason.
type Why = Option<(&'static str, Option<String>)>;

/// What conditions are made from beside the statuses of containers.
pub struct Conditions<'a> {
    /// The Pod.
    pub pod: &'a Pod,
    /// What it is to be.
    pub spec: &'a PodSpec,
    /// When a condition that changes does so.
    pub now: Timestamp,
    /// The Pod's phase.
    pub phase: &'a str,
}

impl Conditions<'_> {
    /// All of them.
    pub fn all(
        &self,
        knowledge: &Knowledge,
        init: &[ContainerStatus],
        containers: &[ContainerStatus],
    ) -> Vec<PodCondition> {
        let initialised = self.initialised(init, containers);
        let containers_ready = self.containers_ready(init, containers);
        let ready = if containers_ready.0 {
            self.gates()
        } else {
            containers_ready.clone()
        };
        vec![
            self.condition("PodReadyToStartContainers", (knowledge.sandbox == Sandbox::Ready, None)),
            self.condition("Initialized", initialised),
            self.condition("Ready", ready),
            self.condition("ContainersReady", containers_ready),
            self.condition("PodScheduled", (true, None)),
        ]
    }

    fn initialised(&self, init: &[ContainerStatus], containers: &[ContainerStatus]) -> (bool, Why) {
        if self.phase == "Succeeded" {
            return (true, Some(("PodCompleted", None)));
        }
        if containers.iter().any(has_run) {
            return (true, None);
        }
        let done = |status: &&ContainerStatus| {
            let sidecar = self.is_sidecar(&status.name);
            if sidecar {
                status.started == Some(true)
            } else {
                status.ready
            }
        };
        let incomplete = names(init.iter().filter(|status| !done(status)));
        match incomplete {
            None => (true, None),
            Some(names) => {
                let message = format!("containers with incomplete status: [{names}]");
                (false, Some(("ContainersNotInitialized", Some(message))))
            }
        }
    }

    fn containers_ready(&self, init: &[ContainerStatus], containers: &[ContainerStatus]) -> (bool, Why) {
        match self.phase {
            "Succeeded" => return (false, Some(("PodCompleted", None))),
            "Failed" => return (false, Some(("PodFailed", None))),
            _ => {}
        }
        let sidecars = init.iter().filter(|status| self.is_sidecar(&status.name));
        let unready = names(sidecars.chain(containers).filter(|status| !status.ready));
        match unready {
            None => (true, None),
            Some(names) => {
                let message = format!("containers with unready status: [{names}]");
                (false, Some(("ContainersNotReady", Some(message))))
            }
        }
    }

    /// What others must say before the Pod is ready.
    fn gates(&self) -> (bool, Why) {
        let conditions = self.pod.status.as_ref().and_then(|status| status.conditions.as_ref());
        let closed = |gate: &str| {
            let condition = conditions
                .into_iter()
                .flatten()
                .find(|condition| condition.type_ == gate);
            match condition {
                None => Some(format!(
                    "corresponding condition of pod readiness gate {gate:?} does not exist."
                )),
                Some(condition) if condition.status == "True" => None,
                Some(condition) => Some(format!(
                    "the status of pod readiness gate {gate:?} is not \"True\", but {}",
                    condition.status
                )),
            }
        };
        let gates = self.spec.readiness_gates.iter().flatten();
        let messages: Vec<String> = gates.filter_map(|gate| closed(&gate.condition_type)).collect();
        if messages.is_empty() {
            (true, None)
        } else {
            (false, Some(("ReadinessGatesNotReady", Some(messages.join(", ")))))
        }
    }

    fn is_sidecar(&self, name: &str) -> bool {
        let mut init = self.spec.init_containers.iter().flatten();
        init.any(|container| container.name == name && is_sidecar(container))
    }

    fn condition(&self, type_: &str, (value, why): (bool, Why)) -> PodCondition {
        let status = if value { "True" } else { "False" };
        let old = self.pod.status.as_ref().and_then(|status| status.conditions.as_ref());
        let mut same = old
            .into_iter()
            .flatten()
            .filter(|old| old.type_ == type_ && old.status == status);
        let since = same.next().and_then(|old| old.last_transition_time.clone());
        let (reason, message) = why.unzip();
        PodCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.map(str::to_owned),
            message: message.flatten(),
            observed_generation: self.pod.metadata.generation,
            last_probe_time: None,
            last_transition_time: since.or(Some(Time(self.now))),
        }
    }
}

/// Names as Go prints a list of them; `None` when there are none.
fn names<'a>(statuses: impl Iterator<Item = &'a ContainerStatus>) -> Option<String> {
    let names: Vec<&str> = statuses.map(|status| status.name.as_str()).collect();
    (!names.is_empty()).then(|| names.join(" "))
}
