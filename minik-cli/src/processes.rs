//! Which processes belong to a cluster, found from `/proc` alone: nothing we wrote down is needed, so it works
//! after a `kill -9` of anything. Tells and ends; never starts one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use crate::cluster::names;

/// What is known of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Process id.
    pub pid: i32,
    /// Process id of its parent; 0 when it cannot be read.
    pub parent: i32,
    /// File name of its executable; empty when it cannot be read.
    pub executable: String,
    /// Its command line.
    pub arguments: Vec<String>,
    /// Device and inode of its network namespace.
    pub network: Option<(u64, u64)>,
}

/// How a process belongs to a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Belonging {
    /// A process of ours: `supervisor`, `apiserver`, `agent`, `shim`, …
    Internal {
        /// The word after `internal`.
        what: String,
        /// For agents, the node.
        node: Option<String>,
        /// Whether its parent is the same: a fork that is about to run another program under its parent's command line,
        /// or the supervisor's standby.
        fork: bool,
    },
    /// It runs in a network namespace of the cluster: a container, or somebody's shell.
    Inside {
        /// The namespace's name.
        namespace: String,
    },
}

/// Those of `processes` that belong to `cluster`, by pid. `executable` is the file name of this program; `namespaces`
/// are the cluster's, by device and inode. Pure.
#[must_use]
pub fn belonging(
    processes: &[Process],
    cluster: &str,
    executable: &str,
    namespaces: &BTreeMap<(u64, u64), String>,
) -> BTreeMap<i32, Belonging> {
    let alone: BTreeMap<i32, Belonging> = processes
        .iter()
        .filter_map(|process| Some((process.pid, belongs(process, cluster, executable, namespaces)?)))
        .collect();
    let mut all = alone.clone();
    for process in processes {
        if let Some(Belonging::Internal { fork, .. }) = all.get_mut(&process.pid) {
            *fork = alone.get(&process.parent) == alone.get(&process.pid);
        }
    }
    all
}

/// Whether and how `process` belongs to `cluster`, by itself.
fn belongs(
    process: &Process,
    cluster: &str,
    executable: &str,
    namespaces: &BTreeMap<(u64, u64), String>,
) -> Option<Belonging> {
    if let ["internal", what, ..] = process.arguments.iter().skip(1).map(String::as_str).collect::<Vec<_>>()[..]
        && process.executable == executable
        && names_cluster(&process.arguments, cluster)
    {
        let node = flag(&process.arguments, "--node").map(str::to_owned);
        return Some(Belonging::Internal {
            what: what.to_owned(),
            node,
            fork: false,
        });
    }
    let namespace = namespaces.get(&process.network?)?.clone();
    Some(Belonging::Inside { namespace })
}

/// By its name, or, as a Pod's shim does, by a directory of its run directory.
fn names_cluster(arguments: &[String], cluster: &str) -> bool {
    flag(arguments, "--name") == Some(cluster)
        || flag(arguments, "--dir").is_some_and(|dir| Path::new(dir).starts_with(names::run_dir(cluster)))
}

/// The value of `--flag VALUE` or `--flag=VALUE`, before any `--`.
fn flag<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    let mut arguments = arguments.iter().take_while(|argument| *argument != "--");
    while let Some(argument) = arguments.next() {
        if argument == name {
            return arguments.next().map(String::as_str);
        }
        if let Some(value) = argument.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')) {
            return Some(value);
        }
    }
    None
}

/// Every process of a cluster but the caller, by pid.
///
/// # Errors
/// That of listing `/proc` or `/run/netns`; a process that ends meanwhile is left out.
pub fn of_cluster(cluster: &str) -> io::Result<BTreeMap<i32, Belonging>> {
    let namespaces = namespaces_of(cluster)?;
    let own = own_executable()?;
    let myself = nix::unistd::getpid().as_raw();
    let processes = procfs::process::all_processes().map_err(io::Error::other)?;
    let others: Vec<Process> = processes
        .filter_map(Result::ok)
        .filter(|process| process.pid != myself)
        .filter_map(|process| read(process.pid))
        .collect();
    Ok(belonging(&others, cluster, &own, &namespaces))
}

/// Every process that would end with the node's machine, but the caller: its agent, the shims and containers of its Pods,
/// and whatever else runs in its namespaces.
///
/// # Errors
/// As for [`of_cluster`], and that of listing the node's Pods.
pub fn of_node(cluster: &str, node: &str) -> io::Result<BTreeSet<i32>> {
    let directory = names::run_dir(cluster).join("nodes").join(node);
    let prefix = names::netns_prefix(cluster);
    let mut own = BTreeSet::from([format!("{prefix}{node}")]);
    match fs::read_dir(directory.join("pods")) {
        Ok(pods) => {
            for pod in pods {
                own.insert(format!("{prefix}pod.{}", pod?.file_name().to_string_lossy()));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let all = of_cluster(cluster)?.into_iter();
    let ends = |pid: i32, how: &Belonging| match how {
        Belonging::Internal { node: Some(of), .. } => of == node,
        Belonging::Internal { .. } => {
            let dir = read(pid).and_then(|process| flag(&process.arguments, "--dir").map(str::to_owned));
            dir.is_some_and(|dir| Path::new(&dir).starts_with(&directory))
        }
        Belonging::Inside { namespace } => own.contains(namespace),
    };
    Ok(all.filter(|(pid, how)| ends(*pid, how)).map(|(pid, _)| pid).collect())
}

/// Whether the caller stands in one of the cluster's own namespaces, where ending the cluster would end it too.
///
/// # Errors
/// That of listing `/run/netns`.
pub fn caller_is_inside(cluster: &str) -> io::Result<Option<String>> {
    let here = fs::metadata("/proc/self/ns/net")?;
    Ok(namespaces_of(cluster)?.remove(&(here.dev(), here.ino())))
}

fn namespaces_of(cluster: &str) -> io::Result<BTreeMap<(u64, u64), String>> {
    let names = minik_node::kernel::netns::NetNs::list(&names::netns_prefix(cluster)).map_err(io::Error::other)?;
    Ok(names
        .into_iter()
        .filter_map(|name| {
            let there = fs::metadata(Path::new("/run/netns").join(&name)).ok()?;
            Some(((there.dev(), there.ino()), name))
        })
        .collect())
}

fn own_executable() -> io::Result<String> {
    Ok(executable_name(&fs::read_link("/proc/self/exe")?))
}

/// The kernel marks the path of a file that was replaced.
fn executable_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.strip_suffix(" (deleted)").unwrap_or(&name).to_owned()
}

fn read(pid: i32) -> Option<Process> {
    let process = procfs::process::Process::new(pid).ok()?;
    let network = fs::metadata(format!("/proc/{pid}/ns/net"))
        .ok()
        .map(|there| (there.dev(), there.ino()));
    Some(Process {
        pid,
        parent: process.stat().map_or(0, |stat| stat.ppid),
        executable: process.exe().map(|path| executable_name(&path)).unwrap_or_default(),
        arguments: process.cmdline().unwrap_or_default(),
        network,
    })
}

/// A process's share of memory (`Pss`), in KiB; `None` when it has ended or may not be looked at.
#[must_use]
pub fn memory(pid: i32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// What was done about the processes.
#[derive(Debug, Default)]
pub struct Ended {
    /// That ended.
    pub ended: BTreeSet<i32>,
    /// That did not, even when killed.
    pub left: BTreeSet<i32>,
}

/// Sends `signal` to all of `pids` and waits until every one has ended, at most `patience`.
///
/// A process is held by descriptor from before it is signalled, so its number cannot go to another.
///
/// # Errors
/// That of `poll`.
pub fn end(pids: impl IntoIterator<Item = i32>, signal: Signal, patience: Duration) -> io::Result<Ended> {
    let deadline = Instant::now() + patience;
    let mut done = Ended::default();
    let mut waiting: BTreeMap<i32, OwnedFd> = BTreeMap::new();
    for pid in pids {
        match pidfd_open(pid) {
            Ok(fd) => match pidfd_signal(&fd, signal) {
                Ok(()) | Err(Errno::ESRCH) => drop(waiting.insert(pid, fd)),
                Err(_) => drop(done.left.insert(pid)),
            },
            Err(Errno::ESRCH) => drop(done.ended.insert(pid)),
            Err(_) => drop(done.left.insert(pid)),
        }
    }
    while !waiting.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds: Vec<PollFd<'_>> = waiting
            .values()
            .map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN))
            .collect();
        match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(0) => break,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let over: Vec<bool> = fds.iter().map(|fd| fd.any() == Some(true)).collect();
        let ended: Vec<i32> = waiting
            .keys()
            .zip(over)
            .filter_map(|(pid, over)| over.then_some(*pid))
            .collect();
        for pid in ended {
            waiting.remove(&pid);
            done.ended.insert(pid);
        }
    }
    done.left.extend(waiting.into_keys());
    Ok(done)
}

/// Holds a process, so that its number cannot go to another; readable once it has ended.
///
/// # Errors
/// `ESRCH` when there is none.
pub fn pidfd_open(pid: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: takes two integers; the descriptor it returns is new and ours.
    unsafe {
        let fd = Errno::result(libc::syscall(libc::SYS_pidfd_open, pid, 0))?;
        Ok(OwnedFd::from_raw_fd(
            i32::try_from(fd).map_err(|_out_of_range| Errno::EBADF)?,
        ))
    }
}

/// Sends a signal to a process that is held.
///
/// # Errors
/// `ESRCH` when it has ended.
pub fn pidfd_signal(fd: &OwnedFd, signal: Signal) -> Result<(), Errno> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open, and a null siginfo means that of kill(2).
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd.as_raw_fd(), signal as i32, no_info, 0) };
    Errno::result(sent).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(executable: &str, arguments: &str, network: Option<(u64, u64)>) -> Process {
        let arguments = arguments.split(' ').map(str::to_owned).collect();
        Process {
            pid: 7,
            parent: 1,
            executable: executable.to_owned(),
            arguments,
            network,
        }
    }

    fn check(process: &Process) -> Option<Belonging> {
        let namespaces = BTreeMap::from([((4, 100), "minik.lab.worker1".to_owned())]);
        belongs(process, "lab", "minik", &namespaces)
    }

    #[test]
    fn ours_by_command_line() {
        let agent = process("minik", "/usr/bin/minik internal agent --node worker1 --name lab", None);
        assert_eq!(
            check(&agent),
            Some(Belonging::Internal {
                what: "agent".to_owned(),
                node: Some("worker1".to_owned()),
                fork: false,
            })
        );
        let shim = process(
            "minik",
            "minik internal shim --dir /run/minik/lab/nodes/worker1/pods/1",
            Some((4, 1)),
        );
        assert_eq!(
            check(&shim),
            Some(Belonging::Internal {
                what: "shim".to_owned(),
                node: None,
                fork: false,
            })
        );
    }

    #[test]
    fn a_fork_is_not_taken_for_its_parent() {
        let agent = process("minik", "minik internal agent --node worker1 --name lab", None);
        let agent = |pid, parent| Process {
            pid,
            parent,
            ..agent.clone()
        };
        // Numbers go round: a fork may well have the lower one.
        let all = belonging(
            &[agent(40, 7), agent(12, 40), agent(90, 40)],
            "lab",
            "minik",
            &BTreeMap::new(),
        );
        let forks = all.into_iter().filter_map(|(pid, how)| match how {
            Belonging::Internal { fork, .. } => Some((pid, fork)),
            Belonging::Inside { .. } => None,
        });
        assert_eq!(forks.collect::<Vec<_>>(), [(12, true), (40, false), (90, true)]);
    }

    #[test]
    fn not_ours_by_a_look_alike() {
        for (executable, arguments) in [
            ("minik", "minik internal agent --name lab2"),
            ("minik", "minik internal agent --name=la"),
            (
                "minik",
                "minik internal shim --dir /run/minik/lab2/nodes/worker1/pods/1",
            ),
            ("minik", "minik up --name lab"),
            ("minik", "minik host exec -- internal --name lab"),
            ("minik", "minik internal standin -- --name lab"),
            ("vim", "vim internal --name lab"),
            ("minik", "minik"),
        ] {
            assert_eq!(
                check(&process(executable, arguments, Some((4, 1)))),
                None,
                "{arguments}"
            );
        }
    }

    #[test]
    fn whatever_runs_in_a_namespace_of_the_cluster_belongs() {
        let inside = Belonging::Inside {
            namespace: "minik.lab.worker1".to_owned(),
        };
        assert_eq!(
            check(&process("nginx", "nginx: master process", Some((4, 100)))),
            Some(inside)
        );
        assert_eq!(check(&process("nginx", "nginx: master process", Some((5, 100)))), None);
        assert_eq!(check(&process("nginx", "nginx: master process", None)), None);
    }

    #[test]
    fn a_replaced_executable_keeps_its_name() {
        assert_eq!(executable_name(Path::new("/opt/minik (deleted)")), "minik");
        assert_eq!(executable_name(Path::new("/opt/minik")), "minik");
    }

    #[test]
    fn ending_waits_for_the_end() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id().cast_signed();
        let done = end([pid], Signal::SIGKILL, Duration::from_secs(10)).unwrap();
        assert_eq!(done.ended, BTreeSet::from([pid]));
        assert!(done.left.is_empty());
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn one_that_ignores_the_signal_is_left() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id().cast_signed();
        let done = end([pid], Signal::SIGCHLD, Duration::from_millis(20)).unwrap();
        assert_eq!(done.left, BTreeSet::from([pid]));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
