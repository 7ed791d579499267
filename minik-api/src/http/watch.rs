//! Watches: the changes of a collection as a stream of JSON lines, or of protobuf frames.
//!
//! Changes come encoded out of storage; a watcher only frames them. The stream ends when its time is up,
//! when the server stops, or when the client is too slow for the window: it then starts again from the
//! last revision it saw, and is told so if that is gone.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::error::ApiError;
use crate::resource::decode::check;
use crate::resource::protobuf;
use crate::storage::{Document, Entry, Event, EventKind, Watch};

use super::call::Call;
use super::document;
use super::list_meta::{self, ListMeta};
use super::list_options;
use super::negotiate::{Representation, Shape};
use super::read::{reached, version};
use super::request::{Options, prefix};
use super::select::Selection;
use super::table;

/// How often a client that asked for bookmarks learns how far the history is.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How long before the end of a watch it learns so once more.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);
/// A client that names no timeout is disconnected after this, or up to twice as late, so that clients
/// do not all come back at once.
const DEFAULT_TIMEOUT_SECONDS: u64 = 1800;
/// No watch lasts longer, whatever the client names: a year.
const LONGEST_TIMEOUT_SECONDS: u64 = 31_536_000;
/// What changes can be streamed in.
const STREAMS: &str = "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";
/// About how much goes into one chunk when much is waiting.
const CHUNK: usize = 64 << 10;

/// Where a watch begins.
#[derive(Debug, PartialEq, Eq)]
enum Start {
    /// With every object there is, then what changes; `announce` marks the end of the first part.
    Everything { announce: bool },
    /// With what changes after this revision; none is now.
    After(Option<u64>),
}

/// Answers with the changes of the collection in the path.
///
/// # Errors
/// Options make no sense.
pub fn watch(call: Call) -> Result<Response, ApiError> {
    if call.accept.representation == Representation::Yaml {
        return Err(ApiError::NotAcceptable(STREAMS));
    }
    let selection = Selection::parse(call.kind(), &call.options)?;
    let cache = call.state.storage.cache();
    let start = start(&call.options, cache.revision())?;
    let prefix = prefix(call.info(), &call.target.namespace);
    let (watch, initial, announce) = match start {
        Start::After(Some(revision)) => match cache.watch(&prefix, revision) {
            Ok(watch) => (watch, VecDeque::new(), None),
            Err(compacted) => return failed(call.accept.representation, &compacted.into()),
        },
        Start::After(None) => (cache.watch_from_now(&prefix).1, VecDeque::new(), None),
        Start::Everything { announce } => {
            let (state, watch) = cache.watch_from_now(&prefix);
            let wanted = state
                .range(&prefix, None)
                .filter(|entry| selection.matches(call.kind(), entry));
            (watch, wanted.cloned().collect(), announce.then(|| state.revision()))
        }
    };
    let seconds = match call.options.number::<i64>("timeoutSeconds")? {
        None | Some(0) => rand::random_range(DEFAULT_TIMEOUT_SECONDS..=2 * DEFAULT_TIMEOUT_SECONDS),
        Some(seconds) => u64::try_from(seconds).unwrap_or_default().min(LONGEST_TIMEOUT_SECONDS),
    };
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let bookmark = call
        .options
        .flag("allowWatchBookmarks")
        .then(|| next_bookmark(deadline));
    let representation = call.accept.representation;
    let feed = Feed {
        deadline,
        announce: announce.filter(|_| bookmark.is_some()),
        call,
        selection,
        watch,
        initial,
        bookmark,
        described: false,
    };
    let chunks = stream::unfold(feed, |mut feed| async move {
        let chunk = feed.next().await?;
        Some((Ok::<_, Infallible>(chunk), feed))
    });
    Ok(streaming(representation, Body::from_stream(chunks)))
}

/// What the options ask for, while the history is at revision `current`.
fn start(options: &Options, current: u64) -> Result<Start, ApiError> {
    list_options::check(options, true)?;
    let revision = version(options)?;
    match options.get("sendInitialEvents") {
        None if revision.is_none() => Ok(Start::Everything { announce: false }),
        None | Some("false" | "0") => Ok(Start::After(revision)),
        Some(_) => {
            reached(revision.unwrap_or_default(), current)?;
            Ok(Start::Everything { announce: true })
        }
    }
}

struct Feed {
    call: Call,
    selection: Selection,
    watch: Watch,
    initial: VecDeque<Arc<Entry>>,
    /// The revision at which the initial objects were complete, until the client has been told.
    announce: Option<u64>,
    /// When the client learns next how far the history is, if it asked for that.
    bookmark: Option<Instant>,
    deadline: Instant,
    /// Whether a Table's columns were sent.
    described: bool,
}

impl Feed {
    /// The next lines; none ends the stream.
    async fn next(&mut self) -> Option<Bytes> {
        let mut chunk = Vec::new();
        while chunk.len() < CHUNK
            && let Some(entry) = self.initial.pop_front()
        {
            self.line(&mut chunk, "ADDED", &entry.value);
        }
        if self.initial.is_empty()
            && let Some(revision) = self.announce.take()
        {
            self.bookmark(&mut chunk, revision, true);
        }
        while chunk.is_empty() {
            tokio::select! {
                event = self.watch.next() => {
                    let event = event.ok()?;
                    self.event(&mut chunk, &event);
                    // What else is there goes along; an end is noticed on the next turn.
                    while chunk.len() < CHUNK && let Ok(Some(event)) = self.watch.try_next() {
                        self.event(&mut chunk, &event);
                    }
                }
                () = until(self.bookmark) => {
                    self.bookmark = Some(next_bookmark(self.deadline));
                    // Everything up to this revision is in the queue already, so once the queue is
                    // empty the client has seen it all.
                    let revision = self.call.state.storage.cache().revision();
                    while let Some(event) = self.watch.try_next().ok()? {
                        self.event(&mut chunk, &event);
                    }
                    self.bookmark(&mut chunk, revision, false);
                }
                () = sleep_until(self.deadline) => return None,
                () = self.call.state.shutdown.cancelled() => return None,
            }
        }
        Some(chunk.into())
    }

    fn event(&mut self, chunk: &mut Vec<u8>, event: &Event) {
        let kind = self.call.kind();
        let before = event
            .previous
            .as_ref()
            .filter(|entry| self.selection.matches(kind, entry));
        let wanted = event.kind != EventKind::Deleted && self.selection.matches(kind, &event.entry);
        match (before, wanted) {
            (None, true) => self.line(chunk, "ADDED", &event.entry.value),
            (Some(_), true) => self.line(chunk, "MODIFIED", &event.entry.value),
            (Some(_), false) if event.kind == EventKind::Deleted => {
                self.line(chunk, "DELETED", &event.entry.value);
            }
            (Some(before), false) => {
                let left = Document::restamp(&before.value, event.entry.revision);
                self.line(chunk, "DELETED", &left);
            }
            (None, false) => {}
        }
    }

    fn line(&mut self, chunk: &mut Vec<u8>, change: &str, document: &[u8]) {
        let written = match (self.call.accept.representation, self.call.accept.shape) {
            // The usual case is put together from bytes.
            (Representation::Json | Representation::Yaml, Shape::Full) => {
                chunk.extend_from_slice(format!("{{\"type\":\"{change}\",\"object\":").as_bytes());
                document::append_full(chunk, self.call.info(), document);
                chunk.extend_from_slice(b"}\n");
                return;
            }
            (_, Shape::Full) => document::parse(self.call.info(), document).map_err(ApiError::from),
            (_, Shape::Metadata) => document::partial(document).map_err(ApiError::from),
            (_, Shape::Table) => self.table(document),
        };
        let framed = written.and_then(|object| frame(self.call.accept.representation, change, &object));
        match framed {
            Ok(frame) => chunk.extend_from_slice(&frame),
            Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "a change cannot be shown"),
        }
    }

    fn table(&mut self, document: &[u8]) -> Result<Value, ApiError> {
        let row = table::row(&self.call, document)?;
        let described = std::mem::replace(&mut self.described, true);
        let meta = list_meta::revision(document);
        Ok(table::of(self.call.kind(), &meta, &[row], !described))
    }

    fn bookmark(&mut self, chunk: &mut Vec<u8>, revision: u64, initial_end: bool) {
        let meta = ListMeta {
            resource_version: revision.to_string(),
            ..ListMeta::default()
        };
        let object = match self.call.accept.shape {
            Shape::Table => Ok(table::of(self.call.kind(), &meta, &[], false)),
            Shape::Metadata => Ok(json!({
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": meta,
            })),
            // An empty object as Go writes one: structs by value are there.
            Shape::Full => check(&json!({"metadata": meta}), self.call.info()).map(|(object, _)| object),
        };
        let framed = object.map_err(ApiError::from).and_then(|mut object| {
            if initial_end {
                object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
            }
            frame(self.call.accept.representation, "BOOKMARK", &object)
        });
        match framed {
            Ok(frame) => chunk.extend_from_slice(&frame),
            Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "a bookmark cannot be shown"),
        }
    }
}

/// A while from now, or shortly before the end: a client that comes back then has little to catch up with.
fn next_bookmark(deadline: Instant) -> Instant {
    let now = Instant::now();
    let regular = now + BOOKMARK_EVERY;
    match deadline.checked_sub(BOOKMARK_BEFORE_END) {
        Some(last) if last > now => regular.min(last),
        _ => regular,
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// One event as it goes over the wire.
fn frame(representation: Representation, change: &str, object: &Value) -> Result<Vec<u8>, ApiError> {
    if representation == Representation::Protobuf {
        return protobuf::watch_frame(change, object).map_err(|error| ApiError::Internal(error.to_string()));
    }
    let mut line = json!({"type": change, "object": object}).to_string().into_bytes();
    line.push(b'\n');
    Ok(line)
}

/// A stream that says why it could not start, where a watching client looks for it.
fn failed(representation: Representation, error: &ApiError) -> Result<Response, ApiError> {
    let status = serde_json::to_value(error.status())?;
    let event = frame(representation, "ERROR", &status)?;
    Ok(streaming(representation, event.into()))
}

fn streaming(representation: Representation, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    let media_type = match representation {
        Representation::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        Representation::Json | Representation::Yaml => "application/json",
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}
