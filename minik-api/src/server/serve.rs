//! Connections: accepted, given their identity, served in HTTP/1.1 or HTTP/2, and ended in order.

use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio_rustls::TlsAcceptor;

use super::{Identity, SharedState, router};
use crate::pki;

/// How long open requests may take to end at shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client may take to agree on TLS.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Requests at once on one HTTP/2 connection; informers hold one each for every kind they watch.
const MAX_STREAMS: u32 = 250;

/// Serves a path socket: whoever can connect is `identity`. Ends on shutdown, after open requests.
pub async fn serve_unix(state: SharedState, listener: UnixListener, identity: Identity) {
    let app = router(state.clone()).layer(Extension(identity));
    let connections = Connections::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = state.shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => connections.serve(stream, app.clone()),
            Err(error) => refused(&error).await,
        }
    }
    connections.finish().await;
}

/// Serves a TCP socket with TLS: the client certificate says who is asking. Ends on shutdown, after open
/// requests.
pub async fn serve_tls(state: SharedState, listener: TcpListener, tls: Arc<rustls::ServerConfig>) {
    let acceptor = TlsAcceptor::from(tls);
    let app = router(state.clone());
    let connections = Connections::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = state.shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => connections.handshake(stream, acceptor.clone(), app.clone()),
            Err(error) => refused(&error).await,
        }
    }
    connections.finish().await;
}

/// Accepting fails when the process is out of descriptors, and would fail again at once.
async fn refused(error: &std::io::Error) {
    tracing::warn!(%error, "a connection was not accepted");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// The open connections of one listener.
struct Connections {
    graceful: GracefulShutdown,
}

impl Connections {
    fn new() -> Self {
        Self {
            graceful: GracefulShutdown::new(),
        }
    }

    fn serve(&self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, app: Router) {
        let watcher = self.graceful.watcher();
        tokio::spawn(async move { serve_connection(stream, app, watcher).await });
    }

    fn handshake(&self, stream: TcpStream, acceptor: TlsAcceptor, app: Router) {
        let watcher = self.graceful.watcher();
        tokio::spawn(async move {
            let nodelay = stream.set_nodelay(true);
            let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
            let stream = match (nodelay, handshake) {
                (Ok(()), Ok(Ok(stream))) => stream,
                (Err(error), _) | (_, Ok(Err(error))) => {
                    return tracing::debug!(%error, "a TLS handshake failed");
                }
                (_, Err(_)) => return tracing::debug!("a TLS handshake took too long"),
            };
            let certificates = stream.get_ref().1.peer_certificates();
            let identity = certificates.and_then(|chain| pki::identity(chain.first()?));
            let app = app.layer(Extension(identity.unwrap_or_else(Identity::anonymous)));
            serve_connection(stream, app, watcher).await;
        });
    }

    async fn finish(self) {
        if tokio::time::timeout(DRAIN_TIMEOUT, self.graceful.shutdown())
            .await
            .is_err()
        {
            tracing::warn!("connections were still open at shutdown");
        }
    }
}

async fn serve_connection(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, app: Router, watcher: Watcher) {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http2().max_concurrent_streams(MAX_STREAMS);
    let service = TowerToHyperService::new(app);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(error = &*error, "a connection broke off");
    }
}
