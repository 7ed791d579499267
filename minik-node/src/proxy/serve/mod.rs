//! What people and load balancers ask a node's proxy, on kube-proxy's own ports and in its words.
//!
//! ```text
//! 127.0.0.1:10249           /proxyMode  /metrics  /configz  /healthz  people and Prometheus, on the node itself
//! 0.0.0.0:10256             /healthz  /livez                          load balancers, about the node
//! 0.0.0.0:SERVICE'S PORT    healthCheckNodePort                       load balancers, about one Service
//! ```
//! Sockets are made in the namespace that the agent runs in, so nodes on one machine do not clash, and an agent that
//! starts again has its ports again. Reads the view, the proxy's status and its counters; owns no kernel state.

mod config;
mod health;
mod listen;
mod own;
mod services;
#[cfg(test)]
mod tests;
mod text;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::health::Health;
use self::own::Asked;
use self::services::HealthChecks;
use super::iptables::Iptables;
use super::{ProxyConfig, ServiceProxy};
use crate::plan::health_check::health_checks;
use crate::pods::events::Events;
use crate::reconcile::{Outcome, Status};
use crate::view::ClusterView;

type Views = watch::Receiver<Option<Arc<ClusterView>>>;

/// `metricsBindAddress`
const METRICS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 10249);
/// `healthzBindAddress`
const HEALTHZ: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 10256);

/// When a Service's port that was taken is tried again, if nothing else happens before: kube-proxy's `syncPeriod`.
const REFUSED_AGAIN: Duration = Duration::from_secs(30);

/// Serves them all until `shutdown`. `status` is the proxy's, `events` tells of ports that cannot be had.
///
/// A port that is taken is told and left out; kube-proxy, too, goes on without (`bindAddressHardFail: false`).
pub(crate) fn spawn(
    config: &ProxyConfig,
    views: Views,
    status: watch::Receiver<Status>,
    events: Events,
    shutdown: CancellationToken,
) {
    let (sender, health) = watch::channel(Health::default());
    tokio::spawn(keep_health(sender, views.clone(), status.clone(), shutdown.clone()));
    let asked = Asked::new(config, Iptables::MODE, health.clone(), views.clone());
    for (address, router) in [
        (METRICS, own::for_people(asked.clone())),
        (HEALTHZ, own::for_load_balancers(asked)),
    ] {
        match listen::bind(address) {
            Ok(listener) => drop(tokio::spawn(listen::serve(listener, router, shutdown.clone()))),
            Err(error) => tracing::error!(%address, %error, "the proxy's own endpoint is not served"),
        }
    }
    let checks = HealthChecks::new(config.node.clone(), health);
    tokio::spawn(keep_checks(checks, views, status, events, shutdown));
}

/// Notes when something was to be done and when it was done.
async fn keep_health(
    health: watch::Sender<Health>,
    mut views: Views,
    mut status: watch::Receiver<Status>,
    shutdown: CancellationToken,
) {
    loop {
        // In order: a change that a pass has covered already is taken in before that pass.
        let pending = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            changed = views.changed() => changed.map(|()| true),
            changed = status.changed() => changed.map(|()| status.borrow_and_update().outcome != Some(Outcome::Synced)),
        };
        let Ok(pending) = pending else { return };
        let now = Timestamp::now();
        health.send_modify(|health| {
            if pending {
                health.queued(now);
            } else {
                health.updated(now);
            }
        });
    }
}

/// Opens, answers and closes the Services' ports, each time after the rules are as they should be.
async fn keep_checks(
    mut checks: HealthChecks,
    views: Views,
    mut status: watch::Receiver<Status>,
    events: Events,
    shutdown: CancellationToken,
) {
    loop {
        let synced = status.wait_for(|status| status.outcome == Some(Outcome::Synced));
        let passes = tokio::select! {
            () = shutdown.cancelled() => return,
            synced = synced => match synced {
                Ok(status) => status.passes,
                Err(_gone) => return,
            },
        };
        let view = views.borrow().clone();
        if let Some(view) = view {
            for refused in checks.apply(&health_checks(&view)) {
                events.warning_about(
                    service(&refused.service),
                    "FailedToStartServiceHealthcheck",
                    refused.to_string(),
                );
            }
        }
        let next = status.wait_for(|status| status.passes > passes);
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(REFUSED_AGAIN), if checks.any_refused() => {}
            next = next => if next.is_err() { return },
        }
    }
}

/// As kube-proxy refers to a Service, of which it does not keep the UID.
fn service(name: &crate::model::ObjectName) -> ObjectReference {
    ObjectReference {
        kind: Some("Service".to_owned()),
        namespace: Some(name.namespace.clone()),
        name: Some(name.name.clone()),
        uid: Some(name.to_string()),
        ..ObjectReference::default()
    }
}
