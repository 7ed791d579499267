//! The worker of one Pod: asks [`decide`](super::decide) what to do, does it, reports the status, waits.
//!
//! Owns the Pod's knowledge. Waits for the API object, the shim's states and the next deadline; polls nothing.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::decide::{Knowledge, Sandbox, Step, Trouble, crash_wait, decide};
use super::events::Events;
use super::ipam::Ipam;
use super::manager::{Facts, Registry};
use super::sandbox::{self, Running};
use super::start;
use super::status::{Addresses, status};
use crate::agent::AgentConfig;
use crate::kernel::pod_network::{PodNetworkError, PodNetworks};
use crate::runtime::client::{ShimClientError, States};
use crate::runtime::image::Images;
use crate::view::ClusterView;

/// Everything that the workers of a node share.
pub struct NodeContext {
    /// The node.
    pub config: AgentConfig,
    /// The API server.
    pub client: Client,
    /// Images of this machine.
    pub images: Images,
    /// Pod links.
    pub networks: PodNetworks,
    /// Services, for environment variables.
    pub view: watch::Receiver<Option<Arc<ClusterView>>>,
    /// The program that has the shim: this one.
    pub program: PathBuf,
}

/// What a worker could not do; it tries again.
#[derive(Debug, thiserror::Error)]
pub enum PodError {
    /// All addresses of the node's range are taken.
    #[error("no address is free in {0}")]
    NoAddress(ipnet::Ipv4Net),
    /// The Pod's link.
    #[error("lay the network")]
    Network(#[from] PodNetworkError),
    /// The Pod's shim.
    #[error(transparent)]
    Shim(#[from] ShimClientError),
    /// A directory or file of the Pod.
    #[error("{operation} {path}")]
    File {
        /// For example `remove`.
        operation: &'static str,
        /// Which.
        path: PathBuf,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// A request to the API server.
    #[error("{0}")]
    Api(&'static str, #[source] Box<kube::Error>),
}

/// The newest that the API says of a Pod.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The object.
    pub pod: Arc<Pod>,
    /// Whether the API server has it no more.
    pub gone: bool,
}

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
    /// Containers that ended in an earlier sandbox and must not run again.
    pub(super) over: States,
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
        let states = running.as_ref().and_then(|running| running.states.borrow().clone());
        let over = sandbox::over(&node.config, &pod);
        let states = states.map(|states| together(&over, states));
        let knowledge = Knowledge {
            sandbox: match (&running, &states) {
                (None, _) => Sandbox::Absent,
                (Some(_), Some(_)) => Sandbox::Ready,
                (Some(_), None) => Sandbox::Lost,
            },
            states: states.unwrap_or_else(|| sandbox::recover(&node.config, &pod, &States::new())),
            ..Knowledge::default()
        };
        Self {
            node,
            ipam,
            events,
            registry,
            wanted,
            pod,
            knowledge,
            running,
            over,
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
            Some(states) => self.knowledge.states = together(&self.over, states),
            None if self.knowledge.sandbox == Sandbox::Lost => {}
            None => {
                self.knowledge.sandbox = Sandbox::Lost;
                self.knowledge.states = sandbox::recover(&self.node.config, &self.pod, &self.knowledge.states);
            }
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

    async fn carry_out(&mut self, step: &Step, gone: bool) -> Result<bool, PodError> {
        match step {
            Step::CreateSandbox => sandbox::create(self).await?,
            Step::RemoveSandbox => sandbox::remove(self).await?,
            Step::Start(name) => start::start(self, name).await?,
            Step::Stop(name, kill_at) => {
                self.events.normal(
                    &self.pod,
                    Some(name),
                    "Killing",
                    "Stopping container ".to_owned() + name,
                );
                let signal = self
                    .knowledge
                    .states
                    .get(name)
                    .map_or(libc::SIGTERM, |state| state.current.stop_signal);
                self.signal(name, signal).await?;
                self.knowledge.stopping.insert(name.clone(), Some(*kill_at));
            }
            Step::Kill(name) => {
                self.signal(name, libc::SIGKILL).await?;
                self.knowledge.stopping.insert(name.clone(), None);
            }
            Step::Release => {
                if !gone {
                    self.release().await?;
                }
                sandbox::forget(self)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn signal(&self, container: &str, signal: i32) -> Result<(), PodError> {
        match &self.running {
            Some(running) => Ok(running.client.signal(container, signal).await?),
            None => Ok(()),
        }
    }

    async fn release(&self) -> Result<(), PodError> {
        let preconditions = Preconditions {
            uid: Some(self.uid().to_owned()),
            resource_version: None,
        };
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        match self.api().delete(self.name(), &params).await {
            Ok(_) => Ok(()),
            // Gone already, or another Pod has the name.
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
            Err(error) => Err(PodError::Api("delete the Pod", Box::new(error))),
        }
    }

    async fn report(&mut self) -> Result<(), PodError> {
        let addresses = Addresses {
            host: self.node.config.node_ip,
            pod: self.running.as_ref().map(|running| running.spec.address),
        };
        let status = status(&self.pod, &self.knowledge, addresses, self.first_seen, Timestamp::now());
        if self.reported.as_ref() == Some(&status) {
            return Ok(());
        }
        let patch = serde_json::json!({"metadata": {"uid": self.uid()}, "status": status});
        match self
            .api()
            .patch_status(self.name(), &PatchParams::default(), &Patch::Merge(patch))
            .await
        {
            Ok(_) => {}
            Err(kube::Error::Api(answer)) if answer.code == 404 || answer.code == 409 => {}
            Err(error) => return Err(PodError::Api("patch the Pod's status", Box::new(error))),
        }
        self.failures = 0;
        self.reported = Some(status);
        Ok(())
    }

    fn failed(&mut self, step: &Step, error: &PodError) {
        let text = chain(error);
        tracing::warn!(pod = self.key(), ?step, error = text, "step failed");
        match step {
            Step::CreateSandbox => {
                self.events.warning(
                    &self.pod,
                    None,
                    "FailedCreatePodSandBox",
                    format!("Failed to create pod sandbox: {text}"),
                );
                let now = Timestamp::now();
                let backoff = Backoff::next(
                    self.knowledge.sandbox_trouble.as_ref().map(|trouble| trouble.backoff),
                    now,
                );
                self.knowledge.sandbox_trouble = Some(Trouble {
                    reason: "FailedCreatePodSandBox".to_owned(),
                    message: text,
                    at: now,
                    backoff,
                });
            }
            Step::RemoveSandbox => {
                self.events
                    .warning(&self.pod, None, "FailedKillPod", format!("error killing pod: {text}"));
            }
            _ => {}
        }
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

    fn api(&self) -> Api<Pod> {
        Api::namespaced(self.node.client.clone(), self.namespace())
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

/// What a shim reports, and what was over before it.
fn together(over: &States, reported: States) -> States {
    let mut states = over.clone();
    states.extend(reported);
    states
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
