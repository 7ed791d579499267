//! A route-netlink socket that belongs to one network namespace for good, whoever uses it from where.
//!
//! What can be asked of it is in `link` and `route`.

use std::io;
use std::sync::Arc;

use super::netns::{NetNs, NetNsError};

/// A namespace's links, addresses, neighbours and routes. Cheap to clone; the socket closes with the last clone.
#[derive(Debug, Clone)]
pub struct Netlink {
    pub(super) handle: rtnetlink::Handle,
    /// Where the socket is, for what is better not sent through it.
    pub(super) netns: Arc<NetNs>,
}

/// A socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The namespace could not be entered.
    #[error(transparent)]
    Namespace(#[from] NetNsError),
    /// `socket(AF_NETLINK)`
    #[error("open netlink socket")]
    Open(#[source] io::Error),
}

impl Netlink {
    /// Opens a socket in the namespace of the calling thread. Needs a tokio runtime, which drives the socket.
    ///
    /// # Errors
    /// [`NetlinkError::Open`].
    pub fn open() -> Result<Self, NetlinkError> {
        let netns = Arc::new(NetNs::current()?);
        let (connection, handle, _) = rtnetlink::new_connection().map_err(NetlinkError::Open)?;
        // Ends by itself when the last handle is dropped.
        tokio::spawn(connection);
        Ok(Self { handle, netns })
    }

    /// Opens a socket in `namespace`, from wherever. Needs a tokio runtime, which drives the socket.
    ///
    /// # Errors
    /// [`NetlinkError::Namespace`], [`NetlinkError::Open`].
    pub fn open_in(namespace: &NetNs) -> Result<Self, NetlinkError> {
        let runtime = tokio::runtime::Handle::current();
        namespace.run(|| {
            let _runtime = runtime.enter();
            Self::open()
        })?
    }
}

/// The kernel's answer as the error it stands for, `File exists (os error 17)`.
pub(super) fn cause(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}

/// Whether the kernel refused with `errno`.
pub(super) fn is(error: &io::Error, errno: nix::Error) -> bool {
    error.raw_os_error() == Some(errno as i32)
}
