//! `healthCheckNodePort`: one small server a Service that asks for it.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::health::Health;
use super::listen;
use crate::model::ObjectName;
use crate::plan::health_check::HealthCheck;

/// The servers of one node; all close when this is dropped.
#[derive(Debug)]
pub struct HealthChecks {
    node: String,
    health: watch::Receiver<Health>,
    open: BTreeMap<ObjectName, Open>,
    /// Ports that could not be had and were told of already.
    refused: BTreeMap<ObjectName, u16>,
}

#[derive(Debug)]
struct Open {
    port: u16,
    local_endpoints: Arc<AtomicUsize>,
    _stop: DropGuard,
}

/// A port that could not be opened. Prints as kube-proxy's event.
#[derive(Debug)]
pub struct Refused {
    pub service: ObjectName,
    node: String,
    address: SocketAddrV4,
    source: io::Error,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            service,
            node,
            address,
            source,
        } = self;
        let port = address.port();
        // The kernel's words without Rust's `(os error 98)`, first letter small, as Go prints them.
        let errno = source
            .raw_os_error()
            .map(|number| nix::Error::from_raw(number).desc().to_lowercase());
        let cause = errno.unwrap_or_else(|| source.to_string());
        write!(
            f,
            "node {node} failed to start healthcheck \"{service}\" on port {port}: listen tcp {address}: bind: {cause}"
        )
    }
}

impl HealthChecks {
    pub fn new(node: String, health: watch::Receiver<Health>) -> Self {
        Self {
            node,
            health,
            open: BTreeMap::new(),
            refused: BTreeMap::new(),
        }
    }

    /// Opens, updates and closes ports so that exactly the wanted ones answer; a port that could not be had is tried
    /// again each time and told of once. Must be called in the node's namespace, on a runtime.
    pub fn apply(&mut self, wanted: &BTreeMap<ObjectName, HealthCheck>) -> Vec<Refused> {
        let stays = |name: &ObjectName, port: u16| wanted.get(name).is_some_and(|check| check.port == port);
        self.open.retain(|name, open| stays(name, open.port));
        self.refused.retain(|name, port| stays(name, *port));
        let mut refused = Vec::new();
        for (name, check) in wanted {
            if let Some(open) = self.open.get(name) {
                open.local_endpoints.store(check.local_endpoints, Ordering::Relaxed);
                continue;
            }
            let address = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, check.port);
            match listen::bind(address) {
                Ok(listener) => {
                    let open = self.serve(name, check, listener);
                    self.open.insert(name.clone(), open);
                    self.refused.remove(name);
                }
                Err(source) => {
                    let node = self.node.clone();
                    let news = Refused {
                        service: name.clone(),
                        node,
                        address,
                        source,
                    };
                    if self.refused.insert(name.clone(), check.port).is_none() {
                        tracing::warn!(%news, "no health check");
                        refused.push(news);
                    }
                }
            }
        }
        refused
    }

    /// Whether a port is wanted that could not be had.
    pub fn any_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    fn serve(&self, service: &ObjectName, check: &HealthCheck, listener: tokio::net::TcpListener) -> Open {
        let stop = CancellationToken::new();
        let local_endpoints = Arc::new(AtomicUsize::new(check.local_endpoints));
        let asked = Asked {
            service: service.clone(),
            local_endpoints: local_endpoints.clone(),
            health: self.health.clone(),
        };
        let router = Router::new().fallback(answer).with_state(asked);
        tokio::spawn(listen::serve(listener, router, stop.clone()));
        Open {
            port: check.port,
            local_endpoints,
            _stop: stop.drop_guard(),
        }
    }
}

#[derive(Debug, Clone)]
struct Asked {
    service: ObjectName,
    local_endpoints: Arc<AtomicUsize>,
    health: watch::Receiver<Health>,
}

/// Whatever the path: a load balancer may be set to any.
async fn answer(State(asked): State<Asked>) -> Response {
    let ObjectName { namespace, name } = &asked.service;
    let count = asked.local_endpoints.load(Ordering::Relaxed);
    let healthy = asked.health.borrow().is_healthy(Timestamp::now());
    let status = if count > 0 && healthy {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let headers = [
        (header::CONTENT_TYPE, "application/json".to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (
            header::HeaderName::from_static("x-load-balancing-endpoint-weight"),
            count.to_string(),
        ),
    ];
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{namespace}\",\n\t\t\"name\": \"{name}\"\n\t}},\n\t\"localEndpoints\": {count},\n\t\"serviceProxyHealthy\": {healthy}\n}}"
    );
    (status, headers, body).into_response()
}
