//! Takes a cluster away, whatever is left of it: finds everything by name, remembers nothing, and may be run at
//! any moment and again. What cannot be removed is named with the command that would.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;

use crate::cluster::names;
use crate::processes::{self, Belonging, Ended};
use crate::provider::netns::{ProviderError, remove};

/// How long the supervisor may take: its own grace for the children, and a little.
const SUPERVISOR_GRACE: Duration = Duration::from_secs(7);
/// How long a killed process may take to be gone.
const KILL_GRACE: Duration = Duration::from_secs(5);
/// How often processes are looked for: what forks while it is killed is found the next time.
const ROUNDS: usize = 5;

/// What was done.
#[derive(Debug, Default)]
pub struct Outcome {
    /// One line each.
    pub done: Vec<String>,
    /// What is still there, with the command that removes it.
    pub left: Vec<String>,
}

/// What failed so that nothing sensible could follow.
#[derive(Debug, thiserror::Error)]
pub enum TeardownError {
    /// `/proc`
    #[error("find the cluster's processes")]
    Processes(#[source] io::Error),
    /// `poll`
    #[error("wait for the cluster's processes to end")]
    Wait(#[source] io::Error),
    /// `/proc/self/mountinfo`
    #[error("list mounts")]
    Mounts(#[source] procfs::ProcError),
    /// Namespaces and links.
    #[error("remove the cluster's network")]
    Network(#[from] ProviderError),
}

/// Ends the processes, unmounts, removes the network and the run directory; with `purge` the state as well.
///
/// # Errors
/// [`TeardownError`]; single things that cannot be removed are part of the outcome.
pub async fn run(cluster: &str, state_dir: &Path, purge: bool) -> Result<Outcome, TeardownError> {
    let mut outcome = Outcome::default();
    end_processes(cluster, &mut outcome)?;
    let run_dir = names::run_dir(cluster);
    unmount(&[&run_dir, state_dir], &mut outcome)?;
    let network = remove(cluster).await?;
    outcome
        .done
        .extend(network.removed.into_iter().map(|what| format!("removed {what}")));
    outcome.left.extend(
        network
            .left
            .into_iter()
            .map(|it| format!("{}: {}: {}", it.what, it.why, it.command)),
    );
    if purge {
        remove_tree(state_dir, &mut outcome);
        remove_unused_images(Path::new(names::STATE), &mut outcome);
        remove_empty(Path::new(names::STATE));
    }
    remove_tree(&run_dir, &mut outcome);
    remove_empty(Path::new(names::RUN));
    Ok(outcome)
}

/// Images are shared: they go with the last cluster whose state is kept beside them.
fn remove_unused_images(state: &Path, outcome: &mut Outcome) {
    let images = state.join(names::IMAGES);
    let others = std::fs::read_dir(state).into_iter().flatten().any(|entry| {
        // An entry that cannot be read may be a cluster.
        entry.map_or(true, |entry| entry.path() != images)
    });
    if !others {
        remove_tree(&images, outcome);
    }
}

/// The supervisor first, since it would start the others again; it stops them in order. Then whatever is left:
/// Pods have nobody to say goodbye to.
fn end_processes(cluster: &str, outcome: &mut Outcome) -> Result<(), TeardownError> {
    let all = find(cluster)?;
    let found = all.len();
    let supervisors: Vec<i32> = all
        .into_iter()
        .filter(|(_, how)| matches!(how, Belonging::Internal { what, .. } if what == "supervisor"))
        .map(|(pid, _)| pid)
        .collect();
    end(supervisors, Signal::SIGTERM, SUPERVISOR_GRACE)?;
    let mut left = BTreeMap::new();
    for _ in 0..ROUNDS {
        left = find(cluster)?;
        if left.is_empty() {
            break;
        }
        end(left.keys().copied(), Signal::SIGKILL, KILL_GRACE)?;
    }
    if found > left.len() {
        outcome.done.push(format!("ended {} processes", found - left.len()));
    }
    outcome.left.extend(
        left.keys()
            .map(|pid| format!("process {pid} does not end: kill -9 {pid}")),
    );
    Ok(())
}

fn find(cluster: &str) -> Result<BTreeMap<i32, Belonging>, TeardownError> {
    processes::of_cluster(cluster).map_err(TeardownError::Processes)
}

fn end(pids: impl IntoIterator<Item = i32>, signal: Signal, patience: Duration) -> Result<Ended, TeardownError> {
    processes::end(pids, signal, patience).map_err(TeardownError::Wait)
}

/// Unmounts everything below the directories, innermost first.
fn unmount(below: &[&Path], outcome: &mut Outcome) -> Result<(), TeardownError> {
    let mounts = procfs::process::Process::myself()
        .and_then(|me| me.mountinfo())
        .map_err(TeardownError::Mounts)?;
    let points = innermost_first(mounts.0.into_iter().map(|mount| mount.mount_point), below);
    let mut count = 0;
    for point in points {
        // Detached: nothing of ours runs any more, and a stranger's open file must not keep the lab alive.
        match umount2(&point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => count += 1,
            // Went with another.
            Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
            Err(errno) => outcome
                .left
                .push(format!("mount {0}: {errno}: umount -l {0}", point.display())),
        }
    }
    if count > 0 {
        outcome.done.push(format!("unmounted {count} file systems"));
    }
    Ok(())
}

/// The mount points below any of the directories, in an order in which they can be unmounted. Pure.
fn innermost_first(mounts: impl Iterator<Item = PathBuf>, below: &[&Path]) -> Vec<PathBuf> {
    let mut points: Vec<PathBuf> = mounts
        .filter(|point| below.iter().any(|dir| point.starts_with(dir)))
        .collect();
    // The kernel lists a mount after what it is mounted on, also where two share one point.
    points.reverse();
    points.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    points
}

/// Removes a directory and all below it. Never goes into a mount that could not be undone.
fn remove_tree(path: &Path, outcome: &mut Outcome) {
    if outcome
        .left
        .iter()
        .any(|left| left.starts_with("mount ") && left.contains(&*path.to_string_lossy()))
    {
        outcome.left.push(format!(
            "directory {0}: something is mounted in it: rm -r --one-file-system {0}",
            path.display()
        ));
        return;
    }
    match fs::remove_dir_all(path) {
        Ok(()) => outcome.done.push(format!("removed {}", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => outcome
            .left
            .push(format!("directory {0}: {error}: rm -r {0}", path.display())),
    }
}

/// Ours only as long as a cluster is in it.
fn remove_empty(path: &Path) {
    fs::remove_dir(path).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_undone_from_the_inside() {
        let mounts = [
            "/",
            "/run/minik/a/pods/1",
            "/run/minik/a/pods/1/proc",
            "/run/minik/ab/x",
            "/var/lib/minik/a/m",
        ];
        let below = [Path::new("/run/minik/a"), Path::new("/var/lib/minik/a")];
        assert_eq!(
            innermost_first(mounts.iter().map(PathBuf::from), &below),
            ["/run/minik/a/pods/1/proc", "/var/lib/minik/a/m", "/run/minik/a/pods/1"].map(PathBuf::from)
        );
    }
}
