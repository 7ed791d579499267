//! Notices that packet rules of this network namespace changed by other hands. Reports, never looks closer and
//! never mends.
//!
//! iptables-nft: the kernel tells every change in an nf_tables table on a netlink group, with the port of the
//! socket that made it. iptables-legacy: the kernel tells nothing, but says at next to no cost how many rules a table
//! holds and how many bytes they take.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt};
use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{Socket, SocketAddr};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// `NFNLGRP_NFTABLES`
const GROUP: u32 = 7;
/// Room for what a large change of ours reports before it is read.
const BUFFER: usize = 8 << 20;
/// `nlmsghdr`: length, type, flags, sequence number, port.
const HEADER: usize = 16;

/// Reports of changes in nf_tables tables of IPv4, which is where iptables-nft keeps its rules.
#[derive(Debug)]
pub struct NftWatch {
    socket: AsyncFd<Socket>,
    /// The netlink port of the program that runs for us, or [`NOBODY`].
    own: AtomicU32,
    /// Others had changed something by the end of the last [`during`](Self::during).
    missed: AtomicBool,
}

/// The kernel's own port, which no program has.
const NOBODY: u32 = 0;

/// Ports of the programs that this process started last, whoever watches: what one part of it writes is no change by
/// other hands to another part.
static RECENT: Mutex<VecDeque<u32>> = Mutex::new(VecDeque::new());
/// Programs of ours whose reports another watch may still have to read.
const REMEMBERED: usize = 64;

impl NftWatch {
    /// Listens in the namespace of the calling thread. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the socket cannot be opened or may not listen.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        // Beyond the system's limit, as those who administer the network may.
        setsockopt(&socket, sockopt::RcvBufForce, &BUFFER)?;
        socket.add_membership(GROUP)?;
        socket.set_non_blocking(true)?;
        // SAFETY: the socket owns its descriptor, names no other for as long as it lives, and closes it only when the
        // `AsyncFd`, which it moves into, is done with it.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?;
        Ok(Self {
            socket,
            own: AtomicU32::new(NOBODY),
            missed: AtomicBool::new(false),
        })
    }

    /// Says that process `pid`, which the [`during`](Self::during) under way has started, writes for us. A program's
    /// first netlink socket has its process number as port.
    pub fn ignore(&self, pid: u32) {
        self.own.store(pid, Ordering::Relaxed);
        let mut recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
        recent.truncate(REMEMBERED - 1);
        recent.push_front(pid);
    }

    /// Waits for `work`, which writes rules, and reads the reports as they come: what it writes is forgotten, what
    /// others write meanwhile is kept for [`changed`](Self::changed). The kernel reports a commit before the program
    /// that made it goes on, so when `work` is done all its reports have come.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let result = loop {
            tokio::select! {
                biased;
                result = &mut work => break result,
                ready = self.socket.readable() => match ready {
                    Ok(mut ready) => {
                        self.keep();
                        ready.clear_ready();
                    }
                    Err(_) => break work.await,
                }
            }
        };
        self.keep();
        self.own.store(NOBODY, Ordering::Relaxed);
        result
    }

    /// Waits until somebody else has changed a rule or chain, and tells all that came until then as one change. Loses
    /// nothing when it is cancelled.
    ///
    /// # Errors
    /// When the socket fails.
    pub async fn changed(&self) -> io::Result<()> {
        while !self.missed.swap(false, Ordering::Relaxed) {
            let mut ready = self.socket.readable().await?;
            if self.read()? {
                return Ok(());
            }
            ready.clear_ready();
        }
        Ok(())
    }

    /// A socket that fails is told by the next [`changed`](Self::changed), which finds it failing.
    fn keep(&self) {
        if self.read().unwrap_or(true) {
            self.missed.store(true, Ordering::Relaxed);
        }
    }

    /// Reads all reports that have come; whether others caused one. Where reports were lost because there were too
    /// many, they might have.
    fn read(&self) -> io::Result<bool> {
        let mut bytes = Vec::with_capacity(64 << 10);
        let mut others = false;
        loop {
            bytes.clear();
            match self.socket.get_ref().recv(&mut bytes, 0) {
                Ok(_) => others |= self.by_others(&bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(others),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => others = true,
                Err(error) => return Err(error),
            }
        }
    }

    fn by_others(&self, bytes: &[u8]) -> bool {
        let own = self.own.load(Ordering::Relaxed);
        let recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = |port: u32| port == own || recent.contains(&port);
        messages(bytes).any(|message| message.concerns_rules() && !ours(message.port))
    }
}

/// What matters of one report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Report {
    kind: u16,
    port: u32,
    family: u8,
}

impl Report {
    /// A table, chain or rule of IPv4 came or went.
    fn concerns_rules(self) -> bool {
        const SUBSYSTEM: u16 = libc::NFNL_SUBSYS_NFTABLES as u16;
        const KINDS: [u16; 5] = [
            libc::NFT_MSG_DELTABLE as u16,
            libc::NFT_MSG_NEWCHAIN as u16,
            libc::NFT_MSG_DELCHAIN as u16,
            libc::NFT_MSG_NEWRULE as u16,
            libc::NFT_MSG_DELRULE as u16,
        ];
        let (subsystem, kind) = (self.kind >> 8, self.kind & 0xff);
        subsystem == SUBSYSTEM && self.family == libc::AF_INET as u8 && KINDS.contains(&kind)
    }
}

/// The messages of one datagram; what is cut short ends it.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Report> {
    std::iter::from_fn(move || {
        let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let length = usize::try_from(word(0)?).ok().filter(|length| *length >= HEADER)?;
        let report = Report {
            kind: u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?),
            port: word(12)?,
            // `nfgenmsg` opens with the family.
            family: *bytes.get(HEADER)?,
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(report)
    })
}

/// Size of what iptables-legacy holds in a table: number of entries and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LegacySize {
    entries: u32,
    bytes: u32,
}

/// Asks for the size of legacy tables of one namespace.
#[derive(Debug)]
pub struct LegacyTables {
    socket: OwnedFd,
}

/// The kernel's `struct ipt_getinfo`.
#[repr(C)]
struct GetInfo {
    name: [u8; 32],
    valid_hooks: u32,
    hook_entry: [u32; 5],
    underflow: [u32; 5],
    entries: u32,
    bytes: u32,
}

impl LegacyTables {
    /// Opens a socket in the namespace of the calling thread.
    ///
    /// # Errors
    /// When there may be no raw socket.
    pub fn open() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Inet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::Raw,
        )?;
        Ok(Self { socket })
    }

    /// How much `table` holds.
    ///
    /// # Errors
    /// When the kernel has no such table.
    pub fn size(&self, table: &str) -> io::Result<LegacySize> {
        const IPT_SO_GET_INFO: libc::c_int = 64;
        let mut info = GetInfo {
            name: [0; 32],
            valid_hooks: 0,
            hook_entry: [0; 5],
            underflow: [0; 5],
            entries: 0,
            bytes: 0,
        };
        for (to, from) in info.name.iter_mut().zip(table.bytes().take(31)) {
            *to = from;
        }
        let mut length = size_of::<GetInfo>() as libc::socklen_t;
        // SAFETY: `info` is the structure that this option reads and fills, and lives across the call; `length` is its
        // size, and the kernel writes no more than that.
        let answer = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::IPPROTO_IP,
                IPT_SO_GET_INFO,
                (&raw mut info).cast(),
                &raw mut length,
            )
        };
        if answer < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(LegacySize {
            entries: info.entries,
            bytes: info.bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, port: u32, family: u8) -> Vec<u8> {
        let mut bytes = 20u32.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 6]);
        bytes.extend(port.to_ne_bytes());
        bytes.extend([family, 0, 0, 0]);
        bytes
    }

    #[test]
    fn a_datagram_holds_several_reports_and_ends_where_it_is_cut() {
        let rule = 10 << 8 | libc::NFT_MSG_DELRULE as u16;
        let set = 10 << 8 | libc::NFT_MSG_NEWSET as u16;
        let bytes = [message(rule, 7, 2), message(set, 8, 2), message(rule, 9, 10)].concat();
        let seen: Vec<_> = messages(&bytes)
            .map(|report| (report.port, report.concerns_rules()))
            .collect();
        assert_eq!(
            seen,
            [(7, true), (8, false), (9, false)],
            "a rule, a set, a rule of IPv6"
        );
        assert_eq!(messages(&bytes[..38]).count(), 2);
        assert_eq!(messages(&[0; 40]).count(), 0);
    }
}
