//! `agnhost serve-hostname`: the Pod's name for whoever asks, over HTTP, or over TCP and UDP as they are.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use clap::{ArgAction, Args};
use http::header::CONNECTION;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::udp;
use crate::runtime::standin::{StandInError, hostname, listen, log, serve};

/// How long it goes on after SIGTERM: until the Pod is gone, as a rule.
const LINGERS: Duration = Duration::from_secs(60);

/// Its flags.
#[derive(Debug, Args)]
pub struct ServeHostname {
    /// Over TCP, as it is
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true")]
    tcp: bool,
    /// Over UDP
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true")]
    udp: bool,
    /// Over HTTP
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true")]
    http: bool,
    /// Closes the connection after each answer over HTTP
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true")]
    close: bool,
    /// Port
    #[arg(long, default_value_t = 9376)]
    port: u16,
}

impl ServeHostname {
    /// Serves until a minute after SIGTERM.
    pub async fn run(self) -> Result<(), StandInError> {
        if self.http && (self.tcp || self.udp) {
            let text = "Can't server TCP/UDP mode and HTTP mode at the same time";
            return Err(StandInError::Arguments(text.to_owned()));
        }
        let mut terminate = signal(SignalKind::terminate()).map_err(StandInError::Signals)?;
        if self.tcp {
            let listener = listen(self.port).await?;
            tokio::spawn(async move { over_tcp(listener).await });
        }
        if self.udp {
            let socket = udp::bind(IpAddr::V4(Ipv4Addr::UNSPECIFIED), self.port).await?;
            tokio::spawn(async move {
                let named = |_: &str, from: SocketAddr| {
                    log(&format!("UDP request from {from}"));
                    Some(hostname())
                };
                udp::answer(&socket, named).await;
            });
        }
        let listener = if self.http {
            Some(listen(self.port).await?)
        } else {
            None
        };
        log(&format!("Serving on port {}.", self.port));
        let ending = async {
            terminate.recv().await;
            log("Shutting down after receiving signal: terminated.");
            log("Awaiting pod deletion.");
            tokio::time::sleep(LINGERS).await;
            Ok(())
        };
        match listener {
            None => ending.await,
            Some(listener) => tokio::select! {
                ended = serve(listener, routes(self.close)) => ended,
                ended = ending => ended,
            },
        }
    }
}

fn routes(close: bool) -> Router {
    Router::new().fallback(move |ConnectInfo(from): ConnectInfo<SocketAddr>| async move {
        log(&format!("HTTP request from {from}"));
        (close.then_some([(CONNECTION, "close")]), hostname())
    })
}

async fn over_tcp(listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((mut client, from)) => {
                log(&format!("TCP request from {from}"));
                if let Err(error) = client.write_all(hostname().as_bytes()).await {
                    log(&format!("TCP client {from}: {error}"));
                }
            }
            Err(error) => return log(&format!("Error from Accept(): {error}")),
        }
    }
}
