//! Whose processes a container's are: its own namespace's, the Pod's, or the node's.
//!
//! A namespace of a container's own ends with its first process, and all others with it. In a shared one they would
//! stay, so what else ran in the container is found by its mount namespace and killed. What a Pod's containers share is
//! held by a process that does nothing, as the pause container of other runtimes.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::process::{Gate, Latch, Process, failure};
use super::record;
use crate::runtime::protocol::Failure;
use crate::runtime::spec::Processes;

/// Rounds of looking for what is left; each kills all that it finds.
const MOST_ROUNDS: usize = 16;
/// What people see of the process that holds a Pod's namespaces.
const PAUSE: &[u8] = b"/pause";

/// Where the processes of a Pod's containers live, and who holds that.
#[derive(Debug)]
pub struct Space {
    processes: Processes,
    /// Lives in all namespaces that the containers share. It outlives the shim, so that another can come back to them.
    pub holder: Process,
}

impl Space {
    /// Makes what the Pod asks for, in the namespaces of the caller.
    pub fn new(processes: Processes, dir: &Path) -> io::Result<Self> {
        let namespaces = match processes {
            Processes::Pod => CloneFlags::CLONE_NEWPID,
            Processes::Container | Processes::Node => CloneFlags::empty(),
        };
        let (holder, latch) = Process::fork_gated(namespaces, hold)?;
        record::save_holder(dir, &holder.id()?)?;
        latch.open()?;
        Ok(Self { processes, holder })
    }

    /// Finds what an earlier shim made; `None` when nobody holds it any more.
    pub fn find(processes: Processes, dir: &Path) -> io::Result<Option<Self>> {
        let Some(id) = record::holder(dir)? else {
            return Ok(None);
        };
        let holder = Process::find(&id)?.filter(|holder| !holder.has_ended());
        Ok(holder.map(|holder| Self { processes, holder }))
    }

    /// Another process in the place of a holder that was killed. Where it was the first of the Pod's processes, none of
    /// them is left, and the sandbox is over.
    pub fn hold_again(&mut self, dir: &Path) -> io::Result<()> {
        self.holder.reap()?;
        if self.processes == Processes::Pod {
            return Err(io::Error::other("the first process of the Pod was killed"));
        }
        *self = Self::new(self.processes, dir)?;
        Ok(())
    }

    /// Ends what is shared; nobody comes back to it.
    pub fn end(&self, dir: &Path) -> io::Result<()> {
        record::forget_holder(dir)?;
        self.holder.signal(libc::SIGKILL)
    }

    /// Starts a container's first process, in a mount namespace of its own.
    pub fn fork(&self, child: impl FnOnce(Gate) -> Result<Infallible, Failure>) -> io::Result<(Process, Latch)> {
        match self.processes {
            Processes::Container => Process::fork_gated(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS, child),
            Processes::Pod => beside(&self.holder.pidfd, || {
                Process::fork_gated(CloneFlags::CLONE_NEWNS, child)
            }),
            Processes::Node => Process::fork_gated(CloneFlags::CLONE_NEWNS, child),
        }
    }

    /// By what the processes of a container are known that may outlive its first one; `None` when none may.
    pub fn mark(&self, first: &Process) -> Option<Mark> {
        match self.processes {
            Processes::Container => None,
            Processes::Pod | Processes::Node => Mark::of(first.pid),
        }
    }
}

/// By what the processes of a container are known: its mount namespace and the Pod's UTS namespace. The number of the first
/// alone may be another Pod's a moment after the container's end; the second is held for as long as the sandbox is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    mount: PathBuf,
    uts: PathBuf,
}

impl Mark {
    /// `None` of a process that has ended: it has no namespaces any more.
    fn of(pid: Pid) -> Option<Self> {
        let namespace = |kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok();
        Some(Self {
            mount: namespace("mnt")?,
            uts: namespace("uts")?,
        })
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
pub fn kill_marked(mark: &Mark) -> io::Result<()> {
    for _ in 0..MOST_ROUNDS {
        let mut found = false;
        for entry in fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let pid = Pid::from_raw(pid);
            if Mark::of(pid).as_ref() == Some(mark) {
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

/// Holds namespaces until it is killed; what dies there is forgotten by the kernel.
fn hold(gate: Gate) -> Result<Infallible, Failure> {
    let setup = |what: &str, error: nix::Error| failure(128, format!("{what}: {error}"));
    nix::unistd::setsid().map_err(|error| setup("setsid", error))?;
    // SAFETY: installs the kernel's own way of ignoring, no handler of ours.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }.map_err(|error| setup("ignore children", error))?;
    nix::sys::prctl::set_name(c"pause").map_err(|error| setup("set name", error))?;
    rename().map_err(|error| failure(128, format!("set command line: {error}")))?;
    gate.pass()?;
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
