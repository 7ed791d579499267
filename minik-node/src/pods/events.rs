//! Events about Pods and Services, as `kubectl describe` shows them: core/v1, in the name of the component that
//! minik's agent stands for, repeated ones counted.
//!
//! Owns one task and a bounded queue: an API server that is away costs events, never a Pod's progress.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use tokio::sync::mpsc;

/// Events that wait for the API server.
const QUEUE: usize = 256;
/// Events whose repetitions are counted rather than written anew.
const REMEMBERED: usize = 1024;
/// Events about one object that are written at once, and how long each after them waits: the kubelet's spam filter.
const BURST: f64 = 25.0;
const REFILL: SignedDuration = SignedDuration::from_secs(300);
const TIMEOUT: Duration = Duration::from_secs(10);

/// One thing that happened.
#[derive(Debug, Clone)]
struct Happening {
    reference: ObjectReference,
    warning: bool,
    reason: &'static str,
    message: String,
    at: Timestamp,
}

/// Writes events; cheap to clone.
#[derive(Debug, Clone)]
pub struct Events {
    queue: mpsc::Sender<Happening>,
}

impl Events {
    /// Starts the task that writes them for `component` (`kubelet`, `kube-proxy`) of `node`; it ends with the last
    /// handle.
    #[must_use]
    pub fn spawn(client: Client, component: &'static str, node: String) -> Self {
        let (queue, happenings) = mpsc::channel(QUEUE);
        tokio::spawn(write_all(client, component, node, happenings));
        Self { queue }
    }

    /// Says that something normal happened, to the Pod or to one of its containers.
    pub fn normal(&self, pod: &Pod, container: Option<&str>, reason: &'static str, message: impl Into<String>) {
        self.add(pod, container, false, reason, message.into());
    }

    /// Says that something went wrong.
    pub fn warning(&self, pod: &Pod, container: Option<&str>, reason: &'static str, message: impl Into<String>) {
        self.add(pod, container, true, reason, message.into());
    }

    fn add(&self, pod: &Pod, container: Option<&str>, warning: bool, reason: &'static str, message: String) {
        let reference = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: pod.metadata.name.clone(),
            namespace: pod.metadata.namespace.clone(),
            uid: pod.metadata.uid.clone(),
            resource_version: pod.metadata.resource_version.clone(),
            field_path: container.map(|name| field_path(pod, name)),
        };
        self.enqueue(reference, warning, reason, message);
    }

    /// Says that something happened to another object.
    pub fn normal_about(&self, reference: ObjectReference, reason: &'static str, message: impl Into<String>) {
        self.enqueue(reference, false, reason, message.into());
    }

    /// Says that something went wrong with another object.
    pub fn warning_about(&self, reference: ObjectReference, reason: &'static str, message: impl Into<String>) {
        self.enqueue(reference, true, reason, message.into());
    }

    fn enqueue(&self, reference: ObjectReference, warning: bool, reason: &'static str, message: String) {
        let happening = Happening {
            reference,
            warning,
            reason,
            message,
            at: Timestamp::now(),
        };
        if let Err(error) = self.queue.try_send(happening) {
            tracing::warn!(%error, "event lost");
        }
    }
}

fn field_path(pod: &Pod, container: &str) -> String {
    let init = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_ref());
    let is_init = init.is_some_and(|init| init.iter().any(|other| other.name == container));
    format!(
        "spec.{}{{{container}}}",
        if is_init { "initContainers" } else { "containers" }
    )
}

/// How many more events an object may have: a token bucket.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Timestamp,
}

impl Bucket {
    fn full(at: Timestamp) -> Self {
        Self { tokens: BURST, at }
    }

    fn take(&mut self, now: Timestamp) -> bool {
        // Nobody loses anything when the clock is set back.
        let gained = now.duration_since(self.at).as_secs_f64().max(0.0) / REFILL.as_secs_f64();
        self.tokens = (self.tokens + gained.max(0.0)).min(BURST);
        self.at = now;
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

type Key = (Option<String>, Option<String>, &'static str, String);

async fn write_all(client: Client, component: &'static str, node: String, mut happenings: mpsc::Receiver<Happening>) {
    let mut known: BTreeMap<Key, (String, i32)> = BTreeMap::new();
    let mut buckets: BTreeMap<Option<String>, Bucket> = BTreeMap::new();
    while let Some(happening) = happenings.recv().await {
        let reference = &happening.reference;
        if buckets.len() >= REMEMBERED {
            buckets.clear();
        }
        let bucket = buckets
            .entry(reference.uid.clone())
            .or_insert(Bucket::full(happening.at));
        if !bucket.take(happening.at) {
            tracing::debug!(reason = happening.reason, "event left out: its object has had many");
            continue;
        }
        let key = (
            reference.uid.clone(),
            reference.field_path.clone(),
            happening.reason,
            happening.message.clone(),
        );
        let before = known.get(&key).cloned();
        match tokio::time::timeout(TIMEOUT, write(&client, (component, &node), &happening, before)).await {
            Ok(Ok(written)) => {
                if known.len() >= REMEMBERED {
                    known.clear();
                }
                known.insert(key, written);
            }
            Ok(Err(error)) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                reason = happening.reason,
                "write event"
            ),
            Err(_) => tracing::warn!(reason = happening.reason, "write event: the API server does not answer"),
        }
    }
}

async fn write(
    client: &Client,
    (component, node): (&str, &str),
    happening: &Happening,
    before: Option<(String, i32)>,
) -> kube::Result<(String, i32)> {
    let namespace = happening.reference.namespace.clone().unwrap_or_default();
    let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
    let at = Time(happening.at);
    if let Some((name, count)) = before {
        let patch = serde_json::json!({"count": count + 1, "lastTimestamp": at});
        match api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => return Ok((name, count + 1)),
            // It has aged out: write it anew.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    let name = format!(
        "{}.{:016x}",
        happening.reference.name.as_deref().unwrap_or_default(),
        rand::random::<u64>()
    );
    let event = Event {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(namespace),
            ..ObjectMeta::default()
        },
        involved_object: happening.reference.clone(),
        type_: Some(if happening.warning { "Warning" } else { "Normal" }.to_owned()),
        reason: Some(happening.reason.to_owned()),
        message: Some(happening.message.clone()),
        source: Some(EventSource {
            component: Some(component.to_owned()),
            host: Some(node.to_owned()),
        }),
        reporting_component: Some(component.to_owned()),
        reporting_instance: Some(node.to_owned()),
        count: Some(1),
        first_timestamp: Some(at.clone()),
        last_timestamp: Some(at),
        ..Event::default()
    };
    api.create(&PostParams::default(), &event).await?;
    Ok((name, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_has_a_burst_of_events_and_then_one_in_five_minutes() {
        let at = |seconds: i64| Timestamp::from_second(1_000_000 + seconds).unwrap();
        let mut bucket = Bucket::full(at(0));
        assert_eq!((0..100).filter(|_| bucket.take(at(1))).count(), 25);
        assert!(!bucket.take(at(200)));
        assert!(bucket.take(at(302)));
        assert!(!bucket.take(at(303)));
    }
}
