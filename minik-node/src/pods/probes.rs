//! All probes of one Pod: a schedule for each probe of each container that runs. Pure; time and chance come in.
//!
//! Follows what runs: a container that was started again begins anew, one that ended is forgotten.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod};

use super::decide::{Health, Knowledge};
use crate::probe::schedule::{Kind, Schedule, Timing, Verdict};

/// The probes of one run of a container.
#[derive(Debug)]
struct Probed {
    id: String,
    schedules: BTreeMap<Kind, Schedule>,
}

/// One probe to be asked now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Container name.
    pub container: String,
    /// Its run.
    pub id: String,
    /// Which probe.
    pub kind: Kind,
}

/// The probes of a Pod.
#[derive(Debug, Default)]
pub struct Probes {
    containers: BTreeMap<String, Probed>,
}

impl Probes {
    /// Follows what runs at `now`. `share`, a part of one, spreads the first probes of containers that ran before
    /// `since`, when this agent began, over their periods.
    pub fn follow(&mut self, pod: &Pod, knowledge: &Knowledge, since: Timestamp, share: impl Fn() -> f64) {
        self.containers.retain(|name, probed| {
            let runs = knowledge.alive(name) && !knowledge.starts(name);
            runs && knowledge.current(name).is_some_and(|attempt| attempt.id == probed.id)
        });
        for container in all_containers(pod) {
            let name = &container.name;
            let probes = Kind::ALL.iter().any(|kind| kind.of(container).is_some());
            if !probes || self.containers.contains_key(name) || !knowledge.alive(name) || knowledge.starts(name) {
                continue;
            }
            let Some(attempt) = knowledge.current(name) else {
                continue;
            };
            let started_at = knowledge.started_at(attempt);
            let known = (started_at < since).then(|| known(pod, name, &attempt.id));
            let schedule = |kind: &Kind| {
                let timing = Timing::of(kind.of(container)?);
                let delay = known.map(|_| timing.period.as_secs_f64() * share());
                let delay = delay.and_then(|delay| SignedDuration::try_from_secs_f64(delay).ok());
                let schedule = Schedule::new(*kind, timing, started_at);
                let schedule = match (delay, known) {
                    (Some(delay), Some(known)) => schedule.resumed(known.verdict(*kind), since, delay),
                    _ => schedule,
                };
                Some((*kind, schedule))
            };
            let schedules = Kind::ALL.iter().filter_map(schedule).collect();
            let id = attempt.id.clone();
            self.containers.insert(name.clone(), Probed { id, schedules });
        }
        if pod.metadata.deletion_timestamp.is_some() {
            self.quieten();
        }
    }

    /// A Pod that is being deleted is asked for its readiness alone.
    fn quieten(&mut self) {
        for probed in self.containers.values_mut() {
            probed.schedules.remove(&Kind::Liveness);
            if let Some(startup) = probed.schedules.get_mut(&Kind::Startup) {
                startup.settle();
            }
        }
    }

    /// What is due at `now`; each counts as under way from now on.
    pub fn take_due(&mut self, now: Timestamp) -> Vec<Due> {
        let mut due = Vec::new();
        for (name, probed) in &mut self.containers {
            let Probed { id, schedules } = probed;
            let started = started(schedules);
            for (kind, schedule) in schedules.iter_mut() {
                if asked(*kind, started) && schedule.due().is_some_and(|time| time <= now) {
                    schedule.begin(now);
                    due.push(Due {
                        container: name.clone(),
                        id: id.clone(),
                        kind: *kind,
                    });
                }
            }
        }
        due
    }

    /// When the next probe is due.
    #[must_use]
    pub fn wake(&self) -> Option<Timestamp> {
        let of = |probed: &Probed| {
            let started = started(&probed.schedules);
            let asked = probed.schedules.iter().filter(|(kind, _)| asked(**kind, started));
            asked.filter_map(|(_, schedule)| schedule.due()).min()
        };
        self.containers.values().filter_map(of).min()
    }

    /// Takes a result at `now`; one of a run that is over counts for nothing, which is what `false` says.
    pub fn record(&mut self, due: &Due, result: Option<bool>, now: Timestamp) -> bool {
        let Some(probed) = self
            .containers
            .get_mut(&due.container)
            .filter(|probed| probed.id == due.id)
        else {
            return false;
        };
        let before = started(&probed.schedules);
        if let Some(schedule) = probed.schedules.get_mut(&due.kind) {
            schedule.finish(result);
        }
        if !before && started(&probed.schedules) {
            for schedule in probed.schedules.values_mut() {
                schedule.open(now);
            }
        }
        true
    }

    /// What they say.
    #[must_use]
    pub fn health(&self) -> BTreeMap<String, Health> {
        let of = |probed: &Probed| {
            let verdict = |kind| probed.schedules.get(&kind).map(Schedule::verdict);
            Health {
                id: probed.id.clone(),
                startup: verdict(Kind::Startup),
                readiness: verdict(Kind::Readiness),
                liveness: verdict(Kind::Liveness),
            }
        };
        self.containers
            .iter()
            .map(|(name, probed)| (name.clone(), of(probed)))
            .collect()
    }
}

fn started(schedules: &BTreeMap<Kind, Schedule>) -> bool {
    let startup = schedules.get(&Kind::Startup);
    startup.is_none_or(|startup| startup.verdict() == Verdict::Success)
}

fn asked(kind: Kind, started: bool) -> bool {
    started != (kind == Kind::Startup)
}

fn all_containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    let spec = pod.spec.iter();
    spec.flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers))
}

/// What the API says of a run that was there before this agent.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    started: bool,
    ready: bool,
}

impl Known {
    fn verdict(self, kind: Kind) -> Verdict {
        let holds = match kind {
            Kind::Startup => self.started,
            Kind::Readiness => self.ready,
            Kind::Liveness => false,
        };
        if holds { Verdict::Success } else { kind.initial() }
    }
}

fn known(pod: &Pod, name: &str, id: &str) -> Known {
    let status = pod.status.as_ref();
    let mut statuses = status.into_iter().flat_map(|status| {
        let init = status.init_container_statuses.iter().flatten();
        init.chain(status.container_statuses.iter().flatten())
    });
    let status = statuses.find(|status| {
        let known = status.container_id.as_deref().and_then(|text| text.split_once("://"));
        status.name == name && known.is_some_and(|(_, known)| known == id)
    });
    status.map_or_else(Known::default, |status| Known {
        started: status.started == Some(true),
        ready: status.ready,
    })
}

#[cfg(test)]
mod tests;
