//! Events: what controllers tell people who run `kubectl describe`.
//!
//! Recording never holds a controller up: events go through a bounded channel to one writer, and
//! what does not fit is dropped with a log line. Which are written, and what repetitions become, is decided by
//! [`minik_events`].

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use minik_events::{Correlator, Happening};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::error::is_not_found;

/// Events that may wait for the writer.
const WAITING: usize = 2048;
/// Series that are remembered.
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

/// Writes events to the API until all recorders are gone. An event that the server refuses, for
/// instance because its namespace is being deleted, is logged and forgotten.
pub async fn write(client: Client, mut events: mpsc::Receiver<Event>) {
    let mut correlator = Correlator::default();
    let mut series = Series::default();
    while let Some(event) = events.recv().await {
        let told = if event.event_time.is_some() {
            series.write(&client, event).await
        } else {
            write_counted(&client, &mut correlator, event).await
        };
        if let Err(error) = told {
            tracing::debug!(%error, "an event was not recorded");
        }
    }
}

/// An event of the older form: counted, aggregated and filtered as client-go does it.
async fn write_counted(client: &Client, correlator: &mut Correlator, mut event: Event) -> Result<(), kube::Error> {
    let (reason, message) = (event.reason.as_deref(), event.message.as_deref());
    let Some(telling) = correlator.observe(Happening {
        component: event.reporting_component.as_deref().unwrap_or_default(),
        uid: event.involved_object.uid.as_deref().unwrap_or_default(),
        field_path: event.involved_object.field_path.as_deref().unwrap_or_default(),
        warning: event.type_.as_deref() == Some(Severity::Warning.as_str()),
        reason: reason.unwrap_or_default(),
        message: message.unwrap_or_default(),
        at: event
            .last_timestamp
            .as_ref()
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
    }) else {
        return Ok(());
    };
    let repeated = json!({"count": telling.count, "lastTimestamp": event.last_timestamp, "message": telling.message});
    event.message = Some(telling.message);
    event.count = Some(telling.count);
    event.first_timestamp = Some(Time(telling.first));
    let name = put(client, &event, telling.name.as_deref(), repeated).await?;
    correlator.told(&telling.identity, name);
    Ok(())
}

/// Events of the newer form: the same one again lengthens its series.
#[derive(Default)]
struct Series(BTreeMap<Identity, (String, i32)>);

/// What makes two events one of a series.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    uid: Option<String>,
    reason: Option<String>,
    message: Option<String>,
    component: Option<String>,
}

impl Series {
    async fn write(&mut self, client: &Client, event: Event) -> Result<(), kube::Error> {
        let identity = Identity {
            uid: event.involved_object.uid.clone(),
            reason: event.reason.clone(),
            message: event.message.clone(),
            component: event.reporting_component.clone(),
        };
        let before = self.0.remove(&identity);
        let count = before.as_ref().map_or(1, |(_, count)| count.saturating_add(1));
        let repeated = json!({"series": {"count": count, "lastObservedTime": event.event_time}});
        let name = put(client, &event, before.as_ref().map(|(name, _)| name.as_str()), repeated).await?;
        if self.0.len() >= REMEMBERED {
            self.0.clear();
        }
        self.0.insert(identity, (name, count));
        Ok(())
    }
}

/// Writes `repeated` into the event that is told already, or `event` as a new one; gives its name.
async fn put(client: &Client, event: &Event, told: Option<&str>, repeated: Value) -> Result<String, kube::Error> {
    let namespace = event.metadata.namespace.as_deref().unwrap_or("default");
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    if let Some(name) = told {
        match api.patch(name, &PatchParams::default(), &Patch::Merge(repeated)).await {
            // Events expire; a repetition then starts anew.
            Err(error) if is_not_found(&error) => {}
            other => return other.map(|_| name.to_owned()),
        }
    }
    let created = api.create(&PostParams::default(), event).await?;
    Ok(created.metadata.name.unwrap_or_default())
}
