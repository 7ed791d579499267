//! Whose processes a container's are: its own namespace's, the Pod's, or the node's.
//!
//! A namespace of a container's own ends with its first process, and all others with it. In a shared one they would
//! stay, so what else ran in the container is found by its mount namespace and killed. The Pod's namespace is held by
//! a process that does nothing, as the pause container of other runtimes.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::sched::CloneFlags;
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::unistd::Pid;

use super::process::{Process, failure};
use crate::runtime::protocol::Failure;
use crate::runtime::spec::Processes;

/// Rounds of looking for what is left; each kills all that it finds.
const MOST_ROUNDS: usize = 16;
/// What people see as the first process of a Pod that shares its processes.
const PAUSE: &[u8] = b"/pause";

/// Where the processes of a Pod's containers live.
#[derive(Debug)]
pub enum Space {
    /// Each container in a namespace of its own.
    Own,
    /// All in the namespace of this process.
    Pod(Process),
    /// In the shim's, which is the node's.
    Node,
}

impl Space {
    /// Makes what the Pod asks for.
    pub fn new(wanted: Processes) -> io::Result<Self> {
        Ok(match wanted {
            Processes::Container => Self::Own,
            Processes::Pod => Self::Pod(Process::fork(CloneFlags::CLONE_NEWPID, hold)?),
            Processes::Node => Self::Node,
        })
    }

    /// Starts a container's first process, in a mount namespace of its own.
    pub fn fork(&self, child: impl FnOnce() -> Result<Infallible, Failure>) -> io::Result<Process> {
        match self {
            Self::Own => Process::fork(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS, child),
            Self::Pod(holder) => beside(&holder.pidfd, || Process::fork(CloneFlags::CLONE_NEWNS, child)),
            Self::Node => Process::fork(CloneFlags::CLONE_NEWNS, child),
        }
    }

    /// By what the processes of a container are known that may outlive its first one; `None` when none may.
    pub fn mark(&self, first: &Process) -> Option<PathBuf> {
        match self {
            Self::Own => None,
            Self::Pod(_) | Self::Node => mount_namespace(first.pid),
        }
    }
}

/// Forks where the children of `init` live: only children change their PID namespace, so the shim steps over for the
/// length of one fork.
pub fn beside<T>(init: &OwnedFd, fork: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let own = fs::File::open("/proc/self/ns/pid")?;
    nix::sched::setns(init, CloneFlags::CLONE_NEWPID)?;
    let forked = fork();
    nix::sched::setns(&own, CloneFlags::CLONE_NEWPID)?;
    forked
}

/// Kills every process that has a mark.
pub fn kill_marked(mark: &PathBuf) -> io::Result<()> {
    for _ in 0..MOST_ROUNDS {
        let mut found = false;
        for entry in fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let pid = Pid::from_raw(pid);
            // One that has ended has no namespaces any more.
            if mount_namespace(pid).as_ref() == Some(mark) {
                found = true;
                match kill(pid, Signal::SIGKILL) {
                    Ok(()) | Err(nix::Error::ESRCH) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        if !found {
            return Ok(());
        }
    }
    Err(io::Error::other("processes of the container do not end"))
}

fn mount_namespace(pid: Pid) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/mnt")).ok()
}

/// Holds a namespace until the shim ends; what dies there is forgotten by the kernel.
fn hold() -> Result<Infallible, Failure> {
    let setup = |what: &str, error: nix::Error| failure(128, format!("{what}: {error}"));
    nix::unistd::setsid().map_err(|error| setup("setsid", error))?;
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(|error| setup("set parent-death signal", error))?;
    // SAFETY: installs the kernel's own way of ignoring, no handler of ours.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }.map_err(|error| setup("ignore children", error))?;
    nix::sys::prctl::set_name(c"pause").map_err(|error| setup("set name", error))?;
    rename().map_err(|error| failure(128, format!("set command line: {error}")))?;
    // SAFETY: closes descriptors of this process alone, which uses none of them from here on.
    nix::errno::Errno::result(unsafe { libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0) })
        .map_err(|error| setup("close files", error))?;
    loop {
        nix::unistd::pause();
    }
}

/// Writes what `ps` shows over this process's own arguments.
fn rename() -> io::Result<()> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // Fields are counted after the name, which may hold anything: `arg_start` and `arg_end` are 48 and 49 (proc(5)).
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut ends = fields.split_whitespace().skip(45).map(str::parse::<usize>);
    let (Some(Ok(start)), Some(Ok(end))) = (ends.next(), ends.next()) else {
        return Err(io::Error::other("no arguments in /proc/self/stat"));
    };
    let room = end.saturating_sub(start);
    if room > PAUSE.len() {
        // SAFETY: the kernel says that these bytes hold this process's arguments, on its own stack; nobody in this
        // forked child reads them any more.
        unsafe {
            let at = std::ptr::with_exposed_provenance_mut::<u8>(start);
            std::ptr::write_bytes(at, 0, room);
            std::ptr::copy_nonoverlapping(PAUSE.as_ptr(), at, PAUSE.len());
        }
    }
    Ok(())
}
