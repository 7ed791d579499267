//! What a worker knows of its Pod beside the object itself. Pure data, with the questions that decisions and status
//! ask of it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Container;

use crate::pods::backoff::Backoff;
use crate::probe::schedule::Verdict;
use crate::runtime::client::States;
use crate::runtime::protocol::Attempt;

/// A Pod's sandbox as its worker knows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sandbox {
    /// None was made, or it was removed.
    #[default]
    Absent,
    /// The shim answers.
    Ready,
    /// The shim died; what it left must go first.
    Lost,
}

/// Why something could not be done, and when it is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// For `state.waiting.reason`: `ErrImagePull`, `CreateContainerConfigError`.
    pub reason: String,
    /// For people.
    pub message: String,
    /// When it happened last.
    pub at: Timestamp,
    /// How long to wait from then.
    pub backoff: Backoff,
}

/// Why one run of a container never came to be: `RunContainerError`, `PostStartHookError`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The run.
    pub id: String,
    /// For `state.waiting.reason`.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// The `postStart` hook of one run of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hook {
    /// It runs, in the run with this id.
    Running(String),
    /// It failed there.
    Failed(String),
}

/// What the probes of one run of a container say; `None` where there is no probe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// The run.
    pub id: String,
    /// Whether it has started.
    pub startup: Option<Verdict>,
    /// Whether it may be sent work.
    pub readiness: Option<Verdict>,
    /// Whether it is to go on.
    pub liveness: Option<Verdict>,
}

/// A container on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopping {
    /// The run.
    pub id: String,
    /// When it was told.
    pub since: Timestamp,
    /// How long it had from then.
    pub grace: SignedDuration,
    /// How far it is.
    pub stage: Stage,
}

/// How far a container is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Its `preStop` hook runs.
    Hook,
    /// It may be sent its signal.
    Waiting,
    /// It was, and will be killed then.
    Signalled(Timestamp),
    /// It was killed.
    Killed,
}

/// When a run began and ended, by the [`Clock`](crate::clock::Clock) that waits are measured with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moments {
    /// Its program's start.
    pub started: Timestamp,
    /// Its end.
    pub ended: Option<Timestamp>,
}

/// What a worker knows. Its times are those of the [`Clock`](crate::clock::Clock) that waits are measured with, but for what
/// the shim reports, which is for people.
#[derive(Debug, Clone, Default)]
pub struct Knowledge {
    /// How far the wall clock is ahead of that clock.
    pub ahead: SignedDuration,
    /// When the present runs began and ended, by id.
    pub moments: BTreeMap<String, Moments>,
    /// The sandbox.
    pub sandbox: Sandbox,
    /// What the shim reports, or reported last.
    pub states: States,
    /// The last runs in sandboxes before this one.
    pub former: BTreeMap<String, Attempt>,
    /// Containers that could not be started.
    pub troubles: BTreeMap<String, Trouble>,
    /// The sandbox could not be made.
    pub sandbox_trouble: Option<Trouble>,
    /// Containers that were started again.
    pub crashes: BTreeMap<String, Backoff>,
    /// Runs that failed before they were under way.
    pub failures: BTreeMap<String, Failure>,
    /// Containers on their way out.
    pub stopping: BTreeMap<String, Stopping>,
    /// `postStart` hooks that run or failed.
    pub hooks: BTreeMap<String, Hook>,
    /// What probes say.
    pub health: BTreeMap<String, Health>,
    /// What ended runs left to be told, by id.
    pub messages: BTreeMap<String, String>,
}

impl Knowledge {
    /// The container's present or last run in this sandbox.
    #[must_use]
    pub fn current(&self, name: &str) -> Option<&Attempt> {
        self.states.get(name).map(|state| &state.current)
    }

    /// Its last run in this sandbox or one before.
    #[must_use]
    pub fn last(&self, name: &str) -> Option<&Attempt> {
        self.current(name).or_else(|| self.former.get(name))
    }

    /// Whether it runs.
    #[must_use]
    pub fn alive(&self, name: &str) -> bool {
        self.sandbox == Sandbox::Ready && self.current(name).is_some_and(|attempt| attempt.ended.is_none())
    }

    /// Whether its run ended well in this sandbox.
    #[must_use]
    pub fn succeeded(&self, name: &str) -> bool {
        let ended = self.current(name).and_then(|attempt| attempt.ended.as_ref());
        ended.is_some_and(|ended| ended.exit.code == 0)
    }

    /// Its way out, if the present run is on it.
    #[must_use]
    pub fn stopping(&self, name: &str) -> Option<&Stopping> {
        let id = &self.current(name)?.id;
        self.stopping.get(name).filter(|stopping| stopping.id == *id)
    }

    /// What probes say of the present run.
    #[must_use]
    pub fn health(&self, name: &str) -> Option<&Health> {
        let id = &self.current(name)?.id;
        self.health.get(name).filter(|health| health.id == *id)
    }

    /// Whether the present run's `postStart` hook is under way.
    #[must_use]
    pub fn starts(&self, name: &str) -> bool {
        let id = self.current(name).map(|attempt| &attempt.id);
        matches!(self.hooks.get(name), Some(Hook::Running(run)) if Some(run) == id)
    }

    /// Whether the present run's `postStart` hook failed.
    #[must_use]
    pub fn post_start_failed(&self, name: &str) -> bool {
        let id = self.current(name).map(|attempt| &attempt.id);
        matches!(self.hooks.get(name), Some(Hook::Failed(run)) if Some(run) == id)
    }

    /// Whether it runs and has started, as its startup probe has it.
    #[must_use]
    pub fn started(&self, container: &Container) -> bool {
        let name = &container.name;
        let verdict = self.health(name).and_then(|health| health.startup);
        self.alive(name)
            && !self.starts(name)
            && (container.startup_probe.is_none() || verdict == Some(Verdict::Success))
    }

    /// Whether it has started and is ready, as its readiness probe has it.
    #[must_use]
    pub fn ready(&self, container: &Container) -> bool {
        let verdict = self.health(&container.name).and_then(|health| health.readiness);
        self.started(container) && (container.readiness_probe.is_none() || verdict == Some(Verdict::Success))
    }

    /// Whether it runs another image than the Pod names by now.
    #[must_use]
    pub fn changed(&self, container: &Container) -> bool {
        let image = container.image.as_deref();
        self.current(&container.name)
            .is_some_and(|attempt| Some(attempt.image.as_str()) != image)
    }

    /// Notes how far the wall clock is `ahead`, and which runs have begun or ended by `now`. A run's moments are noted once: a
    /// later step of the wall clock says nothing of them.
    pub fn note_moments(&mut self, ahead: SignedDuration, now: Timestamp) {
        self.ahead = ahead;
        let before = std::mem::take(&mut self.moments);
        let moments = self.states.values().map(|state| {
            let run = &state.current;
            // What an earlier agent saw before the clock was set back is not to come.
            let moment = |date| self.steady(date).min(now);
            let mut moments = before.get(&run.id).copied().unwrap_or_else(|| Moments {
                started: moment(run.started_at),
                ended: None,
            });
            moments.ended = moments
                .ended
                .or_else(|| run.ended.as_ref().map(|ended| moment(ended.at)));
            (run.id.clone(), moments)
        });
        self.moments = moments.collect();
    }

    /// A date of the wall clock, by the clock that waits are measured with.
    #[must_use]
    pub fn steady(&self, date: Timestamp) -> Timestamp {
        date.saturating_sub(self.ahead).unwrap_or(date)
    }

    /// When a run began.
    #[must_use]
    pub fn started_at(&self, run: &Attempt) -> Timestamp {
        let noted = self.moments.get(&run.id).map(|moments| moments.started);
        noted.unwrap_or_else(|| self.steady(run.started_at))
    }

    /// When a run ended.
    #[must_use]
    pub fn ended_at(&self, run: &Attempt) -> Option<Timestamp> {
        let date = run.ended.as_ref()?.at;
        let noted = self.moments.get(&run.id).and_then(|moments| moments.ended);
        Some(noted.unwrap_or_else(|| self.steady(date)))
    }

    /// The sandbox is gone; `states` is what became of its containers.
    pub fn lose(&mut self, states: States) {
        self.sandbox = Sandbox::Lost;
        self.states = states;
    }

    /// A new sandbox begins: what ran before is former.
    pub fn renew(&mut self) {
        self.sandbox = Sandbox::Ready;
        self.sandbox_trouble = None;
        let states = std::mem::take(&mut self.states);
        self.former
            .extend(states.into_iter().map(|(name, state)| (name, state.current)));
    }
}

#[cfg(test)]
mod tests {
    use super::super::crash_wait;
    use super::*;
    use crate::runtime::protocol::{ContainerState, Ended, Exit};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    /// Container `c` began at one date and ended at the other, and has to wait ten seconds from then.
    fn crashed(started: Timestamp, ended: Option<Timestamp>) -> Knowledge {
        let exit = Exit { code: 1, signal: None };
        let current = Attempt {
            id: "1".to_owned(),
            attempt: 0,
            image: "busybox".to_owned(),
            image_id: String::new(),
            stop_signal: 15,
            user: None,
            pid: 0,
            started_at: started,
            ended: ended.map(|at| Ended {
                at,
                exit,
                start_error: None,
            }),
        };
        let state = ContainerState {
            current,
            previous: None,
        };
        Knowledge {
            states: [("c".to_owned(), state)].into(),
            crashes: [("c".to_owned(), Backoff::next(None, at(0), at(0)))].into(),
            ..Knowledge::default()
        }
    }

    #[test]
    fn a_back_off_is_as_long_whatever_is_done_to_the_clock() {
        let mut knowledge = crashed(at(0), Some(at(1)));
        for (hours, now) in [(0, 2), (3, 3), (-5, 4)] {
            knowledge.note_moments(SignedDuration::from_hours(hours), at(now));
            assert_eq!(crash_wait("c", &knowledge, at(now)), Some(at(11)), "{hours} hours");
        }
        assert_eq!(crash_wait("c", &knowledge, at(11)), None);
    }

    #[test]
    fn an_end_after_a_step_counts_from_when_it_was() {
        for hours in [3, -3] {
            let ahead = SignedDuration::from_hours(hours);
            let mut knowledge = crashed(at(0), None);
            knowledge.note_moments(SignedDuration::ZERO, at(0));
            let run = &mut knowledge.states.get_mut("c").unwrap().current;
            run.ended = crashed(at(0), Some(at(5) + ahead)).states["c"].current.ended.clone();
            knowledge.note_moments(ahead, at(6));
            assert_eq!(crash_wait("c", &knowledge, at(6)), Some(at(15)), "{hours} hours");
        }
    }

    #[test]
    fn what_an_earlier_agent_saw_before_the_clock_was_set_back_is_over_by_now() {
        let later = SignedDuration::from_hours(3);
        let mut knowledge = crashed(at(0) + later, Some(at(1) + later));
        knowledge.note_moments(SignedDuration::ZERO, at(2));
        let run = knowledge.current("c").unwrap();
        assert_eq!(
            (knowledge.started_at(run), knowledge.ended_at(run)),
            (at(2), Some(at(2)))
        );
        assert_eq!(crash_wait("c", &knowledge, at(2)), Some(at(12)));
    }
}
