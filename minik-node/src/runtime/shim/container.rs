//! One container of the shim: its newest attempt, the one before, and what is open for them.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::complain;
use super::log::{Output, fifo};
use super::process::Process;
use super::program::{self, Stdio};
use super::space::{self, Space};
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
}

/// What a running attempt holds open.
#[derive(Debug)]
pub struct Live {
    /// The first process.
    pub process: Process,
    /// By what its other processes are known, where they may outlive it.
    pub mark: Option<PathBuf>,
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
        let process = program::start(&spec, space, &SandboxSpec::shm(dir), &stdio)?;
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
        let live = Some(Live {
            mark: space.mark(&process),
            process,
            output,
            input,
            starting: Some(connection),
        });
        Ok(Self {
            spec,
            state: ContainerState { current, previous },
            live,
        })
    }

    /// Reads whether the program runs; gives the connection to tell.
    pub fn started(&mut self) -> Option<(u64, Result<(), Failure>)> {
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
        Some((connection, result))
    }

    /// Reaps the first process, saves the rest of the output, and puts the end on disk before anybody hears of it.
    /// Gives its exit and the connections that were attached.
    pub fn ended(&mut self, dir: &Path, state_dir: &Path) -> io::Result<Option<(Exit, Vec<u64>)>> {
        let Some(mut live) = self.live.take() else {
            return Ok(None);
        };
        let exit = live.process.reap()?;
        if let Some(mark) = &live.mark
            && let Err(error) = space::kill_marked(mark)
        {
            complain(&format!("container {}: kill what is left: {error}", self.spec.name));
        }
        if self.spec.stdin != Stdin::Closed
            && let Err(error) = fs::remove_file(stdin_fifo(dir, &self.spec.id))
        {
            complain(&format!("container {}: remove input: {error}", self.spec.name));
        }
        if let Err(error) = live.output.finish() {
            complain(&format!("container {}: save output: {error}", self.spec.name));
        }
        self.state.current.pid = 0;
        self.state.current.ended.get_or_insert(Ended {
            at: Timestamp::now(),
            exit,
            start_error: None,
        });
        exits::save(state_dir, &self.spec.name, &self.state)?;
        Ok(Some((exit, live.output.attached())))
    }
}

/// The shim's end of a container's input, which keeps it open, and the container's.
fn input(spec: &ContainerSpec, dir: &Path) -> io::Result<(Option<File>, File)> {
    if spec.stdin == Stdin::Closed {
        return Ok((None, File::open("/dev/null")?));
    }
    let path = stdin_fifo(dir, &spec.id);
    let ours = fifo(&path)?;
    Ok((Some(ours), File::open(&path)?))
}
