//! Stand-ins for programs that are not on the machine: enough of each for the lessons and for Kubernetes' documented
//! examples, and honest about the rest.
//!
//! Run inside a container, as its first process or beside it. Read what the real program would read, serve on its
//! ports, know nothing of the cluster.

mod agnhost;
mod echoserver;
mod etcd;
mod goproxy;
mod grpc_health;
mod web;

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

use axum::Router;
use axum::response::IntoResponse;
use http::StatusCode;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Why a stand-in does not run, or no longer.
#[derive(Debug, thiserror::Error)]
enum StandInError {
    /// There is none of this name.
    #[error("no stand-in for {0:?}; there are: agnhost, echoserver, etcd, goproxy, httpd, nginx")]
    Unknown(String),
    /// A configuration that nginx would refuse, or that its stand-in does not know.
    #[error("nginx: [emerg] {0}")]
    Conf(#[from] web::ConfError),
    /// Arguments that the real program would refuse, or that its stand-in does not know.
    #[error("{0}")]
    Arguments(String),
    /// Something that the real program does and this does not.
    #[error("minik's stand-in does not know {0}")]
    Missing(String),
    /// A port that cannot be had.
    #[error("listen on {address}")]
    Listen {
        /// Address and port.
        address: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// Signal handlers.
    #[error("handle signals")]
    Signals(#[source] io::Error),
    /// A listener failed later.
    #[error("serve")]
    Serve(#[source] io::Error),
    /// Reading or writing a file of the container.
    #[error("{path}")]
    File {
        /// File.
        path: &'static str,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The runtime of this process.
    #[error("start runtime")]
    Runtime(#[source] io::Error),
}

/// Runs the stand-in that `args` begin with until it ends, and says with which code. Starts a runtime of its own.
#[must_use]
pub fn run(args: &[String]) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime.map_err(StandInError::Runtime).and_then(|runtime| {
        let ended = runtime.block_on(program(args));
        // What still waits for a client or a command does not hold up the end.
        runtime.shutdown_background();
        ended
    });
    match ended {
        Ok(code) => code,
        Err(error) => {
            let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
            log(&causes.map(ToString::to_string).collect::<Vec<_>>().join(": "));
            ExitCode::FAILURE
        }
    }
}

async fn program(args: &[String]) -> Result<ExitCode, StandInError> {
    let (name, rest) = args.split_first().ok_or_else(|| StandInError::Unknown(String::new()))?;
    match name.as_str() {
        "agnhost" => return agnhost::run(args).await,
        "echoserver" => echoserver::run().await?,
        "etcd" => etcd::run(rest).await?,
        "goproxy" => goproxy::run().await?,
        "httpd" => web::httpd().await?,
        "nginx" => web::nginx(rest).await?,
        _ => return Err(StandInError::Unknown(name.clone())),
    }
    Ok(ExitCode::SUCCESS)
}

/// A line as Go's standard logger writes it: to standard error, behind the time.
fn log(text: &str) {
    let time = jiff::Timestamp::now().strftime("%Y/%m/%d %H:%M:%S");
    say(&mut io::stderr(), &format!("{time} {text}\n"));
}

/// Text for whoever reads the container's log; nobody may.
fn say(to: &mut dyn io::Write, text: &str) {
    if let Err(error) = to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
        tracing::debug!(%error, "nobody reads the log");
    }
}

/// A port on every address.
async fn listen(port: u16) -> Result<TcpListener, StandInError> {
    listen_at("0.0.0.0", port).await
}

/// A port on one address, which may be a name.
async fn listen_at(host: &str, port: u16) -> Result<TcpListener, StandInError> {
    let bound = TcpListener::bind((host, port)).await;
    bound.map_err(|source| StandInError::Listen {
        address: format!("{host}:{port}"),
        source,
    })
}

/// Serves for as long as the process lives.
async fn serve(listener: TcpListener, routes: Router) -> Result<(), StandInError> {
    let routes = routes.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, routes).await.map_err(StandInError::Serve)
}

/// Which of SIGTERM and SIGINT comes first.
async fn asked_to_stop() -> Result<SignalKind, StandInError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(StandInError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StandInError::Signals)?;
    tokio::select! {
        _ = terminate.recv() => Ok(SignalKind::terminate()),
        _ = interrupt.recv() => Ok(SignalKind::interrupt()),
    }
}

/// Serves until the first SIGTERM or SIGINT.
async fn serve_until_asked(port: u16, routes: Router) -> Result<(), StandInError> {
    let listener = listen(port).await?;
    tokio::select! {
        served = serve(listener, routes) => served,
        asked = asked_to_stop() => asked.map(drop),
    }
}

/// Go's answer about a path that no handler has.
async fn not_found() -> impl IntoResponse {
    (StatusCode::NOT_FOUND, "404 page not found\n")
}

/// The Pod's name, as its programs see it.
fn hostname() -> String {
    nix::unistd::gethostname()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}
