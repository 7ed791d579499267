//! The edge: watches against the API server, folded by [`Collector`] and published.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{BoxStream, SelectAll};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::WatchStreamExt;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Change, ClusterView, Collector};

/// Events folded into one snapshot at most; a relist of a large cluster makes several.
const BURST: usize = 1024;

/// Watches Services, EndpointSlices and Nodes for the agent of `node`.
pub fn spawn(client: Client, node: String, shutdown: CancellationToken) -> watch::Receiver<Option<Arc<ClusterView>>> {
    let changes = [
        changes::<core::Service>(&client, Change::service),
        changes::<EndpointSlice>(&client, Change::slice),
        changes::<core::Node>(&client, Change::node),
    ];
    publish(Collector::new(Some(node)), changes, shutdown)
}

/// Watches Services, EndpointSlices and Namespaces for a name server.
pub fn spawn_for_names(client: Client, shutdown: CancellationToken) -> watch::Receiver<Option<Arc<ClusterView>>> {
    let changes = [
        changes::<core::Service>(&client, Change::service),
        changes::<EndpointSlice>(&client, Change::slice),
        changes::<core::Namespace>(&client, Change::namespace),
    ];
    publish(Collector::new(None), changes, shutdown)
}

/// Folds whatever is ready at once: a burst becomes one snapshot, and a lone event waits for nothing.
fn publish(
    mut collector: Collector,
    changes: impl IntoIterator<Item = BoxStream<'static, Change>>,
    shutdown: CancellationToken,
) -> watch::Receiver<Option<Arc<ClusterView>>> {
    let (sender, receiver) = watch::channel(None);
    let bursts = changes.into_iter().collect::<SelectAll<_>>().ready_chunks(BURST);
    let mut bursts = bursts.take_until(shutdown.cancelled_owned()).boxed();
    tokio::spawn(async move {
        while let Some(burst) = bursts.next().await {
            let changed = burst
                .into_iter()
                .fold(false, |changed, change| collector.take(change) | changed);
            let Some(view) = collector.view().filter(|_| changed) else {
                continue;
            };
            if sender.send(Some(Arc::new(view.clone()))).is_err() {
                return;
            }
        }
    });
    receiver
}

/// One kind's endless watch. Failures are logged and retried; the objects seen so far stay.
fn changes<K>(client: &Client, wrap: fn(Event<K>) -> Change) -> BoxStream<'static, Change>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let api: Api<K> = Api::all(client.clone());
    watcher::watcher(api, watcher::Config::default())
        .backoff(Retry::default())
        .filter_map(move |event| async move {
            match event {
                Ok(event) => Some(wrap(event)),
                Err(error) => {
                    tell(&K::kind(&()), &error);
                    None
                }
            }
        })
        .boxed()
}

/// Logs a watch that failed. One that broke off is no more than an API server that was started again; one that cannot
/// even begin is worth a warning.
pub fn tell(kind: &str, error: &watcher::Error) {
    let cause = error as &dyn std::error::Error;
    match error {
        watcher::Error::WatchFailed(_) => tracing::debug!(kind, error = cause, "a watch broke off"),
        _ => tracing::warn!(kind, error = cause, "watch failed"),
    }
}

/// Delays between failed attempts: 10 ms, doubling, at most 5 s, starting over after a success. An API
/// server on the same machine is back within milliseconds.
#[derive(Debug)]
pub struct Retry {
    next: Duration,
}

impl Retry {
    const FIRST: Duration = Duration::from_millis(10);
    const LONGEST: Duration = Duration::from_secs(5);
}

impl Default for Retry {
    fn default() -> Self {
        Self { next: Self::FIRST }
    }
}

impl Iterator for Retry {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let delay = self.next;
        self.next = (delay * 2).min(Self::LONGEST);
        Some(delay)
    }
}

impl Backoff for Retry {
    fn reset(&mut self) {
        self.next = Self::FIRST;
    }
}
