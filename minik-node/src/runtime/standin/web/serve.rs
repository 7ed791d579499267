//! Serves a stand-in's configuration.

use std::collections::BTreeMap;
use std::io;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Component, Path};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use axum::serve::IncomingStream;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::conf::{Conf, Server, Settings};
use super::variables::replace;
use crate::runtime::standin::{StandInError, listen};

#[derive(Debug, Clone, Copy)]
struct Ends {
    local: SocketAddr,
    remote: SocketAddr,
}

impl Connected<IncomingStream<'_, TcpListener>> for Ends {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        let unknown = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        Self {
            local: stream.io().local_addr().unwrap_or(unknown),
            remote: *stream.remote_addr(),
        }
    }
}

/// Serves until SIGTERM, SIGINT, SIGQUIT or SIGWINCH, then finishes what is under way.
pub async fn serve(conf: Conf) -> Result<(), StandInError> {
    let stop = CancellationToken::new();
    for kind in [
        SignalKind::terminate(),
        SignalKind::interrupt(),
        SignalKind::quit(),
        SignalKind::window_change(),
    ] {
        let mut signals = signal(kind).map_err(StandInError::Signals)?;
        let stop = stop.clone();
        tokio::spawn(async move {
            signals.recv().await;
            stop.cancel();
        });
    }
    let mut by_port: BTreeMap<u16, Vec<Server>> = BTreeMap::new();
    for server in conf.servers {
        for (port, default) in server.ports.clone() {
            let servers = by_port.entry(port).or_default();
            servers.insert(if default { 0 } else { servers.len() }, server.clone());
        }
    }
    let mut listeners = JoinSet::new();
    for (port, servers) in by_port {
        let listener = listen(port).await?;
        let app = Router::new()
            .fallback(answer)
            .with_state(Arc::<[Server]>::from(servers));
        let served = axum::serve(listener, app.into_make_service_with_connect_info::<Ends>());
        listeners.spawn(
            served
                .with_graceful_shutdown(stop.clone().cancelled_owned())
                .into_future(),
        );
    }
    while let Some(ended) = listeners.join_next().await {
        ended
            .map_err(io::Error::other)
            .and_then(|served| served)
            .map_err(StandInError::Serve)?;
    }
    Ok(())
}

async fn answer(
    State(servers): State<Arc<[Server]>>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    request: Request,
) -> Response {
    let host = host(request.headers());
    let server = servers
        .iter()
        .find(|server| server.names.iter().any(|name| name == host))
        .or(servers.first());
    let Some(server) = server else {
        return page(StatusCode::NOT_FOUND);
    };
    let settings = settings(server, request.uri().path());
    let response = match &settings.answer {
        Some((code, text)) => returned(*code, text, settings, ends, &request),
        None => file(settings, request.uri().path()),
    };
    if settings.access_log {
        let time = jiff::Zoned::now().strftime("%d/%b/%Y:%H:%M:%S %z");
        let written = writeln!(
            std::io::stdout(),
            "{} - - [{time}] \"{} {} {:?}\" {}",
            ends.remote.ip(),
            request.method(),
            request.uri(),
            request.version(),
            response.status().as_u16()
        );
        if let Err(error) = written {
            tracing::debug!(%error, "write access log");
        }
    }
    response
}

fn host(headers: &HeaderMap) -> &str {
    let value = headers
        .get(header::HOST)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    value.rsplit_once(':').map_or(value, |(host, _)| host)
}

/// The settings of the equal location, else of the one with the longest prefix, else of the server.
fn settings<'a>(server: &'a Server, path: &str) -> &'a Settings {
    if server.settings.answer.is_some() {
        return &server.settings;
    }
    let exact = server
        .locations
        .iter()
        .find(|location| location.exact && location.path == path);
    let prefix = || {
        let fitting = server
            .locations
            .iter()
            .filter(|location| !location.exact && path.starts_with(&location.path));
        fitting.max_by_key(|location| location.path.len())
    };
    exact
        .or_else(prefix)
        .map_or(&server.settings, |location| &location.settings)
}

fn returned(code: u16, text: &str, settings: &Settings, ends: Ends, request: &Request) -> Response {
    let value = |name: &str| match name {
        "args" => request.uri().query().unwrap_or_default().to_owned(),
        "host" => host(request.headers()).to_owned(),
        "hostname" => nix::unistd::gethostname()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default(),
        "remote_addr" => ends.remote.ip().to_string(),
        "remote_port" => ends.remote.port().to_string(),
        "request_method" => request.method().to_string(),
        "request_uri" => request
            .uri()
            .path_and_query()
            .map(ToString::to_string)
            .unwrap_or_default(),
        "scheme" => "http".to_owned(),
        "server_addr" => ends.local.ip().to_string(),
        "server_port" => ends.local.port().to_string(),
        "time_iso8601" => jiff::Zoned::now().strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
        "uri" => request.uri().path().to_owned(),
        _ => {
            let header = name.trim_start_matches("http_").replace('_', "-");
            request
                .headers()
                .get(header)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
                .to_owned()
        }
    };
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::OK);
    let text = replace(text, value);
    if status.is_redirection() {
        return build(
            Response::builder().status(status).header(header::LOCATION, text),
            Body::empty(),
        );
    }
    if text.is_empty() && code >= 300 {
        return page(status);
    }
    build(
        Response::builder()
            .status(status)
            .header(header::CONTENT_TYPE, &settings.default_type),
        text.into(),
    )
}

fn file(settings: &Settings, path: &str) -> Response {
    let relative = Path::new(path.trim_start_matches('/'));
    if relative.components().any(|part| !matches!(part, Component::Normal(_))) {
        return page(StatusCode::BAD_REQUEST);
    }
    let mut target = settings.root.join(relative);
    if target.is_dir() {
        match settings
            .index
            .iter()
            .map(|name| target.join(name))
            .find(|file| file.is_file())
        {
            Some(index) => target = index,
            None => return page(StatusCode::FORBIDDEN),
        }
    }
    match std::fs::read(&target) {
        Ok(bytes) => build(
            Response::builder().header(header::CONTENT_TYPE, content_type(&target, settings)),
            bytes.into(),
        ),
        Err(_) => page(StatusCode::NOT_FOUND),
    }
}

fn content_type(path: &Path, settings: &Settings) -> String {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("html" | "htm") => "text/html",
        Some("txt") => "text/plain",
        Some("css") => "text/css",
        Some("js") => "application/javascript",
        Some("json") => "application/json",
        _ => &settings.default_type,
    }
    .to_owned()
}

fn page(status: StatusCode) -> Response {
    let text = format!(
        "<html>\n<head><title>{status}</title></head>\n<body>\n<center><h1>{status}</h1></center>\n</body>\n</html>\n"
    );
    build(
        Response::builder()
            .status(status)
            .header(header::CONTENT_TYPE, "text/html"),
        text.into(),
    )
}

fn build(response: axum::http::response::Builder, body: Body) -> Response {
    response
        .header(header::SERVER, "minik-stand-in")
        .body(body)
        .unwrap_or_else(|error| {
            tracing::warn!(%error, "a configured text fits no header");
            Response::new(Body::empty())
        })
}
