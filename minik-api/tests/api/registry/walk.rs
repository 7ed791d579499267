//! One walk: a server of its own, one object of one kind, steps as choices say, and a watch from before the first to after
//! the last. What the server says is held against what was asked and what is then there.

use std::time::Duration;

use arbitrary::{Result as Choice, Unstructured};
use futures::TryStreamExt;
use kube::Client;
use kube::api::{DeleteParams, PostParams, WatchEvent, WatchParams};
use kube::core::Request;
use minik_api::resource::{KindInfo, Subresource};
use minik_api::server::{Identity, in_process_client};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::laws::{self, Broken, Door, text};
use crate::common::Server;
use crate::objects::Generator;

/// Writes between the first and the deletion.
const MOST_STEPS: u8 = 6;
const MANAGER: &str = "walker";
/// Namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];
const SOON: Duration = Duration::from_secs(5);

/// What became of a walk.
pub struct Walked {
    /// Whether the first object was accepted.
    pub created: bool,
}

/// The types of patches, as their media types call them.
const PATCHES: [&str; 3] = ["json-patch+json", "merge-patch+json", "strategic-merge-patch+json"];

struct Walk<'g> {
    server: Server,
    client: Client,
    info: &'static KindInfo,
    generator: &'g Generator,
    /// Path of the kind's collection.
    collection: String,
    /// The object, once it is made.
    name: String,
    /// Its name as a segment of a path.
    segment: String,
    /// Whether the kind counts its changes.
    counts: bool,
    /// What the watch has to tell, in order.
    events: Vec<(&'static str, Value)>,
}

/// What one request asks for.
struct Ask {
    method: &'static str,
    door: Door,
    query: String,
    media_type: &'static str,
    body: Value,
}

/// Walks as `choices` say.
pub async fn walk(info: &'static KindInfo, generator: &Generator, choices: &[u8]) -> Result<Walked, Broken> {
    let server = Server::start().await;
    let mut walk = Walk {
        client: in_process_client(&server.state, Identity::admin()),
        server,
        info,
        generator,
        collection: collection(info),
        name: String::new(),
        segment: String::new(),
        counts: false,
        events: Vec::new(),
    };
    let start = walk.read(&walk.collection.clone()).await?.ok_or("no such collection")?;
    let mut u = Unstructured::new(choices);
    // Choices that have run out are the plainest there are; nothing fails for want of them.
    let created = walk.create(&mut u).await?;
    if created {
        let steps = u.int_in_range(0..=MOST_STEPS).unwrap_or_default();
        for _ in 0..steps {
            walk.step(&mut u).await?;
        }
        walk.end().await?;
    }
    walk.watched(&laws::version(&start).to_string()).await?;
    Ok(Walked { created })
}

fn collection(info: &KindInfo) -> String {
    let root = match info.group {
        "" => format!("/api/{}", info.version),
        group => format!("/apis/{group}/{}", info.version),
    };
    match info.namespaced {
        true => format!("{root}/namespaces/demo/{}", info.plural),
        false => format!("{root}/{}", info.plural),
    }
}

impl Walk<'_> {
    /// Makes the object that the walk is about; a refusal leaves nothing behind.
    async fn create(&mut self, u: &mut Unstructured<'_>) -> Result<bool, Broken> {
        let body = self.generator.object(u, self.info).unwrap_or_default();
        let dry = !u.ratio(7, 8).unwrap_or(true);
        let params = PostParams {
            dry_run: dry,
            ..PostParams::default()
        };
        let before = self.count().await?;
        let request = Request::new(&self.collection).create(&params, body.to_string().into_bytes());
        let made = self.send(request.map_err(|e| e.to_string())?).await?;
        let Some(made) = made.filter(|_| !dry) else {
            return match self.count().await? == before {
                true => Ok(false),
                false => Err(format!("a refusal or a dry run changed the collection: {body}")),
            };
        };
        let name = text(&made, "/metadata/name");
        // Names of roles may hold what paths may not.
        self.segment = utf8_percent_encode(name, NON_ALPHANUMERIC).to_string();
        name.clone_into(&mut self.name);
        let generation = "/metadata/generation";
        self.counts = made.pointer(generation).is_some() && body.pointer(generation).is_none();
        laws::kept(self.info, &body, &made)?;
        let stored = self.now().await?.ok_or("what was made is not there")?;
        self.same(&made, &stored)?;
        laws::settled(self.info, &stored)?;
        self.events.push(("ADDED", stored));
        Ok(true)
    }

    /// One write of any kind.
    async fn step(&mut self, u: &mut Unstructured<'_>) -> Result<(), Broken> {
        let Some(before) = self.now().await? else { return Ok(()) };
        let Ok(ask) = self.ask(u, &before) else { return Ok(()) };
        let dry = ask.query.contains("dryRun");
        let answer = self.send(self.request(&ask)).await?;
        let after = self.now().await?;
        let (Some(answer), Some(after)) = (answer.filter(|_| !dry), &after) else {
            if answer_was_final(&before, after.as_ref()) {
                return self.gone(before);
            }
            return match after.as_ref() == Some(&before) {
                true => Ok(()),
                false => Err(format!(
                    "a refusal or a dry run of {} changed {before} to {after:?}",
                    ask.body
                )),
            };
        };
        self.same(&answer, after)?;
        if *after == before {
            return Ok(());
        }
        laws::changed(self.info, self.counts, ask.door, &before, after)?;
        laws::settled(self.info, after)?;
        self.events.push(("MODIFIED", after.clone()));
        if ask.media_type == "apply-patch+yaml" {
            laws::owned(self.info, ask.door, MANAGER, &ask.body, after)?;
            self.again(&ask, after).await?;
        } else if ask.method == "PUT" && ask.door == Door::Main {
            laws::kept(self.info, &ask.body, after)?;
        }
        Ok(())
    }

    /// What was applied and is applied again writes nothing.
    async fn again(&self, ask: &Ask, after: &Value) -> Result<(), Broken> {
        self.send(self.request(ask))
            .await?
            .ok_or("what was applied is refused when it is applied again")?;
        match self.now().await?.as_ref() == Some(after) {
            true => Ok(()),
            false => Err(format!("{} changes something each time: {after}", ask.body)),
        }
    }

    fn ask(&self, u: &mut Unstructured<'_>, before: &Value) -> Choice<Ask> {
        let mut wanted = before.clone();
        wanted["metadata"]
            .as_object_mut()
            .map(|metadata| metadata.remove("managedFields"));
        let changes = u.int_in_range(0..=2)?;
        for _ in 0..changes {
            self.generator.change(u, self.info, &mut wanted)?;
        }
        let has_status = self.info.subresources.contains(&Subresource::Status);
        let door = if has_status && !u.ratio(3, 4)? {
            Door::Status
        } else {
            Door::Main
        };
        let dry = if u.ratio(7, 8)? { "" } else { "&dryRun=All" };
        let (method, media_type, body) = match u.int_in_range(0..=5)? {
            0 | 1 => {
                let metadata = wanted["metadata"].as_object_mut();
                metadata.into_iter().for_each(|metadata| {
                    ["uid", "resourceVersion", "creationTimestamp", "generation"]
                        .iter()
                        .for_each(|field| drop(metadata.remove(*field)));
                });
                ("PATCH", "apply-patch+yaml", wanted)
            }
            2 => ("PUT", "json", wanted),
            kind => {
                let media_type = PATCHES[kind - 3];
                let fields: Vec<String> = wanted
                    .as_object()
                    .into_iter()
                    .flatten()
                    .map(|(name, _)| name.clone())
                    .collect();
                let field = u.choose(&fields)?;
                let body = if media_type == "json-patch+json" {
                    json!([{"op": "replace", "path": format!("/{field}"), "value": wanted[field]}])
                } else {
                    json!({field.as_str(): wanted[field]})
                };
                ("PATCH", media_type, body)
            }
        };
        let forced = if media_type == "apply-patch+yaml" && u.ratio(3, 4)? {
            "&force=true"
        } else {
            ""
        };
        let query = format!("?fieldManager={MANAGER}{forced}{dry}");
        Ok(Ask {
            method,
            door,
            query,
            media_type,
            body,
        })
    }

    /// Deletes the object: what holds it up is let go first, and afterwards it is gone with all that it held.
    async fn end(&mut self) -> Result<(), Broken> {
        let Some(before) = self.now().await? else { return Ok(()) };
        if self.info.kind == "Namespace" && IMMORTAL.contains(&self.name.as_str()) {
            return Ok(());
        }
        let request = Request::new(&self.collection).delete(&self.segment, &DeleteParams::background().grace_period(0));
        self.send(request.map_err(|e| e.to_string())?)
            .await?
            .ok_or("its deletion is refused")?;
        let mut last = before.clone();
        if let Some(marked) = self.now().await? {
            if marked != before {
                laws::changed(self.info, self.counts, Door::Main, &before, &marked).or_else(|broken| {
                    match self.info.kind {
                        // Its phase tells of the deletion.
                        "Namespace" => Ok(()),
                        _ => Err(broken),
                    }
                })?;
                self.events.push(("MODIFIED", marked.clone()));
            }
            last = self.release(marked).await?;
        }
        match self.now().await? {
            None => self.gone(last),
            Some(left) => Err(format!("its deletion does not end: {left}")),
        }?;
        self.freed(&before).await
    }

    /// Empties the finalizers of an object that waits for them.
    async fn release(&mut self, marked: Value) -> Result<Value, Broken> {
        let mut last = marked;
        if self.info.kind == "Namespace" {
            let mut body = last.clone();
            body["spec"] = json!({});
            let path = format!("{}/{}/finalize", self.collection, self.segment);
            let answer = self.server.put(&path, &body).await;
            if answer.code != http::StatusCode::OK {
                return Err(format!("finalize: {}", answer.message()));
            }
            match self.now().await? {
                Some(now) => {
                    self.events.push(("MODIFIED", now.clone()));
                    last = now;
                }
                None => return Ok(last),
            }
        }
        if last.pointer("/metadata/finalizers").is_some() {
            let ask = Ask {
                method: "PATCH",
                door: Door::Main,
                query: String::new(),
                media_type: "merge-patch+json",
                body: json!({"metadata": {"finalizers": null}}),
            };
            self.send(self.request(&ask)).await?.ok_or("letting go is refused")?;
        }
        Ok(last)
    }

    /// Notes that the object is gone; the watch tells its last state.
    fn gone(&mut self, last: Value) -> Result<(), Broken> {
        self.events.push(("DELETED", last));
        Ok(())
    }

    /// The numbers that a Service held are to be had again.
    async fn freed(&self, before: &Value) -> Result<(), Broken> {
        if self.info.kind != "Service" {
            return Ok(());
        }
        let address = text(before, "/spec/clusterIP");
        if !matches!(address, "" | "None")
            && self
                .read(&format!("/apis/networking.k8s.io/v1/ipaddresses/{address}"))
                .await?
                .is_some()
        {
            return Err(format!("the IPAddress of a deleted Service is left: {address}"));
        }
        let mut ports = Vec::new();
        for (at, port) in before["spec"]["ports"].as_array().into_iter().flatten().enumerate() {
            let number = port["nodePort"].as_i64().filter(|number| *number != 0);
            ports.extend(number.map(|number| json!({"name": format!("p{at}"), "port": at + 1, "nodePort": number, "protocol": port["protocol"]})));
        }
        if ports.is_empty() {
            return Ok(());
        }
        let body = json!({"metadata": {"name": "again"}, "spec": {"type": "NodePort", "ports": ports}});
        let answer = self
            .server
            .post(&format!("{}?dryRun=All", self.collection), &body)
            .await;
        match answer.code {
            http::StatusCode::CREATED => Ok(()),
            _ => Err(format!(
                "node ports of a deleted Service are held: {}",
                answer.message()
            )),
        }
    }

    /// The watch since before the first write tells exactly the writes.
    async fn watched(&self, start: &str) -> Result<(), Broken> {
        let request = Request::new(&self.collection).watch(&WatchParams::default(), start);
        let events = self
            .client
            .request_events::<Value>(request.map_err(|e| e.to_string())?)
            .await;
        let mut events = std::pin::pin!(events.map_err(|e| e.to_string())?);
        for (number, (kind, object)) in self.events.iter().enumerate() {
            let next = tokio::time::timeout(SOON, events.try_next()).await;
            let next = next.map_err(|_elapsed| format!("event {number} does not come: {kind} {object}"))?;
            let (told, seen) = match next.map_err(|e| e.to_string())?.ok_or("the watch ended")? {
                WatchEvent::Added(seen) => ("ADDED", seen),
                WatchEvent::Modified(seen) => ("MODIFIED", seen),
                WatchEvent::Deleted(seen) => ("DELETED", seen),
                other => return Err(format!("{other:?}")),
            };
            let same = match told {
                // The last state has the deletion's revision.
                "DELETED" => text(&seen, "/metadata/uid") == text(object, "/metadata/uid"),
                _ => seen == *object,
            };
            if told != *kind || !same {
                return Err(format!("event {number} tells {told} {seen} and not {kind} {object}"));
            }
        }
        Ok(())
    }

    fn same(&self, answer: &Value, stored: &Value) -> Result<(), Broken> {
        match answer == stored {
            true => Ok(()),
            false => Err(format!("the answer is not what is there: {answer} {stored}")),
        }
    }

    fn request(&self, ask: &Ask) -> http::Request<Vec<u8>> {
        let part = match ask.door {
            Door::Main => "",
            Door::Status => "/status",
        };
        http::Request::builder()
            .method(ask.method)
            .uri(format!("{}/{}{part}{}", self.collection, self.segment, ask.query))
            .header("content-type", format!("application/{}", ask.media_type))
            .body(ask.body.to_string().into_bytes())
            .expect("is a request")
    }

    /// The answer; nothing when the server refuses. A server that fails breaks every law.
    async fn send(&self, request: http::Request<Vec<u8>>) -> Result<Option<Value>, Broken> {
        let asked = format!(
            "{} {} {}",
            request.method(),
            request.uri(),
            String::from_utf8_lossy(request.body())
        );
        match self.client.request::<Value>(request).await {
            Ok(answer) => Ok(Some(answer)),
            Err(kube::Error::Api(status)) if status.code != 500 || is_kubernetes_own(&status.message) => Ok(None),
            Err(error) => Err(format!("{asked}: {error}")),
        }
    }

    async fn read(&self, path: &str) -> Result<Option<Value>, Broken> {
        let request = http::Request::get(path).body(Vec::new()).expect("is a request");
        self.send(request).await
    }

    async fn now(&self) -> Result<Option<Value>, Broken> {
        self.read(&format!("{}/{}", self.collection, self.segment)).await
    }

    async fn count(&self) -> Result<usize, Broken> {
        let list = self.read(&self.collection).await?.ok_or("the collection is gone")?;
        Ok(list["items"].as_array().map_or(0, Vec::len))
    }
}

/// Whether a write was the last one that a deletion waited for.
fn answer_was_final(before: &Value, after: Option<&Value>) -> bool {
    after.is_none() && before.pointer("/metadata/deletionTimestamp").is_some()
}

/// Errors that a 1.36 API server answers with 500 as well.
fn is_kubernetes_own(message: &str) -> bool {
    const OWN: &[&str] = &[
        "resourceVersion should not be set on objects to be created",
        "failed to create typed patch object",
        "unable to find api field",
        "map: map[",
    ];
    OWN.iter().any(|text| message.contains(text))
}
