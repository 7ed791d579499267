//! How long a Job waits before it tries again: 10 s after the first failure, twice as long after each
//! further one, ten minutes at the most. Pure: everything is read off the Pods.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::controllers::pod::ready_condition;

const FIRST: u64 = 10;
const LONGEST: u64 = 600;

/// When a Pod ended: its last container's end, or the best that the Pod tells otherwise.
pub fn finished_at(pod: &Pod) -> Option<Timestamp> {
    let of_containers = || {
        let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
        let ends = statuses.iter().map(|status| {
            let ended = status.state.as_ref()?.terminated.as_ref()?;
            ended.finished_at.as_ref().map(|time| time.0)
        });
        ends.collect::<Option<Vec<_>>>()?.into_iter().max()
    };
    let of_readiness = || {
        let lost = ready_condition(pod).filter(|condition| condition.status == "False")?;
        lost.last_transition_time.as_ref().map(|time| time.0)
    };
    let of_deletion = || {
        let by = pod.metadata.deletion_timestamp.as_ref()?.0;
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
        by.checked_sub(jiff::SignedDuration::from_secs(grace)).ok()
    };
    let created = || pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    of_containers()
        .or_else(of_readiness)
        .or_else(of_deletion)
        .or_else(created)
}

/// How much longer to wait after so many failures in a row, the last of which was then.
pub fn remaining(failures: i32, last: Option<Timestamp>, now: Timestamp) -> Option<Duration> {
    let doublings = u32::try_from(failures.checked_sub(1)?).ok()?;
    let wait = FIRST.saturating_mul(1 << doublings.min(16)).min(LONGEST);
    let waited = now.duration_since(last?);
    let left = Duration::from_secs(wait).checked_sub(Duration::try_from(waited).unwrap_or_default())?;
    (!left.is_zero()).then_some(left)
}

/// The failures since the last success, and when the last of them was.
pub fn failures_in_a_row<'a>(
    failed: impl Iterator<Item = &'a Pod>,
    succeeded: impl Iterator<Item = &'a Pod>,
) -> (i32, Option<Timestamp>) {
    let last_success = succeeded.filter_map(finished_at).max();
    let since: Vec<_> = failed
        .filter_map(finished_at)
        .filter(|end| last_success.is_none_or(|success| *end > success))
        .collect();
    let count = i32::try_from(since.len()).unwrap_or(i32::MAX);
    (count, since.into_iter().max())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_its_bound() {
        let now = Timestamp::from_second(10_000).unwrap();
        let wait = |failures| remaining(failures, Some(now), now).map(|wait| wait.as_secs());
        assert_eq!(
            [0, 1, 2, 3, 7, 40].map(wait),
            [None, Some(10), Some(20), Some(40), Some(600), Some(600)]
        );
        let earlier = Timestamp::from_second(9_990).unwrap();
        assert_eq!(remaining(1, Some(earlier), now), None);
        assert_eq!(remaining(2, Some(earlier), now), Some(Duration::from_secs(10)));
    }
}
