//! Every socket that the API server and the agents listen on, bound before anything starts and held across their
//! restarts, so that a client's connect succeeds at any time and waits in the backlog instead of failing.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use minik_node::kernel::netns::{NetNs, NetNsError};
use nix::sys::stat::{Mode, umask};

use crate::cluster::ClusterSpec;
use crate::store;

/// Where a Kubernetes API server listens by default.
pub const API_PORT: u16 = 6443;

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The directory a path socket lies in.
    #[error(transparent)]
    Directory(#[from] store::StoreError),
    /// Path socket.
    #[error("listen on {}", path.display())]
    Path {
        /// Where.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// TCP socket.
    #[error("listen on {address}")]
    Tcp {
        /// Where.
        address: SocketAddr,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The control-plane node's namespace.
    #[error("listen in the namespace of node {node}")]
    Namespace {
        /// Node.
        node: String,
        /// Cause.
        #[source]
        source: NetNsError,
    },
    /// `dup`
    #[error("duplicate a listening socket")]
    Duplicate(#[source] io::Error),
}

/// The name by which an agent knows the socket of its kubelet.
pub const KUBELET: &str = "kubelet";

/// The bound sockets, each with the name its process knows it by.
#[derive(Debug)]
pub struct Sockets {
    named: Vec<(String, OwnedFd)>,
    /// By node.
    kubelets: BTreeMap<String, OwnedFd>,
    paths: Vec<PathBuf>,
    /// The port on 127.0.0.1.
    pub loopback_port: u16,
}

impl Sockets {
    /// Binds them all: `admin`, `node.NAME` …, `loopback`, `node-address` for the API server, one for each kubelet.
    ///
    /// # Errors
    /// [`SocketError`]: the first that cannot be bound.
    pub fn bind(spec: &ClusterSpec) -> Result<Self, SocketError> {
        // Nobody but root may connect, not even between bind and a later chmod.
        let before = umask(Mode::from_bits_truncate(0o177));
        let paths = path_sockets(spec);
        let kubelets = kubelet_sockets(spec);
        let bound = bind_paths(&paths).and_then(|named| Ok((named, bind_paths(&kubelets)?)));
        umask(before);
        let (mut named, kubelets) = bound?;

        let loopback = bind_loopback(spec.api_port)?;
        let loopback_port = loopback.local_addr().map_err(SocketError::Duplicate)?.port();
        named.push(("loopback".to_owned(), loopback.into()));

        let control_plane = spec.control_plane();
        let address = SocketAddr::from((control_plane.ip, API_PORT));
        let in_namespace = |source| SocketError::Namespace {
            node: control_plane.name.clone(),
            source,
        };
        let listener = NetNs::open(&spec.node_netns(&control_plane.name))
            .map_err(in_namespace)?
            .run(|| TcpListener::bind(address))
            .map_err(in_namespace)?
            .map_err(|source| SocketError::Tcp { address, source })?;
        named.push(("node-address".to_owned(), listener.into()));
        let bound_paths = paths
            .into_iter()
            .chain(kubelet_sockets(spec))
            .map(|(_, path)| path)
            .collect();
        Ok(Self {
            named,
            kubelets: kubelets.into_iter().collect(),
            paths: bound_paths,
            loopback_port,
        })
    }

    /// Those of the API server, in the order in which they are passed on.
    pub fn of_api_server(&self) -> impl Iterator<Item = (&str, BorrowedFd<'_>)> {
        self.named.iter().map(|(name, fd)| (name.as_str(), fd.as_fd()))
    }

    /// Those of a node's agent.
    pub fn of_agent(&self, node: &str) -> impl Iterator<Item = (&str, BorrowedFd<'_>)> {
        self.kubelets.get(node).map(|fd| (KUBELET, fd.as_fd())).into_iter()
    }

    /// Takes the path sockets out of the file system.
    pub fn unlink(&self) {
        for path in &self.paths {
            // `minik down` removes the directory anyway; this only makes a stopped cluster refuse at once.
            fs::remove_file(path).ok();
        }
    }
}

/// Root's own, and one a node: who connects where is who is asking.
fn path_sockets(spec: &ClusterSpec) -> Vec<(String, PathBuf)> {
    let nodes = spec.nodes.iter().map(|node| {
        (
            format!("node.{}", node.name),
            spec.node_run_dir(&node.name).join("api.sock"),
        )
    });
    std::iter::once(("admin".to_owned(), spec.api_socket()))
        .chain(nodes)
        .collect()
}

/// One a node, where the API server looks for its agent.
fn kubelet_sockets(spec: &ClusterSpec) -> Vec<(String, PathBuf)> {
    let nodes = spec.nodes.iter();
    nodes
        .map(|node| (node.name.clone(), spec.node_run_dir(&node.name).join("kubelet.sock")))
        .collect()
}

fn bind_paths(paths: &[(String, PathBuf)]) -> Result<Vec<(String, OwnedFd)>, SocketError> {
    let bind = |(name, path): &(String, PathBuf)| Ok((name.clone(), bind_path(path)?.into()));
    paths.iter().map(bind).collect()
}

fn bind_path(path: &Path) -> Result<UnixListener, SocketError> {
    if let Some(parent) = path.parent() {
        // The run directories themselves want 0700, whatever the umask for sockets is.
        let before = umask(Mode::from_bits_truncate(0o077));
        let made = store::make_dir(parent);
        umask(before);
        made?;
    }
    let failed = |source| SocketError::Path {
        path: path.to_owned(),
        source,
    };
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    UnixListener::bind(path).map_err(failed)
}

/// The port bound last time, else the usual one, else any.
fn bind_loopback(last: Option<u16>) -> Result<TcpListener, SocketError> {
    let candidates = last.into_iter().chain([API_PORT, 0]);
    let mut failure = None;
    for port in candidates {
        let address = SocketAddr::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
        match TcpListener::bind(address) {
            Ok(listener) => return Ok(listener),
            Err(source) => failure = Some(SocketError::Tcp { address, source }),
        }
    }
    Err(failure.expect("at least one port was tried"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_taken_port_gives_way_to_a_free_one() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let bound = bind_loopback(Some(port)).unwrap();
        assert_ne!(bound.local_addr().unwrap().port(), port);
    }

    #[test]
    fn a_path_left_behind_is_taken_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sub/api.sock");
        drop(bind_path(&path).unwrap());
        assert!(path.exists(), "a dropped listener leaves its path");
        let _listener = bind_path(&path).unwrap();
        let directory_mode = fs::metadata(path.parent().unwrap()).unwrap().permissions().mode();
        assert_eq!(directory_mode & 0o777, 0o700);
    }
}
