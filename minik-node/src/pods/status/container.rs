//! The status of one container: the present run, the one before, or why there is none.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState as ApiState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, ContainerUser, LinuxContainerUser, Pod, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::pods::decide::{Knowledge, crash_wait, is_sidecar, restart};
use crate::runtime::protocol::{Attempt, Exit};
use crate::runtime::spec::User;

/// What a container's status is made from.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The Pod.
    pub pod: &'a Pod,
    /// What its worker knows.
    pub knowledge: &'a Knowledge,
    /// The time.
    pub now: Timestamp,
}

impl View<'_> {
    /// The status of a container; `init` says of which list.
    pub fn status(&self, container: &Container, init: bool) -> ContainerStatus {
        let old = self.remembered(&container.name);
        // A Pod that is over keeps what was said of its containers' ends.
        if let Some(old) = old.filter(|old| self.is_over() && is_ended(old)) {
            return old.clone();
        }
        match self.knowledge.current(&container.name) {
            Some(current) if self.begins(&container.name) => self.begun(container, current),
            Some(current) => self.known(container, current, init),
            None => self.unknown(container, init),
        }
    }

    /// Of a container that runs or ran in this sandbox.
    fn known(&self, container: &Container, current: &Attempt, init: bool) -> ContainerStatus {
        let name = &container.name;
        let state = self.knowledge.states.get(name);
        let previous = state.and_then(|state| state.previous.as_ref());
        let before = previous.or_else(|| self.knowledge.former.get(name));
        let waiting = self.held_back(container, current, init);
        let (shown, last) = match waiting {
            Some(waiting) => (waiting, Some(current)),
            None => (self.api_state(current), before),
        };
        let done = init && !is_sidecar(container) && self.knowledge.succeeded(name);
        let ready = self.knowledge.ready(container) && (!init || is_sidecar(container));
        ContainerStatus {
            name: name.clone(),
            image: current.image.clone(),
            image_id: current.image_id.clone(),
            container_id: Some(container_id(current)),
            ready: ready || done,
            started: Some(self.knowledge.started(container)),
            restart_count: restarts(current),
            state: Some(shown),
            last_state: Some(last.map(|attempt| self.api_state(attempt)).unwrap_or_default()),
            resources: Some(container.resources.clone().unwrap_or_default()),
            allocated_resources: container.resources.as_ref().and_then(|wanted| wanted.requests.clone()),
            user: current.user.as_ref().map(api_user),
            volume_mounts: volume_mounts(container),
            ..ContainerStatus::default()
        }
    }

    /// Of a container whose `postStart` hook runs: it is not shown as running before that has ended.
    fn begun(&self, container: &Container, current: &Attempt) -> ContainerStatus {
        let state = self.knowledge.states.get(&container.name);
        let before = state.and_then(|state| state.previous.as_ref());
        ContainerStatus {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            ready: false,
            started: Some(false),
            restart_count: restarts(current),
            state: Some(self.initial()),
            last_state: Some(before.map(|attempt| self.api_state(attempt)).unwrap_or_default()),
            volume_mounts: volume_mounts(container),
            ..ContainerStatus::default()
        }
    }

    /// Of a container that has not run in this sandbox: what the API remembers, and what holds it back.
    fn unknown(&self, container: &Container, init: bool) -> ContainerStatus {
        let name = &container.name;
        let old = self.remembered(name);
        if let Some(old) = old.filter(|old| init && is_ended(old)) {
            return old.clone();
        }
        let former = self.knowledge.former.get(name);
        let mut status = ContainerStatus {
            name: name.clone(),
            image: container.image.clone().unwrap_or_default(),
            ready: false,
            started: Some(false),
            state: Some(self.waiting(name).unwrap_or_else(|| self.initial())),
            restart_count: old.map_or(0, |old| old.restart_count),
            last_state: Some(old.and_then(|old| old.last_state.clone()).unwrap_or_default()),
            volume_mounts: volume_mounts(container),
            ..ContainerStatus::default()
        };
        if let Some(former) = former {
            let state = self.api_state(former);
            let over = former
                .ended
                .as_ref()
                .is_some_and(|ended| !self.runs_again(container, ended.exit.code));
            status.image_id.clone_from(&former.image_id);
            status.container_id = Some(container_id(former));
            status.restart_count = restarts(former);
            if over {
                status.state = Some(state);
            } else {
                status.last_state = Some(state);
            }
        }
        status
    }

    /// The waiting state of a container that ended and is to run again, but not yet.
    fn held_back(&self, container: &Container, current: &Attempt, init: bool) -> Option<ApiState> {
        let name = &container.name;
        let code = current.ended.as_ref()?.exit.code;
        let done = init && !is_sidecar(container) && code == 0;
        if done || self.pod.metadata.deletion_timestamp.is_some() || !self.runs_again(container, code) {
            return None;
        }
        self.waiting(name).or_else(|| {
            let failure = self.knowledge.failures.get(name)?;
            (failure.id == current.id).then(|| waiting(failure.reason, Some(failure.message.clone())))
        })
    }

    /// Whether the present run's `postStart` hook has not ended, or not well.
    fn begins(&self, name: &str) -> bool {
        let failed = self.knowledge.post_start_failed(name) && self.knowledge.alive(name);
        failed || self.knowledge.starts(name)
    }

    fn is_over(&self) -> bool {
        let phase = self.pod.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    }

    fn runs_again(&self, container: &Container, code: i32) -> bool {
        let spec = self.pod.spec.as_ref();
        spec.is_some_and(|spec| restart::after(spec, container, code))
    }

    /// What keeps a container from being started now.
    fn waiting(&self, name: &str) -> Option<ApiState> {
        if let Some(trouble) = self.knowledge.troubles.get(name) {
            return Some(waiting(&trouble.reason, Some(trouble.message.clone())));
        }
        crash_wait(name, self.knowledge, self.knowledge.steady(self.now))?;
        let backoff = self.knowledge.crashes.get(name)?;
        let metadata = &self.pod.metadata;
        let message = format!(
            "back-off {} restarting failed container={name} pod={}_{}({})",
            backoff.text(),
            metadata.name.as_deref().unwrap_or_default(),
            metadata.namespace.as_deref().unwrap_or_default(),
            metadata.uid.as_deref().unwrap_or_default(),
        );
        Some(waiting("CrashLoopBackOff", Some(message)))
    }

    /// The state of a container whose turn has not come.
    fn initial(&self) -> ApiState {
        let spec = self.pod.spec.as_ref();
        let init = spec
            .and_then(|spec| spec.init_containers.as_deref())
            .unwrap_or_default();
        waiting(
            if init.is_empty() {
                "ContainerCreating"
            } else {
                "PodInitializing"
            },
            None,
        )
    }

    fn remembered(&self, name: &str) -> Option<&ContainerStatus> {
        let old = self.pod.status.as_ref()?;
        let lists = [&old.container_statuses, &old.init_container_statuses];
        lists.into_iter().flatten().flatten().find(|status| status.name == name)
    }

    fn api_state(&self, attempt: &Attempt) -> ApiState {
        let started_at = Time(attempt.started_at);
        let Some(ended) = &attempt.ended else {
            return ApiState {
                running: Some(ContainerStateRunning {
                    started_at: Some(started_at),
                }),
                ..ApiState::default()
            };
        };
        if ended.exit == Exit::LOST {
            return lost();
        }
        let reason = match (&ended.start_error, ended.exit.code) {
            (Some(_), _) => "StartError",
            (None, 0) => "Completed",
            (None, _) => "Error",
        };
        let ran = ended.start_error.is_none();
        let messages = &self.knowledge.messages;
        let left = || messages.get(&attempt.id).filter(|text| !text.is_empty()).cloned();
        let terminated = ContainerStateTerminated {
            container_id: Some(container_id(attempt)),
            exit_code: ended.exit.code,
            finished_at: Some(Time(ended.at)),
            message: ended.start_error.clone().or_else(left),
            reason: Some(reason.to_owned()),
            signal: None,
            started_at: Some(if ran { started_at } else { Time(Timestamp::UNIX_EPOCH) }),
        };
        ApiState {
            terminated: Some(terminated),
            ..ApiState::default()
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

fn waiting(reason: &str, message: Option<String>) -> ApiState {
    ApiState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message,
        }),
        ..ApiState::default()
    }
}

fn is_ended(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|state| state.terminated.is_some())
}

fn container_id(attempt: &Attempt) -> String {
    format!("minik://{}", attempt.id)
}

fn restarts(attempt: &Attempt) -> i32 {
    i32::try_from(attempt.attempt).unwrap_or(i32::MAX)
}

/// What is mounted, and whether what is mounted below it is read-only too (KEP-3857). Not asked of the runtime, which
/// knows no names of volumes.
fn volume_mounts(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let mounts = container.volume_mounts.as_ref()?.iter().map(|mount| {
        let read_only = mount.read_only == Some(true);
        let recursive = match mount.recursive_read_only.as_deref() {
            Some("Enabled" | "IfPossible") => "Enabled",
            _ => "Disabled",
        };
        VolumeMountStatus {
            name: mount.name.clone(),
            mount_path: mount.mount_path.clone(),
            read_only: read_only.then_some(true),
            recursive_read_only: read_only.then(|| recursive.to_owned()),
            ..VolumeMountStatus::default()
        }
    });
    Some(mounts.collect())
}

fn api_user(user: &User) -> ContainerUser {
    ContainerUser {
        linux: Some(LinuxContainerUser {
            uid: user.uid.into(),
            gid: user.gid.into(),
            supplemental_groups: Some(user.groups.iter().copied().map(i64::from).collect()),
        }),
    }
}
