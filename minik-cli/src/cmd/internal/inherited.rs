//! What a process of a cluster gets from the supervisor that started it: its listening sockets. To be taken before it
//! opens anything itself.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use anyhow::{Context, bail};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::supervisor::{FIRST_LISTEN_FD, settle};

/// `LISTEN_FDNAMES`, checked against `LISTEN_FDS` (`sd_listen_fds(3)`; our parent is the supervisor, so there is
/// no `LISTEN_PID` to tell its word from another's).
fn listen_names() -> anyhow::Result<Vec<String>> {
    let names = std::env::var("LISTEN_FDNAMES").context("read LISTEN_FDNAMES")?;
    let count: usize = std::env::var("LISTEN_FDS")
        .context("read LISTEN_FDS")?
        .parse()
        .context("parse LISTEN_FDS")?;
    let names: Vec<String> = names.split(':').map(str::to_owned).collect();
    if names.len() != count {
        bail!(
            "LISTEN_FDS says {count} sockets and LISTEN_FDNAMES names {}",
            names.len()
        );
    }
    Ok(names)
}

/// Takes the sockets; from here on they are not passed to any child.
///
/// # Errors
/// When there are none, or not as many as there are names.
pub fn sockets() -> anyhow::Result<Vec<(String, OwnedFd)>> {
    settle().context("leave the supervisor's shadow")?;
    (FIRST_LISTEN_FD..)
        .zip(listen_names()?)
        .map(|(fd, name)| {
            let socket = take(fd).with_context(|| format!("take inherited socket {name}"))?;
            Ok((name, socket))
        })
        .collect()
}

fn take(fd: RawFd) -> nix::Result<OwnedFd> {
    // SAFETY: the process has just started and opened nothing itself: the number is either the supervisor's
    // socket or free, and if it is free the next call fails.
    let socket = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    fcntl(socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // SAFETY: it is open, and nobody else here will close it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
