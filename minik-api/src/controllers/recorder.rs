//! Events: what controllers tell people who run `kubectl describe`.
//!
//! Recording never holds a controller up: events go through a bounded channel to one writer, and
//! what does not fit is dropped with a log line. Repetitions raise `count` on the first event, as
//! Kubernetes' recorder does.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use serde_json::json;
use tokio::sync::mpsc;

use super::error::is_not_found;

/// Events that may wait for the writer.
const WAITING: usize = 2048;
/// Distinct events whose repetitions are counted.
const REMEMBERED: usize = 1024;

/// How grave an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// Things go as they should.
    Normal,
    /// Somebody may want to look.
    Warning,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// What happened, in Kubernetes' words.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Note {
    /// Normal or Warning.
    pub severity: Severity,
    /// CamelCase reason, for example `ScalingReplicaSet`.
    pub reason: &'static str,
    /// One sentence.
    pub message: String,
}

/// The sending half, one for each component; see the module's documentation.
#[derive(Clone)]
pub struct Recorder {
    component: &'static str,
    /// The scheduler writes the newer form: an action and `eventTime` in place of a source.
    action: Option<&'static str>,
    sender: mpsc::Sender<Event>,
}

impl Recorder {
    /// The recorder of one more component, over the same writer.
    pub fn component(&self, component: &'static str, action: Option<&'static str>) -> Self {
        Self {
            component,
            action,
            sender: self.sender.clone(),
        }
    }

    /// Records `note` about `object`.
    pub fn record<K: Resource<DynamicType = ()>>(&self, object: &K, note: Note, now: Timestamp) {
        let about = ObjectReference {
            field_path: None,
            ..object.object_ref(&())
        };
        if self.sender.try_send(self.event(about, note, now)).is_err() {
            tracing::warn!(component = self.component, "too many events; one is dropped");
        }
    }

    fn event(&self, about: ObjectReference, note: Note, now: Timestamp) -> Event {
        let namespace = about.namespace.clone().unwrap_or_else(|| "default".into());
        let name = format!(
            "{}.{:x}",
            about.name.as_deref().unwrap_or_default(),
            now.as_nanosecond()
        );
        let legacy = self.action.is_none();
        Event {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(namespace),
                ..ObjectMeta::default()
            },
            involved_object: about,
            reason: Some(note.reason.into()),
            message: Some(note.message),
            type_: Some(note.severity.as_str().into()),
            source: legacy.then(|| EventSource {
                component: Some(self.component.into()),
                host: None,
            }),
            first_timestamp: legacy.then_some(Time(now)),
            last_timestamp: legacy.then_some(Time(now)),
            count: legacy.then_some(1),
            event_time: (!legacy).then_some(MicroTime(now)),
            action: self.action.map(Into::into),
            reporting_component: Some(self.component.into()),
            reporting_instance: Some(self.component.into()).filter(|_| !legacy),
            ..Event::default()
        }
    }
}

/// A recorder, and the events it will send to [`write`](fn@write).
pub fn recorder() -> (Recorder, mpsc::Receiver<Event>) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (
        Recorder {
            component: "minik",
            action: None,
            sender,
        },
        receiver,
    )
}

/// What makes two events the same event.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    uid: Option<String>,
    reason: Option<String>,
    message: Option<String>,
    component: Option<String>,
}

impl Identity {
    fn of(event: &Event) -> Self {
        Self {
            uid: event.involved_object.uid.clone(),
            reason: event.reason.clone(),
            message: event.message.clone(),
            component: event.reporting_component.clone(),
        }
    }
}

/// Writes events to the API until all recorders are gone. An event that the server refuses, for
/// instance because its namespace is being deleted, is logged and forgotten.
pub async fn write(client: Client, mut events: mpsc::Receiver<Event>) {
    let mut written: BTreeMap<Identity, (String, i32)> = BTreeMap::new();
    while let Some(event) = events.recv().await {
        let api: Api<Event> = Api::namespaced(client.clone(), event.metadata.namespace.as_deref().unwrap_or("default"));
        let identity = Identity::of(&event);
        let result = match written.get_mut(&identity) {
            Some((name, count)) => {
                *count += 1;
                repeat(&api, name, *count, &event).await
            }
            None => api.create(&PostParams::default(), &event).await,
        };
        match result {
            Ok(event) => {
                if written.len() >= REMEMBERED {
                    written.clear();
                }
                let name = event.metadata.name.unwrap_or_default();
                written.entry(identity).or_insert((name, 1));
            }
            Err(error) => {
                written.remove(&identity);
                tracing::debug!(%error, reason = event.reason, "an event was not recorded");
            }
        }
    }
}

async fn repeat(api: &Api<Event>, name: &str, count: i32, event: &Event) -> Result<Event, kube::Error> {
    let patch = match event.event_time {
        None => json!({"count": count, "lastTimestamp": event.last_timestamp}),
        Some(ref time) => json!({"series": {"count": count, "lastObservedTime": time}}),
    };
    match api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
        // Events expire; a repetition then starts anew.
        Err(error) if is_not_found(&error) => api.create(&PostParams::default(), event).await,
        other => other,
    }
}
