//! A world for the tests of the decision: Pods, a cache that lags behind them, and a clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodSpec, PodStatus, PodTemplateSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::plan::{Plan, decide};
use super::pods::{TRACKING, is_tracked};
use super::view::View;
use crate::controllers::pod::{is_active, is_finished};

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

pub fn job(completions: Option<i32>, parallelism: i32) -> Job {
    let container = Container {
        name: "work".into(),
        ..Container::default()
    };
    let template = PodTemplateSpec {
        metadata: None,
        spec: Some(PodSpec {
            containers: vec![container],
            restart_policy: Some("Never".into()),
            ..PodSpec::default()
        }),
    };
    let mut job = Job {
        spec: Some(JobSpec {
            completions,
            parallelism: Some(parallelism),
            backoff_limit: Some(6),
            completion_mode: Some("NonIndexed".into()),
            template,
            ..JobSpec::default()
        }),
        status: Some(JobStatus::default()),
        ..Job::default()
    };
    job.metadata.name = Some("pi".into());
    job.metadata.namespace = Some("default".into());
    job.metadata.uid = Some("job".into());
    job
}

pub fn indexed(completions: i32, parallelism: i32) -> Job {
    let mut job = job(Some(completions), parallelism);
    job.spec.as_mut().unwrap().completion_mode = Some("Indexed".into());
    job
}

/// A cluster as the API server and the node agents would keep it; what the controller sees of it may be old.
pub struct World {
    pub job: Job,
    pub pods: BTreeMap<String, Arc<Pod>>,
    /// What the Pod cache shows.
    pub seen: Vec<Arc<Pod>>,
    pub settled: bool,
    pub now: i64,
    pub made: u32,
    /// Pods that ended while they were the Job's, and how.
    pub ended: BTreeMap<String, bool>,
    /// Pods taken away because they were too many.
    pub discarded: BTreeSet<String>,
    pub notes: Vec<&'static str>,
}

impl World {
    pub fn new(job: Job) -> Self {
        Self {
            job,
            pods: BTreeMap::new(),
            seen: Vec::new(),
            settled: true,
            now: 1_000_000,
            made: 0,
            ended: BTreeMap::new(),
            discarded: BTreeSet::new(),
            notes: Vec::new(),
        }
    }

    pub fn spec(&mut self) -> &mut JobSpec {
        self.job.spec.as_mut().unwrap()
    }

    pub fn status(&self) -> JobStatus {
        self.job.status.clone().unwrap()
    }

    /// The cache catches up.
    pub fn see(&mut self) {
        self.seen = self.pods.values().cloned().collect();
        self.settled = true;
    }

    pub fn plan(&self) -> Plan {
        decide(&View {
            job: &self.job,
            pods: &self.seen,
            settled: self.settled,
            now: at(self.now),
        })
    }

    pub fn pass(&mut self) -> Plan {
        let plan = self.plan();
        for pod in &plan.discard {
            self.discarded.insert(pod.uid().unwrap());
            self.release(pod);
            self.delete(pod);
        }
        plan.delete.iter().for_each(|pod| self.delete(pod));
        for pod in &plan.create {
            self.made += 1;
            let mut pod = pod.clone();
            let uid = format!("pod{}", self.made);
            pod.metadata.uid = Some(uid.clone());
            pod.metadata.name = Some(uid.clone());
            self.pods.insert(uid, Arc::new(pod));
            self.settled = false;
        }
        if !plan.discard.is_empty() || !plan.delete.is_empty() {
            self.settled = false;
        }
        self.job.status = Some(plan.status.clone());
        plan.release.iter().for_each(|pod| self.release(pod));
        self.notes.extend(plan.notes.iter().map(|note| note.reason));
        plan
    }

    pub fn change(&mut self, uid: &str, change: impl FnOnce(&mut Pod)) {
        let Some(slot) = self.pods.get_mut(uid) else { return };
        let mut pod = Pod::clone(slot);
        change(&mut pod);
        let gone = pod.metadata.deletion_timestamp.is_some() && !is_tracked(&pod) && is_finished(&pod);
        *slot = Arc::new(pod);
        if gone {
            self.pods.remove(uid);
        }
    }

    pub fn release(&mut self, pod: &Pod) {
        let uid = pod.uid().unwrap();
        self.change(&uid, |pod| {
            pod.metadata.finalizers.as_mut().unwrap().retain(|f| f != TRACKING);
        });
    }

    pub fn delete(&mut self, pod: &Pod) {
        let now = at(self.now);
        self.change(&pod.uid().unwrap(), |pod| {
            pod.metadata.deletion_timestamp = Some(Time(now));
        });
    }

    /// A container ends with this code.
    pub fn end(&mut self, uid: &str, code: i32) {
        if self.pods.get(uid).is_none_or(|pod| is_finished(pod)) {
            return;
        }
        if is_tracked(&self.pods[uid]) {
            self.ended.insert(uid.into(), code == 0);
        }
        let state = ContainerState {
            terminated: Some(ContainerStateTerminated {
                exit_code: code,
                finished_at: Some(Time(at(self.now))),
                ..ContainerStateTerminated::default()
            }),
            ..ContainerState::default()
        };
        let container = ContainerStatus {
            name: "work".into(),
            state: Some(state),
            ..ContainerStatus::default()
        };
        self.change(uid, |pod| {
            pod.status = Some(PodStatus {
                phase: Some(if code == 0 { "Succeeded" } else { "Failed" }.into()),
                container_statuses: Some(vec![container]),
                ..PodStatus::default()
            });
        });
    }

    pub fn running(&self) -> Vec<String> {
        let running = self.pods.values().filter(|pod| is_active(pod));
        running.map(|pod| pod.uid().unwrap()).collect()
    }

    /// Passes until nothing is left to do at once.
    pub fn settle(&mut self) {
        for _ in 0..12 {
            self.see();
            self.pass();
        }
    }

    pub fn run_all(&mut self, code: i32) {
        self.settle();
        self.running().iter().for_each(|uid| self.end(uid, code));
        self.settle();
    }

    pub fn conditions(&self) -> Vec<(String, String)> {
        let conditions = self.status().conditions.unwrap_or_default();
        let holds = conditions.into_iter().filter(|condition| condition.status == "True");
        holds
            .map(|condition| (condition.type_, condition.reason.unwrap()))
            .collect()
    }
}
