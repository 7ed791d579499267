//! All Pods of the node: one watch, one worker a Pod, and what an earlier agent left.
//!
//! Owns the set of workers. A Pod that is no longer listed is gone; a sandbox without a Pod is taken down.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use kube::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::context::{NodeContext, Wanted, chain};
use super::events::Events;
use super::ipam::Ipam;
use super::registry::Registry;
use super::running::Running;
use super::worker::Worker;
use crate::plan::host_ports::{HostPorts, PodPorts};
use crate::runtime::spec::SandboxSpec;
use crate::view::Retry;

struct Manager {
    node: Arc<NodeContext>,
    ipam: Arc<Mutex<Ipam>>,
    events: Events,
    registry: Registry,
    shutdown: CancellationToken,
    /// By UID.
    pods: BTreeMap<String, watch::Sender<Wanted>>,
    /// By UID: shims that wait for their Pod to be listed.
    found: BTreeMap<String, Running>,
    workers: JoinSet<String>,
    /// UIDs of the list that is under way.
    listed: Vec<String>,
}

/// Runs the Pods of this node until `shutdown`, which leaves them running; the task ends when all workers have.
#[must_use]
pub fn spawn(node: NodeContext, registry: Registry, shutdown: CancellationToken) -> tokio::task::JoinHandle<()> {
    let events = Events::spawn(node.client.clone(), "kubelet", node.config.node.clone());
    let ipam = Arc::new(Mutex::new(Ipam::new(node.config.node_pod_cidr)));
    let manager = Manager {
        node: Arc::new(node),
        ipam,
        events,
        registry,
        shutdown,
        pods: BTreeMap::new(),
        found: BTreeMap::new(),
        workers: JoinSet::new(),
        listed: Vec::new(),
    };
    tokio::spawn(manager.run())
}

impl Manager {
    async fn run(mut self) {
        self.find().await;
        let api: Api<Pod> = Api::all(self.node.client.clone());
        let config = watcher::Config::default().fields(&format!("spec.nodeName={}", self.node.config.node));
        let mut stream = watcher::watcher(api, config).backoff(Retry::default()).boxed();
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => break,
                Some(ended) = self.workers.join_next() => self.ended(ended),
                event = stream.next() => match event {
                    Some(Ok(event)) => self.take(event),
                    Some(Err(error)) => crate::view::tell("Pod", &error),
                    None => break,
                },
            }
        }
        while let Some(ended) = self.workers.join_next().await {
            self.ended(ended);
        }
    }

    /// Finds the shims of an earlier agent, before any address is given out.
    async fn find(&mut self) {
        let found = subdirectories(&self.node.config.run_dir.join("pods"));
        let earlier = !found.is_empty();
        let mut ports = HostPorts::new();
        for (uid, dir) in found {
            match Running::adopt(&dir, &self.node.program).await {
                Ok(running) => {
                    ports.extend(host_ports(&uid, &running.spec));
                    if running.spec.netns.is_some() {
                        self.ipam
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .adopt(running.spec.address);
                    }
                    self.found.insert(uid, running);
                }
                Err(error) => tracing::warn!(uid, error = chain(&error), "run directory without a sandbox"),
            }
        }
        if earlier {
            self.node.host_ports.adopt(ports);
        }
    }

    fn take(&mut self, event: Event<Pod>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(pod) => {
                self.listed.extend(pod.metadata.uid.clone());
                self.apply(pod, false);
            }
            Event::InitDone => {
                self.prune();
                self.registry.set_complete();
            }
            Event::Apply(pod) => self.apply(pod, false),
            Event::Delete(pod) => self.apply(pod, true),
        }
    }

    fn apply(&mut self, pod: Pod, gone: bool) {
        let Some(uid) = pod.metadata.uid.clone() else { return };
        let wanted = Wanted {
            pod: Arc::new(pod),
            gone,
        };
        if let Some(sender) = self.pods.get(&uid) {
            sender.send_replace(wanted);
        } else if !gone || self.found.contains_key(&uid) {
            self.hire(uid, wanted);
        }
    }

    fn hire(&mut self, uid: String, wanted: Wanted) {
        let gone = wanted.gone;
        let (sender, receiver) = watch::channel(wanted);
        let running = self.found.remove(&uid);
        let worker = Worker::new(
            Arc::clone(&self.node),
            Arc::clone(&self.ipam),
            self.events.clone(),
            self.registry.clone(),
            receiver,
            running,
        );
        if !gone {
            worker.publish();
        }
        self.pods.insert(uid.clone(), sender);
        let shutdown = self.shutdown.clone();
        self.workers.spawn(async move {
            worker.run(shutdown).await;
            uid
        });
    }

    fn ended(&mut self, ended: Result<String, tokio::task::JoinError>) {
        match ended {
            Ok(uid) => drop(self.pods.remove(&uid)),
            Err(error) => tracing::error!(%error, "a Pod's worker died"),
        }
    }

    /// After a complete list: what it lacks is gone, whoever started it.
    fn prune(&mut self) {
        for (uid, sender) in &self.pods {
            if !self.listed.contains(uid) {
                sender.send_modify(|wanted| wanted.gone = true);
            }
        }
        let orphans: Vec<(String, Pod)> = self
            .found
            .iter()
            .map(|(uid, running)| (uid.clone(), stub(running)))
            .collect();
        for (uid, pod) in orphans {
            self.hire(
                uid,
                Wanted {
                    pod: Arc::new(pod),
                    gone: true,
                },
            );
        }
        for (uid, dir) in subdirectories(&self.node.config.state_dir.join("pods")) {
            if !self.pods.contains_key(&uid)
                && let Err(error) = fs::remove_dir_all(&dir)
            {
                tracing::warn!(uid, %error, "remove what a Pod left");
            }
        }
    }
}

fn host_ports(uid: &str, spec: &SandboxSpec) -> Option<(String, PodPorts)> {
    let pod = PodPorts {
        address: spec.address,
        ports: spec.host_ports.clone(),
    };
    (!pod.ports.is_empty()).then(|| (uid.to_owned(), pod))
}

/// As much of a Pod as its sandbox remembers.
fn stub(running: &Running) -> Pod {
    let spec = &running.spec;
    let mut pod = Pod {
        spec: Some(PodSpec::default()),
        ..Pod::default()
    };
    pod.metadata.namespace = Some(spec.pod_namespace.clone());
    pod.metadata.name = Some(spec.pod_name.clone());
    pod.metadata.uid = Some(spec.pod_uid.clone());
    pod
}

fn subdirectories(dir: &Path) -> Vec<(String, PathBuf)> {
    match fs::read_dir(dir) {
        Ok(entries) => entries
            .filter_map(Result::ok)
            .filter(|entry| entry.path().is_dir())
            .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
            .collect(),
        Err(error) => {
            if error.kind() != std::io::ErrorKind::NotFound {
                tracing::warn!(dir = %dir.display(), %error, "list directory");
            }
            Vec::new()
        }
    }
}
