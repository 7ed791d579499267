//! A Job's conditions: set, found, and what they say about how the Job ends. Pure.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The Job has succeeded and everything is counted.
pub const COMPLETE: &str = "Complete";
/// The Job has failed and everything is counted.
pub const FAILED: &str = "Failed";
/// The Job will have succeeded once its Pods are gone.
pub const SUCCESS_CRITERIA_MET: &str = "SuccessCriteriaMet";
/// The Job will have failed once its Pods are gone.
pub const FAILURE_TARGET: &str = "FailureTarget";
/// The Job is suspended.
pub const SUSPENDED: &str = "Suspended";

/// How a Job ends, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Whether well.
    pub well: bool,
    /// CamelCase reason.
    pub reason: String,
    /// One sentence.
    pub message: String,
}

impl Ending {
    /// A failure.
    pub fn failure(reason: &str, message: &str) -> Self {
        Self {
            well: false,
            reason: reason.into(),
            message: message.into(),
        }
    }

    /// A success.
    pub fn success(reason: &str, message: &str) -> Self {
        Self {
            well: true,
            ..Self::failure(reason, message)
        }
    }

    /// How the Job has been found to end in an earlier pass.
    pub fn noted(job: &Job) -> Option<Self> {
        let noted = |kind, well| {
            find(job, kind).map(|condition| Self {
                well,
                reason: condition.reason.clone().unwrap_or_default(),
                message: condition.message.clone().unwrap_or_default(),
            })
        };
        noted(SUCCESS_CRITERIA_MET, true).or_else(|| noted(FAILURE_TARGET, false))
    }
}

fn find<'a>(job: &'a Job, kind: &str) -> Option<&'a JobCondition> {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .find(|condition| condition.type_ == kind && condition.status == "True")
}

/// The condition that says how the Job ended: `Complete` or `Failed`.
pub fn finished(job: &Job) -> Option<&JobCondition> {
    find(job, COMPLETE).or_else(|| find(job, FAILED))
}

/// Sets a condition; says whether that changed anything. One that is false and was never true is not set.
pub fn set(status: &mut JobStatus, kind: &str, value: bool, (reason, message): (&str, &str), now: Timestamp) -> bool {
    let wanted = if value { "True" } else { "False" };
    let conditions = status.conditions.get_or_insert_default();
    let index = conditions.iter().position(|condition| condition.type_ == kind);
    let same = |condition: &JobCondition| {
        condition.status == wanted
            && condition.reason.as_deref() == Some(reason)
            && condition.message.as_deref() == Some(message)
    };
    let condition = JobCondition {
        type_: kind.into(),
        status: wanted.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    };
    let changed = match index {
        None if !value => false,
        None => {
            conditions.push(condition);
            true
        }
        Some(index) if same(&conditions[index]) => false,
        Some(index) => {
            conditions[index] = condition;
            true
        }
    };
    status.conditions.take_if(|conditions| conditions.is_empty());
    changed
}
