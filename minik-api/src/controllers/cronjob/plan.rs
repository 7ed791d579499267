//! One pass of the cronjob controller as a value. Pure; the loop in `mod.rs` carries it out.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::ResourceExt;

use super::due::{Calendar, Due};
use crate::controllers::job::finished;
use crate::controllers::owner::controller_reference;
use crate::controllers::recorder::{Note, Severity};
use crate::resource::cron::Schedule;

/// The time that a Job was made for.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// What a pass looks at.
pub struct View<'a> {
    /// The CronJob.
    pub cron_job: &'a CronJob,
    /// The Jobs that it controls.
    pub jobs: &'a [Arc<Job>],
    /// Uids of Jobs in `status.active` that the server says are gone.
    pub missing: &'a BTreeSet<String>,
    /// The time of the pass.
    pub now: Timestamp,
}

/// A Job to start.
#[derive(Debug, PartialEq)]
pub struct Start {
    /// The Job.
    pub job: Job,
    /// The time that it is for.
    pub scheduled: Timestamp,
}

/// What to do, in this order.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// What to tell of what was seen.
    pub notes: Vec<Note>,
    /// Running Jobs that the next one replaces, and ended ones beyond the history limits.
    pub delete: Vec<Arc<Job>>,
    /// The Job to start.
    pub start: Option<Start>,
    /// The status as it should be before that Job is in it.
    pub status: CronJobStatus,
    /// When to look again if nothing changes.
    pub recheck: Option<Duration>,
}

/// Decides one pass.
pub fn decide(view: &View<'_>) -> Plan {
    let mut plan = Plan {
        status: view.cron_job.status.clone().unwrap_or_default(),
        ..Plan::default()
    };
    observe(view, &mut plan);
    if view.cron_job.metadata.deletion_timestamp.is_none() {
        schedule(view, &mut plan);
        plan.delete.extend(beyond_history(view));
    }
    let gone: Vec<_> = plan.delete.iter().map(|job| job.uid()).collect();
    forget(&mut plan.status, |active| gone.contains(&active.uid));
    plan
}

/// What has become of the Jobs since the last pass.
fn observe(view: &View<'_>, plan: &mut Plan) {
    let noted = plan.status.active.clone().unwrap_or_default();
    for job in view.jobs {
        let is_noted = noted.iter().any(|active| active.uid == job.uid());
        match (finished(job), is_noted) {
            (None, false) => {
                let message = format!(
                    "Saw a job that the controller did not create or forgot: {}",
                    job.name_any()
                );
                plan.notes.push(note(Severity::Warning, "UnexpectedJob", message));
            }
            (Some(ended), true) => {
                let message = format!("Saw completed job: {}, condition: {}", job.name_any(), ended.type_);
                plan.notes.push(note(Severity::Normal, "SawCompletedJob", message));
                forget(&mut plan.status, |active| active.uid == job.uid());
            }
            _ => {}
        }
        let completed = job.status.as_ref().and_then(|status| status.completion_time.clone());
        let succeeded = finished(job).is_some_and(|ended| ended.type_ == "Complete");
        if let Some(completed) = completed.filter(|_| succeeded) {
            let last = plan.status.last_successful_time.as_ref();
            if last.is_none_or(|last| completed.0 > last.0) {
                plan.status.last_successful_time = Some(completed);
            }
        }
    }
    for active in noted {
        if active.uid.as_ref().is_some_and(|uid| view.missing.contains(uid)) {
            let message = format!("Active job went missing: {}", active.name.clone().unwrap_or_default());
            plan.notes.push(note(Severity::Normal, "MissingJob", message));
            forget(&mut plan.status, |other| other.uid == active.uid);
        }
    }
}

fn forget(status: &mut CronJobStatus, is: impl Fn(&ObjectReference) -> bool) {
    if let Some(active) = &mut status.active {
        active.retain(|reference| !is(reference));
    }
    status.active.take_if(|active| active.is_empty());
}

/// Whether the schedule is due, and what that means.
fn schedule(view: &View<'_>, plan: &mut Plan) {
    let spec = &view.cron_job.spec;
    let zone = match spec.time_zone.as_deref().map(TimeZone::get) {
        None => TimeZone::UTC,
        Some(Ok(zone)) => zone,
        Some(Err(error)) => {
            let name = spec.time_zone.as_deref().unwrap_or_default();
            let message = format!("invalid timeZone: {name:?}: {error}");
            plan.notes.push(note(Severity::Warning, "UnknownTimeZone", message));
            return;
        }
    };
    if spec.suspend == Some(true) {
        return;
    }
    let calendar = match Schedule::parse(&spec.schedule) {
        Ok(schedule) => Calendar { schedule, zone },
        Err(problem) => {
            let message = format!("unparseable schedule: {:?} : {problem}", spec.schedule);
            plan.notes.push(note(Severity::Warning, "UnparseableSchedule", message));
            return;
        }
    };
    if let Some(due) = calendar.due(view.cron_job, view.now) {
        meet(view, plan, due, &calendar.zone);
    }
    let served = CronJob {
        status: Some(CronJobStatus {
            last_schedule_time: plan.start.as_ref().map(|start| Time(start.scheduled)),
            ..CronJobStatus::default()
        }),
        ..view.cron_job.clone()
    };
    let after = if plan.start.is_some() { &served } else { view.cron_job };
    plan.recheck = calendar.wait(after, view.now);
}

/// Starts the Job of a time that is due, if the CronJob's policies let it.
fn meet(view: &View<'_>, plan: &mut Plan, due: Due, zone: &TimeZone) {
    let spec = &view.cron_job.spec;
    if due.many_missed {
        let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        plan.notes
            .push(note(Severity::Warning, "TooManyMissedTimes", message.into()));
    }
    let late = view.now.duration_since(due.time).as_secs();
    if spec.starting_deadline_seconds.is_some_and(|deadline| late > deadline) {
        let shown = due.time.strftime("%a, %d %b %Y %H:%M:%S +0000");
        let message = format!("Missed scheduled time to start a job: {shown}");
        plan.notes.push(note(Severity::Warning, "MissSchedule", message));
        return;
    }
    let job = new_job(view.cron_job, due.time, zone);
    let active = plan.status.active.as_deref().unwrap_or_default();
    let is_active = active.iter().any(|active| active.name == job.metadata.name);
    let served = plan
        .status
        .last_schedule_time
        .as_ref()
        .is_some_and(|last| last.0 == due.time);
    if is_active || served {
        return;
    }
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if !active.is_empty() => {
            let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
            plan.notes
                .push(note(Severity::Normal, "JobAlreadyActive", message.into()));
            return;
        }
        Some("Replace") => {
            let running = |job: &&Arc<Job>| active.iter().any(|active| active.uid == job.uid());
            plan.delete.extend(view.jobs.iter().filter(running).cloned());
        }
        _ => {}
    }
    plan.start = Some(Start {
        job,
        scheduled: due.time,
    });
}

/// The Job of a scheduled time; its name says which, so that there is never a second.
fn new_job(cron_job: &CronJob, scheduled: Timestamp, zone: &TimeZone) -> Job {
    let template = &cron_job.spec.job_template;
    let meta = template.metadata.clone().unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    let local = scheduled.to_zoned(zone.clone());
    let shown = if local.offset().is_zero() {
        local.strftime("%FT%TZ").to_string()
    } else {
        local.strftime("%FT%T%:z").to_string()
    };
    annotations.insert(SCHEDULED.into(), shown);
    Job {
        metadata: ObjectMeta {
            name: Some(format!("{}-{}", cron_job.name_any(), scheduled.as_second() / 60)),
            namespace: cron_job.namespace(),
            labels: meta.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![controller_reference(cron_job)]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// The oldest ended Jobs beyond what the history limits keep.
fn beyond_history(view: &View<'_>) -> Vec<Arc<Job>> {
    let spec = &view.cron_job.spec;
    let limits = [
        ("Complete", spec.successful_jobs_history_limit),
        ("Failed", spec.failed_jobs_history_limit),
    ];
    let mut gone = Vec::new();
    for (ending, limit) in limits {
        let Some(keep) = limit.and_then(|limit| usize::try_from(limit).ok()) else {
            continue;
        };
        let ended = |job: &&Arc<Job>| finished(job).is_some_and(|condition| condition.type_ == ending);
        let mut jobs: Vec<_> = view.jobs.iter().filter(ended).collect();
        jobs.sort_by_key(|job| {
            let started = job.status.as_ref().and_then(|status| status.start_time.as_ref());
            (started.map(|time| time.0), job.name_any())
        });
        let excess = jobs.len().saturating_sub(keep);
        gone.extend(jobs.into_iter().take(excess).cloned());
    }
    gone
}

fn note(severity: Severity, reason: &'static str, message: String) -> Note {
    Note {
        severity,
        reason,
        message,
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
