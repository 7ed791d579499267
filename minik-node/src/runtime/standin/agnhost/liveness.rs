//! `agnhost liveness`: healthy for ten seconds, then not, which is Kubernetes' example of a liveness probe.

use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Query;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::StatusCode;

use super::query::Parameters;
use crate::runtime::standin::not_found;

const HEALTHY_FOR: Duration = Duration::from_secs(10);

/// Its routes, with the clock that starts now.
pub fn routes() -> Router {
    let started = Instant::now();
    let missing = || {
        any(|| async {
            (
                StatusCode::NOT_IMPLEMENTED,
                "minik's stand-in does not know this path\n",
            )
        })
    };
    Router::new()
        .route("/healthz", any(move || async move { health(started.elapsed()) }))
        .route("/started", any(move || async move { since(started) }))
        .route("/redirect", any(redirect))
        .route("/sleep-headers", missing())
        .route("/sleep-body", missing())
        .route("/disconnect-headers", missing())
        .route("/disconnect-body", missing())
        .route("/slow-response", missing())
        .fallback(not_found)
}

/// Time since then as Go prints a duration of seconds.
pub fn since(started: Instant) -> String {
    format!("{}s", started.elapsed().as_secs_f64())
}

fn health(age: Duration) -> Response {
    if age > HEALTHY_FOR {
        return (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("error: {}", age.as_secs_f64()),
        )
            .into_response();
    }
    "ok".into_response()
}

async fn redirect(Query(asked): Query<Parameters>) -> Response {
    let location = asked.get("loc").cloned().unwrap_or_default();
    let location = percent_encoding::percent_decode_str(&location)
        .decode_utf8_lossy()
        .into_owned();
    super::query::redirect(StatusCode::FOUND, &location)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_ends_after_ten_seconds() {
        assert_eq!(health(Duration::from_secs(10)).status(), StatusCode::OK);
        assert_eq!(
            health(Duration::from_millis(10_001)).status(),
            StatusCode::INTERNAL_SERVER_ERROR
        );
    }
}
