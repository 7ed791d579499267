//! Making and removing a Pod's sandbox: address, link, directories, shim.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::PoisonError;
use std::time::Instant;

use k8s_openapi::api::core::v1::Pod;

use super::charge::Charge;
use super::context::{PodError, chain};
use super::decide::{Sandbox, is_finished};
use super::files::{self, ClusterDns};
use super::hostname::{self, Names};
use super::ipam::Ipam;
use super::metrics::Operation;
use super::records::{directories, logs};
use super::running::Running;
use super::shares::shares;
use super::volumes::{self, Directories};
use crate::config::{self, AgentConfig};
use crate::plan::host_ports::{self, PodPorts};
use crate::plan::pod_network::PodNetwork;
use crate::runtime::client::ShimClient;
use crate::runtime::spec::SandboxSpec;

/// What the Pod is called.
pub fn names(config: &AgentConfig, pod: &Pod) -> Result<Names, hostname::TooLong> {
    hostname::names(pod, &config.node, &config.cluster_domain)
}

/// Makes volumes, network, files and shim, in the order in which they need each other.
pub async fn create(charge: &mut Charge) -> Result<(), PodError> {
    let node = std::sync::Arc::clone(&charge.node);
    let pod = std::sync::Arc::clone(&charge.pod);
    let Some(pod_spec) = &pod.spec else { return Ok(()) };
    let directories = directories(&node.config, charge.uid());
    let names = names(&node.config, &pod)?;
    let host_network = pod_spec.host_network.unwrap_or(false);
    let address = if host_network {
        node.config.node_ip
    } else {
        allocate(charge)?
    };
    let network = (!host_network).then(|| {
        PodNetwork::new(
            &node.config.cluster,
            charge.uid(),
            address,
            Ipam::gateway(node.config.node_pod_cidr),
        )
    });
    let spec = SandboxSpec {
        pod_namespace: charge.namespace().to_owned(),
        pod_name: charge.name().to_owned(),
        pod_uid: charge.uid().to_owned(),
        hostname: names.kernel.clone(),
        netns: network
            .as_ref()
            .map(|network| Path::new("/run/netns").join(&network.netns)),
        address,
        state_dir: directories.state.clone(),
        tmpfs: volumes::memory(pod_spec, &directories, &config::allocatable(&node.config)),
        shares: shares(pod_spec),
        host_ports: host_ports::of(pod_spec),
    };
    let metrics = charge.registry.metrics().clone();
    let began = Instant::now();
    let made = async {
        if let Some(network) = &network {
            node.networks.attach(network).await?;
            metrics.took(Operation::SetUpPod, began.elapsed());
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
            charge.events.warning(&pod, None, "DNSConfigForming", text);
        }
        let client = ShimClient::spawn(&node.program, &directories.run, &spec)?;
        Ok::<_, PodError>(Running::follow(client, spec.clone(), &node.program).await?)
    };
    match made.await {
        Ok(running) => {
            metrics.took(Operation::RunPodSandbox, began.elapsed());
            charge.running = Some(running);
            charge.knowledge.renew();
            charge.publish();
            Ok(())
        }
        Err(error) => {
            take_back(charge, &spec, network.as_ref()).await;
            Err(error)
        }
    }
}

/// Undoes what was laid for a sandbox that did not come about.
async fn take_back(charge: &Charge, spec: &SandboxSpec, network: Option<&PodNetwork>) {
    let node = &charge.node;
    if !spec.host_ports.is_empty()
        && let Err(error) = node.host_ports.set(&spec.pod_uid, None).await
    {
        tracing::warn!(pod = charge.key(), error = chain(&error), "take the host ports back");
    }
    if let Some(network) = network {
        if let Err(error) = node.networks.detach(network).await {
            tracing::warn!(pod = charge.key(), error = chain(&error), "take the network back");
        }
        let mut ipam = charge.ipam.lock().unwrap_or_else(PoisonError::into_inner);
        ipam.release(spec.address);
    }
}

fn allocate(charge: &Charge) -> Result<std::net::Ipv4Addr, PodError> {
    let mut ipam = charge.ipam.lock().unwrap_or_else(PoisonError::into_inner);
    ipam.allocate()
        .ok_or(PodError::NoAddress(charge.node.config.node_pod_cidr))
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
pub async fn remove(charge: &mut Charge) -> Result<(), PodError> {
    if let Some(keeper) = charge.volumes.take() {
        keeper.end().await;
    }
    if let Some(running) = &mut charge.running {
        running.end().await?;
        let spec = running.spec.clone();
        if !spec.host_ports.is_empty() {
            charge.node.host_ports.set(&spec.pod_uid, None).await?;
        }
        if spec.netns.is_some() {
            let config = &charge.node.config;
            let network = PodNetwork::new(
                &config.cluster,
                &spec.pod_uid,
                spec.address,
                Ipam::gateway(config.node_pod_cidr),
            );
            charge.node.networks.detach(&network).await?;
            charge
                .ipam
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .release(spec.address);
        }
    }
    let directories = directories(&charge.node.config, charge.uid());
    remove_dir(&directories.run)?;
    remove_dir(&directories.state.join("containers"))?;
    let over = |spec| is_finished(&charge.pod, spec, &charge.knowledge, charge.node.clock.now());
    if charge.pod.spec.as_ref().is_some_and(over) {
        remove_dir(&directories.state.join("volumes"))?;
    }
    charge.running = None;
    charge.knowledge.sandbox = Sandbox::Absent;
    charge.publish();
    Ok(())
}

/// Removes what is left of a Pod that is gone.
pub async fn forget(charge: &mut Charge) -> Result<(), PodError> {
    if let Some(keeper) = charge.volumes.take() {
        keeper.end().await;
    }
    let directories = directories(&charge.node.config, charge.uid());
    remove_dir(&directories.run)?;
    remove_dir(&directories.state)?;
    remove_dir(&logs(&charge.node.config, &charge.pod))?;
    charge.registry.metrics().forget(&charge.pod);
    charge.registry.remove(&charge.pod);
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
