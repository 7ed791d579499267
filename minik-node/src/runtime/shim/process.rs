//! Starts processes: a container's first one in namespaces of its own, and later ones beside it.
//!
//! The shim has one thread, so a forked child may allocate. A child that cannot run its program says why over
//! a pipe that a successful `execve` closes.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use caps::{CapSet, Capability, CapsHashSet};
use nix::sched::CloneFlags;
use nix::unistd::{Gid, Pid, Uid};

use super::rootfs;
use super::space::{self, Space};
use crate::runtime::protocol::{Exit, Failure};
use crate::runtime::spec::ContainerSpec;

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

/// The three descriptors that become 0, 1 and 2.
pub type Stdio = [OwnedFd; 3];

impl Process {
    /// Starts a container's first process.
    pub fn container(spec: &ContainerSpec, space: &Space, shm: &Path, stdio: &Stdio) -> io::Result<Self> {
        space.fork(|| {
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
            .run()
        })
    }

    /// Starts `argv` beside the container's first process `init`.
    pub fn exec(spec: &ContainerSpec, init: &OwnedFd, argv: &[String], tty: bool, stdio: &Stdio) -> io::Result<Self> {
        let enter = || {
            nix::sched::setns(init, CloneFlags::CLONE_NEWNS)
                .map_err(|error| failure(128, format!("enter container: {error}")))?;
            Program { spec, argv, tty, stdio }.run()
        };
        space::beside(init, || Self::fork(CloneFlags::empty(), enter))
    }

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

struct Program<'a> {
    spec: &'a ContainerSpec,
    argv: &'a [String],
    tty: bool,
    stdio: &'a Stdio,
}

impl Program<'_> {
    fn run(&self) -> Result<std::convert::Infallible, Failure> {
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
        // A container must not outlive the shim that alone can report its end; changing user clears this.
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)
            .map_err(|error| setup("set parent-death signal", error))?;
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

    fn replace(&self) -> Result<std::convert::Infallible, Failure> {
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
