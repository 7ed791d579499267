//! The cluster's name server: an ordinary Pod's program that watches the API and answers on port 53.
//!
//! Owns its sockets and a zone that follows the cluster ([`crate::plan::dns_zone`] decides what names mean).
//! Until the first lists are complete it answers SERVFAIL about the cluster, never NXDOMAIN; when the API
//! server goes away it answers from what it saw last. Runs on a current-thread runtime.

mod handler;
mod reply;
mod upstream;

#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hickory_proto::rr::Name;
use hickory_server::Server;
use hickory_server::net::NetError;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::handler::Handler;
use self::upstream::Upstream;
use crate::plan::dns_zone::{self, DomainError, Zone};
use crate::view::{self, ClusterView};

/// What the name server is told.
#[derive(Debug, Clone)]
pub struct DnsConfig {
    /// Credentials and address of the API server.
    pub kubeconfig: PathBuf,
    /// Cluster domain: `cluster.local`.
    pub domain: String,
    /// Where to answer, UDP and TCP: `0.0.0.0:53`.
    pub listen: SocketAddr,
}

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// The cluster domain.
    #[error(transparent)]
    Domain(#[from] DomainError),
    /// The kubeconfig file.
    #[error("read kubeconfig {}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: Box<KubeconfigError>,
    },
    /// The API client.
    #[error("set up the API client")]
    Client(#[source] Box<kube::Error>),
    /// The upstream servers.
    #[error("read {}", upstream::RESOLV_CONF)]
    Upstream(#[source] io::Error),
    /// A socket.
    #[error("listen on {address}/{protocol}")]
    Listen {
        /// Address and port.
        address: SocketAddr,
        /// `udp` or `tcp`.
        protocol: &'static str,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The server stopped by itself.
    #[error("answer queries")]
    Serve(#[source] NetError),
}

/// A TCP connection without a query is closed after this long (RFC 7766 recommends a few seconds).
const IDLE: Duration = Duration::from_secs(5);

/// A cluster IP whose endpoint is gone answers nothing; the next attempt may find another.
const CONNECT: Duration = Duration::from_secs(2);

/// Responses queued for one TCP connection.
const RESPONSES: usize = 32;

/// Answers until `shutdown`.
pub async fn run(config: DnsConfig, shutdown: CancellationToken) -> Result<(), DnsError> {
    let origin = dns_zone::origin(&config.domain)?;
    let sockets = bind(config.listen).await?;
    let client = client(&config.kubeconfig).await?;
    let upstream = Upstream::from_resolv_conf().await.map_err(DnsError::Upstream)?;
    let views = view::spawn_for_names(client, shutdown.clone());
    let zones = follow(views, origin.clone(), shutdown.clone());
    serve(sockets, Handler::new(origin, zones, upstream), shutdown).await
}

async fn client(path: &PathBuf) -> Result<kube::Client, DnsError> {
    let failed = |source| DnsError::Kubeconfig {
        path: path.clone(),
        source: Box::new(source),
    };
    let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
    let options = KubeConfigOptions::default();
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(failed)?;
    config.connect_timeout = Some(CONNECT);
    kube::Client::try_from(config).map_err(|source| DnsError::Client(Box::new(source)))
}

/// Keeps the zone up with the cluster. `None` until the first view.
fn follow(
    mut views: watch::Receiver<Option<Arc<ClusterView>>>,
    origin: Name,
    shutdown: CancellationToken,
) -> watch::Receiver<Option<Arc<Zone>>> {
    let (sender, receiver) = watch::channel(None);
    tokio::spawn(shutdown.run_until_cancelled_owned(async move {
        let mut current: Option<(Arc<ClusterView>, Zone)> = None;
        while views.changed().await.is_ok() {
            let Some(view) = views.borrow_and_update().clone() else {
                continue;
            };
            let zone = match current.take() {
                None => Zone::full(&view, origin.clone(), now()),
                Some((earlier, mut zone)) => {
                    zone.update(&view, &view.changes_since(&earlier), now());
                    zone
                }
            };
            if sender.send(Some(Arc::new(zone.clone()))).is_err() {
                return;
            }
            current = Some((view, zone));
        }
    }));
    receiver
}

/// Seconds since 1970, the serial of a zone that changes now. Serials wrap (RFC 1982).
fn now() -> u32 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs() as u32)
}

/// Takes the address for both transports.
async fn bind(listen: SocketAddr) -> Result<(UdpSocket, TcpListener), DnsError> {
    let failed = |protocol| {
        move |source| DnsError::Listen {
            address: listen,
            protocol,
            source,
        }
    };
    let udp = UdpSocket::bind(listen).await.map_err(failed("udp"))?;
    let tcp = TcpListener::bind(listen).await.map_err(failed("tcp"))?;
    Ok((udp, tcp))
}

async fn serve(
    (udp, tcp): (UdpSocket, TcpListener),
    handler: Handler,
    shutdown: CancellationToken,
) -> Result<(), DnsError> {
    let mut server = Server::new(handler);
    server.register_socket(udp);
    server.register_listener(tcp, IDLE, RESPONSES);
    let stop = server.shutdown_token().clone();
    tokio::select! {
        stopped = server.block_until_done() => stopped.map_err(DnsError::Serve),
        () = shutdown.cancelled() => {
            stop.cancel();
            server.block_until_done().await.map_err(DnsError::Serve)
        }
    }
}
