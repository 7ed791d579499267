//! etcd as probes see it: gRPC's health protocol, `/health`, `/livez`, `/readyz` and `/version` on the client ports
//! that its command line names. Stores nothing, and says so to whoever calls another method.

use axum::routing::get;
use axum::{Json, Router};
use clap::Parser;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::grpc_health::{self, Serving};
use super::{StandInError, asked_to_stop, listen_at, log, not_found, serve};

/// Where clients go unless a URL says otherwise.
const CLIENT_PORT: u16 = 2379;
const STORES_NOTHING: &str = "minik's stand-in for etcd answers health checks and stores nothing";

/// The flags that Kubernetes' examples and kubeadm's manifest give and that change nothing here, and the one that does.
#[derive(Debug, Parser)]
#[command(name = "etcd", about = STORES_NOTHING)]
struct Etcd {
    /// URLs to listen on for clients
    #[arg(long, value_delimiter = ',', default_value = "http://localhost:2379")]
    listen_client_urls: Vec<http::Uri>,
    /// Told to clients
    #[arg(long, value_delimiter = ',')]
    advertise_client_urls: Vec<http::Uri>,
    /// Where nothing is stored
    #[arg(long, default_value = "default.etcd")]
    data_dir: String,
    /// Of lines that are not written
    #[arg(long, default_value = "info")]
    log_level: String,
    /// Name of this member
    #[arg(long, default_value = "default")]
    name: String,
}

/// Serves until it is asked to stop. `args` are those behind the program's name.
pub async fn run(args: &[String]) -> Result<(), StandInError> {
    let told = Etcd::try_parse_from(std::iter::once("etcd").chain(args.iter().map(String::as_str)));
    let told = told.map_err(|error| StandInError::Arguments(error.to_string()))?;
    log(&format!(
        "{STORES_NOTHING}: name {:?}, data dir {:?}, log level {:?}, advertised {:?}",
        told.name, told.data_dir, told.log_level, told.advertise_client_urls
    ));
    let mut servers = JoinSet::new();
    for url in &told.listen_client_urls {
        if url.scheme_str() != Some("http") {
            return Err(StandInError::Missing(format!("TLS (--listen-client-urls {url})")));
        }
        let host = url.host().unwrap_or_default();
        let listener = listen_at(host, url.port_u16().unwrap_or(CLIENT_PORT)).await?;
        servers.spawn(serve(listener, routes()));
    }
    tokio::select! {
        ended = servers.join_next() => match ended {
            Some(Ok(served)) => served,
            Some(Err(error)) => Err(StandInError::Serve(error.into())),
            None => Err(StandInError::Arguments("--listen-client-urls names no URL".to_owned())),
        },
        asked = asked_to_stop() => asked.map(drop),
    }
}

fn routes() -> Router {
    let whole_server = |service: &str| service.is_empty().then_some(Serving::Yes);
    Router::new()
        .route(
            "/health",
            get(|| async { Json(json!({"health": "true", "reason": ""})) }),
        )
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(|| async { "ok\n" }))
        .route("/version", get(version))
        .merge(grpc_health::routes(whole_server, STORES_NOTHING))
        .fallback(not_found)
}

async fn version() -> Json<Value> {
    let version = concat!("minik-stand-in-", env!("CARGO_PKG_VERSION"));
    Json(json!({"etcdserver": version, "etcdcluster": version}))
}
