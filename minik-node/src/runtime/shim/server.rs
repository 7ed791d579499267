//! The shim's loop: waits for requests, output and ends, and does what each asks.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::complain;
use super::connection::{Connection, Input};
use super::container::Container;
use super::files;
use super::process::{Process, failure};
use super::program::{self, Stdio};
use super::record::Record;
use super::space::Space;
use crate::runtime::exits;
use crate::runtime::protocol::{Exec, Failure, Reply, Request};
use crate::runtime::spec::{ContainerSpec, SandboxSpec, Stdin};

/// Most connections at once; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 128;

/// Something that `poll` says is ready.
#[derive(Debug, Clone)]
enum Ready {
    Listener,
    Connection(u64, PollFlags),
    Started(String),
    Output(String),
    Ended(String),
    HolderEnded,
    ExecStarted(u64),
    ExecEnded(u64),
}

struct Server<'a> {
    dir: &'a Path,
    state_dir: PathBuf,
    space: Space,
    listener: UnixListener,
    connections: BTreeMap<u64, Connection>,
    containers: BTreeMap<String, Container>,
    /// By the connection that asked.
    execs: BTreeMap<u64, Process>,
    next_connection: u64,
    /// The connection that asked to end.
    ending: Option<u64>,
}

/// Serves the socket on standard input until asked to end and every container has ended. What `records` tell of was started
/// by an earlier shim.
pub fn serve(dir: &Path, spec: &SandboxSpec, space: Space, records: Vec<Record>) -> io::Result<()> {
    // SAFETY: the agent passes the listening socket as descriptor 0, and nothing else here uses it.
    let listener = unsafe { UnixListener::from_raw_fd(0) };
    listener.set_nonblocking(true)?;
    let adopted = records.into_iter().map(|record| {
        let container = Container::adopt(record, dir, &spec.state_dir)?;
        Ok((container.spec.name.clone(), container))
    });
    let mut server = Server {
        dir,
        state_dir: spec.state_dir.clone(),
        space,
        listener,
        connections: BTreeMap::new(),
        containers: adopted.collect::<io::Result<_>>()?,
        execs: BTreeMap::new(),
        next_connection: 0,
        ending: None,
    };
    loop {
        for ready in server.wait()? {
            server.handle(ready)?;
        }
        if let Some(connection) = server.ending
            && server.containers.values().all(|container| container.live.is_none())
        {
            server.space.end(dir)?;
            server.reply(connection, &Reply::Done);
            return Ok(());
        }
    }
}

impl Server<'_> {
    fn wait(&self) -> io::Result<Vec<Ready>> {
        let mut sources: Vec<(Ready, BorrowedFd<'_>, PollFlags)> = Vec::new();
        let input = PollFlags::POLLIN;
        if self.connections.len() < MAX_CONNECTIONS {
            sources.push((Ready::Listener, self.listener.as_fd(), input));
        }
        sources.push((Ready::HolderEnded, self.space.holder.pidfd.as_fd(), input));
        for (name, container) in &self.containers {
            let Some(live) = &container.live else { continue };
            if let Some(word) = live.process.word() {
                sources.push((Ready::Started(name.clone()), word, input));
            }
            for fd in live.output.fds() {
                sources.push((Ready::Output(name.clone()), fd, input));
            }
            sources.push((Ready::Ended(name.clone()), live.process.pidfd.as_fd(), input));
        }
        for (id, process) in &self.execs {
            if let Some(word) = process.word() {
                sources.push((Ready::ExecStarted(*id), word, input));
            }
            sources.push((Ready::ExecEnded(*id), process.pidfd.as_fd(), input));
        }
        for (id, connection) in &self.connections {
            let output = if connection.has_output() {
                PollFlags::POLLOUT
            } else {
                PollFlags::empty()
            };
            sources.push((
                Ready::Connection(*id, PollFlags::empty()),
                connection.fd(),
                input | output,
            ));
        }
        let mut fds: Vec<PollFd<'_>> = sources.iter().map(|(_, fd, flags)| PollFd::new(*fd, *flags)).collect();
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let happened = |fd: &PollFd<'_>| fd.revents().unwrap_or(PollFlags::empty());
        let ready = sources.iter().zip(&fds).filter(|(_, fd)| !happened(fd).is_empty());
        Ok(ready
            .map(|((ready, ..), fd)| match ready {
                Ready::Connection(id, _) => Ready::Connection(*id, happened(fd)),
                other => other.clone(),
            })
            .collect())
    }

    fn handle(&mut self, ready: Ready) -> io::Result<()> {
        match ready {
            Ready::Listener => self.accept()?,
            Ready::Connection(id, flags) => self.talk(id, flags),
            Ready::Started(name) => self.started(&name),
            Ready::Output(name) => {
                if let Some(live) = self
                    .containers
                    .get_mut(&name)
                    .and_then(|container| container.live.as_mut())
                    && let Err(error) = live.output.pump()
                {
                    complain(&format!("container {name}: save output: {error}"));
                }
            }
            Ready::Ended(name) => {
                self.started(&name);
                if let Some(container) = self.containers.get_mut(&name) {
                    let ended = container.ended(self.dir, &self.state_dir)?;
                    self.publish();
                    if let Some((exit, attached)) = ended {
                        for id in attached {
                            self.reply(id, &Reply::Exited(exit));
                        }
                    }
                }
            }
            Ready::HolderEnded => self.space.hold_again(self.dir)?,
            Ready::ExecStarted(id) => self.exec_started(id),
            Ready::ExecEnded(id) => {
                self.exec_started(id);
                if let Some(process) = self.execs.remove(&id) {
                    let exit = process.exit()?;
                    process.reap()?;
                    self.reply(id, &Reply::Exited(exit));
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        match self.listener.accept() {
            Ok((stream, _)) => {
                self.next_connection += 1;
                self.connections.insert(self.next_connection, Connection::new(stream)?);
                Ok(())
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionAborted
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn talk(&mut self, id: u64, flags: PollFlags) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if flags.contains(PollFlags::POLLOUT) && connection.flush().is_err() {
            return self.close(id);
        }
        if !flags.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
            return;
        }
        match connection.read() {
            Input::Partial => {}
            Input::Closed => self.close(id),
            Input::Request(request) => self.request(id, request),
        }
    }

    fn request(&mut self, id: u64, request: Request) {
        match request {
            Request::Watch => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.watching = true;
                }
                let state = self.state();
                self.reply(id, &state);
            }
            Request::Start(spec) => {
                if let Err(failure) = self.start(id, *spec) {
                    self.reply(id, &Reply::Failed(failure));
                }
            }
            Request::Signal { container, signal } => {
                let reply = self
                    .signal(&container, signal)
                    .map_or_else(Reply::Failed, |()| Reply::Done);
                self.reply(id, &reply);
            }
            Request::Exec(exec) => {
                if let Err(failure) = self.exec(id, &exec) {
                    self.reply(id, &Reply::Failed(failure));
                }
            }
            Request::Attach { container, stdin } => {
                let reply = self
                    .attach(id, &container, stdin)
                    .map_or_else(Reply::Failed, |()| Reply::Done);
                self.reply(id, &reply);
            }
            Request::Read { volume, path } => {
                let read = files::read(&volume, &path).map_err(|error| failure(128, error.to_string()));
                self.reply(id, &read.map_or_else(Reply::Failed, Reply::Text));
            }
            Request::Shutdown => {
                self.ending = Some(id);
                for container in self.containers.values() {
                    if let Some(live) = &container.live
                        && let Err(error) = live.process.signal(libc::SIGKILL)
                    {
                        complain(&format!("kill container {}: {error}", container.spec.name));
                    }
                }
            }
        }
    }

    fn start(&mut self, id: u64, spec: ContainerSpec) -> Result<(), Failure> {
        let name = spec.name.clone();
        let previous = match self.containers.get(&name) {
            Some(container) if container.live.is_some() => {
                return Err(failure(128, format!("container {name} is running")));
            }
            Some(container) => Some(container.state.current.clone()),
            // An attempt that another shim of the Pod held, or the one before a reboot.
            None => exits::read(&self.state_dir, &name)
                .map_err(|error| failure(128, format!("read the last end of container {name}: {error}")))?
                .map(|state| state.current),
        };
        let container = Container::start(spec, previous, &self.space, self.dir, id)
            .map_err(|error| failure(128, format!("start container {name}: {error}")))?;
        self.containers.insert(name, container);
        Ok(())
    }

    fn started(&mut self, name: &str) {
        let Some((connection, result)) = self
            .containers
            .get_mut(name)
            .and_then(|container| container.started(self.dir))
        else {
            return;
        };
        // The state goes first, so that whoever is told of the start finds it there.
        self.publish();
        self.reply(connection, &result.map_or_else(Reply::Failed, |()| Reply::Done));
    }

    fn signal(&self, name: &str, signal: i32) -> Result<(), Failure> {
        match self.containers.get(name).and_then(|container| container.live.as_ref()) {
            Some(live) => live
                .process
                .signal(signal)
                .map_err(|error| failure(128, error.to_string())),
            None => Ok(()),
        }
    }

    fn exec(&mut self, id: u64, exec: &Exec) -> Result<(), Failure> {
        let gone = || failure(128, format!("container {} is not running", exec.container));
        let fds = self.take_fds(id);
        let container = self.containers.get(&exec.container).ok_or_else(gone)?;
        let live = container
            .live
            .as_ref()
            .filter(|live| live.starting.is_none())
            .ok_or_else(gone)?;
        let stdio =
            Stdio::try_from(fds).map_err(|_count| failure(128, "an exec needs three descriptors".to_owned()))?;
        let process = program::exec(&container.spec, &live.process.pidfd, &exec.argv, exec.tty, &stdio)
            .map_err(|error| failure(128, format!("enter container {}: {error}", exec.container)))?;
        self.execs.insert(id, process);
        Ok(())
    }

    fn attach(&mut self, id: u64, name: &str, stdin: bool) -> Result<(), Failure> {
        let gone = || failure(128, format!("container {name} is not running"));
        let fds = self.take_fds(id);
        let container = self.containers.get_mut(name).ok_or_else(gone)?;
        let live = container.live.as_mut().ok_or_else(gone)?;
        let [stdout, stderr] = <[OwnedFd; 2]>::try_from(fds)
            .map_err(|_count| failure(128, "an attachment needs two descriptors".to_owned()))?;
        live.output.attach(id, [stdout.into(), stderr.into()]);
        if stdin && container.spec.stdin == Stdin::Once {
            live.input = None;
        }
        Ok(())
    }

    /// The descriptors that came with the request of a connection.
    fn take_fds(&mut self, id: u64) -> Vec<OwnedFd> {
        self.connections
            .get_mut(&id)
            .map(|connection| std::mem::take(&mut connection.fds))
            .unwrap_or_default()
    }

    fn exec_started(&mut self, id: u64) {
        let Some(process) = self.execs.get_mut(&id).filter(|process| process.word().is_some()) else {
            return;
        };
        let reply = process.started().map_or_else(Reply::Failed, |()| Reply::Done);
        self.reply(id, &reply);
    }

    fn state(&self) -> Reply {
        Reply::State(
            self.containers
                .iter()
                .map(|(name, container)| (name.clone(), container.state.clone()))
                .collect(),
        )
    }

    fn publish(&mut self) {
        let state = self.state();
        let watching: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.watching)
            .map(|(id, _)| *id)
            .collect();
        for id in watching {
            self.reply(id, &state);
        }
    }

    fn reply(&mut self, id: u64, reply: &Reply) {
        if self
            .connections
            .get_mut(&id)
            .is_some_and(|connection| connection.send(reply).is_err())
        {
            self.close(id);
        }
    }

    fn close(&mut self, id: u64) {
        self.connections.remove(&id);
        for live in self.containers.values_mut().filter_map(|c| c.live.as_mut()) {
            live.output.detach(id);
        }
        if let Some(process) = self.execs.get(&id)
            && let Err(error) = process.signal(libc::SIGKILL)
        {
            complain(&format!("kill exec: {error}"));
        }
    }
}
