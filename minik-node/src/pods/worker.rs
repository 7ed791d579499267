//! The worker of one Pod: asks [`decide`](super::decide) what to do, does it, reports the status, waits.
//!
//! Owns the Pod's knowledge. Waits for the API object, the shim's states and the next deadline; polls nothing.

mod api;
mod steps;
mod tasks;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::charge::Charge;
use super::context::{NodeContext, PodError, Wanted};
use super::decide::{Plan, Step, crash_wait, decide, is_finished};
use super::events::Events;
use super::ipam::Ipam;
use super::probes::Probes;
use super::records;
use super::registry::Registry;
use super::running::Running;
use super::volumes::keeper::Keeper;
use crate::clock::Clock;
use tasks::Report;

/// One Pod at work.
pub struct Worker {
    charge: Charge,
    wanted: watch::Receiver<Wanted>,
    first_seen: Timestamp,
    /// The same by the clock that waits are measured with.
    began: Timestamp,
    steps: watch::Receiver<()>,
    probes: Probes,
    /// Probes and hooks under way.
    tasks: JoinSet<Report>,
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
        let (clock, steps) = (node.clock, node.steps.clone());
        Self {
            charge: Charge::new(node, ipam, events, registry, pod, running),
            wanted,
            first_seen: Timestamp::now(),
            began: clock.now(),
            steps,
            probes: Probes::default(),
            tasks: JoinSet::new(),
            failures: 0,
            announced: BTreeMap::new(),
        }
    }

    /// Tells where its containers are.
    pub fn publish(&self) {
        self.charge.publish();
    }

    /// Works until the Pod is released, or until `shutdown`, which leaves it running.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let clock = self.charge.node.clock;
        loop {
            let Wanted { pod, gone } = self.wanted.borrow_and_update().clone();
            self.charge.pod = pod;
            self.charge.learn();
            self.ask_probes(clock.now());
            let mut plan = decide(&self.charge.pod, gone, &self.charge.knowledge, clock.now());
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
                () = states_changed(&mut self.charge.running) => {}
                () = volumes_laid(&mut self.charge.volumes) => {}
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
            pod = self.charge.key(),
            error = error as &dyn std::error::Error,
            "report status"
        );
    }

    fn take_joined(&mut self, report: Result<Report, tokio::task::JoinError>) {
        match report {
            Ok(report) => self.take(report),
            Err(error) => tracing::error!(pod = self.charge.key(), %error, "a probe or hook died"),
        }
    }

    fn announce_back_offs(&mut self) {
        let now = self.charge.node.clock.now();
        for (name, state) in &self.charge.knowledge.states {
            let id = &state.current.id;
            if crash_wait(name, &self.charge.knowledge, now).is_some() && self.announced.get(name) != Some(id) {
                let message = format!(
                    "Back-off restarting failed container {name} in pod {}_{}({})",
                    self.charge.name(),
                    self.charge.namespace(),
                    self.charge.uid()
                );
                self.charge
                    .events
                    .warning(&self.charge.pod, Some(name), "BackOff", message);
                self.announced.insert(name.clone(), id.clone());
            }
        }
    }

    /// Lays the Pod's volumes before anything of it is made, and keeps them until it is over.
    fn keep_volumes(&mut self, gone: bool, plan: &mut Plan) {
        let over = |spec| {
            is_finished(
                &self.charge.pod,
                spec,
                &self.charge.knowledge,
                self.charge.node.clock.now(),
            )
        };
        if gone || self.charge.pod.spec.as_ref().is_none_or(over) {
            return;
        }
        let keeper = self.charge.volumes.get_or_insert_with(|| {
            let uid = self.charge.pod.metadata.uid.as_deref().unwrap_or_default();
            let directories = records::directories(&self.charge.node.config, uid);
            Keeper::spawn(
                Arc::clone(&self.charge.node),
                self.charge.events.clone(),
                self.wanted.clone(),
                directories,
            )
        });
        if !keeper.is_complete() {
            plan.steps
                .retain(|step| !matches!(step, Step::CreateSandbox | Step::Start(_)));
        }
    }

    /// 10 ms, doubling to 5 s.
    fn retry_at(&mut self) -> Timestamp {
        self.failures = (self.failures + 1).min(10);
        let delay = Duration::from_millis(5 << self.failures).min(Duration::from_secs(5));
        self.charge
            .node
            .clock
            .now()
            .saturating_add(delay)
            .unwrap_or(Timestamp::MAX)
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
