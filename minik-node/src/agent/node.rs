//! The node's own objects: Node and Lease. Registers, keeps the Lease fresh, corrects what others changed.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{Node, NodeAddress, NodeSpec, NodeStatus, NodeSystemInfo, ObjectReference, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::conditions;
use super::disk::Disk;
use crate::config::{AgentConfig, allocatable};
use crate::pods::events::Events;
use crate::view::Retry;

const LEASE_NAMESPACE: &str = "kube-node-lease";
/// How long a Lease holds, and how often it is renewed: the kubelet's defaults.
const LEASE_SECONDS: i32 = 40;
const RENEW: Duration = Duration::from_secs(10);
const CONTROL_PLANE_TAINT: &str = "node-role.kubernetes.io/control-plane";

/// Registers the node, trying until the API server takes it or `shutdown`.
pub async fn register(client: &Client, config: &AgentConfig, events: &Events, shutdown: &CancellationToken) {
    let mut delays = Retry::default();
    loop {
        // An API server that is down lets requests wait in its sockets, and shutdown must not wait with them.
        match shutdown.run_until_cancelled(try_register(client, config, events)).await {
            None | Some(Ok(())) => return,
            Some(Err(error)) => tracing::warn!(error = &error as &dyn std::error::Error, "register node"),
        }
        let delay = delays.next().unwrap_or(RENEW);
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

async fn try_register(client: &Client, config: &AgentConfig, events: &Events) -> kube::Result<()> {
    let api: Api<Node> = Api::all(client.clone());
    let wanted = node(config, Timestamp::now());
    let present = match api.create(&PostParams::default(), &wanted).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let patch = serde_json::json!({"metadata": {"labels": wanted.metadata.labels}, "spec": {"podCIDR": wanted.spec.as_ref().and_then(|spec| spec.pod_cidr.clone()), "podCIDRs": wanted.spec.as_ref().and_then(|spec| spec.pod_cidrs.clone())}});
            api.patch(&config.node, &PatchParams::default(), &Patch::Merge(patch))
                .await?
        }
        created => created?,
    };
    speak(client, config, events, present.status.as_ref()).await?;
    renew(client, config, present.metadata.uid).await
}

/// Renews the Lease until `shutdown`, at every step of the clock too, and says what has changed about the node.
pub async fn keep(
    client: Client,
    config: AgentConfig,
    events: Events,
    mut steps: watch::Receiver<()>,
    shutdown: CancellationToken,
) {
    let mut ticks = tokio::time::interval(RENEW);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            Ok(()) = steps.changed() => tracing::info!("the clock was set"),
            () = shutdown.cancelled() => return,
        }
        let kept = async {
            renew(&client, &config, None).await?;
            vouch(&client, &config, &events).await
        };
        if let Some(Err(error)) = shutdown.run_until_cancelled(kept).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "renew lease");
        }
    }
}

/// Speaks where what is known of the node is no longer so: its disk has filled up or has room again, or others have come to
/// think that it is not ready, after a pause of the whole machine, say.
async fn vouch(client: &Client, config: &AgentConfig, events: &Events) -> kube::Result<()> {
    let api: Api<Node> = Api::all(client.clone());
    let known = api.get(&config.node).await?.status.unwrap_or_default();
    if conditions::is_ready(&known) && conditions::disk(&known) == Some(look(config, Some(&known))) {
        return Ok(());
    }
    speak(client, config, events, Some(&known)).await
}

/// Says how the node is, where `known` is what was said last, and tells of a disk that is another than it was.
async fn speak(client: &Client, config: &AgentConfig, events: &Events, known: Option<&NodeStatus>) -> kube::Result<()> {
    let disk = look(config, known);
    let patch = serde_json::json!({"status": status(config, Timestamp::now(), known, disk)});
    let api: Api<Node> = Api::all(client.clone());
    api.patch_status(&config.node, &PatchParams::default(), &Patch::Strategic(patch))
        .await?;
    // A disk that was never spoken of had room.
    if known.and_then(conditions::disk).unwrap_or(Disk::Roomy) == disk {
        return Ok(());
    }
    let reference = ObjectReference {
        kind: Some("Node".to_owned()),
        name: Some(config.node.clone()),
        // The kubelet's own way to name its node.
        uid: Some(config.node.clone()),
        namespace: Some("default".to_owned()),
        ..ObjectReference::default()
    };
    let message = format!("Node {} status is now: {}", config.node, disk.event());
    events.normal_about(reference, disk.event(), message);
    Ok(())
}

/// Looks at the disk; one that cannot be looked at is as it was.
fn look(config: &AgentConfig, known: Option<&NodeStatus>) -> Disk {
    Disk::look(&config.state_dir).unwrap_or_else(|error| {
        tracing::warn!(%error, "look at the disk");
        known.and_then(conditions::disk).unwrap_or(Disk::Roomy)
    })
}

async fn renew(client: &Client, config: &AgentConfig, owner: Option<String>) -> kube::Result<()> {
    let api: Api<Lease> = Api::namespaced(client.clone(), LEASE_NAMESPACE);
    let now = MicroTime(Timestamp::now());
    let patch = serde_json::json!({"spec": {"holderIdentity": config.node, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now}});
    match api
        .patch(&config.node, &PatchParams::default(), &Patch::Merge(patch))
        .await
    {
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        other => return other.map(drop),
    }
    let owner_references = owner.map(|uid| {
        vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: config.node.clone(),
            uid,
            ..OwnerReference::default()
        }]
    });
    let lease = Lease {
        metadata: ObjectMeta {
            name: Some(config.node.clone()),
            namespace: Some(LEASE_NAMESPACE.to_owned()),
            owner_references,
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(config.node.clone()),
            lease_duration_seconds: Some(LEASE_SECONDS),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }),
    };
    api.create(&PostParams::default(), &lease).await.map(drop)
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn node(config: &AgentConfig, now: Timestamp) -> Node {
    let mut labels: BTreeMap<String, String> = [
        ("kubernetes.io/hostname", config.node.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", architecture()),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    if let Some(role) = &config.role {
        labels.insert(format!("node-role.kubernetes.io/{role}"), String::new());
    }
    let taint = Taint {
        key: CONTROL_PLANE_TAINT.to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    };
    let range = config.node_pod_cidr.to_string();
    Node {
        metadata: ObjectMeta {
            name: Some(config.node.clone()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            pod_cidr: Some(range.clone()),
            pod_cidrs: Some(vec![range]),
            taints: config.tainted.then(|| vec![taint]),
            ..NodeSpec::default()
        }),
        status: Some(status(config, now, None, look(config, None))),
    }
}

fn status(config: &AgentConfig, now: Timestamp, old: Option<&NodeStatus>, disk: Disk) -> NodeStatus {
    let address = |type_: &str, address: String| NodeAddress {
        type_: type_.to_owned(),
        address,
    };
    let resources = allocatable(config);
    NodeStatus {
        addresses: Some(vec![
            address("InternalIP", config.node_ip.to_string()),
            address("Hostname", config.node.clone()),
        ]),
        allocatable: Some(resources.clone()),
        capacity: Some(resources),
        conditions: Some(conditions::conditions(now, old, disk)),
        node_info: Some(info()),
        ..NodeStatus::default()
    }
}

fn info() -> NodeSystemInfo {
    let read = |path: &str| {
        std::fs::read_to_string(path)
            .map(|text| text.trim().to_owned())
            .unwrap_or_default()
    };
    let os = read("/etc/os-release");
    let os_image = os
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .unwrap_or("Linux")
        .trim_matches('"')
        .to_owned();
    NodeSystemInfo {
        architecture: architecture().to_owned(),
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        container_runtime_version: format!("minik://{}", env!("CARGO_PKG_VERSION")),
        kernel_version: read("/proc/sys/kernel/osrelease"),
        kube_proxy_version: String::new(),
        kubelet_version: "v1.36.2".to_owned(),
        machine_id: read("/etc/machine-id"),
        operating_system: "linux".to_owned(),
        os_image,
        system_uuid: read("/etc/machine-id"),
        ..NodeSystemInfo::default()
    }
}
