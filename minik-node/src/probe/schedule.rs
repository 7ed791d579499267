//! When a probe of a container is due, and what its results so far amount to. Pure: time comes in from outside.
//!
//! Rules are the kubelet's prober worker: a ticker of `periodSeconds` that drops ticks it has no time for, nothing
//! before `initialDelaySeconds`, a verdict that changes only after enough equal results in a row, a failed liveness
//! or startup probe that rests until the container is another.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Probe};

/// What a probe is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Whether the container has started; the others wait for it.
    Startup,
    /// Whether it may be sent work.
    Readiness,
    /// Whether it must be started again.
    Liveness,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Startup, Self::Readiness, Self::Liveness];

    /// The container's probe of this kind.
    #[must_use]
    pub fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
        }
    }

    /// `Startup`, `Readiness`, `Liveness`: the first word of the event about a failure.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }

    /// What counts before there is a result.
    #[must_use]
    pub fn initial(self) -> Verdict {
        match self {
            Self::Startup => Verdict::Unknown,
            Self::Readiness => Verdict::Failure,
            Self::Liveness => Verdict::Success,
        }
    }
}

/// What the results so far amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Not known yet.
    Unknown,
    /// Enough successes in a row.
    Success,
    /// Enough failures in a row.
    Failure,
}

/// When and how often: the fields of a probe that are not about what is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// `initialDelaySeconds`, from the container's start.
    pub initial_delay: SignedDuration,
    /// `periodSeconds`.
    pub period: SignedDuration,
    /// `successThreshold`.
    pub successes: u32,
    /// `failureThreshold`.
    pub failures: u32,
}

impl Timing {
    /// From a probe; what is missing or makes no sense has Kubernetes' default.
    #[must_use]
    pub fn of(probe: &Probe) -> Self {
        let count = |value: Option<i32>, default| {
            let value = value.and_then(|value| u32::try_from(value).ok());
            value.filter(|value| *value > 0).unwrap_or(default)
        };
        let seconds = |value: u32| SignedDuration::from_secs(i64::from(value));
        Self {
            initial_delay: seconds(count(probe.initial_delay_seconds, 0)),
            period: seconds(count(probe.period_seconds, 10)),
            successes: count(probe.success_threshold, 1),
            failures: count(probe.failure_threshold, 3),
        }
    }
}

/// One probe of one run of a container.
#[derive(Debug, Clone)]
pub struct Schedule {
    kind: Kind,
    timing: Timing,
    /// The next tick that was not used.
    tick: Timestamp,
    /// Whether the next probe waits for no tick, and since when that is allowed.
    at_once: Option<Timestamp>,
    under_way: bool,
    resting: bool,
    verdict: Verdict,
    run: Option<(bool, u32)>,
}

impl Schedule {
    /// For a container that started at `started`.
    #[must_use]
    pub fn new(kind: Kind, timing: Timing, started: Timestamp) -> Self {
        Self {
            kind,
            timing,
            tick: add(started, timing.initial_delay),
            at_once: None,
            under_way: false,
            resting: false,
            verdict: kind.initial(),
            run: None,
        }
    }

    /// Goes on at `now` from what an earlier agent had found, which counts until there are results. The first probe
    /// waits for `delay`, so that those of a whole node do not come at once.
    #[must_use]
    pub fn resumed(mut self, verdict: Verdict, now: Timestamp, delay: SignedDuration) -> Self {
        self.verdict = verdict;
        self.tick = self.tick.max(add(now, delay));
        self
    }

    /// Counts as a success from now on, and is asked no more.
    pub fn settle(&mut self) {
        self.verdict = Verdict::Success;
        self.resting = true;
    }

    /// What the results so far amount to.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// When the next probe is due, unless one is under way or none is needed.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        let over = self.kind == Kind::Startup && self.verdict == Verdict::Success;
        let due = self.at_once.map_or(self.tick, |since| since.min(self.tick));
        (!self.under_way && !self.resting && !over).then_some(due)
    }

    /// The container has started at `now`: readiness is asked at once, the rest at the next tick.
    pub fn open(&mut self, now: Timestamp) {
        if now <= self.tick {
            return;
        }
        self.skip_ticks(now);
        if self.kind == Kind::Readiness {
            self.at_once = Some(now);
        }
    }

    /// A probe begins at `now`. Ticks until then are used up; one that comes while it is under way waits for its end.
    pub fn begin(&mut self, now: Timestamp) {
        self.under_way = true;
        self.at_once = None;
        self.skip_ticks(now);
    }

    /// A probe ended: in success, in failure, or (`None`) without a result. Says whether the verdict changed.
    pub fn finish(&mut self, result: Option<bool>) -> bool {
        self.under_way = false;
        let Some(success) = result else { return false };
        let count = match self.run {
            Some((last, count)) if last == success => count.saturating_add(1),
            _ => 1,
        };
        self.run = Some((success, count));
        let (threshold, verdict) = if success {
            (self.timing.successes, Verdict::Success)
        } else {
            (self.timing.failures, Verdict::Failure)
        };
        if count < threshold {
            return false;
        }
        self.resting = !success && self.kind != Kind::Readiness;
        std::mem::replace(&mut self.verdict, verdict) != verdict
    }

    /// The first tick after `now`.
    fn skip_ticks(&mut self, now: Timestamp) {
        if self.tick > now {
            return;
        }
        let late = now.duration_since(self.tick).as_millis();
        let period = self.timing.period.as_millis().max(1);
        let ticks = i64::try_from(late / period + 1).unwrap_or(i64::MAX);
        let skipped = self.timing.period.checked_mul(i32::try_from(ticks).unwrap_or(i32::MAX));
        self.tick = add(self.tick, skipped.unwrap_or(SignedDuration::MAX));
    }
}

fn add(time: Timestamp, duration: SignedDuration) -> Timestamp {
    time.saturating_add(duration).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
