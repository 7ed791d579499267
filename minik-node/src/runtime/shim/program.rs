//! Starts programs: a container's first one in namespaces of its own, and later ones beside it.

use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use caps::{CapSet, Capability, CapsHashSet};
use nix::sched::CloneFlags;
use nix::unistd::{Gid, Uid};

use super::process::{Gate, Latch, Process, failure};
use super::rootfs;
use super::space::{self, Space};
use crate::runtime::protocol::Failure;
use crate::runtime::spec::ContainerSpec;

/// The three descriptors that become 0, 1 and 2.
pub type Stdio = [OwnedFd; 3];

/// Starts a container's first process, which runs its program once the latch is open, and outlives the shim from then on.
pub fn start(spec: &ContainerSpec, space: &Space, shm: &Path, stdio: &Stdio) -> io::Result<(Process, Latch)> {
    space.fork(|gate| {
        rootfs::enter(spec, shm).map_err(|error| failure(128, error.to_string()))?;
        for fd in &stdio[1..] {
            // `/dev/stdout` is opened again by name, by whoever the process is.
            nix::unistd::fchown(
                fd,
                Some(Uid::from_raw(spec.user.uid)),
                Some(Gid::from_raw(spec.user.gid)),
            )
            .map_err(|error| failure(128, format!("give output to user: {error}")))?;
        }
        Program {
            spec,
            argv: &spec.argv,
            tty: false,
            stdio,
        }
        .run(Some(gate))
    })
}

/// Starts `argv` beside the container's first process `init`. It ends with the shim: nobody else hears it.
pub fn exec(spec: &ContainerSpec, init: &OwnedFd, argv: &[String], tty: bool, stdio: &Stdio) -> io::Result<Process> {
    let enter = || {
        nix::sched::setns(init, CloneFlags::CLONE_NEWNS)
            .map_err(|error| failure(128, format!("enter container: {error}")))?;
        Program { spec, argv, tty, stdio }.run(None)
    };
    space::beside(init, || Process::fork(CloneFlags::empty(), enter))
}

struct Program<'a> {
    spec: &'a ContainerSpec,
    argv: &'a [String],
    tty: bool,
    stdio: &'a Stdio,
}

impl Program<'_> {
    fn run(&self, gate: Option<Gate>) -> Result<Infallible, Failure> {
        let setup = |what: &str, error: nix::Error| failure(128, format!("{what}: {error}"));
        nix::unistd::setsid().map_err(|error| setup("setsid", error))?;
        self.descriptors().map_err(|error| setup("set up stdio", error))?;
        reset_signals().map_err(|error| setup("reset signals", error))?;
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
        let cwd = &self.spec.cwd;
        std::fs::create_dir_all(cwd)
            .and_then(|()| nix::unistd::chdir(cwd).map_err(std::io::Error::from))
            .map_err(|error| failure(128, format!("chdir to cwd ({:?}): {error}", cwd.display().to_string())))?;
        if self.spec.privileges.no_new_privileges {
            nix::sys::prctl::set_no_new_privs().map_err(|error| setup("set no_new_privs", error))?;
        }
        self.identity()
            .map_err(|error| failure(128, format!("set user and capabilities: {error}")))?;
        match gate {
            Some(gate) => gate.pass()?,
            // Late, since changing user clears it.
            None => nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)
                .map_err(|error| setup("set parent-death signal", error))?,
        }
        self.replace()
    }

    fn descriptors(&self) -> Result<(), nix::Error> {
        for (target, fd) in (0..).zip(self.stdio) {
            // SAFETY: replaces one of our three standard descriptors; `dup2` clears close-on-exec.
            nix::errno::Errno::result(unsafe { libc::dup2(fd.as_raw_fd(), target) })?;
        }
        if self.tty {
            // SAFETY: makes descriptor 0, a terminal, ours; the session was made just before.
            nix::errno::Errno::result(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) })?;
        }
        // SAFETY: only marks descriptors, so that none of the shim's survives `execve`.
        nix::errno::Errno::result(unsafe {
            libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC)
        })?;
        Ok(())
    }

    fn identity(&self) -> Result<(), Box<dyn std::error::Error>> {
        let user = &self.spec.user;
        let wanted: CapsHashSet = self
            .spec
            .capabilities
            .iter()
            .map(|name| name.parse::<Capability>())
            .collect::<Result<_, _>>()?;
        let bounding = caps::read(None, CapSet::Bounding)?;
        for capability in bounding.difference(&wanted) {
            caps::drop(None, CapSet::Bounding, *capability)?;
        }
        let groups: Vec<Gid> = user.groups.iter().copied().map(Gid::from_raw).collect();
        nix::unistd::setgroups(&groups)?;
        let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
        nix::unistd::setresgid(gid, gid, gid)?;
        nix::unistd::setresuid(uid, uid, uid)?;
        if uid.is_root() {
            let granted: CapsHashSet = wanted.intersection(&bounding).copied().collect();
            caps::clear(None, CapSet::Inheritable)?;
            caps::set(None, CapSet::Effective, &granted)?;
            caps::set(None, CapSet::Permitted, &granted)?;
        }
        Ok(())
    }

    fn replace(&self) -> Result<Infallible, Failure> {
        let name = self
            .argv
            .first()
            .ok_or_else(|| failure(128, "no command specified".to_owned()))?;
        let program = find(name, &self.spec.env)?;
        let strings = |texts: &[String]| {
            texts
                .iter()
                .map(|text| CString::new(text.as_bytes()))
                .collect::<Result<Vec<_>, _>>()
        };
        let nul = |_| failure(128, format!("exec: {name:?}: invalid argument"));
        let argv = strings(self.argv).map_err(nul)?;
        let env = strings(&self.spec.env).map_err(nul)?;
        let path = CString::new(program.as_os_str().as_bytes()).map_err(nul)?;
        let Err(error) = nix::unistd::execve(&path, &argv, &env);
        let code = if error == nix::errno::Errno::ENOENT { 127 } else { 126 };
        Err(failure(code, format!("exec {}: {}", program.display(), text(error))))
    }
}

/// Rust ignores SIGPIPE and children inherit that; programs expect to die of it.
fn reset_signals() -> Result<(), nix::Error> {
    use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
    SigSet::empty().thread_set_mask()?;
    // SAFETY: installs the default action, no handler of ours.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }.map(drop)
}

/// Looks `name` up as `execvp` does, in the container's PATH; texts are those of the container runtimes.
fn find(name: &str, env: &[String]) -> Result<PathBuf, Failure> {
    use nix::unistd::{AccessFlags, access};
    if name.contains('/') {
        return match access(name, AccessFlags::X_OK) {
            Ok(()) if !Path::new(name).is_dir() => Ok(PathBuf::from(name)),
            Ok(()) => Err(failure(126, format!("exec: {name:?}: is a directory"))),
            Err(error) => {
                let code = if error == nix::errno::Errno::ENOENT { 127 } else { 126 };
                let what = if code == 127 {
                    format!("stat {name}: ")
                } else {
                    String::new()
                };
                Err(failure(code, format!("exec: {name:?}: {what}{}", text(error))))
            }
        };
    }
    let path = env
        .iter()
        .rev()
        .find_map(|pair| pair.strip_prefix("PATH="))
        .unwrap_or_default();
    let mut denied = false;
    for dir in path.split(':').filter(|dir| !dir.is_empty()) {
        let candidate = Path::new(dir).join(name);
        if candidate.is_file() {
            if access(&candidate, AccessFlags::X_OK).is_ok() {
                return Ok(candidate);
            }
            denied = true;
        }
    }
    if denied {
        return Err(failure(126, format!("exec: {name:?}: permission denied")));
    }
    Err(failure(
        127,
        format!("exec: {name:?}: executable file not found in $PATH"),
    ))
}

/// strerror(3) in lower case, as Go prints it.
fn text(error: nix::errno::Errno) -> String {
    error.desc().to_lowercase()
}
