//! A child of the shim, from fork to exit code.
//!
//! The shim has one thread, so a forked child may allocate. A child that cannot run its program says why over
//! a pipe that a successful `execve` closes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::sched::CloneFlags;
use nix::unistd::Pid;

use crate::runtime::protocol::{Exit, Failure};

/// A started process: wait on `pidfd` for its end, read `failure` for why its program did not run.
#[derive(Debug)]
pub struct Process {
    /// In the shim's numbering.
    pub pid: Pid,
    /// Readable once the process ended.
    pub pidfd: OwnedFd,
    /// Closed without a word by the program's start.
    pub failure: File,
}

impl Process {
    /// Forks; the child that returns has failed, and says so.
    pub fn fork(
        namespaces: CloneFlags,
        child: impl FnOnce() -> Result<std::convert::Infallible, Failure>,
    ) -> io::Result<Self> {
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
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
            failure: File::from(reader),
        })
    }

    /// Reads why the program did not run; to be called once `failure` is readable.
    pub fn started(&mut self) -> Result<(), Failure> {
        let mut text = String::new();
        match self.failure.read_to_string(&mut text) {
            Ok(0) => Ok(()),
            Ok(_) => Err(serde_json::from_str(&text).unwrap_or_else(|_| failure(128, text))),
            Err(error) => Err(failure(128, format!("read start result: {error}"))),
        }
    }

    /// Takes the exit code of a process whose `pidfd` is readable.
    pub fn reap(&self) -> io::Result<Exit> {
        use nix::sys::wait::{WaitStatus, waitpid};
        Ok(match waitpid(self.pid, None)? {
            WaitStatus::Exited(_, code) => Exit { code, signal: None },
            WaitStatus::Signaled(_, signal, _) => Exit {
                code: 128 + signal as i32,
                signal: Some(signal as i32),
            },
            other => return Err(io::Error::other(format!("unexpected wait status {other:?}"))),
        })
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
