//! What a shim is told: one sandbox and its containers, complete, so that a shim looks nothing up.
//!
//! Written by the agent (`pods::worker`), read by [`super::shim`] and, after a restart, by the agent again.
//! Pure data.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// File name of a [`SandboxSpec`] in a Pod's run directory.
pub const SANDBOX_FILE: &str = "sandbox.json";
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
    /// Where the shim mounts file systems in memory that the containers share: `emptyDir` with `medium: Memory`.
    pub tmpfs: Vec<PathBuf>,
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
    /// Where its input comes from.
    #[serde(default)]
    pub stdin: Stdin,
    /// Number of the signal that asks the process to stop.
    pub stop_signal: i32,
    /// Log file in CRI format.
    pub log: PathBuf,
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
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// A bind mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// File or directory on the node.
    pub source: PathBuf,
    /// Absolute path in the container; made when it is missing.
    pub target: PathBuf,
    /// Whether writing is refused.
    pub read_only: bool,
}
