//! Counting a Job's ended Pods, each exactly once. Pure.
//!
//! A Pod carries a finalizer until it is counted. It is counted in three steps, each safe to repeat: its uid
//! is written into `uncountedTerminatedPods`; the finalizer is taken off; and once that is seen the uid becomes one more
//! in the count. Of an Indexed Job's successes the indexes themselves are the count.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::batch::v1::{JobSpec, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;

use super::indexes::Indexes;
use super::pods::{exhausts_index, has_failed, index, is_indexed, is_tracked};
use super::policy::{Verdict, verdict};
use super::view::View;
use crate::controllers::pod::phase;

/// The most Pods that one pass counts.
const MOST_AT_A_TIME: usize = 500;

/// What is known of a Job's ended Pods.
pub struct Tally<'a> {
    spec: &'a JobSpec,
    /// The Pods that have yet to be counted, ended or not.
    pub tracked: Vec<&'a Arc<Pod>>,
    /// Successes, counted or not; of an Indexed Job, its succeeded indexes.
    pub succeeded: i32,
    /// Failures that count, counted or not.
    pub failed: i32,
    /// The indexes that have succeeded.
    pub done: Indexes,
    /// The indexes that have failed for good.
    pub lost: Indexes,
    counted: (i32, i32),
    uncounted: (BTreeSet<String>, BTreeSet<String>),
}

impl<'a> Tally<'a> {
    /// What the status and the Pods tell.
    pub fn of(view: &View<'a>, spec: &'a JobSpec) -> Self {
        let status = view.job.status.clone().unwrap_or_default();
        let tracked: Vec<&Arc<Pod>> = view.pods.iter().filter(|pod| is_tracked(pod)).collect();
        let still: BTreeSet<&str> = tracked.iter().map(|pod| uid(pod)).collect();
        let noted = status.uncounted_terminated_pods.clone().unwrap_or_default();
        let fold = |uids: Option<Vec<String>>, count: Option<i32>| {
            let (waiting, over): (BTreeSet<_>, BTreeSet<_>) = uids
                .unwrap_or_default()
                .into_iter()
                .partition(|uid| still.contains(uid.as_str()));
            (
                waiting,
                count.unwrap_or(0) + i32::try_from(over.len()).unwrap_or(i32::MAX),
            )
        };
        let (waiting_succeeded, succeeded) = fold(noted.succeeded, status.succeeded);
        let (waiting_failed, failed) = fold(noted.failed, status.failed);
        let mut tally = Self {
            spec,
            tracked,
            succeeded: 0,
            failed: 0,
            done: Indexes::default(),
            lost: Indexes::default(),
            counted: (succeeded, failed),
            uncounted: (waiting_succeeded, waiting_failed),
        };
        tally.sum_up(&status);
        tally
    }

    fn sum_up(&mut self, status: &JobStatus) {
        let pods = self.tracked.clone();
        let sum = |waiting: &BTreeSet<String>, fresh: &dyn Fn(&Pod) -> bool| {
            let fresh = pods
                .iter()
                .filter(|pod| !waiting.contains(uid(pod)) && fresh(pod))
                .count();
            i32::try_from(waiting.len() + fresh).unwrap_or(i32::MAX)
        };
        self.failed = self.counted.1 + sum(&self.uncounted.1, &|pod| self.counts_as_failed(pod));
        if !is_indexed(self.spec) {
            self.succeeded = self.counted.0 + sum(&self.uncounted.0, &|pod| phase(pod) == "Succeeded");
            return;
        }
        let completions = self.spec.completions.unwrap_or(0);
        let parsed = |text: &Option<String>| Indexes::parse(text.as_deref().unwrap_or_default(), completions);
        self.done = parsed(&status.completed_indexes);
        self.lost = parsed(&status.failed_indexes);
        for pod in pods {
            let Some(index) = index(pod).filter(|index| *index < completions) else {
                continue;
            };
            let limit = self.spec.backoff_limit_per_index;
            if phase(pod) == "Succeeded" {
                self.done.insert(index);
            } else if limit.is_some_and(|limit| has_failed(self.spec, pod) && exhausts_index(self.spec, limit, pod)) {
                self.lost.insert(index);
            }
        }
        self.succeeded = self.done.total();
    }

    fn counts_as_failed(&self, pod: &Pod) -> bool {
        has_failed(self.spec, pod) && self.is_of_the_job(pod) && verdict(self.spec, pod) != Verdict::Ignore
    }

    /// An Indexed Job does not count Pods of indexes that it does not have.
    fn is_of_the_job(&self, pod: &Pod) -> bool {
        let completions = self.spec.completions.unwrap_or(0);
        !is_indexed(self.spec) || index(pod).is_some_and(|index| index < completions)
    }

    /// Notes the Pods for which `may_go` in the status, at most so many a pass, and returns them: once that
    /// status is written, their finalizers may come off. `all_failed` counts those that never ended as failed.
    pub fn count(mut self, status: &mut JobStatus, all_failed: bool, may_go: impl Fn(&Pod) -> bool) -> Vec<Arc<Pod>> {
        let going: Vec<_> = self
            .tracked
            .iter()
            .filter(|pod| may_go(pod))
            .take(MOST_AT_A_TIME)
            .collect();
        let indexed = is_indexed(self.spec);
        for pod in &going {
            let uid = uid(pod).to_owned();
            if phase(pod) == "Succeeded" && !self.uncounted.1.contains(&uid) {
                if !indexed {
                    self.uncounted.0.insert(uid);
                }
            } else if self.counts_as_failed(pod)
                || (all_failed && self.is_of_the_job(pod) && !has_failed(self.spec, pod))
            {
                self.uncounted.1.insert(uid);
            }
        }
        let some = |count: i32| (count != 0).then_some(count);
        status.failed = some(self.counted.1);
        if indexed {
            let done: Indexes = self.counted_indexes(&going, status);
            status.succeeded = some(done.total());
            status.completed_indexes = Some(done.to_string()).filter(|text| !text.is_empty());
            if self.spec.backoff_limit_per_index.is_some() {
                status.failed_indexes = Some(self.lost.to_string());
            }
        } else {
            status.succeeded = some(self.counted.0);
        }
        let listed = |uids: BTreeSet<String>| (!uids.is_empty()).then(|| uids.into_iter().collect());
        status.uncounted_terminated_pods = Some(UncountedTerminatedPods {
            succeeded: listed(self.uncounted.0),
            failed: listed(self.uncounted.1),
        });
        going.into_iter().map(|pod| Arc::clone(pod)).collect()
    }

    fn counted_indexes(&self, going: &[&&Arc<Pod>], status: &JobStatus) -> Indexes {
        let completions = self.spec.completions.unwrap_or(0);
        let mut done = Indexes::parse(status.completed_indexes.as_deref().unwrap_or_default(), completions);
        let succeeded = going.iter().filter(|pod| phase(pod) == "Succeeded");
        let indexes = succeeded.filter_map(|pod| index(pod).filter(|index| *index < completions));
        indexes.for_each(|index| done.insert(index));
        done
    }
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}
