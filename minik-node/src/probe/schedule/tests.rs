//! Tables of the kubelet's documented timing, and laws that hold for any results.

use proptest::prelude::*;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

fn timing(initial_delay: i64, period: i64, successes: u32, failures: u32) -> Timing {
    Timing {
        initial_delay: SignedDuration::from_secs(initial_delay),
        period: SignedDuration::from_secs(period),
        successes,
        failures,
    }
}

fn schedule(kind: Kind, timing: Timing) -> Schedule {
    Schedule::new(kind, timing, at(0))
}

/// Probes that take no time, until `end`.
fn times(schedule: &mut Schedule, end: i64, result: impl Fn(i64) -> Option<bool>) -> Vec<i64> {
    let mut times = Vec::new();
    while let Some(due) = schedule.due().filter(|due| *due <= at(end)) {
        let time = due.as_second() - 1_000_000;
        times.push(time);
        schedule.begin(due);
        schedule.finish(result(time));
    }
    times
}

#[test]
fn missing_fields_have_kubernetes_defaults() {
    assert_eq!(Timing::of(&Probe::default()), timing(0, 10, 1, 3));
}

/// Kubernetes' exec example: `initialDelaySeconds: 5`, `periodSeconds: 5`, healthy for 30 seconds, three failures.
#[test]
fn the_documented_liveness_example_fails_at_40_seconds() {
    let mut liveness = schedule(Kind::Liveness, timing(5, 5, 1, 3));
    let probed = times(&mut liveness, 100, |time| Some(time < 30));
    assert_eq!(probed, [5, 10, 15, 20, 25, 30, 35, 40]);
    assert_eq!(liveness.verdict(), Verdict::Failure);
    assert_eq!(liveness.due(), None, "it rests until the container is another");
}

#[test]
fn readiness_goes_on_after_failing() {
    let mut readiness = schedule(Kind::Readiness, timing(0, 10, 2, 1));
    assert_eq!(times(&mut readiness, 40, |time| Some(time >= 20)), [0, 10, 20, 30, 40]);
    assert_eq!(readiness.verdict(), Verdict::Success);
}

#[test]
fn startup_ends_with_its_success() {
    let mut startup = schedule(Kind::Startup, timing(0, 10, 1, 30));
    assert_eq!(startup.verdict(), Verdict::Unknown);
    assert_eq!(times(&mut startup, 100, |time| Some(time == 20)), [0, 10, 20]);
    assert_eq!(startup.verdict(), Verdict::Success);
}

#[test]
fn a_slow_probe_drops_ticks_but_one() {
    let mut liveness = schedule(Kind::Liveness, timing(0, 10, 1, 3));
    liveness.begin(at(0));
    assert_eq!(liveness.due(), None, "never two at a time");
    liveness.finish(Some(true));
    liveness.begin(at(10));
    liveness.finish(Some(true));
    // This one took from 20 to 45: the tick at 30 waited, the one at 40 was dropped.
    liveness.begin(at(20));
    liveness.finish(Some(true));
    assert!(liveness.due().is_some_and(|due| due <= at(45)));
    liveness.begin(at(45));
    liveness.finish(Some(true));
    assert_eq!(liveness.due(), Some(at(50)));
}

#[test]
fn what_waited_for_the_start_begins_with_readiness() {
    let (mut readiness, mut liveness) = (
        schedule(Kind::Readiness, timing(0, 10, 1, 3)),
        schedule(Kind::Liveness, timing(0, 10, 1, 3)),
    );
    readiness.open(at(25));
    liveness.open(at(25));
    assert_eq!((readiness.due(), liveness.due()), (Some(at(25)), Some(at(30))));
    readiness.begin(at(25));
    readiness.finish(Some(false));
    assert_eq!(readiness.due(), Some(at(30)));
}

#[test]
fn the_start_does_not_cut_the_initial_delay() {
    let mut readiness = schedule(Kind::Readiness, timing(60, 10, 1, 3));
    readiness.open(at(25));
    assert_eq!(readiness.due(), Some(at(60)));
}

#[test]
fn an_earlier_agents_verdict_counts_until_there_are_results() {
    let fresh = schedule(Kind::Readiness, timing(0, 10, 1, 2));
    let mut readiness = fresh.resumed(Verdict::Success, at(100), SignedDuration::from_secs(3));
    assert_eq!(readiness.due(), Some(at(103)));
    readiness.begin(at(103));
    assert!(!readiness.finish(Some(false)));
    assert_eq!(readiness.verdict(), Verdict::Success);
    assert!(readiness.finish(Some(false)));
    assert_eq!(readiness.verdict(), Verdict::Failure);
}

/// The verdict read off the whole list of results: what the last long enough run of equal ones says.
fn oracle(kind: Kind, timing: Timing, results: &[Option<bool>]) -> Verdict {
    let results: Vec<bool> = results.iter().copied().flatten().collect();
    (1..=results.len())
        .rev()
        .find_map(|end| {
            let last = results[end - 1];
            let run = results[..end]
                .iter()
                .rev()
                .take_while(|result| **result == last)
                .count();
            let (threshold, verdict) = if last {
                (timing.successes, Verdict::Success)
            } else {
                (timing.failures, Verdict::Failure)
            };
            (run >= threshold as usize).then_some(verdict)
        })
        .unwrap_or(kind.initial())
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Startup), Just(Kind::Readiness), Just(Kind::Liveness)]
}

proptest! {
    /// Whatever the times, only the results decide.
    #[test]
    fn the_verdict_depends_on_the_results_alone(
        kind in kinds(),
        successes in 1..4_u32,
        failures in 1..4_u32,
        results in proptest::collection::vec((proptest::option::of(any::<bool>()), 0..50_i64), 0..40),
    ) {
        let timing = timing(3, 7, successes, failures);
        let mut schedule = schedule(kind, timing);
        let mut seen = Vec::new();
        let mut now = at(0);
        for (result, late) in results {
            let Some(due) = schedule.due() else { break };
            now = due.max(now).saturating_add(SignedDuration::from_secs(late)).unwrap();
            let before = schedule.verdict();
            schedule.begin(now);
            let changed = schedule.finish(result);
            seen.push(result);
            prop_assert_eq!(schedule.verdict(), oracle(kind, timing, &seen));
            prop_assert_eq!(changed, before != schedule.verdict());
        }
    }

    /// Probes come never early, never faster than ticks, and never stop before they must.
    #[test]
    fn probes_keep_to_their_ticks(
        delay in 0..20_i64,
        period in 1..20_i64,
        lengths in proptest::collection::vec(0..60_i64, 1..20),
    ) {
        let mut schedule = schedule(Kind::Readiness, timing(delay, period, 1, 3));
        let mut now = at(0);
        let mut begun: Vec<Timestamp> = Vec::new();
        for length in lengths {
            let due = schedule.due();
            prop_assert!(due.is_some());
            now = due.unwrap_or(now).max(now);
            prop_assert!(now >= at(delay));
            begun.push(now);
            schedule.begin(now);
            now = now.saturating_add(SignedDuration::from_secs(length)).unwrap();
            schedule.finish(Some(true));
        }
        let span = begun[begun.len() - 1].duration_since(at(delay)).as_secs();
        prop_assert!(begun.len() as i64 <= span / period + 1, "{begun:?}");
    }
}
