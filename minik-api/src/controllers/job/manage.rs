//! How many Pods of a Job should run now, and which. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::JobSpec;
use k8s_openapi::api::core::v1::Pod;

use super::backoff::{failures_in_a_row, finished_at, remaining};
use super::pods::{earlier_failures, has_failed, index, is_indexed, new_pod, waits_for_the_end};
use super::policy::{Verdict, verdict};
use super::tally::Tally;
use super::view::View;
use crate::controllers::pod::{is_finished, is_terminating, phase};
use crate::controllers::pod_control::BURST;
use crate::controllers::pod_rank::expendable;

/// What a pass knows.
pub struct Manage<'a> {
    /// What it looks at.
    pub view: &'a View<'a>,
    /// The Job's spec.
    pub spec: &'a JobSpec,
    /// What has ended.
    pub tally: &'a Tally<'a>,
    /// The Pods that run or will.
    pub active: &'a [Arc<Pod>],
}

/// What to do about the number of Pods.
#[derive(Debug, PartialEq)]
pub enum Change {
    /// As many as should be.
    None,
    /// These are too many; they do not count as failures.
    Discard(Vec<Arc<Pod>>),
    /// These are missing.
    Create(Vec<Pod>),
    /// Some are missing, and their time has not come.
    Wait(Duration),
}

impl Manage<'_> {
    /// Decides. Pods are taken away or made in one pass, never both.
    pub fn change(&self) -> Change {
        let active = count(self.active.len());
        if self.spec.suspend == Some(true) {
            return discard(self.active.to_vec());
        }
        let parallelism = self.spec.parallelism.unwrap_or(1);
        let wanted = match self.spec.completions {
            // Once one has succeeded, those that run may end, and no more are started.
            None if self.tally.succeeded > 0 => active,
            None => parallelism,
            Some(completions) => (completions - self.tally.succeeded).min(parallelism).max(0),
        };
        let excess = self.removable((active - wanted).max(0));
        if !excess.is_empty() {
            return discard(excess);
        }
        let leaving = if waits_for_the_end(self.spec) {
            count(self.leaving().count())
        } else {
            0
        };
        match usize::try_from(wanted - leaving - active) {
            Ok(missing) if missing > 0 => self.create(missing.min(BURST)),
            _ => Change::None,
        }
    }

    /// Pods that have begun to end.
    fn leaving(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.view
            .pods
            .iter()
            .filter(|pod| is_terminating(pod) && !is_finished(pod))
    }

    /// At least so many active Pods that can be done without: first those of an index that is not wanted or
    /// that another works on, then those whose loss costs least.
    fn removable(&self, at_least: i32) -> Vec<Arc<Pod>> {
        let at_least = usize::try_from(at_least).unwrap_or(0);
        let (mut removed, mut kept) = (Vec::new(), Vec::new());
        if is_indexed(self.spec) {
            let mut of_index: BTreeMap<Option<i32>, Vec<Arc<Pod>>> = BTreeMap::new();
            for pod in self.active {
                let valid = index(pod).filter(|index| *index < self.spec.completions.unwrap_or(0));
                of_index.entry(valid).or_default().push(pod.clone());
            }
            for (index, pods) in of_index {
                let surplus = pods.len() - usize::from(index.is_some());
                let gone = expendable(&pods, &[], surplus, self.view.now);
                kept.extend(
                    pods.into_iter()
                        .filter(|pod| !gone.iter().any(|other| Arc::ptr_eq(other, pod))),
                );
                removed.extend(gone);
            }
        } else {
            kept = self.active.to_vec();
        }
        let more = at_least.saturating_sub(removed.len());
        removed.extend(expendable(&kept, &[], more, self.view.now));
        removed
    }

    fn create(&self, missing: usize) -> Change {
        let limited = self.spec.backoff_limit_per_index.is_some();
        if !limited && let Some(wait) = self.backoff() {
            return Change::Wait(wait);
        }
        let make = |index, replaced| new_pod(self.view.job, self.spec, index, replaced);
        if !is_indexed(self.spec) {
            return Change::Create((0..missing).map(|_| make(None, None)).collect());
        }
        let delayed = Self::delayed(self.spec, self.tally, self.active);
        let (mut pods, mut wait) = (Vec::new(), None::<Duration>);
        for index in self.pending(missing) {
            let replaced = delayed.get(&index).map(|pod| &***pod);
            let left = replaced.filter(|_| limited).and_then(|pod| {
                let failures = earlier_failures(pod) + 1;
                remaining(failures, finished_at(pod), self.view.now)
            });
            match left {
                None => pods.push(make(Some(index), replaced)),
                Some(left) => wait = Some(wait.map_or(left, |wait| wait.min(left))),
            }
        }
        match (pods.is_empty(), wait) {
            (true, Some(wait)) => Change::Wait(wait),
            (true, None) => Change::None,
            (false, _) => Change::Create(pods),
        }
    }

    /// How long the whole Job waits after failures.
    fn backoff(&self) -> Option<Duration> {
        let pods = || self.view.pods.iter().map(|pod| &**pod);
        let failed = pods().filter(|pod| has_failed(self.spec, pod) && verdict(self.spec, pod) != Verdict::Ignore);
        let succeeded = pods().filter(|pod| phase(pod) == "Succeeded");
        let (failures, last) = failures_in_a_row(failed, succeeded);
        remaining(failures, last, self.view.now)
    }

    /// The first indexes that nobody works on and that have not ended.
    fn pending(&self, most: usize) -> Vec<i32> {
        let mut taken: BTreeSet<i32> = self.active.iter().filter_map(|pod| index(pod)).collect();
        if waits_for_the_end(self.spec) {
            taken.extend(self.leaving().filter_map(|pod| index(pod)));
        }
        let free = |index: &i32| !taken.contains(index) && !self.tally.done.has(*index) && !self.tally.lost.has(*index);
        let all = 0..self.spec.completions.unwrap_or(0);
        all.filter(free).take(most).collect()
    }

    /// Under a limit per index: the last failed Pod of each index that is to be tried again. It stays until
    /// its successor is there, which takes over its count of failures.
    pub fn delayed<'p>(spec: &JobSpec, tally: &Tally<'p>, active: &[Arc<Pod>]) -> BTreeMap<i32, &'p Arc<Pod>> {
        let mut last: BTreeMap<i32, &'p Arc<Pod>> = BTreeMap::new();
        if spec.backoff_limit_per_index.is_none() {
            return last;
        }
        let running: BTreeSet<i32> = active.iter().filter_map(|pod| index(pod)).collect();
        for pod in tally.tracked.iter().copied().filter(|pod| has_failed(spec, pod)) {
            let Some(index) = index(pod).filter(|index| *index < spec.completions.unwrap_or(0)) else {
                continue;
            };
            if tally.done.has(index) || tally.lost.has(index) || running.contains(&index) {
                continue;
            }
            let later = |other: &&Arc<Pod>| {
                (earlier_failures(pod), finished_at(pod)) >= (earlier_failures(other), finished_at(other))
            };
            if last.get(&index).is_none_or(later) {
                last.insert(index, pod);
            }
        }
        last
    }
}

fn discard(mut pods: Vec<Arc<Pod>>) -> Change {
    pods.truncate(BURST);
    if pods.is_empty() {
        Change::None
    } else {
        Change::Discard(pods)
    }
}

fn count(pods: usize) -> i32 {
    i32::try_from(pods).unwrap_or(i32::MAX)
}
