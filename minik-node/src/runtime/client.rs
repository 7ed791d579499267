//! The agent's side of a Pod's shim: starts one, finds a running one again, asks it things.
//!
//! Owns no process: a shim lives on when the agent goes. Speaks [`super::protocol`].

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::protocol::{ContainerState, Exec, Exit, Failure, Reply, Request};
use super::spec::{ContainerSpec, HOLDER_FILE, SANDBOX_FILE, SOCKET_FILE, SandboxSpec, stdin_fifo};

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum ShimClientError {
    /// The Pod's run directory or the sandbox file.
    #[error("write sandbox file in {dir}")]
    Write {
        /// Run directory.
        dir: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The sandbox file of a Pod that may still run.
    #[error("read sandbox file in {dir}")]
    Read {
        /// Run directory.
        dir: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The socket, or the program.
    #[error("start shim")]
    Spawn(#[source] io::Error),
    /// Nobody answers: the shim has died.
    #[error("connect to shim")]
    Connect(#[source] io::Error),
    /// The connection broke; the text is what the shim said before it died.
    #[error("talk to shim ({said})")]
    Talk {
        /// Last line of the shim's log.
        said: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The shim answered that it could not.
    #[error("{}", .0.message)]
    Refused(Failure),
}

/// A handle on one Pod's shim; cheap to clone.
#[derive(Debug, Clone)]
pub struct ShimClient {
    dir: PathBuf,
}

/// What the shim reports of each container, by name.
pub type States = BTreeMap<String, ContainerState>;

impl ShimClient {
    /// Writes the sandbox file and starts a shim in `dir` with `program internal shim --dir DIR`. Returns once
    /// the process runs; requests may be sent at once.
    pub fn spawn(program: &Path, dir: &Path, spec: &SandboxSpec) -> Result<Self, ShimClientError> {
        write_spec(dir, spec).map_err(|source| ShimClientError::Write {
            dir: dir.to_owned(),
            source,
        })?;
        start(program, dir).map_err(ShimClientError::Spawn)?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Starts another shim for the sandbox of one that was killed; it takes over what that one left. Says whether there is a
    /// sandbox to take over.
    ///
    /// Only to be called after a refused connection: a shim that lives has the socket and the containers.
    pub fn revive(&self, program: &Path) -> Result<bool, ShimClientError> {
        let left = self.dir.join(HOLDER_FILE).exists();
        if left {
            start(program, &self.dir).map_err(ShimClientError::Spawn)?;
        }
        Ok(left)
    }

    /// Finds the shim of an agent that went before.
    pub fn adopt(dir: &Path) -> Result<(Self, SandboxSpec), ShimClientError> {
        let error = |source| ShimClientError::Read {
            dir: dir.to_owned(),
            source,
        };
        let bytes = fs::read(dir.join(SANDBOX_FILE)).map_err(error)?;
        let spec = serde_json::from_slice(&bytes).map_err(|source| error(source.into()))?;
        Ok((Self { dir: dir.to_owned() }, spec))
    }

    /// Starts a container; returns once its program runs.
    pub async fn start(&self, spec: ContainerSpec) -> Result<(), ShimClientError> {
        self.call(Request::Start(Box::new(spec))).await
    }

    /// Sends a signal to a container's first process; one that has ended needs none.
    pub async fn signal(&self, container: &str, signal: i32) -> Result<(), ShimClientError> {
        self.call(Request::Signal {
            container: container.to_owned(),
            signal,
        })
        .await
    }

    /// The text of a small file of one of the Pod's volumes, in memory or not.
    pub async fn read(&self, volume: &Path, path: &str) -> Result<String, ShimClientError> {
        let request = Request::Read {
            volume: volume.to_owned(),
            path: path.to_owned(),
        };
        let mut conversation = self.open(&request, &[]).await?;
        match conversation.next().await? {
            Reply::Text(text) => Ok(text),
            Reply::Failed(failure) => Err(ShimClientError::Refused(failure)),
            other => Err(conversation.broken(io::Error::other(format!("unexpected {other:?}")))),
        }
    }

    /// Kills what is left, and ends the sandbox and its shim.
    pub async fn shutdown(&self) -> Result<(), ShimClientError> {
        self.call(Request::Shutdown).await
    }

    async fn call(&self, request: Request) -> Result<(), ShimClientError> {
        let mut conversation = self.open(&request, &[]).await?;
        match conversation.next().await? {
            Reply::Done => Ok(()),
            Reply::Failed(failure) => Err(ShimClientError::Refused(failure)),
            other => Err(conversation.broken(io::Error::other(format!("unexpected {other:?}")))),
        }
    }

    /// Opens a stream of states: the present one at once, then one a change.
    pub async fn watch(&self) -> Result<Watch, ShimClientError> {
        Ok(Watch(self.open(&Request::Watch, &[]).await?))
    }

    /// Runs a program in a container on the three descriptors; returns once it runs.
    pub async fn exec(&self, exec: Exec, stdio: &[OwnedFd; 3]) -> Result<Running, ShimClientError> {
        let mut conversation = self.open(&Request::Exec(exec), stdio).await?;
        match conversation.next().await? {
            Reply::Done => Ok(Running(conversation)),
            Reply::Failed(failure) => Err(ShimClientError::Refused(failure)),
            other => Err(conversation.broken(io::Error::other(format!("unexpected {other:?}")))),
        }
    }

    /// Copies what a container writes from now on to the two descriptors, until [`Running::wait`] returns.
    pub async fn attach(&self, container: &str, stdin: bool, output: &[OwnedFd]) -> Result<Running, ShimClientError> {
        let request = Request::Attach {
            container: container.to_owned(),
            stdin,
        };
        let mut conversation = self.open(&request, output).await?;
        match conversation.next().await? {
            Reply::Done => Ok(Running(conversation)),
            Reply::Failed(failure) => Err(ShimClientError::Refused(failure)),
            other => Err(conversation.broken(io::Error::other(format!("unexpected {other:?}")))),
        }
    }

    /// The FIFO that a container reads; there is one when it has an input.
    #[must_use]
    pub fn stdin(&self, container_id: &str) -> PathBuf {
        stdin_fifo(&self.dir, container_id)
    }

    async fn open(&self, request: &Request, fds: &[OwnedFd]) -> Result<Conversation, ShimClientError> {
        let stream = connect(&self.dir).map_err(ShimClientError::Connect)?;
        let talk = |source| ShimClientError::Talk {
            said: last_words(&self.dir),
            source,
        };
        let mut line = serde_json::to_vec(request).map_err(|source| talk(source.into()))?;
        line.push(b'\n');
        let sent = send(&stream, &line, fds).map_err(talk)?;
        stream.set_nonblocking(true).map_err(talk)?;
        let mut stream = UnixStream::from_std(stream).map_err(talk)?;
        stream.write_all(&line[sent..]).await.map_err(talk)?;
        Ok(Conversation {
            lines: BufReader::new(stream),
            dir: self.dir.clone(),
        })
    }
}

/// The states of a Pod's containers as they change.
#[derive(Debug)]
pub struct Watch(Conversation);

impl Watch {
    /// The next state. An error means that the shim has ended. Cancel safe only between calls that returned.
    pub async fn next(&mut self) -> Result<States, ShimClientError> {
        match self.0.next().await? {
            Reply::State(states) => Ok(states),
            other => Err(self.0.broken(io::Error::other(format!("unexpected {other:?}")))),
        }
    }
}

/// A program running in a container; dropping this kills the program of an exec, and ends an attachment.
#[derive(Debug)]
pub struct Running(Conversation);

impl Running {
    /// Waits for the end.
    pub async fn wait(mut self) -> Result<Exit, ShimClientError> {
        match self.0.next().await? {
            Reply::Exited(exit) => Ok(exit),
            other => Err(self.0.broken(io::Error::other(format!("unexpected {other:?}")))),
        }
    }
}

#[derive(Debug)]
struct Conversation {
    lines: BufReader<UnixStream>,
    dir: PathBuf,
}

impl Conversation {
    async fn next(&mut self) -> Result<Reply, ShimClientError> {
        let mut line = String::new();
        match self.lines.read_line(&mut line).await {
            Ok(0) => Err(self.broken(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => serde_json::from_str(&line).map_err(|error| self.broken(error.into())),
            Err(error) => Err(self.broken(error)),
        }
    }

    fn broken(&self, source: io::Error) -> ShimClientError {
        ShimClientError::Talk {
            said: last_words(&self.dir),
            source,
        }
    }
}

fn start(program: &Path, dir: &Path) -> io::Result<()> {
    let listener = bind(dir)?;
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir.join("shim.log"))?;
    let child = tokio::process::Command::new(program)
        .args(["internal", "shim", "--dir"])
        .arg(dir)
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(Stdio::null())
        .stderr(log)
        .process_group(0)
        .env_clear()
        .spawn()?;
    // tokio reaps a dropped child in the background; the process itself goes on.
    drop(child);
    Ok(())
}

fn write_spec(dir: &Path, spec: &SandboxSpec) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let temporary = dir.join("sandbox.tmp");
    fs::write(&temporary, serde_json::to_vec(spec)?)?;
    fs::rename(temporary, dir.join(SANDBOX_FILE))
}

/// A socket address holds 108 bytes, less than a path may have: names are taken from an open directory.
fn short(dir: &fs::File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{SOCKET_FILE}", dir.as_raw_fd()))
}

fn bind(dir: &Path) -> io::Result<StdListener> {
    match fs::remove_file(dir.join(SOCKET_FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    StdListener::bind(short(&fs::File::open(dir)?))
}

fn connect(dir: &Path) -> io::Result<StdStream> {
    StdStream::connect(short(&fs::File::open(dir)?))
}

/// Sends the beginning of the line together with the descriptors; gives how much was sent.
fn send(stream: &StdStream, line: &[u8], fds: &[OwnedFd]) -> io::Result<usize> {
    let raw: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let control = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &[] } else { control.as_slice() };
    Ok(sendmsg::<()>(
        stream.as_raw_fd(),
        &[IoSlice::new(line)],
        control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?)
}

fn last_words(dir: &Path) -> String {
    match fs::read_to_string(dir.join("shim.log")) {
        Ok(log) => log.lines().last().unwrap_or("it said nothing").to_owned(),
        Err(error) => format!("its log cannot be read: {error}"),
    }
}
