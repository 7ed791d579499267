//! The folder `/run/netns` itself: a shared mount while namespaces have names in it, as `ip netns` makes it,
//! and what it was before when the last name is gone.
//!
//! Shared, so that a name that goes away also goes away in mount namespaces copied from this one, where it
//! would otherwise keep the network namespace alive. Whoever makes the mount leaves a mark first: only then
//! is it ours to undo, and any later process may.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Where `ip netns` keeps names.
pub const RUN_NETNS: &str = "/run/netns";

/// Says that we made the mount, and whether the folder too. A reboot takes it away together with the mount.
const MARK: &str = "/run/minik-netns-mounted";

/// Content of [`MARK`] when the folder was not there.
const WITH_FOLDER: &str = "folder\n";

/// What is locked: it is always there, while `/run/netns` comes and goes.
const LOCKED: &str = "/run";

/// Makes `/run/netns` a shared mount unless it is one, and keeps it from being undone until the guard is dropped.
///
/// # Errors
/// Without the right to mount, or when the folder cannot be made.
pub fn hold() -> io::Result<Flock<File>> {
    let shared = lock(FlockArg::LockShared)?;
    if share() == Ok(()) {
        return Ok(shared);
    }
    drop(shared);
    let exclusive = lock(FlockArg::LockExclusive)?;
    let had_folder = Path::new(RUN_NETNS).is_dir();
    fs::create_dir_all(RUN_NETNS)?;
    match share() {
        Ok(()) => return Ok(exclusive),
        Err(nix::Error::EINVAL) => {}
        Err(errno) => return Err(errno.into()),
    }
    fs::write(MARK, if had_folder { "" } else { WITH_FOLDER })?;
    let none: Option<&str> = None;
    mount(
        Some(RUN_NETNS),
        RUN_NETNS,
        none,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        none,
    )?;
    share()?;
    Ok(exclusive)
}

/// Undoes what [`hold`] did when it was we who did it and no name is left; otherwise does nothing.
///
/// # Errors
/// Without the right to unmount.
pub fn restore() -> io::Result<()> {
    let _exclusive = lock(FlockArg::LockExclusive)?;
    let mark = match fs::read_to_string(MARK) {
        Ok(mark) => mark,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if Path::new(RUN_NETNS).is_dir() {
        if fs::read_dir(RUN_NETNS)?.next().is_some() {
            return Ok(());
        }
        match umount2(RUN_NETNS, MntFlags::MNT_DETACH) {
            Ok(()) | Err(nix::Error::EINVAL) => {}
            Err(errno) => return Err(errno.into()),
        }
        if mark == WITH_FOLDER {
            fs::remove_dir(RUN_NETNS)?;
        }
    }
    fs::remove_file(MARK)
}

/// Fails with `EINVAL` when the folder is no mount, `ENOENT` when it is not there.
fn share() -> nix::Result<()> {
    let none: Option<&str> = None;
    mount(Some(""), RUN_NETNS, none, MsFlags::MS_SHARED | MsFlags::MS_REC, none)
}

fn lock(how: FlockArg) -> io::Result<Flock<File>> {
    Flock::lock(File::open(LOCKED)?, how).map_err(|(_, errno)| errno.into())
}
