//! Events about Pods and Services, as `kubectl describe` shows them: core/v1, in the name of the component that
//! minik's agent stands for; which ones is decided by [`minik_events`].
//!
//! Owns one task and a bounded queue: an API server that is away costs events, never a Pod's progress.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use minik_events::{Correlator, Telling};
use tokio::sync::mpsc;

/// Events that wait for the API server.
const QUEUE: usize = 256;
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

async fn write_all(client: Client, component: &'static str, node: String, mut happenings: mpsc::Receiver<Happening>) {
    let mut correlator = Correlator::default();
    while let Some(happening) = happenings.recv().await {
        let reference = &happening.reference;
        let Some(telling) = correlator.observe(minik_events::Happening {
            component,
            uid: reference.uid.as_deref().unwrap_or_default(),
            field_path: reference.field_path.as_deref().unwrap_or_default(),
            warning: happening.warning,
            reason: happening.reason,
            message: &happening.message,
            at: happening.at,
        }) else {
            tracing::debug!(reason = happening.reason, "event left out: its object has had many");
            continue;
        };
        match tokio::time::timeout(TIMEOUT, write(&client, (component, &node), &happening, &telling)).await {
            Ok(Ok(name)) => correlator.told(&telling.identity, name),
            Ok(Err(error)) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                reason = happening.reason,
                "write event"
            ),
            Err(_) => tracing::warn!(reason = happening.reason, "write event: the API server does not answer"),
        }
    }
}

/// Gives the name under which it is told.
async fn write(
    client: &Client,
    (component, node): (&str, &str),
    happening: &Happening,
    telling: &Telling,
) -> kube::Result<String> {
    let namespace = happening.reference.namespace.clone().unwrap_or_default();
    let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
    let at = Time(happening.at);
    if let Some(name) = &telling.name {
        let patch = serde_json::json!({"count": telling.count, "lastTimestamp": at, "message": telling.message});
        match api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => return Ok(name.clone()),
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
        message: Some(telling.message.clone()),
        source: Some(EventSource {
            component: Some(component.to_owned()),
            host: Some(node.to_owned()),
        }),
        reporting_component: Some(component.to_owned()),
        reporting_instance: Some(node.to_owned()),
        count: Some(telling.count),
        first_timestamp: Some(Time(telling.first)),
        last_timestamp: Some(at),
        ..Event::default()
    };
    api.create(&PostParams::default(), &event).await?;
    Ok(name)
}
