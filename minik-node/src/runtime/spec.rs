//! What a shim is told: one sandbox and its containers, complete, so that a shim looks nothing up.
//!
//! Written by the agent (`pods::worker`), read by [`super::shim`] and, after a restart, by the agent again.
//! Pure data.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::plan::host_ports::HostPort;

/// File name of a [`SandboxSpec`] in a Pod's run directory.
pub const SANDBOX_FILE: &str = "sandbox.json";
/// File that is in a Pod's run directory for as long as its sandbox is there: who holds its namespaces.
pub const HOLDER_FILE: &str = "holder.json";
/// File name of the shim's socket in a Pod's run directory.
pub const SOCKET_FILE: &str = "shim.sock";

/// A Pod's sandbox: the namespaces and directories that its containers share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// Namespace of the Pod.
    pub pod_namespace: String,
    /// Name of the Pod.
    pub pod_name: String,
    /// UID of the Pod; names the network namespace and every directory.
    pub pod_uid: String,
    /// Host name inside, at most 63 bytes.
    pub hostname: String,
    /// File of the network namespace to join; `None` for a Pod in the node's own.
    pub netns: Option<PathBuf>,
    /// The Pod's address.
    pub address: Ipv4Addr,
    /// Directory that survives the machine's reboot: exit codes, writable layers, volumes.
    pub state_dir: PathBuf,
    /// File systems in memory that the shim mounts and the containers share: `emptyDir` with `medium: Memory`.
    pub tmpfs: Vec<Memory>,
    /// What else it shares, and with whom.
    #[serde(default)]
    pub shares: Shares,
    /// Ports of the node that lead to the Pod, so that an agent that comes later knows.
    #[serde(default)]
    pub host_ports: Vec<HostPort>,
}

/// A file system in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Where it is mounted.
    pub path: PathBuf,
    /// Bytes that it may hold; the kernel's half of the memory where nothing is said.
    pub size: Option<u64>,
    /// Group that may write to it, beside everybody.
    pub group: Option<u32>,
}

/// Which namespaces a Pod's containers have in common, and with whom.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shares {
    /// Whose processes a container sees.
    pub processes: Processes,
    /// Whether shared memory and message queues are the node's.
    pub node_ipc: bool,
    /// Kernel parameters of the Pod's namespaces, as paths below `/proc/sys` with what is written there.
    pub sysctls: Vec<(PathBuf, String)>,
}

/// Whose processes a container sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Processes {
    /// Its own.
    #[default]
    Container,
    /// The Pod's: `shareProcessNamespace`.
    Pod,
    /// The node's: `hostPID`.
    Node,
}

impl SandboxSpec {
    /// The tmpfs behind `/dev/shm` of every container of the Pod whose run directory is `dir`.
    #[must_use]
    pub fn shm(dir: &Path) -> PathBuf {
        dir.join("shm")
    }
}

/// One container, ready to be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Name in the Pod.
    pub name: String,
    /// 64 hexadecimal digits, new with every attempt.
    pub id: String,
    /// How often the container was started before.
    pub attempt: u32,
    /// `image` as the Pod spells it.
    pub image: String,
    /// `minik://nginx@sha256:…` or `minik://stand-in/nginx`.
    pub image_id: String,
    /// Directory trees that are the lower layers, uppermost first.
    pub layers: Vec<PathBuf>,
    /// Directory for the writable layer; emptied at each attempt.
    pub writable: PathBuf,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// `NAME=value`, later ones win.
    pub env: Vec<String>,
    /// Working directory, made when it is missing.
    pub cwd: PathBuf,
    /// User the process runs as.
    pub user: User,
    /// Capabilities of the process: `CAP_…`.
    pub capabilities: Vec<String>,
    /// Bind mounts, in order.
    pub mounts: Vec<Mount>,
    /// Whether the root file system is read-only.
    pub read_only: bool,
    /// What else the container may do.
    #[serde(default)]
    pub privileges: Privileges,
    /// Where its input comes from.
    #[serde(default)]
    pub stdin: Stdin,
    /// Number of the signal that asks the process to stop.
    pub stop_signal: i32,
    /// Log file in CRI format.
    pub log: PathBuf,
}

/// What a container may do beyond its capabilities.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Privileges {
    /// Whether it sees the machine's devices, and all of `/proc` and `/sys` to write to.
    pub privileged: bool,
    /// Whether `/proc` is not masked (`procMount: Unmasked`).
    pub unmasked: bool,
    /// Whether programs cannot gain what their caller has not (`allowPrivilegeEscalation: false`).
    pub no_new_privileges: bool,
}

/// What a container reads on its standard input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stdin {
    /// Nothing.
    #[default]
    Closed,
    /// What attached clients send, one after another.
    Open,
    /// What the first attached client sends; its end is the end.
    Once,
}

/// The FIFO that a container with an open [`Stdin`] reads, in the run directory of its Pod.
#[must_use]
pub fn stdin_fifo(dir: &Path, container_id: &str) -> PathBuf {
    dir.join(format!("{container_id}.in"))
}

/// Numbers of a user and its groups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// All its groups, the primary one among them, sorted.
    pub groups: Vec<u32>,
}

/// A bind mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// File or directory on the node.
    pub source: PathBuf,
    /// Absolute path in the container; made when it is missing.
    pub target: PathBuf,
    /// Who may write.
    pub access: Access,
    /// Directory below `source` that is meant, where only the shim sees `source`; made when it is missing.
    #[serde(default)]
    pub sub_path: Option<PathBuf>,
}

/// What a container may do at a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Access {
    /// Everything.
    ReadWrite,
    /// Read, though what is mounted below it may be written.
    ReadOnly,
    /// Read, and nothing below may be written either.
    ReadOnlyThroughout,
}
