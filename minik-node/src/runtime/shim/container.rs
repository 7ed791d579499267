//! One container of the shim: its newest attempt, the one before, and what is open for them.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use jiff::Timestamp;

use super::complain;
use super::log::{Output, fifo};
use super::process::{Process, ProcessId};
use super::program::{self, Stdio};
use super::record::{self, Record};
use super::space::{self, Mark, Space};
use crate::runtime::exits;
use crate::runtime::protocol::{Attempt, ContainerState, Ended, Exit, Failure};
use crate::runtime::spec::{ContainerSpec, SandboxSpec, Stdin, stdin_fifo};

/// A container that was started at least once.
#[derive(Debug)]
pub struct Container {
    /// As last started.
    pub spec: ContainerSpec,
    /// What the agent is told.
    pub state: ContainerState,
    /// Open while the newest attempt runs.
    pub live: Option<Live>,
    /// The first process of the newest attempt.
    first: ProcessId,
    /// By what its other processes are known, where they may outlive it.
    mark: Option<Mark>,
}

/// What a running attempt holds open.
#[derive(Debug)]
pub struct Live {
    /// The first process.
    pub process: Process,
    /// Its output.
    pub output: Output,
    /// The shim's end of its input, while that is to stay open.
    pub input: Option<File>,
    /// The connection that waits for the program's start.
    pub starting: Option<u64>,
}

impl Container {
    /// Forks the first process. It has not run its program when this returns.
    pub fn start(
        spec: ContainerSpec,
        previous: Option<Attempt>,
        space: &Space,
        dir: &Path,
        connection: u64,
    ) -> io::Result<Self> {
        match fs::remove_dir_all(&spec.writable) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir_all(&spec.writable)?,
        }
        let output = Output::open(dir, &spec.id, &spec.log)?;
        let [stdout, stderr] = output.container_ends()?;
        let (input, stdin) = input(&spec, dir)?;
        let stdio: Stdio = [stdin.into(), stdout.into(), stderr.into()];
        let (process, latch) = program::start(&spec, space, &SandboxSpec::shm(dir), &stdio)?;
        let current = Attempt {
            id: spec.id.clone(),
            attempt: spec.attempt,
            image: spec.image.clone(),
            image_id: spec.image_id.clone(),
            stop_signal: spec.stop_signal,
            user: Some(spec.user.clone()),
            pid: process.pid.as_raw(),
            started_at: Timestamp::now(),
            ended: None,
        };
        let container = Self {
            spec,
            state: ContainerState { current, previous },
            first: process.id()?,
            mark: space.mark(&process),
            live: Some(Live {
                process,
                output,
                input,
                starting: Some(connection),
            }),
        };
        record::save(dir, &container.record())?;
        latch.open()?;
        Ok(container)
    }

    /// Takes over what an earlier shim of the sandbox held: its output where that stands, and its end if nobody was there.
    pub fn adopt(record: Record, dir: &Path, state_dir: &Path) -> io::Result<Self> {
        let mut container = Self {
            spec: record.spec,
            state: record.state,
            live: None,
            first: record.process,
            mark: record.mark,
        };
        if container.state.current.ended.is_some() {
            return Ok(container);
        }
        let saved = exits::read(state_dir, &container.spec.name)?;
        if let Some(saved) = saved.filter(|saved| saved.current.id == container.spec.id) {
            container.state = saved;
            return Ok(container);
        }
        let mut output = Output::open(dir, &container.spec.id, &container.spec.log)?;
        match Process::find(&container.first)? {
            Some(process) => {
                let input = (container.spec.stdin == Stdin::Open).then(|| fifo(&stdin_fifo(dir, &container.spec.id)));
                container.live = Some(Live {
                    process,
                    output,
                    input: input.transpose()?,
                    starting: None,
                });
            }
            None => {
                container.clear(dir, &mut output);
                container.over(Exit::LOST, dir, state_dir);
            }
        }
        Ok(container)
    }

    fn record(&self) -> Record {
        Record {
            spec: self.spec.clone(),
            state: self.state.clone(),
            process: self.first.clone(),
            mark: self.mark.clone(),
        }
    }

    /// Reads whether the program runs; gives the connection to tell.
    pub fn started(&mut self, dir: &Path) -> Option<(u64, Result<(), Failure>)> {
        let live = self.live.as_mut()?;
        let connection = live.starting.take()?;
        let result = live.process.started();
        self.state.current.started_at = Timestamp::now();
        if let Err(failure) = &result {
            self.state.current.pid = 0;
            self.state.current.ended = Some(Ended {
                at: Timestamp::now(),
                exit: Exit {
                    code: 128,
                    signal: None,
                },
                start_error: Some(failure.message.clone()),
            });
        }
        self.note(dir);
        Some((connection, result))
    }

    /// For a shim that comes later. It would say too little without; this one says all.
    fn note(&self, dir: &Path) {
        if let Err(error) = record::save(dir, &self.record()) {
            complain(&format!(
                "container {}: take note of its state: {error}",
                self.spec.name
            ));
        }
    }

    /// Saves the rest of the output, puts the end on disk before anybody hears of it, and reaps the first process.
    /// Gives its exit and the connections that were attached.
    pub fn ended(&mut self, dir: &Path, state_dir: &Path) -> io::Result<Option<(Exit, Vec<u64>)>> {
        let Some(mut live) = self.live.take() else {
            return Ok(None);
        };
        let exit = live.process.exit()?;
        self.clear(dir, &mut live.output);
        self.over(exit, dir, state_dir);
        live.process.reap()?;
        Ok(Some((exit, live.output.attached())))
    }

    /// Takes away what an attempt that has ended left: processes, input, output.
    fn clear(&self, dir: &Path, output: &mut Output) {
        let name = &self.spec.name;
        if let Some(mark) = &self.mark
            && let Err(error) = space::kill_marked(mark)
        {
            complain(&format!("container {name}: kill what is left: {error}"));
        }
        if self.spec.stdin != Stdin::Closed
            && let Err(error) = fs::remove_file(stdin_fifo(dir, &self.spec.id))
        {
            complain(&format!("container {name}: remove input: {error}"));
        }
        if let Err(error) = output.finish() {
            complain(&format!("container {name}: save output: {error}"));
        }
    }

    /// Keeps the end where a reboot leaves it. On a full disk it lasts as long as the sandbox.
    fn over(&mut self, exit: Exit, dir: &Path, state_dir: &Path) {
        self.state.current.pid = 0;
        self.state.current.ended.get_or_insert(Ended {
            at: Timestamp::now(),
            exit,
            start_error: None,
        });
        if let Err(error) = exits::save(state_dir, &self.spec.name, &self.state) {
            complain(&format!("container {}: save its end: {error}", self.spec.name));
        }
        self.note(dir);
    }

    /// Ends what an earlier shim of a sandbox left that nobody can come back to.
    pub fn abandon(record: &Record) -> io::Result<()> {
        if !record.process.is_of_this_boot()? {
            return Ok(());
        }
        if let Some(process) = Process::find(&record.process)? {
            process.signal(libc::SIGKILL)?;
        }
        record.mark.as_ref().map_or(Ok(()), space::kill_marked)
    }
}

/// The shim's end of a container's input, which keeps it open, and the container's. One that stays open is open in the
/// container too, which would otherwise read its end when the shim is killed.
fn input(spec: &ContainerSpec, dir: &Path) -> io::Result<(Option<File>, File)> {
    if spec.stdin == Stdin::Closed {
        return Ok((None, File::open("/dev/null")?));
    }
    let path = stdin_fifo(dir, &spec.id);
    let ours = fifo(&path)?;
    let theirs = fs::OpenOptions::new()
        .read(true)
        .write(spec.stdin == Stdin::Open)
        .open(&path)?;
    Ok((Some(ours), theirs))
}
