//! A process that the shim answers for, from fork to exit code: its own child, or one that an earlier shim of the Pod
//! started and left.
//!
//! The shim has one thread, so a forked child may allocate. A child that cannot run its program says why over
//! a pipe that a successful `execve` closes.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::runtime::protocol::{Exit, Failure};

/// How long an orphan that has ended may wait for whoever inherited it. The supervisor reaps at once.
const INHERITED_MS: u16 = 1000;
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Which process it is, even when its number has been given to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    pid: i32,
    /// In clock ticks since the boot.
    started: u64,
    boot: String,
}

impl ProcessId {
    /// That of a process that is there.
    fn of(pid: Pid) -> io::Result<Self> {
        let process = procfs::process::Process::new(pid.as_raw()).map_err(io::Error::other)?;
        Ok(Self {
            pid: pid.as_raw(),
            started: process.stat().map_err(io::Error::other)?.starttime,
            boot: boot()?,
        })
    }

    /// Whether the machine has not been started again since.
    pub fn is_of_this_boot(&self) -> io::Result<bool> {
        Ok(self.boot == boot()?)
    }
}

fn boot() -> io::Result<String> {
    Ok(std::fs::read_to_string(BOOT_ID)?.trim_end().to_owned())
}

/// A process: wait on `pidfd` for its end.
#[derive(Debug)]
pub struct Process {
    /// In the shim's numbering.
    pub pid: Pid,
    /// Readable once the process ended.
    pub pidfd: OwnedFd,
    /// Of a child: closed without a word by the program's start.
    failure: Option<File>,
}

/// Where a child waits that may outlive the shim, until the shim has written down that it is there.
#[derive(Debug)]
pub struct Gate(File);

/// The shim's side of a [`Gate`]. Dropped, it ends the child.
#[derive(Debug)]
pub struct Latch(File);

impl Gate {
    /// Waits to be let through.
    pub fn pass(mut self) -> Result<(), Failure> {
        match self.0.read(&mut [0]) {
            Ok(1) => Ok(()),
            Ok(_) => Err(failure(128, "the shim died before it could take note".to_owned())),
            Err(error) => Err(failure(128, format!("wait for the shim: {error}"))),
        }
    }
}

impl Latch {
    /// Lets the child go on. One that has failed by then says so over its own pipe.
    pub fn open(mut self) -> io::Result<()> {
        match self.0.write_all(b"\n") {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(()),
        }
    }
}

impl Process {
    /// Forks; the child that returns has failed, and says so.
    pub fn fork(namespaces: CloneFlags, child: impl FnOnce() -> Result<Infallible, Failure>) -> io::Result<Self> {
        let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        let mut pidfd: RawFd = -1;
        let flags = namespaces.bits() | libc::CLONE_PIDFD | libc::SIGCHLD;
        // SAFETY: without CLONE_VM and a stack this is fork(2); the shim has one thread, so the child's copy of
        // every lock and allocator state is consistent. `pidfd` outlives the call.
        let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, &raw mut pidfd, 0, 0) };
        if pid < 0 {
            return Err(io::Error::last_os_error());
        }
        if pid == 0 {
            drop(reader);
            let Err(failure) = child();
            let mut writer = File::from(writer);
            // Nobody is left to tell when even this fails; the exit code still says that nothing ran.
            let _told = serde_json::to_writer(&mut writer, &failure).map(|()| writer.flush());
            // SAFETY: ends this process at once, without running the shim's destructors.
            unsafe { libc::_exit(failure.code) }
        }
        // SAFETY: the kernel has just made this descriptor for us.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        let pid = Pid::from_raw(i32::try_from(pid).map_err(io::Error::other)?);
        Ok(Self {
            pid,
            pidfd,
            failure: Some(File::from(reader)),
        })
    }

    /// Forks one that may outlive the shim. It is to wait at the gate before it does what it is for: what nobody took
    /// note of must not run, or it would run twice.
    pub fn fork_gated(
        namespaces: CloneFlags,
        child: impl FnOnce(Gate) -> Result<Infallible, Failure>,
    ) -> io::Result<(Self, Latch)> {
        let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        let latch = writer.as_raw_fd();
        let process = Self::fork(namespaces, move || {
            // Its own copy would keep the child from hearing that the shim is gone.
            nix::unistd::close(latch).map_err(|error| failure(128, format!("close the latch: {error}")))?;
            child(Gate(File::from(reader)))
        })?;
        Ok((process, Latch(File::from(writer))))
    }

    /// Finds one again that another shim started; `None` when it has ended and was reaped.
    pub fn find(id: &ProcessId) -> io::Result<Option<Self>> {
        let pid = Pid::from_raw(id.pid);
        // SAFETY: plain system call.
        let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, id.pid, 0) };
        if pidfd < 0 {
            let error = io::Error::last_os_error();
            return if error.raw_os_error() == Some(libc::ESRCH) {
                Ok(None)
            } else {
                Err(error)
            };
        }
        let pidfd = RawFd::try_from(pidfd).map_err(io::Error::other)?;
        // SAFETY: the kernel has just made this descriptor for us.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        // Asked after it is held: from here on the number is not given away.
        let is_it = ProcessId::of(pid).is_ok_and(|found| found == *id);
        Ok(is_it.then_some(Self {
            pid,
            pidfd,
            failure: None,
        }))
    }

    /// Whether nothing is left of it but its exit code.
    pub fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// By what a later shim finds it.
    pub fn id(&self) -> io::Result<ProcessId> {
        ProcessId::of(self.pid)
    }

    /// Readable once it is known whether the program of a child runs.
    pub fn word(&self) -> Option<BorrowedFd<'_>> {
        self.failure.as_ref().map(AsFd::as_fd)
    }

    /// Reads why the program did not run; to be called once [`word`](Self::word) is readable.
    pub fn started(&mut self) -> Result<(), Failure> {
        let Some(mut word) = self.failure.take() else {
            return Ok(());
        };
        let mut text = String::new();
        match word.read_to_string(&mut text) {
            Ok(0) => Ok(()),
            Ok(_) => Err(serde_json::from_str(&text).unwrap_or_else(|_| failure(128, text))),
            Err(error) => Err(failure(128, format!("read start result: {error}"))),
        }
    }

    /// The exit code of a process whose `pidfd` is readable. A child is still to be [reaped](Self::reap) then, so that a
    /// shim which dies in between leaves the code to be found.
    pub fn exit(&self) -> io::Result<Exit> {
        let status = match waitid(
            Id::PIDFd(self.pidfd.as_fd()),
            WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT,
        ) {
            Err(nix::Error::ECHILD) => self.inherited()?,
            status => Some(status?),
        };
        Ok(match status {
            Some(WaitStatus::Exited(_, code)) => Exit { code, signal: None },
            Some(WaitStatus::Signaled(_, signal, _)) => Exit {
                code: 128 + signal as i32,
                signal: Some(signal as i32),
            },
            Some(other) => return Err(io::Error::other(format!("unexpected wait status {other:?}"))),
            None => Exit::LOST,
        })
    }

    /// How a process ended that is not our child: Linux remembers it with the descriptor from 6.15 on
    /// (`PIDFD_INFO_EXIT`), once its parent has reaped it. Nobody can tell where it does not.
    fn inherited(&self) -> io::Result<Option<WaitStatus>> {
        let mut fds = [PollFd::new(self.pidfd.as_fd(), PollFlags::empty())];
        match poll(&mut fds, PollTimeout::from(INHERITED_MS)) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        // SAFETY: zeros are a valid value of this plain structure of integers.
        let mut info: libc::pidfd_info = unsafe { std::mem::zeroed() };
        info.mask = u64::from(libc::PIDFD_INFO_EXIT);
        // SAFETY: the kernel writes at most the structure whose size is part of the request's number.
        let result = unsafe { libc::ioctl(self.pidfd.as_raw_fd(), libc::PIDFD_GET_INFO, &raw mut info) };
        if result < 0 || info.mask & u64::from(libc::PIDFD_INFO_EXIT) == 0 {
            return Ok(None);
        }
        Ok(Some(WaitStatus::from_raw(self.pid, info.exit_code)?))
    }

    /// Lets a child go that has ended; one of another parent's is gone.
    pub fn reap(&self) -> io::Result<()> {
        match waitpid(self.pid, None) {
            Ok(_) | Err(nix::Error::ECHILD) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends a signal; a process that is gone already needs none.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        // SAFETY: plain system call on a descriptor that we own.
        let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.pidfd.as_raw_fd(), signal, 0, 0) };
        let error = io::Error::last_os_error();
        if result == 0 || error.raw_os_error() == Some(libc::ESRCH) {
            Ok(())
        } else {
            Err(error)
        }
    }
}

/// Builds a [`Failure`].
pub fn failure(code: i32, message: String) -> Failure {
    Failure { code, message }
}
