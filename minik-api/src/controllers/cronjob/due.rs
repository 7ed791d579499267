//! Which time of a schedule a CronJob has come to. Pure.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::CronJob;

use crate::resource::cron::Schedule;

/// More times missed than this are a sign of a clock or a suspension gone wrong.
const MANY: i64 = 100;
/// A schedule is looked at a little after it is due.
const LATE_BY: Duration = Duration::from_millis(100);

/// A CronJob's schedule with the zone that it holds in.
pub struct Calendar {
    /// The schedule.
    pub schedule: Schedule,
    /// The zone of `spec.timeZone`.
    pub zone: TimeZone,
}

/// The latest time that is due, and whether many before it were missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The time.
    pub time: Timestamp,
    /// Whether more than a hundred times have passed.
    pub many_missed: bool,
}

enum Latest {
    /// Nothing has been due yet.
    None,
    /// Times have passed, but the last of them was not found.
    Unknown,
    /// The last time that has passed.
    At(Due),
}

impl Calendar {
    fn next(&self, after: Timestamp) -> Option<Timestamp> {
        self.schedule.next(after, &self.zone)
    }

    /// The latest time that is due: none before the last one that was served, and none older than
    /// `startingDeadlineSeconds`.
    pub fn due(&self, cron_job: &CronJob, now: Timestamp) -> Option<Due> {
        let deadline = cron_job.spec.starting_deadline_seconds;
        let bound = deadline.and_then(|seconds| now.checked_sub(SignedDuration::from_secs(seconds)).ok());
        let from = bound.map_or(served(cron_job), |bound| bound.max(served(cron_job)));
        match self.latest(from, now) {
            Latest::At(due) => Some(due),
            Latest::None | Latest::Unknown => None,
        }
    }

    /// How long to wait for the next time.
    pub fn wait(&self, cron_job: &CronJob, now: Timestamp) -> Option<Duration> {
        let from = served(cron_job);
        let base = match self.latest(from, now) {
            Latest::None => from,
            Latest::Unknown => now,
            Latest::At(due) => due.time,
        };
        let left = now.duration_until(self.next(base)?);
        Some(Duration::try_from(left).unwrap_or_default() + LATE_BY)
    }

    /// The last time between `from` and `now`. The first two say how long a period is; all but the last two
    /// periods are skipped, so that months of missed minutes cost nothing.
    fn latest(&self, from: Timestamp, now: Timestamp) -> Latest {
        let Some(first) = self.next(from).filter(|first| *first <= now) else {
            return Latest::None;
        };
        let one = Due {
            time: first,
            many_missed: false,
        };
        let Some(second) = self.next(first).filter(|second| *second <= now) else {
            return Latest::At(one);
        };
        let period = first.duration_until(second).as_secs().max(1);
        let missed = first.duration_until(now).as_secs() / period + 1;
        let skipped = SignedDuration::from_secs((missed - 2).saturating_mul(period));
        let mut start = first.checked_add(skipped).unwrap_or(first);
        let mut latest = None;
        while let Some(time) = self.next(start).filter(|time| *time <= now) {
            latest = Some(time);
            start = time;
        }
        latest.map_or(Latest::Unknown, |time| {
            Latest::At(Due {
                time,
                many_missed: missed > MANY,
            })
        })
    }
}

/// The time last served, or the CronJob's birth.
fn served(cron_job: &CronJob) -> Timestamp {
    let last = cron_job
        .status
        .as_ref()
        .and_then(|status| status.last_schedule_time.as_ref());
    let born = cron_job.metadata.creation_timestamp.as_ref();
    last.or(born).map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn calendar(schedule: &str) -> Calendar {
        Calendar {
            schedule: Schedule::parse(schedule).unwrap(),
            zone: TimeZone::UTC,
        }
    }

    fn cron_job(born: &str) -> CronJob {
        let mut cron_job = CronJob::default();
        cron_job.metadata.creation_timestamp = Some(Time(at(born)));
        cron_job
    }

    #[test]
    fn the_latest_missed_time_is_the_one_that_is_due() {
        let (hourly, cron_job) = (calendar("0 * * * *"), cron_job("2026-11-21T10:30:00Z"));
        let due = |now: &str| {
            hourly
                .due(&cron_job, at(now))
                .map(|due| (due.time.to_string(), due.many_missed))
        };
        assert_eq!(due("2026-11-21T10:59:00Z"), None);
        assert_eq!(
            due("2026-11-21T11:00:00Z"),
            Some(("2026-11-21T11:00:00Z".into(), false))
        );
        assert_eq!(
            due("2026-11-21T13:10:00Z"),
            Some(("2026-11-21T13:00:00Z".into(), false))
        );
        assert_eq!(due("2026-11-30T13:10:00Z"), Some(("2026-11-30T13:00:00Z".into(), true)));
    }

    #[test]
    fn a_deadline_forgets_what_is_older() {
        let mut cron_job = cron_job("2026-11-21T10:30:00Z");
        cron_job.spec.starting_deadline_seconds = Some(600);
        let hourly = calendar("0 * * * *");
        assert_eq!(hourly.due(&cron_job, at("2026-11-21T11:20:00Z")), None);
        assert!(hourly.due(&cron_job, at("2026-11-21T11:05:00Z")).is_some());
    }

    #[test]
    fn the_wait_ends_a_little_after_the_next_time() {
        let (hourly, cron_job) = (calendar("0 * * * *"), cron_job("2026-11-21T10:30:00Z"));
        let wait = |now: &str| hourly.wait(&cron_job, at(now)).unwrap().as_millis();
        assert_eq!(wait("2026-11-21T10:59:00Z"), 60_100);
        assert_eq!(wait("2026-11-21T13:10:00Z"), 50 * 60_000 + 100);
    }
}
