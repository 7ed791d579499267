//! The proxy's own two endpoints.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;
use tokio::sync::watch;

use super::health::Health;
use super::{Views, config, text};
use crate::proxy::ProxyConfig;
use crate::proxy::metrics::{Metrics, PerCode};

/// What answers are made from.
#[derive(Debug, Clone)]
pub struct Asked {
    mode: &'static str,
    configuration: Arc<serde_json::Value>,
    metrics: Arc<Metrics>,
    health: watch::Receiver<Health>,
    views: Views,
}

impl Asked {
    pub fn new(config: &ProxyConfig, mode: &'static str, health: watch::Receiver<Health>, views: Views) -> Self {
        Self {
            mode,
            configuration: Arc::new(config::configz(config, mode)),
            metrics: config.metrics.clone(),
            health,
            views,
        }
    }
}

/// `127.0.0.1:10249`
pub fn for_people(asked: Asked) -> Router {
    Router::new()
        .route("/proxyMode", get(proxy_mode))
        .route("/metrics", get(metrics))
        .route("/configz", get(configz))
        .route("/healthz", get(alive))
        .with_state(asked)
}

/// `0.0.0.0:10256`
pub fn for_load_balancers(asked: Asked) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/livez", get(livez))
        .with_state(asked)
}

const NO_SNIFF: (HeaderName, &str) = (header::X_CONTENT_TYPE_OPTIONS, "nosniff");
const TEXT: (HeaderName, &str) = (header::CONTENT_TYPE, "text/plain; charset=utf-8");

async fn proxy_mode(State(asked): State<Asked>) -> Response {
    ([TEXT, NO_SNIFF], asked.mode).into_response()
}

/// The process answers; whether its rules are fresh is asked at the other endpoint.
async fn alive() -> Response {
    ([TEXT, NO_SNIFF], "ok").into_response()
}

async fn configz(State(asked): State<Asked>) -> Response {
    ([NO_SNIFF], Json(&*asked.configuration)).into_response()
}

async fn metrics(State(asked): State<Asked>) -> Response {
    match text::exposition(&asked.metrics) {
        Ok(text) => (
            [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
            text,
        )
            .into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Whether load balancers may send this node anything: its rules are fresh and it is here to stay.
async fn healthz(State(asked): State<Asked>) -> Response {
    let view = asked.views.borrow().clone();
    let node = view.as_deref().and_then(|view| view.this_node());
    answer(
        &asked,
        Some(node.is_some_and(|node| node.eligible)),
        &asked.metrics.proxy_healthz_total,
    )
}

/// Whether its rules are fresh: a node about to go is no reason to restart its proxy.
async fn livez(State(asked): State<Asked>) -> Response {
    answer(&asked, None, &asked.metrics.proxy_livez_total)
}

fn answer(asked: &Asked, node_eligible: Option<bool>, count: &PerCode) -> Response {
    let (good, report) = asked.health.borrow().report(Timestamp::now(), node_eligible);
    let (status, counter) = if good {
        (StatusCode::OK, &count.ok)
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, &count.unavailable)
    };
    counter.add(1);
    (status, [NO_SNIFF], Json(report)).into_response()
}
