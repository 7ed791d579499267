//! As much of an API server as a Pod manager talks to: Pods and what they name are watched, tokens issued, everything
//! else taken note of.

use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::watch;

/// Shared between server and test.
#[derive(Clone)]
pub struct Api {
    state: Arc<Mutex<Objects>>,
    changed: watch::Sender<usize>,
}

#[derive(Default)]
struct Objects {
    /// By path.
    pods: Vec<(String, Value)>,
    others: Vec<(String, Value)>,
    /// Changes of Pods and others, with the paths of the objects.
    changes: Vec<(String, Value)>,
    /// Bodies of requests for tokens.
    tokens: Vec<Value>,
    events: Vec<Value>,
}

impl Api {
    /// Serves at `socket` for as long as the runtime lives.
    pub fn serve(socket: &Path) -> Self {
        let api = Self {
            state: Arc::default(),
            changed: watch::channel(0).0,
        };
        let listener = UnixListener::bind(socket).unwrap();
        let app = Router::new().fallback(handle).with_state(api.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        api
    }

    /// Adds or replaces an object that is only read.
    pub fn add(&self, path: &str, object: Value) {
        let mut state = self.state.lock().unwrap();
        state.others.retain(|(other, _)| other != path);
        let mut object = object;
        object["metadata"]["resourceVersion"] = json!((state.changes.len() + 1).to_string());
        state.others.push((path.to_owned(), object.clone()));
        let event = json!({"type": "MODIFIED", "object": object});
        state.changes.push((path.to_owned(), event));
        let version = state.changes.len();
        drop(state);
        self.changed.send_replace(version);
    }

    /// Bodies of all requests for tokens so far.
    pub fn token_requests(&self) -> Vec<Value> {
        self.state.lock().unwrap().tokens.clone()
    }

    /// Changes a Pod's metadata.
    pub fn annotate(&self, name: &str, key: &str, value: &str) {
        let path = format!("/api/v1/namespaces/default/pods/{name}");
        self.change(&path, "MODIFIED", |pod| {
            pod["metadata"]["annotations"][key] = json!(value);
        });
    }

    /// Creates or replaces a Pod.
    pub fn put(&self, pod: Value) {
        let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
        self.change(&format!("/api/v1/namespaces/default/pods/{name}"), "MODIFIED", |old| {
            *old = pod;
        });
    }

    /// Asks for a Pod's graceful deletion.
    pub fn delete(&self, name: &str, grace: i64) {
        let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(grace);
        self.change(&format!("/api/v1/namespaces/default/pods/{name}"), "MODIFIED", |pod| {
            pod["metadata"]["deletionTimestamp"] = json!(at.to_string());
            pod["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
        });
    }

    /// Every status that a Pod had, as it changed.
    pub fn statuses(&self, name: &str) -> Vec<Value> {
        let changes = self.state.lock().unwrap().changes.clone();
        let of_pod = changes.iter().map(|(_, change)| &change["object"]);
        let of_pod = of_pod.filter(|pod| pod["metadata"]["name"] == name);
        of_pod.map(|pod| pod["status"].clone()).collect()
    }

    /// Sets a condition of a Pod, as some controller does.
    pub fn set_condition(&self, name: &str, kind: &str, value: &str) {
        let path = format!("/api/v1/namespaces/default/pods/{name}");
        let condition = json!({"type": kind, "status": value});
        self.change(&path, "MODIFIED", |pod| {
            merge_conditions(&mut pod["status"]["conditions"], &[condition]);
        });
    }

    /// Takes a Pod away at once, as `kubectl delete --force --grace-period=0` does.
    pub fn forget(&self, name: &str) {
        let path = format!("/api/v1/namespaces/default/pods/{name}");
        self.change(&path, "DELETED", |_| {});
    }

    /// `reason: message` of every event so far.
    pub fn events(&self) -> Vec<String> {
        let events = self.state.lock().unwrap().events.clone();
        events
            .iter()
            .map(|event| {
                format!(
                    "{}: {}",
                    event["reason"].as_str().unwrap(),
                    event["message"].as_str().unwrap()
                )
            })
            .collect()
    }

    /// Waits for an event that begins so.
    pub async fn until_event(&self, start: &str) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !self.events().iter().any(|event| event.starts_with(start)) {
            assert!(
                std::time::Instant::now() < deadline,
                "no {start:?} in {:#?}",
                self.events()
            );
            tokio::task::yield_now().await;
        }
    }

    /// Waits until a Pod (null when there is none) is as wanted.
    pub async fn until(&self, name: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let path = format!("/api/v1/namespaces/default/pods/{name}");
        let mut changed = self.changed.subscribe();
        let find = || {
            let state = self.state.lock().unwrap();
            state
                .pods
                .iter()
                .find(|(other, _)| *other == path)
                .map_or(Value::Null, |(_, pod)| pod.clone())
        };
        let waiting = async {
            loop {
                changed.borrow_and_update();
                let pod = find();
                if condition(&pod) {
                    return pod;
                }
                changed.changed().await.unwrap();
            }
        };
        let waited = tokio::time::timeout(std::time::Duration::from_secs(20), waiting).await;
        waited.unwrap_or_else(|_| panic!("not in time: {:#}\n{:#?}", find()["status"], self.events()))
    }

    fn has(&self, path: &str) -> bool {
        let state = self.state.lock().unwrap();
        state.pods.iter().any(|(other, _)| other == path)
    }

    fn change(&self, path: &str, kind: &str, edit: impl FnOnce(&mut Value)) -> Value {
        let mut state = self.state.lock().unwrap();
        let version = state.changes.len() + 1;
        if !state.pods.iter().any(|(other, _)| other == path) {
            state.pods.push((path.to_owned(), json!({})));
        }
        let pod = state
            .pods
            .iter_mut()
            .find(|(other, _)| other == path)
            .map(|(_, pod)| pod)
            .unwrap();
        edit(pod);
        pod["metadata"]["resourceVersion"] = json!(version.to_string());
        let pod = pod.clone();
        if kind == "DELETED" {
            state.pods.retain(|(other, _)| other != path);
        }
        state
            .changes
            .push((path.to_owned(), json!({"type": kind, "object": pod})));
        drop(state);
        self.changed.send_replace(version);
        pod
    }
}

async fn handle(State(api): State<Api>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let path = parts.uri.path().to_owned();
    let query = parts.uri.query().unwrap_or_default();
    match parts.method {
        Method::GET if query.contains("watch=true") => watch_all(&api, path, query),
        Method::GET if path == "/api/v1/pods" => {
            let state = api.state.lock().unwrap();
            let items: Vec<Value> = state.pods.iter().map(|(_, pod)| pod.clone()).collect();
            Json(json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": state.changes.len().to_string()}, "items": items})).into_response()
        }
        Method::PATCH if path.ends_with("/status") && api.has(path.trim_end_matches("/status")) => {
            Json(api.change(path.trim_end_matches("/status"), "MODIFIED", |pod| merge(pod, &body))).into_response()
        }
        Method::DELETE if api.has(&path) => {
            assert_eq!(body["gracePeriodSeconds"], 0);
            Json(api.change(&path, "DELETED", |_| {})).into_response()
        }
        Method::GET if query.contains("fieldSelector=metadata.name") => {
            let state = api.state.lock().unwrap();
            let wanted = |object: &&(String, Value)| selected(&path, query, &object.0);
            let items: Vec<&Value> = state.others.iter().filter(wanted).map(|(_, object)| object).collect();
            Json(json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": state.changes.len().to_string()}, "items": items})).into_response()
        }
        Method::POST if path.ends_with("/token") => {
            let mut state = api.state.lock().unwrap();
            state.tokens.push(body.clone());
            let seconds = body["spec"]["expirationSeconds"].as_i64().unwrap();
            let end = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
            let status =
                json!({"token": format!("token-{}", state.tokens.len()), "expirationTimestamp": end.to_string()});
            let answer = json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "metadata": {}, "spec": body["spec"], "status": status});
            (StatusCode::CREATED, Json(answer)).into_response()
        }
        Method::POST if path.ends_with("/events") => {
            api.state.lock().unwrap().events.push(body.clone());
            (StatusCode::CREATED, Json(body)).into_response()
        }
        Method::PATCH if path.contains("/events/") => Json(body).into_response(),
        _ => {
            let state = api.state.lock().unwrap();
            match state.others.iter().find(|(other, _)| *other == path) {
                Some((_, object)) => Json(object.clone()).into_response(),
                None => (StatusCode::NOT_FOUND, Json(json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "message": path, "code": 404}))).into_response(),
            }
        }
    }
}

/// Whether a list or watch of `collection` has the object.
fn selected(collection: &str, query: &str, object: &str) -> bool {
    if collection == "/api/v1/pods" {
        return object.contains("/pods/");
    }
    let name = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("fieldSelector=metadata.name%3D"));
    object
        .rsplit_once('/')
        .is_some_and(|(parent, last)| parent == collection && Some(last) == name)
}

fn watch_all(api: &Api, path: String, query: &str) -> Response {
    let from = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("resourceVersion="))
        .unwrap()
        .parse::<usize>()
        .unwrap();
    let query = query.to_owned();
    let stream = futures::stream::unfold(
        (api.clone(), api.changed.subscribe(), from),
        move |(api, mut changed, mut next)| {
            let (path, query) = (path.clone(), query.clone());
            async move {
                loop {
                    changed.borrow_and_update();
                    let change = api.state.lock().unwrap().changes.get(next).cloned();
                    let Some((object, change)) = change else {
                        changed.changed().await.ok()?;
                        continue;
                    };
                    next += 1;
                    if selected(&path, &query, &object) {
                        let line = Bytes::from(format!("{change}\n"));
                        return Some((Ok::<_, std::io::Error>(line), (api, changed, next)));
                    }
                }
            }
        },
    );
    Response::new(Body::from_stream(stream))
}

fn merge(target: &mut Value, patch: &Value) {
    match patch {
        Value::Object(patch) => {
            if !target.is_object() {
                *target = json!({});
            }
            for (key, value) in patch.iter().filter(|(key, _)| !key.starts_with('$')) {
                match value.as_array().filter(|_| key == "conditions") {
                    Some(conditions) => merge_conditions(&mut target[key], conditions),
                    None => merge(&mut target[key], value),
                }
            }
            for key in patch.iter().filter(|(_, value)| value.is_null()).map(|(key, _)| key) {
                target.as_object_mut().unwrap().remove(key);
            }
        }
        other => *target = other.clone(),
    }
}

/// By type, as a strategic merge does.
fn merge_conditions(target: &mut Value, patch: &[Value]) {
    if !target.is_array() {
        *target = json!([]);
    }
    let target = target.as_array_mut().unwrap();
    for condition in patch {
        match target.iter_mut().find(|known| known["type"] == condition["type"]) {
            Some(known) => merge(known, condition),
            None => {
                target.push(json!({}));
                merge(target.last_mut().unwrap(), condition);
            }
        }
    }
}
