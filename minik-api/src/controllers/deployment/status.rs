//! A Deployment's status: counts, and the conditions that `kubectl rollout status` waits for. Pure.
//!
//! Reasons and sentences are those of Kubernetes 1.36's deployment controller.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet, ReplicaSetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::limits::Limits;

const AVAILABLE: &str = "Available";
const PROGRESSING: &str = "Progressing";
const REPLICA_FAILURE: &str = "ReplicaFailure";

const COMPLETE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";

/// What a pass knows about the rollout when it writes the status.
pub struct Rollout<'a> {
    /// The Deployment as observed.
    pub deployment: &'a Deployment,
    /// Its ReplicaSets as observed, the new one included.
    pub replica_sets: Vec<&'a ReplicaSet>,
    /// The ReplicaSet of the present template, if it exists already.
    pub new: Option<&'a ReplicaSet>,
    /// The name of the ReplicaSet that this pass creates.
    pub creating: Option<&'a str>,
    /// Whether progress is judged in this pass: not while paused or scaling.
    pub judged: bool,
    /// The time of the pass.
    pub now: Timestamp,
}

impl Rollout<'_> {
    /// The status as it should be.
    pub fn status(&self) -> DeploymentStatus {
        let limits = Limits::of(self.deployment);
        let mut status = self.counts();
        status.conditions = self.old_status().conditions;
        self.note_pause(&mut status);
        let condition = if status.available_replicas.unwrap_or(0) >= limits.fewest() {
            self.condition(
                AVAILABLE,
                "True",
                "MinimumReplicasAvailable",
                "Deployment has minimum availability.",
            )
        } else {
            let message = "Deployment does not have minimum availability.";
            self.condition(AVAILABLE, "False", "MinimumReplicasUnavailable", message)
        };
        set(&mut status, condition);
        if self.deadline().is_none() {
            remove(&mut status, PROGRESSING);
        } else if self.judged {
            self.judge_progress(&mut status, limits);
        }
        if self.judged {
            self.note_failures(&mut status);
        }
        status.conditions.take_if(|conditions| conditions.is_empty());
        status
    }

    /// When to look again because a deadline runs, given the status as it should be.
    pub fn recheck(&self, status: &DeploymentStatus) -> Option<Duration> {
        let deadline = self.deadline()?;
        let progressing = get(status, PROGRESSING)?;
        if matches!(progressing.reason.as_deref(), Some(COMPLETE | TIMED_OUT | PAUSED)) {
            return None;
        }
        let since = progressing.last_update_time.as_ref()?.0;
        let left = i64::from(deadline) - self.now.duration_since(since).as_secs() + 1;
        Some(Duration::from_secs(u64::try_from(left).unwrap_or(0).max(1)))
    }

    fn counts(&self) -> DeploymentStatus {
        let sum = |of: fn(&ReplicaSetStatus) -> i32| -> i32 {
            self.replica_sets
                .iter()
                .filter_map(|set| set.status.as_ref())
                .map(of)
                .sum()
        };
        let replicas = sum(|status| status.replicas);
        let available = sum(|status| status.available_replicas.unwrap_or(0));
        let updated = self
            .new
            .and_then(|set| set.status.as_ref())
            .map_or(0, |status| status.replicas);
        DeploymentStatus {
            observed_generation: self.deployment.metadata.generation,
            replicas: some(replicas),
            updated_replicas: some(updated),
            ready_replicas: some(sum(|status| status.ready_replicas.unwrap_or(0))),
            available_replicas: some(available),
            unavailable_replicas: some((replicas - available).max(0)),
            terminating_replicas: Some(sum(|status| status.terminating_replicas.unwrap_or(0))),
            collision_count: self.old_status().collision_count,
            conditions: None,
        }
    }

    fn note_pause(&self, status: &mut DeploymentStatus) {
        let reason = get(status, PROGRESSING).and_then(|condition| condition.reason.clone());
        if self.deadline().is_none() || reason.as_deref() == Some(TIMED_OUT) {
            return;
        }
        let paused = is_paused(self.deployment);
        let noted = reason.as_deref() == Some(PAUSED);
        if paused && !noted {
            set(
                status,
                self.condition(PROGRESSING, "Unknown", PAUSED, "Deployment is paused"),
            );
        } else if !paused && noted {
            set(
                status,
                self.condition(PROGRESSING, "Unknown", "DeploymentResumed", "Deployment is resumed"),
            );
        }
    }

    fn judge_progress(&self, status: &mut DeploymentStatus, limits: Limits) {
        if let Some(name) = self.creating {
            let message = format!("Created new replica set \"{name}\"");
            set(
                status,
                self.condition(PROGRESSING, "True", "NewReplicaSetCreated", &message),
            );
            return;
        }
        let current = get(status, PROGRESSING).cloned();
        let was_complete = current.as_ref().is_some_and(|c| c.reason.as_deref() == Some(COMPLETE));
        if was_complete && status.replicas == status.updated_replicas {
            return;
        }
        let subject = match self.new.and_then(|set| set.metadata.name.as_deref()) {
            Some(name) => format!("ReplicaSet \"{name}\""),
            None => format!(
                "Deployment \"{}\"",
                self.deployment.metadata.name.as_deref().unwrap_or_default()
            ),
        };
        if is_complete(status, limits) {
            let message = format!("{subject} has successfully progressed.");
            set(status, self.condition(PROGRESSING, "True", COMPLETE, &message));
        } else if self.has_progressed(status) {
            let message = format!("{subject} is progressing.");
            let mut condition = self.condition(PROGRESSING, "True", "ReplicaSetUpdated", &message);
            if let Some(current) = current.filter(|current| current.status == "True") {
                condition.last_transition_time = current.last_transition_time;
            }
            remove(status, PROGRESSING);
            set(status, condition);
        } else if self.has_timed_out(current.as_ref()) {
            let message = format!("{subject} has timed out progressing.");
            set(status, self.condition(PROGRESSING, "False", TIMED_OUT, &message));
        } else if let (None, Some(new)) = (current, self.new) {
            let message = format!(
                "Found new replica set \"{}\"",
                new.metadata.name.as_deref().unwrap_or_default()
            );
            set(
                status,
                self.condition(PROGRESSING, "True", "FoundNewReplicaSet", &message),
            );
        }
    }

    fn has_progressed(&self, status: &DeploymentStatus) -> bool {
        let old = self.old_status();
        let count = |n: Option<i32>| n.unwrap_or(0);
        let outdated = |s: &DeploymentStatus| count(s.replicas) - count(s.updated_replicas);
        count(status.updated_replicas) > count(old.updated_replicas)
            || outdated(status) < outdated(&old)
            || count(status.ready_replicas) > count(old.ready_replicas)
            || count(status.available_replicas) > count(old.available_replicas)
    }

    fn has_timed_out(&self, current: Option<&DeploymentCondition>) -> bool {
        let (Some(current), Some(deadline)) = (current, self.deadline()) else {
            return false;
        };
        match current.reason.as_deref() {
            Some(COMPLETE) => false,
            Some(TIMED_OUT) => true,
            _ => current
                .last_update_time
                .as_ref()
                .is_some_and(|since| self.now.duration_since(since.0).as_secs() > i64::from(deadline)),
        }
    }

    /// Carries a ReplicaSet's failure to create Pods up, the new one's before any other's.
    fn note_failures(&self, status: &mut DeploymentStatus) {
        let failure = |set: &ReplicaSet| {
            let conditions = set.status.as_ref().and_then(|status| status.conditions.as_ref());
            conditions
                .into_iter()
                .flatten()
                .find(|condition| condition.type_ == REPLICA_FAILURE)
                .cloned()
        };
        match self
            .new
            .into_iter()
            .chain(self.replica_sets.iter().copied())
            .find_map(failure)
        {
            None => remove(status, REPLICA_FAILURE),
            Some(failure) => {
                let condition = DeploymentCondition {
                    type_: failure.type_,
                    status: failure.status,
                    reason: failure.reason,
                    message: failure.message,
                    last_transition_time: failure.last_transition_time.clone(),
                    last_update_time: failure.last_transition_time,
                };
                set(status, condition);
            }
        }
    }

    fn condition(&self, kind: &str, value: &str, reason: &str, message: &str) -> DeploymentCondition {
        DeploymentCondition {
            type_: kind.into(),
            status: value.into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_update_time: Some(Time(self.now)),
            last_transition_time: Some(Time(self.now)),
        }
    }

    fn old_status(&self) -> DeploymentStatus {
        self.deployment.status.clone().unwrap_or_default()
    }

    fn deadline(&self) -> Option<i32> {
        let deadline = self.deployment.spec.as_ref()?.progress_deadline_seconds?;
        (deadline != i32::MAX).then_some(deadline)
    }
}

/// The Deployment whose new ReplicaSet the server has refused: it makes no progress, if that is watched.
pub fn refused(deployment: &Deployment, message: &str, now: Timestamp) -> Deployment {
    let mut deployment = deployment.clone();
    let deadline = deployment.spec.as_ref().and_then(|spec| spec.progress_deadline_seconds);
    if deadline.is_some_and(|deadline| deadline != i32::MAX) {
        let condition = DeploymentCondition {
            type_: PROGRESSING.into(),
            status: "False".into(),
            reason: Some("ReplicaSetCreateError".into()),
            message: Some(message.into()),
            last_update_time: Some(Time(now)),
            last_transition_time: Some(Time(now)),
        };
        set(deployment.status.get_or_insert_default(), condition);
    }
    deployment
}

/// Whether `spec.paused` is set.
pub fn is_paused(deployment: &Deployment) -> bool {
    deployment.spec.as_ref().and_then(|spec| spec.paused).unwrap_or(false)
}

/// Whether the rollout has nothing left to do.
pub fn is_complete(status: &DeploymentStatus, limits: Limits) -> bool {
    let all = |count: Option<i32>| count.unwrap_or(0) == limits.replicas;
    all(status.updated_replicas) && all(status.replicas) && all(status.available_replicas)
}

/// Counts are left out when zero, as in Go's `omitempty`.
fn some(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

fn get<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == kind)
}

/// Sets a condition; the same status and reason again change nothing, not even the times.
fn set(status: &mut DeploymentStatus, mut condition: DeploymentCondition) {
    if let Some(current) = get(status, &condition.type_) {
        if current.status == condition.status && current.reason == condition.reason {
            return;
        }
        if current.status == condition.status {
            condition.last_transition_time = current.last_transition_time.clone();
        }
    }
    remove(status, &condition.type_);
    status.conditions.get_or_insert_default().push(condition);
}

fn remove(status: &mut DeploymentStatus, kind: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_ != kind);
    }
}
