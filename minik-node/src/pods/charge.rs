//! One Pod in the care of a worker: what is wanted of it, what is known, and what of it is there.
//!
//! Learns from the shim and tells the registry; what is to be done is decided and done by those who hold it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodStatus};

use super::backoff::Backoff;
use super::context::NodeContext;
use super::decide::{Knowledge, Sandbox, Trouble};
use super::events::Events;
use super::ipam::Ipam;
use super::records;
use super::registry::{Facts, Registry};
use super::running::Running;
use super::termination;
use super::volumes::keeper::Keeper;
use crate::runtime::client::States;
use crate::runtime::protocol::ContainerState;

/// A Pod, and the means to work on it.
pub struct Charge {
    /// What all workers share.
    pub node: Arc<NodeContext>,
    /// Addresses of the node's Pods.
    pub ipam: Arc<Mutex<Ipam>>,
    /// Tells what happens.
    pub events: Events,
    /// Tells where its containers are.
    pub registry: Registry,
    /// The newest object.
    pub pod: Arc<Pod>,
    /// What is known of it.
    pub knowledge: Knowledge,
    /// Its shim, once there is a sandbox.
    pub running: Option<Running>,
    /// While the Pod is not over.
    pub volumes: Option<Keeper>,
    /// What the API was told last.
    pub reported: Option<PodStatus>,
    /// Why its containers wait, by name.
    waiting: BTreeMap<String, String>,
}

impl Charge {
    /// A Pod that was just seen, with the sandbox that an earlier agent left for it.
    pub fn new(
        node: Arc<NodeContext>,
        ipam: Arc<Mutex<Ipam>>,
        events: Events,
        registry: Registry,
        pod: Arc<Pod>,
        running: Option<Running>,
    ) -> Self {
        let states = running.as_ref().map(|running| running.states.borrow().clone());
        let former = records::over(&node.config, &pod).into_iter();
        let (sandbox, states) = match states {
            Some(Some(states)) => (Sandbox::Ready, states),
            lost => {
                let sandbox = lost.map_or(Sandbox::Absent, |_| Sandbox::Lost);
                (sandbox, records::recover(&node.config, &pod, &States::new()))
            }
        };
        let clock = node.clock;
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
            pod,
            knowledge,
            running,
            volumes: None,
            reported: None,
            waiting: BTreeMap::new(),
        }
    }

    /// Takes over what the shim says, and what the clocks do.
    pub fn learn(&mut self) {
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
                let states = records::recover(&self.node.config, &self.pod, &self.knowledge.states);
                self.knowledge.lose(states);
            }
        }
        self.read_messages();
        self.publish();
    }

    /// Reads what runs that have ended left to be told, once.
    fn read_messages(&mut self) {
        let state = records::directories(&self.node.config, self.uid()).state;
        let logs = records::logs(&self.node.config, &self.pod);
        let known = std::mem::take(&mut self.knowledge.messages);
        let mut messages = BTreeMap::new();
        for (name, container) in &self.knowledge.states {
            for attempt in std::iter::once(&container.current).chain(&container.previous) {
                let spec = find(&self.pod, name).filter(|_| attempt.ended.is_some());
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
    pub fn publish(&self) {
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
            waiting: self.waiting.clone(),
            logs: records::logs(&self.node.config, &self.pod),
        };
        self.registry.set(&self.pod, facts);
    }

    /// Waits until the shim's states say so, or the shim has died.
    pub async fn until(&mut self, condition: impl Fn(&States) -> bool) {
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

    /// `NAMESPACE/NAME`
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace(), self.name())
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.pod.metadata.name.as_deref().unwrap_or_default()
    }

    /// Its UID.
    pub fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    /// The Pod's address once it has a sandbox.
    pub fn address(&self) -> Ipv4Addr {
        self.running
            .as_ref()
            .map_or(Ipv4Addr::UNSPECIFIED, |running| running.spec.address)
    }

    /// Takes over why containers wait from a status that the API is about to be told.
    pub fn wait_for(&mut self, status: &PodStatus) {
        let lists = [&status.init_container_statuses, &status.container_statuses];
        let reason = |status: &ContainerStatus| {
            let waiting = status.state.as_ref()?.waiting.as_ref()?;
            Some((status.name.clone(), waiting.reason.clone()?))
        };
        let waiting = lists.into_iter().flatten().flatten().filter_map(reason).collect();
        if self.waiting != waiting {
            self.waiting = waiting;
            self.publish();
        }
    }

    /// Remembers why a container could not be started, and how long that is let rest.
    pub fn trouble(&mut self, name: &str, reason: &str, message: String) {
        let now = self.node.clock.now();
        let before = self.knowledge.troubles.get(name).map(|trouble| trouble.backoff);
        let backoff = Backoff::next(before, now, now);
        self.knowledge.troubles.insert(
            name.to_owned(),
            Trouble {
                reason: reason.to_owned(),
                message,
                at: now,
                backoff,
            },
        );
    }
}

/// A container of a Pod by name.
pub fn find<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    spec.init_containers
        .iter()
        .flatten()
        .chain(&spec.containers)
        .find(|container| container.name == name)
}
