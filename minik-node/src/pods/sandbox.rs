//! Making, finding again and removing a Pod's sandbox: address, link, directories, shim.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;

use super::decide::{Sandbox, is_finished};
use super::files::{self, ClusterDns};
use super::hostname::{self, Names};
use super::ipam::Ipam;
use super::lost;
use super::shares::shares;
use super::volumes::{self, Directories};
use super::worker::{PodError, Worker, chain};
use crate::agent::{self, AgentConfig};
use crate::plan::host_ports::{self, PodPorts};
use crate::plan::pod_network::PodNetwork;
use crate::runtime::client::{ShimClient, ShimClientError, States};
use crate::runtime::exits;
use crate::runtime::spec::SandboxSpec;

/// A shim and what it reports: `None` once it has died.
#[derive(Debug)]
pub struct Running {
    /// The shim.
    pub client: ShimClient,
    /// What it was told.
    pub spec: SandboxSpec,
    /// The newest states.
    pub states: watch::Receiver<Option<States>>,
}

impl Running {
    /// Follows a shim's states.
    pub async fn follow(client: ShimClient, spec: SandboxSpec) -> Result<Self, ShimClientError> {
        let mut watch = client.watch().await?;
        let (sender, states) = watch::channel(Some(watch.next().await?));
        tokio::spawn(async move {
            loop {
                let next = tokio::select! {
                    next = watch.next() => next,
                    () = sender.closed() => return,
                };
                let lost = next.is_err();
                sender.send_replace(next.ok());
                if lost {
                    return;
                }
            }
        });
        Ok(Self { client, spec, states })
    }

    /// Finds the shim in a run directory. One that does not answer is lost.
    pub async fn adopt(dir: &Path) -> Result<Self, ShimClientError> {
        let (client, spec) = ShimClient::adopt(dir)?;
        match Self::follow(client.clone(), spec.clone()).await {
            Err(ShimClientError::Connect(_) | ShimClientError::Talk { .. }) => Ok(Self {
                client,
                spec,
                states: watch::channel(None).1,
            }),
            other => other,
        }
    }
}

/// `RUN_DIR/pods/UID` and `STATE_DIR/pods/UID`.
pub fn directories(config: &AgentConfig, uid: &str) -> Directories {
    Directories {
        run: config.run_dir.join("pods").join(uid),
        state: config.state_dir.join("pods").join(uid),
    }
}

/// `STATE_DIR/logs/NAMESPACE_NAME_UID`, as the kubelet names it.
pub fn logs(config: &AgentConfig, pod: &Pod) -> PathBuf {
    let metadata = &pod.metadata;
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    config.state_dir.join("logs").join(format!(
        "{}_{}_{}",
        part(&metadata.namespace),
        part(&metadata.name),
        part(&metadata.uid)
    ))
}

/// What became of the containers of a Pod whose shim is gone; what nobody knew is saved, so that it stays known.
pub fn recover(config: &AgentConfig, pod: &Pod, reported: &States) -> States {
    let (state_dir, saved) = saved(config, pod);
    let states = lost::recover(pod, reported, &saved, Timestamp::now());
    for (name, state) in states.iter().filter(|(name, state)| saved.get(*name) != Some(*state)) {
        if let Err(error) = exits::save(&state_dir, name, state) {
            tracing::warn!(container = name, %error, "save how a container ended");
        }
    }
    states
}

/// Containers that have ended, in whichever sandbox, and must not run again.
pub fn over(config: &AgentConfig, pod: &Pod) -> States {
    match &pod.spec {
        Some(spec) => lost::kept(spec, &saved(config, pod).1),
        None => States::new(),
    }
}

/// The Pod's state directory, and the ends that were saved there.
fn saved(config: &AgentConfig, pod: &Pod) -> (PathBuf, States) {
    let names = pod.spec.iter().flat_map(|spec| {
        let init = spec.init_containers.iter().flatten();
        init.chain(&spec.containers).map(|container| container.name.as_str())
    });
    let state_dir = directories(config, pod.metadata.uid.as_deref().unwrap_or_default()).state;
    let saved = exits::read_all(&state_dir, names).unwrap_or_else(|error| {
        tracing::warn!(dir = %state_dir.display(), %error, "read how containers ended");
        States::new()
    });
    (state_dir, saved)
}

/// What the Pod is called.
pub fn names(config: &AgentConfig, pod: &Pod) -> Result<Names, hostname::TooLong> {
    hostname::names(pod, &config.node, &config.cluster_domain)
}

/// Makes volumes, network, files and shim, in the order in which they need each other.
pub async fn create(worker: &mut Worker) -> Result<(), PodError> {
    let node = std::sync::Arc::clone(&worker.node);
    let pod = std::sync::Arc::clone(&worker.pod);
    let Some(pod_spec) = &pod.spec else { return Ok(()) };
    let directories = directories(&node.config, worker.uid());
    let names = names(&node.config, &pod)?;
    let host_network = pod_spec.host_network.unwrap_or(false);
    let address = if host_network {
        node.config.node_ip
    } else {
        allocate(worker)?
    };
    let network = (!host_network).then(|| {
        PodNetwork::new(
            &node.config.cluster,
            worker.uid(),
            address,
            Ipam::gateway(node.config.node_pod_cidr),
        )
    });
    let spec = SandboxSpec {
        pod_namespace: worker.namespace().to_owned(),
        pod_name: worker.name().to_owned(),
        pod_uid: worker.uid().to_owned(),
        hostname: names.kernel.clone(),
        netns: network
            .as_ref()
            .map(|network| Path::new("/run/netns").join(&network.netns)),
        address,
        state_dir: directories.state.clone(),
        tmpfs: volumes::memory(pod_spec, &directories, &agent::allocatable(&node.config)),
        shares: shares(pod_spec),
        host_ports: host_ports::of(pod_spec),
    };
    let made = async {
        if let Some(network) = &network {
            node.networks.attach(network).await?;
        }
        if !spec.host_ports.is_empty() {
            let pod = PodPorts {
                address,
                ports: spec.host_ports.clone(),
            };
            node.host_ports.set(&spec.pod_uid, Some(pod)).await?;
        }
        let omitted = write_files(&pod, &directories, &node.config, &spec, &names)?;
        for text in omitted {
            worker.events.warning(&pod, None, "DNSConfigForming", text);
        }
        let client = ShimClient::spawn(&node.program, &directories.run, &spec)?;
        Ok::<_, PodError>(Running::follow(client, spec.clone()).await?)
    };
    match made.await {
        Ok(running) => {
            worker.running = Some(running);
            worker.knowledge.renew();
            worker.publish();
            Ok(())
        }
        Err(error) => {
            take_back(worker, &spec, network.as_ref()).await;
            Err(error)
        }
    }
}

/// Undoes what was laid for a sandbox that did not come about.
async fn take_back(worker: &Worker, spec: &SandboxSpec, network: Option<&PodNetwork>) {
    let node = &worker.node;
    if !spec.host_ports.is_empty()
        && let Err(error) = node.host_ports.set(&spec.pod_uid, None).await
    {
        tracing::warn!(pod = worker.key(), error = chain(&error), "take the host ports back");
    }
    if let Some(network) = network {
        if let Err(error) = node.networks.detach(network).await {
            tracing::warn!(pod = worker.key(), error = chain(&error), "take the network back");
        }
        let mut ipam = worker.ipam.lock().unwrap_or_else(PoisonError::into_inner);
        ipam.release(spec.address);
    }
}

fn allocate(worker: &Worker) -> Result<std::net::Ipv4Addr, PodError> {
    let mut ipam = worker.ipam.lock().unwrap_or_else(PoisonError::into_inner);
    ipam.allocate()
        .ok_or(PodError::NoAddress(worker.node.config.node_pod_cidr))
}

/// Writes the files of `/etc`; gives what did not fit into `resolv.conf`.
fn write_files(
    pod: &Pod,
    directories: &Directories,
    config: &AgentConfig,
    spec: &SandboxSpec,
    names: &Names,
) -> Result<Vec<String>, PodError> {
    let Some(pod_spec) = &pod.spec else {
        return Ok(Vec::new());
    };
    let error = |operation, path: &Path| {
        let path = path.to_owned();
        move |source| PodError::File {
            operation,
            path,
            source,
        }
    };
    for dir in [&directories.run, &directories.state] {
        fs::create_dir_all(dir).map_err(error("create", dir))?;
    }
    let read = |path: &Path| match fs::read_to_string(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(error("read", path)(source)),
        text => Ok(text.unwrap_or_default()),
    };
    let machine = config.resolv_conf.as_deref().map(read).transpose()?;
    let dns = ClusterDns {
        address: config.cluster_dns,
        domain: config.cluster_domain.clone(),
    };
    let resolv_conf = files::resolv_conf(pod_spec, &spec.pod_namespace, &dns, machine.as_deref());
    let hosts = if pod_spec.host_network == Some(true) {
        files::node_hosts(pod_spec, &read(Path::new("/etc/hosts"))?)
    } else {
        files::hosts(pod_spec, spec.address, &names.host, names.domain.as_deref())
    };
    let hostname = format!("{}\n", names.kernel);
    for (name, text) in [
        ("resolv.conf", &resolv_conf.text),
        ("hosts", &hosts),
        ("hostname", &hostname),
    ] {
        let path = directories.state.join(name);
        fs::write(&path, text).map_err(error("write", &path))?;
    }
    Ok(resolv_conf.omitted)
}

/// Ends the shim and takes network and run directory away. Volumes on disk stay until the Pod is over, logs until it
/// is forgotten.
pub async fn remove(worker: &mut Worker) -> Result<(), PodError> {
    if let Some(keeper) = worker.volumes.take() {
        keeper.end().await;
    }
    if let Some(running) = &mut worker.running {
        running.client.shutdown().await?;
        // The last ends arrive before the connection closes.
        let ended = running.states.wait_for(Option::is_none).await.is_ok();
        tracing::trace!(ended, "shim ended");
        let spec = running.spec.clone();
        if !spec.host_ports.is_empty() {
            worker.node.host_ports.set(&spec.pod_uid, None).await?;
        }
        if spec.netns.is_some() {
            let config = &worker.node.config;
            let network = PodNetwork::new(
                &config.cluster,
                &spec.pod_uid,
                spec.address,
                Ipam::gateway(config.node_pod_cidr),
            );
            worker.node.networks.detach(&network).await?;
            worker
                .ipam
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .release(spec.address);
        }
    }
    let directories = directories(&worker.node.config, worker.uid());
    remove_dir(&directories.run)?;
    remove_dir(&directories.state.join("containers"))?;
    let over = |spec| is_finished(&worker.pod, spec, &worker.knowledge, worker.node.clock.now());
    if worker.pod.spec.as_ref().is_some_and(over) {
        remove_dir(&directories.state.join("volumes"))?;
    }
    worker.running = None;
    worker.knowledge.sandbox = Sandbox::Absent;
    worker.publish();
    Ok(())
}

/// Removes what is left of a Pod that is gone.
pub async fn forget(worker: &mut Worker) -> Result<(), PodError> {
    if let Some(keeper) = worker.volumes.take() {
        keeper.end().await;
    }
    let directories = directories(&worker.node.config, worker.uid());
    remove_dir(&directories.run)?;
    remove_dir(&directories.state)?;
    remove_dir(&logs(&worker.node.config, &worker.pod))?;
    worker.registry.remove(&worker.pod);
    Ok(())
}

fn remove_dir(path: &Path) -> Result<(), PodError> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(PodError::File {
            operation: "remove",
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}
