//! Making, finding again and removing a Pod's sandbox: address, link, directories, shim.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;

use super::config::Sources;
use super::decide::Sandbox;
use super::files::{self, ClusterDns};
use super::ipam::Ipam;
use super::lost;
use super::volumes::{self, Directories};
use super::worker::{PodError, Worker, chain};
use crate::agent::AgentConfig;
use crate::plan::pod_network::PodNetwork;
use crate::runtime::client::{ShimClient, ShimClientError, States};
use crate::runtime::exits;
use crate::runtime::spec::SandboxSpec;

/// Longest host name that the kernel and DNS take.
const MAX_HOSTNAME: usize = 63;

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

/// The Pod's host name.
pub fn hostname(pod: &Pod) -> String {
    let given = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.hostname.clone())
        .filter(|name| !name.is_empty());
    let mut name = given.or_else(|| pod.metadata.name.clone()).unwrap_or_default();
    name.truncate(MAX_HOSTNAME);
    name.trim_end_matches(['-', '.']).to_owned()
}

/// Makes volumes, network, files and shim, in the order in which they need each other.
pub async fn create(worker: &mut Worker) -> Result<(), PodError> {
    let node = std::sync::Arc::clone(&worker.node);
    let pod = std::sync::Arc::clone(&worker.pod);
    let Some(pod_spec) = &pod.spec else { return Ok(()) };
    let directories = directories(&node.config, worker.uid());
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
        hostname: hostname(&pod),
        netns: network
            .as_ref()
            .map(|network| Path::new("/run/netns").join(&network.netns)),
        address,
        state_dir: directories.state.clone(),
        tmpfs: volumes::tmpfs(pod_spec, &directories),
    };
    let made = async {
        if let Some(network) = &network {
            node.networks.attach(network).await?;
        }
        write_files(&pod, &directories, &node.config, &spec)?;
        let client = ShimClient::spawn(&node.program, &directories.run, &spec)?;
        Ok::<_, PodError>(Running::follow(client, spec.clone()).await?)
    };
    match made.await {
        Ok(running) => {
            worker.running = Some(running);
            worker.knowledge.sandbox = Sandbox::Ready;
            worker.knowledge.sandbox_trouble = None;
            worker.over = lost::kept(pod_spec, &worker.knowledge.states);
            worker.knowledge.states.clone_from(&worker.over);
            worker.publish();
            Ok(())
        }
        Err(error) => {
            if let Some(network) = &network {
                if let Err(error) = node.networks.detach(network).await {
                    tracing::warn!(pod = worker.key(), error = chain(&error), "take the network back");
                }
                worker
                    .ipam
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .release(address);
            }
            Err(error)
        }
    }
}

fn allocate(worker: &Worker) -> Result<std::net::Ipv4Addr, PodError> {
    let mut ipam = worker.ipam.lock().unwrap_or_else(PoisonError::into_inner);
    ipam.allocate()
        .ok_or(PodError::NoAddress(worker.node.config.node_pod_cidr))
}

fn write_files(pod: &Pod, directories: &Directories, config: &AgentConfig, spec: &SandboxSpec) -> Result<(), PodError> {
    let Some(pod_spec) = &pod.spec else { return Ok(()) };
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
    let machine = match &config.resolv_conf {
        None => None,
        Some(path) => match fs::read_to_string(path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(error("read", path)(source)),
            text => Some(text.unwrap_or_default()),
        },
    };
    let dns = ClusterDns {
        address: config.cluster_dns,
        domain: config.cluster_domain.clone(),
    };
    let domain = pod_spec.subdomain.as_ref().filter(|name| !name.is_empty());
    let domain = domain.map(|name| format!("{name}.{}.svc.{}", spec.pod_namespace, config.cluster_domain));
    for (name, text) in [
        (
            "resolv.conf",
            files::resolv_conf(pod_spec, &spec.pod_namespace, &dns, machine.as_deref()),
        ),
        (
            "hosts",
            files::hosts(pod_spec, spec.address, &spec.hostname, domain.as_deref()),
        ),
        ("hostname", format!("{}\n", spec.hostname)),
    ] {
        let path = directories.state.join(name);
        fs::write(&path, text).map_err(error("write", &path))?;
    }
    Ok(())
}

/// Lays the Pod's volumes; the error is the kubelet's event for the first that fails.
pub fn set_up_volumes(worker: &Worker, sources: &Sources) -> Result<(), String> {
    let directories = directories(&worker.node.config, worker.uid());
    let volumes = worker.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    for volume in volumes {
        volumes::set_up(volume, &directories, sources)
            .map_err(|error| format!("MountVolume.SetUp failed for volume {:?} : {error}", volume.name))?;
    }
    Ok(())
}

/// Ends the shim and takes network and run directory away; logs and volumes stay until the Pod is forgotten.
pub async fn remove(worker: &mut Worker) -> Result<(), PodError> {
    if let Some(running) = &mut worker.running {
        running.client.shutdown().await?;
        // The last ends arrive before the connection closes.
        let ended = running.states.wait_for(Option::is_none).await.is_ok();
        tracing::trace!(ended, "shim ended");
        let spec = running.spec.clone();
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
    worker.running = None;
    worker.knowledge.sandbox = Sandbox::Absent;
    worker.publish();
    Ok(())
}

/// Removes what is left of a Pod that is gone.
pub fn forget(worker: &Worker) -> Result<(), PodError> {
    remove_dir(&directories(&worker.node.config, worker.uid()).state)?;
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
