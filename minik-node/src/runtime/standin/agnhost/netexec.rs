//! `agnhost netexec`: HTTP and UDP servers that tell who asked and who answers, dial others, run commands and end on
//! demand.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::{ConnectInfo, Query, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, Router};
use clap::Args;
use http::{HeaderMap, Method, StatusCode, Uri};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::query::{self, Parameters, duration, number, text};
use super::udp::{self, Command};
use super::{dial, shell};
use crate::runtime::standin::{StandInError, asked_to_stop, hostname, listen, log, not_found};

/// Its flags.
#[derive(Debug, Args)]
pub struct Netexec {
    /// Port of HTTP
    #[arg(long, default_value_t = 8080)]
    http_port: u16,
    /// Port of UDP; -1 means none
    #[arg(long, default_value_t = 8081, allow_negative_numbers = true)]
    udp_port: i32,
    /// Addresses that UDP listens on, all without
    #[arg(long, value_delimiter = ',')]
    udp_listen_addresses: Vec<IpAddr>,
    /// Path and query that every request is answered by
    #[arg(long)]
    http_override: Option<Uri>,
    /// Seconds between SIGTERM and the end
    #[arg(long, default_value_t = 0)]
    delay_shutdown: u64,
}

/// An end that a client asked for.
struct Exit {
    code: u8,
    /// How long connections may take to close.
    grace: Duration,
}

struct Server {
    udp_listens: AtomicBool,
    terminating: AtomicBool,
    exits: mpsc::Sender<Exit>,
}

impl Netexec {
    /// Serves until it is told to end, and gives the code that it was told.
    pub async fn run(self) -> Result<ExitCode, StandInError> {
        let (exits, mut exit) = mpsc::channel(1);
        let server = Arc::new(Server {
            udp_listens: AtomicBool::new(false),
            terminating: AtomicBool::new(false),
            exits,
        });
        self.serve_udp(&server).await?;
        let routes = match self.http_override {
            None => routes(Arc::clone(&server)),
            Some(uri) => overridden(routes(Arc::clone(&server)), uri),
        };
        let listener = listen(self.http_port).await?;
        log(&format!("Started HTTP server on port {}", self.http_port));
        let closing = CancellationToken::new();
        let served = axum::serve(listener, routes.into_make_service_with_connect_info::<SocketAddr>())
            .with_graceful_shutdown(closing.clone().cancelled_owned());
        let mut served = tokio::spawn(served.into_future());
        tokio::select! {
            ended = &mut served => {
                ended.map_err(std::io::Error::other).and_then(|served| served).map_err(StandInError::Serve)?;
                Ok(ExitCode::SUCCESS)
            }
            Some(Exit { code, grace }) = exit.recv() => {
                closing.cancel();
                let closed = tokio::time::timeout(grace, served).await;
                let how = if closed.is_ok() { "<nil>" } else { "context deadline exceeded" };
                log(&format!("Graceful shutdown completed with: {how}"));
                Ok(ExitCode::from(code))
            }
            asked = asked_to_stop() => {
                asked?;
                server.terminating.store(true, Ordering::Relaxed);
                if self.delay_shutdown > 0 {
                    log(&format!("Sleeping {} seconds before terminating...", self.delay_shutdown));
                    tokio::time::sleep(Duration::from_secs(self.delay_shutdown)).await;
                }
                Ok(ExitCode::SUCCESS)
            }
        }
    }

    async fn serve_udp(&self, server: &Arc<Server>) -> Result<(), StandInError> {
        let Ok(port) = u16::try_from(self.udp_port) else {
            return Ok(());
        };
        let every = [IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
        let addresses = if self.udp_listen_addresses.is_empty() {
            &every[..]
        } else {
            &self.udp_listen_addresses
        };
        for address in addresses {
            let socket = udp::bind(*address, port).await?;
            log(&format!("Started UDP server on port {address} {port}"));
            server.udp_listens.store(true, Ordering::Relaxed);
            let server = Arc::clone(server);
            tokio::spawn(async move {
                udp::answer(&socket, answer_udp).await;
                server.udp_listens.store(false, Ordering::Relaxed);
            });
        }
        Ok(())
    }
}

/// What a datagram is answered with, if it is.
fn answer_udp(asked: &str, from: SocketAddr) -> Option<String> {
    match Command::read(asked) {
        Command::Hostname => Some(hostname()),
        Command::Echo(text) => Some(text),
        Command::ClientIp => Some(from.to_string()),
        Command::Unknown(text) => {
            log(&format!("Unknown UDP command received from {from}: {text}"));
            None
        }
    }
}

fn routes(server: Arc<Server>) -> Router {
    let name = || any(|| async { hostname() });
    Router::new()
        .route(
            "/",
            any(|| async { format!("NOW: {}", jiff::Zoned::now().strftime("%Y-%m-%d %H:%M:%S.%N %z %Z")) }),
        )
        .route(
            "/clientip",
            any(|ConnectInfo(from): ConnectInfo<SocketAddr>| async move { from.to_string() }),
        )
        .route("/header", any(header))
        .route("/dial", any(dial::handle))
        .route("/echo", any(echo))
        .route("/exit", any(exit))
        .route("/healthz", any(healthz))
        .route("/readyz", any(readyz))
        .route("/hostname", name())
        .route("/hostName", name())
        .route("/redirect", any(redirect))
        .route("/shell", any(shell::handle))
        .route("/shutdown", any(shutdown))
        .route(
            "/upload",
            any(|| async { (StatusCode::NOT_IMPLEMENTED, "minik's stand-in does not know /upload\n") }),
        )
        .fallback(not_found)
        .layer(axum::middleware::map_request(told))
        .with_state(server)
}

/// Every request has its line in the log.
async fn told(request: Request) -> Request {
    log(&format!("GET {}", request.uri()));
    request
}

/// Whatever is asked, answers as if it were a GET of `uri`.
fn overridden(routes: Router, uri: Uri) -> Router {
    Router::new().fallback(move |mut request: Request| {
        *request.method_mut() = Method::GET;
        *request.uri_mut() = uri.clone();
        routes.clone().oneshot(request)
    })
}

async fn echo(Query(asked): Query<Parameters>) -> Response {
    let message = text(&asked, "msg").to_owned();
    match number(&asked, "code", "", 200).map(StatusCode::from_u16) {
        Ok(Ok(status)) => (status, message).into_response(),
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
        Err(wrong) => wrong.into_response(),
    }
}

async fn header(headers: HeaderMap, Query(asked): Query<Parameters>) -> Response {
    let value = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let key = text(&asked, "key");
    if !key.is_empty() {
        return headers.get(key).map(value).unwrap_or_default().into_response();
    }
    let mut all: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, given) in &headers {
        all.entry(name.as_str()).or_default().push(value(given));
    }
    Json(all).into_response()
}

async fn healthz(State(server): State<Arc<Server>>) -> StatusCode {
    if server.udp_listens.load(Ordering::Relaxed) {
        StatusCode::OK
    } else {
        StatusCode::PRECONDITION_FAILED
    }
}

async fn readyz(State(server): State<Arc<Server>>) -> Response {
    if server.terminating.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "shutting down").into_response();
    }
    match healthz(State(server)).await {
        StatusCode::OK => "ok".into_response(),
        status => status.into_response(),
    }
}

async fn redirect(Query(asked): Query<Parameters>) -> Response {
    match number(&asked, "code", "", 302).map(StatusCode::from_u16) {
        Ok(Ok(status)) => query::redirect(status, text(&asked, "location")),
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
        Err(wrong) => wrong.into_response(),
    }
}

async fn exit(State(server): State<Arc<Server>>, Query(asked): Query<Parameters>) -> Response {
    let read = || {
        let grace = duration(&asked, "timeout")?;
        let wait = duration(&asked, "wait")?;
        let code = number(&asked, "code", " [0-127]", 0)?;
        Ok::<_, String>((wait, Exit { code, grace }))
    };
    let (wait, exit) = match read() {
        Ok(read) => read,
        Err(wrong) => return wrong.into_response(),
    };
    tokio::time::sleep(wait).await;
    let at_once = exit.grace.is_zero();
    end(&server, exit).await;
    if at_once {
        // The process goes before an answer does.
        std::future::pending::<()>().await;
    }
    StatusCode::OK.into_response()
}

async fn shutdown(State(server): State<Arc<Server>>) {
    let at_once = Exit {
        code: 0,
        grace: Duration::ZERO,
    };
    end(&server, at_once).await;
    std::future::pending::<()>().await;
}

async fn end(server: &Server, exit: Exit) {
    if server.exits.send(exit).await.is_err() {
        log("the server is ending already");
    }
}
