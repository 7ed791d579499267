//! One pass of the job controller as a value. Pure; the loop in `mod.rs` carries it out.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::conditions::{COMPLETE, Ending, FAILED, FAILURE_TARGET, SUCCESS_CRITERIA_MET, SUSPENDED, finished, set};
use super::manage::{Change, Manage};
use super::pods::{deadline, has_failed, is_indexed, is_tracked, restarted_too_often};
use super::policy::{Verdict, success, verdict};
use super::tally::Tally;
use super::view::View;
use crate::controllers::pod::{is_active, is_finished, is_ready, is_terminating, phase};
use crate::controllers::recorder::{Note, Severity};

/// What to do, in this order.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// Pods to delete uncounted: the finalizer comes off first.
    pub discard: Vec<Arc<Pod>>,
    /// Pods to delete; they will be counted.
    pub delete: Vec<Arc<Pod>>,
    /// Pods to create.
    pub create: Vec<Pod>,
    /// The status as it should be, if all that succeeds.
    pub status: JobStatus,
    /// Pods whose finalizer comes off once that is written.
    pub release: Vec<Arc<Pod>>,
    /// What to tell once that is written.
    pub notes: Vec<Note>,
    /// When to look again if nothing changes.
    pub recheck: Option<Duration>,
}

/// Decides one pass.
pub fn decide(view: &View<'_>) -> Plan {
    let Some(spec) = &view.job.spec else {
        return Plan::default();
    };
    let status = view.job.status.clone().unwrap_or_default();
    if finished(view.job).is_some() {
        let left = view.pods.iter().filter(|pod| is_tracked(pod));
        return Plan {
            status,
            release: left.cloned().collect(),
            ..Plan::default()
        };
    }
    Pass {
        view,
        spec,
        tally: Tally::of(view, spec),
        active: view.pods.iter().filter(|pod| is_active(pod)).cloned().collect(),
    }
    .plan(status)
}

struct Pass<'a> {
    view: &'a View<'a>,
    spec: &'a JobSpec,
    tally: Tally<'a>,
    active: Vec<Arc<Pod>>,
}

impl Pass<'_> {
    fn plan(self, mut status: JobStatus) -> Plan {
        let now = self.view.now;
        let suspended = self.spec.suspend == Some(true);
        if status.start_time.is_none() && !suspended {
            status.start_time = Some(Time(now));
        }
        let mut plan = Plan {
            recheck: deadline(self.view.job, self.spec, now)
                .map(|left| Duration::from_secs(u64::try_from(left).unwrap_or(0).max(1))),
            ..Plan::default()
        };
        let mut ending = self.ending();
        if ending.is_some() {
            plan.delete.clone_from(&self.active);
            // Pods that are not seen yet would be missed.
            ending = ending.filter(|_| self.view.settled);
        } else if self.view.settled && self.view.job.metadata.deletion_timestamp.is_none() {
            self.manage(&mut plan);
            ending = self.completion(&plan);
            if ending.is_none() {
                note_suspension(&mut status, &mut plan, suspended, now);
            }
        } else {
            ending = self.completion(&plan);
        }
        self.show_counts(&mut status, &plan);
        self.close(status, plan, ending)
    }

    /// Counts the ended Pods, and says that the Job has ended once all are counted and gone.
    fn close(self, mut status: JobStatus, mut plan: Plan, ending: Option<Ending>) -> Plan {
        let (spec, now) = (self.spec, self.view.now);
        let deleted = self.view.job.metadata.deletion_timestamp.is_some();
        let delayed = Manage::delayed(spec, &self.tally, &self.active);
        let over = deleted || ending.is_some();
        let all_failed = ending.as_ref().is_some_and(|ending| !ending.well);
        let discarded = plan.discard.clone();
        let may_go = |pod: &Pod| {
            let is = |other: &Arc<Pod>| other.metadata.uid == pod.metadata.uid;
            let kept = delayed.values().any(|kept| is(kept));
            !discarded.iter().any(is) && (over || phase(pod) == "Succeeded" || (has_failed(spec, pod) && !kept))
        };
        plan.release = self.tally.count(&mut status, all_failed, may_go);
        if let Some(ending) = ending {
            let kind = if ending.well {
                SUCCESS_CRITERIA_MET
            } else {
                FAILURE_TARGET
            };
            set(&mut status, kind, true, (&ending.reason, &ending.message), now);
            if is_over(&status) {
                finish(&mut status, &mut plan.notes, spec, &ending, now);
            }
        }
        plan.status = status;
        plan
    }

    /// How the Job ends for another reason than that all is done.
    fn ending(&self) -> Option<Ending> {
        let spec = self.spec;
        let noted = Ending::noted(self.view.job);
        let by_policy = || {
            let failed = self.view.pods.iter().filter(|pod| has_failed(spec, pod));
            let mut verdicts = failed.map(|pod| verdict(spec, pod));
            verdicts.find_map(|verdict| match verdict {
                Verdict::FailJob(message) => Some(Ending::failure("PodFailurePolicy", &message)),
                _ => None,
            })
        };
        let by_limit = || {
            let pods = self.view.pods.iter().map(|pod| &**pod);
            let exceeded = self.tally.failed > spec.backoff_limit.unwrap_or(6) || restarted_too_often(spec, pods);
            let message = "Job has reached the specified backoff limit";
            exceeded.then(|| Ending::failure("BackoffLimitExceeded", message))
        };
        let by_deadline = || {
            let passed = deadline(self.view.job, spec, self.view.now).is_some_and(|left| left <= 0);
            let message = "Job was active longer than specified deadline";
            passed.then(|| Ending::failure("DeadlineExceeded", message))
        };
        noted
            .or_else(by_policy)
            .or_else(by_limit)
            .or_else(by_deadline)
            .or_else(|| self.ending_by_index())
    }

    fn ending_by_index(&self) -> Option<Ending> {
        let spec = self.spec;
        if !is_indexed(spec) {
            return None;
        }
        let (done, lost) = (self.tally.done.total(), self.tally.lost.total());
        let limited = spec.backoff_limit_per_index.is_some();
        if limited && spec.max_failed_indexes.is_some_and(|most| lost > most) {
            let message = "Job has exceeded the specified maximal number of failed indexes";
            return Some(Ending::failure("MaxFailedIndexesExceeded", message));
        }
        if limited && lost > 0 && lost + done >= spec.completions.unwrap_or(0) {
            return Some(Ending::failure("FailedIndexes", "Job has failed indexes"));
        }
        success(spec, &self.tally.done).map(|message| Ending::success("SuccessPolicy", &message))
    }

    /// Whether everything that was to succeed has, and nothing runs any more.
    fn completion(&self, plan: &Plan) -> Option<Ending> {
        let idle = self.active.len() == plan.discard.len() && plan.create.is_empty();
        let done = match self.spec.completions {
            None => self.tally.succeeded > 0,
            Some(completions) => self.tally.succeeded >= completions,
        };
        let message = "Reached expected number of succeeded pods";
        (done && idle).then(|| Ending::success("CompletionsReached", message))
    }

    fn manage(&self, plan: &mut Plan) {
        let manage = Manage {
            view: self.view,
            spec: self.spec,
            tally: &self.tally,
            active: &self.active,
        };
        match manage.change() {
            Change::None => {}
            Change::Discard(pods) => plan.discard = pods,
            Change::Create(pods) => plan.create = pods,
            Change::Wait(delay) => plan.recheck = Some(plan.recheck.map_or(delay, |other| other.min(delay))),
        }
    }

    fn show_counts(&self, status: &mut JobStatus, plan: &Plan) {
        let leaves = |pod: &&Arc<Pod>| {
            plan.discard
                .iter()
                .chain(&plan.delete)
                .any(|gone| Arc::ptr_eq(gone, pod))
        };
        let staying = self.active.iter().filter(|pod| !leaves(pod));
        let ready = staying.clone().filter(|pod| is_ready(pod)).count();
        let active = staying.count() + plan.create.len();
        let ending = self
            .view
            .pods
            .iter()
            .filter(|pod| is_terminating(pod) && !is_finished(pod))
            .count();
        status.active = (active != 0).then(|| number(active));
        status.ready = Some(number(ready));
        status.terminating = Some(number(ending + plan.delete.len() + plan.discard.len()));
    }
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Whether everything is counted and every Pod gone.
fn is_over(status: &JobStatus) -> bool {
    let uncounted = status.uncounted_terminated_pods.clone().unwrap_or_default();
    let none = |uids: Option<Vec<String>>| uids.is_none_or(|uids| uids.is_empty());
    status.active.is_none()
        && status.terminating.is_none_or(|count| count == 0)
        && none(uncounted.succeeded)
        && none(uncounted.failed)
}

fn finish(status: &mut JobStatus, notes: &mut Vec<Note>, spec: &JobSpec, ending: &Ending, now: Timestamp) {
    let why = (ending.reason.as_str(), ending.message.as_str());
    let kind = if ending.well { COMPLETE } else { FAILED };
    set(status, kind, true, why, now);
    if !ending.well {
        notes.push(Note {
            severity: Severity::Warning,
            reason: reason_of(&ending.reason),
            message: ending.message.clone(),
        });
        return;
    }
    status.completion_time = Some(Time(now));
    if spec
        .completions
        .is_some_and(|wanted| status.succeeded.unwrap_or(0) > wanted)
    {
        notes.push(Note {
            severity: Severity::Warning,
            reason: "TooManySucceededPods",
            message: "Too many succeeded pods running after completion count reached".into(),
        });
    }
    notes.push(Note {
        severity: Severity::Normal,
        reason: "Completed",
        message: "Job completed".into(),
    });
}

/// The reason of the event about a failure, which is the condition's.
fn reason_of(reason: &str) -> &'static str {
    const REASONS: [&str; 5] = [
        "PodFailurePolicy",
        "BackoffLimitExceeded",
        "DeadlineExceeded",
        "MaxFailedIndexesExceeded",
        "FailedIndexes",
    ];
    REASONS.into_iter().find(|known| *known == reason).unwrap_or("Failed")
}

fn note_suspension(status: &mut JobStatus, plan: &mut Plan, suspended: bool, now: Timestamp) {
    let (reason, message) = if suspended {
        ("JobSuspended", "Job suspended")
    } else {
        ("JobResumed", "Job resumed")
    };
    if set(status, SUSPENDED, suspended, (reason, message), now) {
        if !suspended {
            status.start_time = Some(Time(now));
        }
        plan.notes.push(Note {
            severity: Severity::Normal,
            reason: if suspended { "Suspended" } else { "Resumed" },
            message: message.into(),
        });
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
