//! The worker of one Pod: asks [`decide`](super::decide) what to do, does it, reports the status, waits.
//!
//! Owns the Pod's knowledge. Waits for the API object, the shim's states and the next deadline; polls nothing.

mod api;
mod context;
mod steps;
mod tasks;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::decide::{Knowledge, Plan, Sandbox, Step, crash_wait, decide, is_finished};
use super::events::Events;
use super::ipam::Ipam;
use super::manager::{Facts, Registry};
use super::probes::Probes;
use super::sandbox::{self, Running};
use super::volumes::keeper::Keeper;
use super::{start, termination};
use crate::clock::Clock;
use crate::runtime::client::States;
use crate::runtime::protocol::ContainerState;

pub use context::{NodeContext, PodError, Wanted};
use tasks::Report;

/// One Pod at work.
pub struct Worker {
    pub(super) node: Arc<NodeContext>,
    pub(super) ipam: Arc<Mutex<Ipam>>,
    pub(super) events: Events,
    pub(super) registry: Registry,
    pub(super) wanted: watch::Receiver<Wanted>,
    pub(super) pod: Arc<Pod>,
    pub(super) knowledge: Knowledge,
    pub(super) running: Option<Running>,
    /// While the Pod is not over.
    pub(super) volumes: Option<Keeper>,
    pub(super) first_seen: Timestamp,
    /// The same by the clock that waits are measured with.
    began: Timestamp,
    steps: watch::Receiver<()>,
    probes: Probes,
    /// Probes and hooks under way.
    tasks: JoinSet<Report>,
    /// What the API was told last.
    reported: Option<PodStatus>,
    /// Failed attempts to talk to the API in a row.
    failures: u32,
    /// Container ids whose back-off was announced, by container.
    announced: BTreeMap<String, String>,
}

impl Worker {
    /// For a Pod that was just seen, with the sandbox that an earlier agent left for it.
    pub fn new(
        node: Arc<NodeContext>,
        ipam: Arc<Mutex<Ipam>>,
        events: Events,
        registry: Registry,
        wanted: watch::Receiver<Wanted>,
        running: Option<Running>,
    ) -> Self {
        let pod = Arc::clone(&wanted.borrow().pod);
        let states = running.as_ref().map(|running| running.states.borrow().clone());
        let former = sandbox::over(&node.config, &pod).into_iter();
        let (sandbox, states) = match states {
            Some(Some(states)) => (Sandbox::Ready, states),
            lost => {
                let sandbox = lost.map_or(Sandbox::Absent, |_| Sandbox::Lost);
                (sandbox, sandbox::recover(&node.config, &pod, &States::new()))
            }
        };
        let (clock, steps) = (node.clock, node.steps.clone());
        let mut knowledge = Knowledge {
            sandbox,
            states,
            former: former.map(|(name, state)| (name, state.current)).collect(),
            ..Knowledge::default()
        };
        knowledge.note_moments(clock.ahead(), clock.now());
        Self {
            node,
            ipam,
            events,
            registry,
            wanted,
            pod,
            knowledge,
            running,
            volumes: None,
            first_seen: Timestamp::now(),
            began: clock.now(),
            steps,
            probes: Probes::default(),
            tasks: JoinSet::new(),
            reported: None,
            failures: 0,
            announced: BTreeMap::new(),
        }
    }

    /// Works until the Pod is released, or until `shutdown`, which leaves it running.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let clock = self.node.clock;
        loop {
            let Wanted { pod, gone } = self.wanted.borrow_and_update().clone();
            self.pod = pod;
            self.learn();
            self.ask_probes(clock.now());
            let mut plan = decide(&self.pod, gone, &self.knowledge, clock.now());
            self.keep_volumes(gone, &mut plan);
            let mut retry = match self.carry_out(&plan, gone).await {
                Progress::Over => return,
                Progress::Done => None,
                Progress::Failed => Some(self.retry_at()),
            };
            if retry.is_none() && !plan.steps.is_empty() && !shutdown.is_cancelled() {
                continue;
            }
            self.announce_back_offs();
            if !gone && let Err(error) = self.report().await {
                self.not_reported(&error);
                retry = Some(self.retry_at());
            }
            let wake = retry.into_iter().chain(plan.wake).chain(self.probes.wake()).min();
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = self.wanted.changed() => if changed.is_err() { return },
                () = states_changed(&mut self.running) => {}
                () = volumes_laid(&mut self.volumes) => {}
                Some(report) = self.tasks.join_next() => self.take_joined(report),
                // What is counted from a date is due at another moment now.
                _ = self.steps.changed() => {}
                () = sleep_until(clock, wake) => {}
            }
        }
    }

    /// Does what is planned, in order, until something fails.
    async fn carry_out(&mut self, plan: &Plan, gone: bool) -> Progress {
        for step in &plan.steps {
            // How the containers ended must be known before what remembers it goes.
            let last_words = matches!(step, Step::RemoveSandbox | Step::Release);
            if last_words
                && !gone
                && let Err(error) = self.report().await
            {
                self.not_reported(&error);
                return Progress::Failed;
            }
            match self.do_step(step, gone).await {
                Ok(true) => return Progress::Over,
                Ok(false) => self.failures = 0,
                Err(error) => {
                    self.failed(step, &error);
                    return Progress::Failed;
                }
            }
        }
        Progress::Done
    }

    fn not_reported(&self, error: &PodError) {
        tracing::warn!(
            pod = self.key(),
            error = error as &dyn std::error::Error,
            "report status"
        );
    }

    fn take_joined(&mut self, report: Result<Report, tokio::task::JoinError>) {
        match report {
            Ok(report) => self.take(report),
            Err(error) => tracing::error!(pod = self.key(), %error, "a probe or hook died"),
        }
    }

    fn announce_back_offs(&mut self) {
        let now = self.node.clock.now();
        for (name, state) in &self.knowledge.states {
            let id = &state.current.id;
            if crash_wait(name, &self.knowledge, now).is_some() && self.announced.get(name) != Some(id) {
                let message = format!(
                    "Back-off restarting failed container {name} in pod {}_{}({})",
                    self.name(),
                    self.namespace(),
                    self.uid()
                );
                self.events.warning(&self.pod, Some(name), "BackOff", message);
                self.announced.insert(name.clone(), id.clone());
            }
        }
    }

    /// Lays the Pod's volumes before anything of it is made, and keeps them until it is over.
    fn keep_volumes(&mut self, gone: bool, plan: &mut Plan) {
        let over = |spec| is_finished(&self.pod, spec, &self.knowledge, self.node.clock.now());
        if gone || self.pod.spec.as_ref().is_none_or(over) {
            return;
        }
        let keeper = self.volumes.get_or_insert_with(|| {
            let uid = self.pod.metadata.uid.as_deref().unwrap_or_default();
            let directories = sandbox::directories(&self.node.config, uid);
            Keeper::spawn(
                Arc::clone(&self.node),
                self.events.clone(),
                self.wanted.clone(),
                directories,
            )
        });
        if !keeper.is_complete() {
            plan.steps
                .retain(|step| !matches!(step, Step::CreateSandbox | Step::Start(_)));
        }
    }

    /// Takes over what the shim says, and what the clocks do.
    fn learn(&mut self) {
        self.take_states();
        let clock = self.node.clock;
        self.knowledge.note_moments(clock.ahead(), clock.now());
    }

    fn take_states(&mut self) {
        let Some(running) = &mut self.running else { return };
        match running.states.borrow_and_update().clone() {
            Some(states) => self.knowledge.states = states,
            None if self.knowledge.sandbox != Sandbox::Ready => {}
            None => {
                let states = sandbox::recover(&self.node.config, &self.pod, &self.knowledge.states);
                self.knowledge.lose(states);
            }
        }
        self.read_messages();
        self.publish();
    }

    /// Reads what runs that have ended left to be told, once.
    fn read_messages(&mut self) {
        let state = sandbox::directories(&self.node.config, self.uid()).state;
        let logs = sandbox::logs(&self.node.config, &self.pod);
        let known = std::mem::take(&mut self.knowledge.messages);
        let mut messages = BTreeMap::new();
        for (name, container) in &self.knowledge.states {
            for attempt in std::iter::once(&container.current).chain(&container.previous) {
                let spec = start::find(&self.pod, name).filter(|_| attempt.ended.is_some());
                let Some(spec) = spec else { continue };
                let text = match known.get(&attempt.id) {
                    Some(text) => text.clone(),
                    None => termination::message(&state, &logs, spec, attempt),
                };
                messages.insert(attempt.id.clone(), text);
            }
        }
        self.knowledge.messages = messages;
    }

    /// Tells the kubelet's endpoint where the Pod's containers are.
    pub(super) fn publish(&self) {
        let mut states = self.knowledge.states.clone();
        // What ended in a sandbox before this one, and does not run again, still has a log.
        for (name, attempt) in &self.knowledge.former {
            states.entry(name.clone()).or_insert_with(|| ContainerState {
                current: attempt.clone(),
                previous: None,
            });
        }
        let facts = Facts {
            uid: self.uid().to_owned(),
            client: self.running.as_ref().map(|running| running.client.clone()),
            netns: self.running.as_ref().and_then(|running| running.spec.netns.clone()),
            states,
            waiting: self.waiting(),
            logs: sandbox::logs(&self.node.config, &self.pod),
        };
        self.registry.set(&self.pod, facts);
    }

    /// 10 ms, doubling to 5 s.
    fn retry_at(&mut self) -> Timestamp {
        self.failures = (self.failures + 1).min(10);
        let delay = Duration::from_millis(5 << self.failures).min(Duration::from_secs(5));
        self.node.clock.now().saturating_add(delay).unwrap_or(Timestamp::MAX)
    }

    /// Waits until the shim's states say so, or the shim has died.
    pub(super) async fn until(&mut self, condition: impl Fn(&States) -> bool) {
        if let Some(running) = &mut self.running {
            let seen = running
                .states
                .wait_for(|states| states.as_ref().is_none_or(&condition))
                .await
                .is_ok();
            tracing::trace!(seen, "shim states");
        }
        self.learn();
    }

    pub(super) fn key(&self) -> String {
        format!("{}/{}", self.namespace(), self.name())
    }

    pub(super) fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }

    pub(super) fn name(&self) -> &str {
        self.pod.metadata.name.as_deref().unwrap_or_default()
    }

    pub(super) fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    /// The Pod's address once it has a sandbox.
    pub(super) fn address(&self) -> Ipv4Addr {
        self.running
            .as_ref()
            .map_or(Ipv4Addr::UNSPECIFIED, |running| running.spec.address)
    }
}

/// How far a plan was carried out.
enum Progress {
    /// Wholly.
    Done,
    /// To a step that failed.
    Failed,
    /// To the end of the Pod.
    Over,
}

/// An error and its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

async fn states_changed(running: &mut Option<Running>) {
    match running {
        // A closed channel has been seen as `None` before: the shim is lost and there is nothing to wait for.
        Some(running) => {
            if running.states.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        None => std::future::pending().await,
    }
}

async fn volumes_laid(volumes: &mut Option<Keeper>) {
    match volumes {
        Some(keeper) => keeper.changed().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(clock: Clock, time: Option<Timestamp>) {
    match time {
        Some(time) => {
            let left = time.duration_since(clock.now());
            tokio::time::sleep(Duration::try_from(left).unwrap_or(Duration::ZERO)).await;
        }
        None => std::future::pending().await,
    }
}
