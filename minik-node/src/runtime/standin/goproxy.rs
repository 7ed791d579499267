//! goproxy: a program that listens on port 8080, which is what Kubernetes' example of TCP probes asks of it. It says
//! of itself that it is a proxy, as the real one does, and takes no request anywhere.

use axum::Router;
use axum::extract::Request;
use http::StatusCode;

use super::{StandInError, log, serve_until_asked};

const PORT: u16 = 8080;

/// Serves until it is asked to stop.
pub async fn run() -> Result<(), StandInError> {
    log(&format!(
        "minik's stand-in for goproxy listens on port {PORT} and proxies nothing"
    ));
    serve_until_asked(PORT, Router::new().fallback(answer)).await
}

async fn answer(request: Request) -> (StatusCode, &'static str) {
    if request.uri().scheme().is_some() || request.method() == http::Method::CONNECT {
        return (
            StatusCode::NOT_IMPLEMENTED,
            "minik's stand-in for goproxy proxies nothing\n",
        );
    }
    let text = "This is a proxy server. Does not respond to non-proxy requests.\n";
    (StatusCode::INTERNAL_SERVER_ERROR, text)
}
