//! What agent and shim say to each other: one JSON document a line over the Pod's socket, one request a
//! connection. `Exec` carries three descriptors (stdin, stdout, stderr) beside its line, `Attach` two (stdout, stderr).
//!
//! Pure data. The state is sent whole at every change, so a lost line costs nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::spec::{ContainerSpec, User};

/// Longest line either side accepts.
pub const MAX_LINE: usize = 1 << 20;

/// What the agent asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Request {
    /// Answered by [`Reply::State`] now and at each change, until the connection closes.
    Watch,
    /// Starts a container; answered by [`Reply::Done`] once its program runs.
    Start(Box<ContainerSpec>),
    /// Sends a signal to a container's first process; answered by [`Reply::Done`].
    Signal {
        /// Container name.
        container: String,
        /// Signal number.
        signal: i32,
    },
    /// Runs a program in a container; answered by [`Reply::Done`], later [`Reply::Exited`].
    /// Closing the connection kills the program.
    Exec(Exec),
    /// Copies what a container writes from now on to the passed descriptors; answered by [`Reply::Done`], later
    /// [`Reply::Exited`] once the container ended. Closing the connection ends the copy, never the program.
    Attach {
        /// Container name.
        container: String,
        /// Whether the agent holds the container's input open, which is then its end too for an input that is
        /// meant to be used once.
        stdin: bool,
    },
    /// Reads a small file of a volume, from which nothing leads out; answered by [`Reply::Text`].
    Read {
        /// The volume's directory, as the agent names it.
        volume: PathBuf,
        /// Path in it.
        path: String,
    },
    /// Kills what is left and ends the shim; answered by [`Reply::Done`].
    Shutdown,
}

/// A program to run in a running container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// Container name.
    pub container: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Whether the passed descriptors are a terminal, to become the controlling one.
    pub tty: bool,
}

/// What the shim answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reply {
    /// Done as asked.
    Done,
    /// Not done.
    Failed(Failure),
    /// The program of an [`Request::Exec`] ended.
    Exited(Exit),
    /// What a file holds.
    Text(String),
    /// Every container that was ever started, by name.
    State(BTreeMap<String, ContainerState>),
}

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Exit code that a shell would give: 127 for a missing program, 126 for one that cannot run, else 128.
    pub code: i32,
    /// Text for people.
    pub message: String,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code; 128 + signal for a killed process.
    pub code: i32,
    /// The signal that killed it; 0 when nobody saw it end.
    pub signal: Option<i32>,
}

impl Exit {
    /// Of a process whose end nobody could collect: what the kubelet reports as `ContainerStatusUnknown`.
    pub const LOST: Self = Self {
        code: 137,
        signal: Some(0),
    };
}

/// The newest attempt of a container and the one before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerState {
    /// The newest attempt.
    pub current: Attempt,
    /// The attempt before, ended.
    pub previous: Option<Attempt>,
}

/// One run of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Container id.
    pub id: String,
    /// How often the container was started before.
    pub attempt: u32,
    /// Image as the Pod spells it.
    pub image: String,
    /// What was run.
    pub image_id: String,
    /// Number of the signal that asks the process to stop.
    pub stop_signal: i32,
    /// Who its first process was started as; a shim of an earlier version does not say.
    #[serde(default)]
    pub user: Option<User>,
    /// First process, in the node's numbering; 0 when it never ran.
    pub pid: i32,
    /// When the program ran.
    pub started_at: jiff::Timestamp,
    /// When and how it ended.
    pub ended: Option<Ended>,
}

/// When and how a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// When the shim reaped it.
    pub at: jiff::Timestamp,
    /// How.
    pub exit: Exit,
    /// Why the program could not be started, when it could not.
    pub start_error: Option<String>,
}
