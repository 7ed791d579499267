//! The supervisor's other half: a copy of it, made by `fork`, that holds the same sockets and the same lock and does
//! nothing but wait for the end of the one at work, to take its place.
//!
//! It costs some hundred kilobytes, since it shares its memory with the one it was copied from. Both killed at the
//! same moment are missed by nobody but the next `minik up`, or by systemd where that keeps the cluster.

use std::os::fd::{AsFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::unistd::{ForkResult, Pid, fork, getpid};

use crate::processes::pidfd_open;

/// Who a process is after [`part`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The one at work, with a standby of this number.
    AtWork(Pid),
    /// What was the standby: the one at work has died.
    Heir,
    /// What was the standby, asked to end.
    Dismissed,
}

/// Makes a standby. Returns at once in the process at work, and in the standby when there is something to do.
///
/// The caller must have one thread; `signals` takes SIGTERM and SIGINT.
///
/// # Errors
/// Those of `pidfd_open` and `fork`, and in the standby those of `poll` and of reading the signals.
pub fn part(signals: &SignalFd) -> nix::Result<Part> {
    // Opened before there is a standby, or it might look for a process that is gone already.
    let at_work = pidfd_open(getpid().as_raw())?;
    // SAFETY: this process has one thread, so the copy's locks and allocator are consistent.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(Part::AtWork(child)),
        ForkResult::Child => wait(&at_work, signals),
    }
}

fn wait(at_work: &OwnedFd, signals: &SignalFd) -> nix::Result<Part> {
    loop {
        let mut fds = [
            PollFd::new(at_work.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        let dead = fds[0].any() == Some(true);
        while let Some(signal) = signals.read_signal()? {
            // SIGHUP is for the one at work; whoever takes its place looks at everything anyway.
            if ![Signal::SIGCHLD as u32, Signal::SIGHUP as u32].contains(&signal.ssi_signo) {
                return Ok(Part::Dismissed);
            }
        }
        if dead {
            return Ok(Part::Heir);
        }
    }
}
