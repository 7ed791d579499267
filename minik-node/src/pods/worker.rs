//! The worker of one Pod: asks [`decide`](super::decide) what to do, does it, reports the status, waits.
//!
//! Owns the Pod's knowledge. Waits for the API object, the shim's states and the next deadline; polls nothing.

mod api;
mod context;
mod steps;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::decide::{Knowledge, Sandbox, crash_wait, decide};
use super::events::Events;
use super::ipam::Ipam;
use super::manager::{Facts, Registry};
use super::sandbox::{self, Running};
use crate::runtime::client::States;

pub use context::{NodeContext, PodError, Wanted};

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
    pub(super) first_seen: Timestamp,
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
        let mut knowledge = Knowledge::default();
        if let Some(running) = &running {
            let states = running.states.borrow().clone();
            knowledge.sandbox = if states.is_some() {
                Sandbox::Ready
            } else {
                Sandbox::Lost
            };
            knowledge.states = states.unwrap_or_default();
        }
        Self {
            node,
            ipam,
            events,
            registry,
            wanted,
            pod,
            knowledge,
            running,
            first_seen: Timestamp::now(),
            reported: None,
            failures: 0,
            announced: BTreeMap::new(),
        }
    }

    /// Works until the Pod is released, or until `shutdown`, which leaves it running.
    pub async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let Wanted { pod, gone } = self.wanted.borrow_and_update().clone();
            self.pod = pod;
            self.learn();
            let plan = decide(&self.pod, gone, &self.knowledge, Timestamp::now());
            let mut retry = None;
            for step in &plan.steps {
                match self.carry_out(step, gone).await {
                    Ok(true) => return,
                    Ok(false) => self.failures = 0,
                    Err(error) => {
                        self.failed(step, &error);
                        retry = Some(self.retry_at());
                        break;
                    }
                }
            }
            if retry.is_none() && !plan.steps.is_empty() && !shutdown.is_cancelled() {
                continue;
            }
            self.announce_back_offs();
            if !gone && let Err(error) = self.report().await {
                tracing::warn!(
                    pod = self.key(),
                    error = &error as &dyn std::error::Error,
                    "report status"
                );
                retry = Some(self.retry_at());
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = self.wanted.changed() => if changed.is_err() { return },
                () = states_changed(&mut self.running) => {}
                () = sleep_until(retry.into_iter().chain(plan.wake).min()) => {}
            }
        }
    }

    fn announce_back_offs(&mut self) {
        let now = Timestamp::now();
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

    /// Takes over what the shim says.
    fn learn(&mut self) {
        let Some(running) = &mut self.running else { return };
        match running.states.borrow_and_update().clone() {
            Some(states) => self.knowledge.states = states,
            None => self.knowledge.sandbox = Sandbox::Lost,
        }
        self.publish();
    }

    /// Tells the kubelet's endpoint where the Pod's containers are.
    pub(super) fn publish(&self) {
        let facts = Facts {
            uid: self.uid().to_owned(),
            client: self.running.as_ref().map(|running| running.client.clone()),
            states: self.knowledge.states.clone(),
            logs: sandbox::logs(&self.node.config, &self.pod),
        };
        self.registry.set(&self.pod, facts);
    }

    /// 10 ms, doubling to 5 s.
    fn retry_at(&mut self) -> Timestamp {
        self.failures = (self.failures + 1).min(10);
        let delay = Duration::from_millis(5 << self.failures).min(Duration::from_secs(5));
        Timestamp::now().saturating_add(delay).unwrap_or(Timestamp::MAX)
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

async fn sleep_until(time: Option<Timestamp>) {
    match time {
        Some(time) => {
            let left = time.duration_since(Timestamp::now());
            tokio::time::sleep(Duration::try_from(left).unwrap_or(Duration::ZERO)).await;
        }
        None => std::future::pending().await,
    }
}
