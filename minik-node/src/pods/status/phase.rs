//! The Pod's phase from the statuses of its containers: the kubelet's `getPhase`.

use k8s_openapi::api::core::v1::{ContainerStatus, PodSpec};

use crate::pods::decide::{is_sidecar, restart};

/// What containers amount to.
#[derive(Default)]
struct Count {
    pending_init: usize,
    pending_sidecars: usize,
    failed_init: bool,
    waiting: usize,
    running: usize,
    stopped: usize,
    succeeded: usize,
    /// Stopped ones that will run again.
    restarting: usize,
}

/// `terminal` says that nothing will be started again.
pub fn phase(spec: &PodSpec, init: &[ContainerStatus], containers: &[ContainerStatus], terminal: bool) -> &'static str {
    let mut count = Count::default();
    for status in init {
        count.init(spec, status);
    }
    for status in containers {
        count.regular(spec, status);
    }
    let initialised = containers.iter().any(has_run);
    match count {
        Count { failed_init: true, .. } => "Failed",
        // A Pod that is over without ever having been whole has failed.
        Count {
            running: 0, succeeded, ..
        } if terminal && succeeded == containers.len() => "Succeeded",
        Count { running: 0, .. } if terminal => "Failed",
        Count { pending_init: 1.., .. } | Count { waiting: 1.., .. } => "Pending",
        Count {
            pending_sidecars: 1.., ..
        } if !initialised => "Pending",
        Count { running: 1.., .. } => "Running",
        Count { stopped: 0, .. } => "Pending",
        Count { restarting: 1.., .. } => "Running",
        Count { stopped, succeeded, .. } if stopped == succeeded => "Succeeded",
        _ => "Failed",
    }
}

/// Whether a container of the Pod proper runs or ran.
pub fn has_run(status: &ContainerStatus) -> bool {
    let ended = |state: &Option<k8s_openapi::api::core::v1::ContainerState>| {
        state.as_ref().is_some_and(|state| state.terminated.is_some())
    };
    let running = status.state.as_ref().is_some_and(|state| state.running.is_some());
    running || ended(&status.state) || ended(&status.last_state)
}

impl Count {
    fn init(&mut self, spec: &PodSpec, status: &ContainerStatus) {
        let mut list = spec.init_containers.iter().flatten();
        let Some(container) = list.find(|container| container.name == status.name) else {
            return;
        };
        let Some(state) = &status.state else { return };
        let before = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
        if is_sidecar(container) {
            if state.running.is_some() {
                self.running += 1;
                self.pending_sidecars += usize::from(status.started != Some(true));
            } else if state.waiting.is_some() && before.is_none() {
                self.pending_sidecars += 1;
                self.waiting += 1;
            }
        } else if let Some(end) = &state.terminated {
            let again = restart::after(spec, container, end.exit_code);
            self.failed_init |= end.exit_code != 0 && !again;
            self.pending_init += usize::from(end.exit_code != 0 && again);
        } else {
            self.pending_init += 1;
        }
    }

    fn regular(&mut self, spec: &PodSpec, status: &ContainerStatus) {
        let Some(state) = &status.state else { return };
        let before = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
        if state.running.is_some() {
            self.running += 1;
        } else if let Some(end) = &state.terminated {
            let container = spec.containers.iter().find(|container| container.name == status.name);
            self.stopped += 1;
            self.succeeded += usize::from(end.exit_code == 0);
            let again = container.is_some_and(|container| restart::after(spec, container, end.exit_code));
            self.restarting += usize::from(again);
        } else if before.is_some() {
            self.stopped += 1;
            self.restarting += 1;
        } else {
            self.waiting += 1;
        }
    }
}
