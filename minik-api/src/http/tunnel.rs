//! `/log`, `/exec`, `/attach` and `/portforward`: handed to the agent of the Pod's node, under the kubelet's own paths.
//!
//! The API server finds the node and the container and moves bytes; what they mean is between the client
//! and the agent.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::copy_bidirectional;
use tokio::net::UnixStream;

use crate::error::ApiError;
use crate::resource::Subresource;

use super::call::Call;
use super::document;
use super::object::text;
use super::request::key;

/// The most of an agent's refusal that is passed on, in bytes.
const MAX_REFUSAL: usize = 64 << 10;
/// How long an agent may take to begin its answer: what Go's dialer gives a kubelet. One that is started again takes a
/// fraction of a second.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How often a request is made whose connections break off.
const ATTEMPTS: usize = 3;
/// Query parameters that the agent's log endpoint understands.
const LOG_OPTIONS: [&str; 7] = [
    "follow",
    "limitBytes",
    "previous",
    "sinceSeconds",
    "sinceTime",
    "tailLines",
    "timestamps",
];

/// Streams a container's output.
///
/// # Errors
/// The Pod or container is not there, or the agent refuses or does not answer.
pub async fn log(call: &Call) -> Result<Response, ApiError> {
    let pod = pod(call)?;
    let container = container(&pod, call.options.get("container"))?;
    let node = text(&pod, "/spec/nodeName");
    if node.is_empty() {
        // A Pod without a node has said nothing yet.
        return Ok(plain(Body::empty()));
    }
    let options = LOG_OPTIONS
        .into_iter()
        .filter_map(|name| Some((name, call.options.get(name)?)));
    let uri = uri(call, "containerLogs", &container, options)?;
    let request = || http::Request::get(&uri).header(header::HOST, node).body(Body::empty());
    let answer = ask(call, node, Repeat::Always, || request().map_err(internal)).await?;
    if answer.status().is_success() {
        return Ok(plain(Body::new(answer.into_body())));
    }
    let code = answer.status();
    let body = Limited::new(answer.into_body(), MAX_REFUSAL)
        .collect()
        .await
        .map_err(internal)?;
    let message = String::from_utf8_lossy(&body.to_bytes()).trim().to_owned();
    Err(match code {
        StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND => ApiError::BadRequest(message),
        _ => ApiError::Internal(message),
    })
}

/// Joins the client's upgraded connection with one to the agent, for `/exec`, `/attach` or `/portforward`.
///
/// # Errors
/// The Pod or container is not there, the Pod has no node, or the agent does not answer.
pub async fn session(call: &Call, part: Subresource, request: Request) -> Result<Response, ApiError> {
    let pod = pod(call)?;
    let container = match part {
        Subresource::PortForward => String::new(),
        _ => container(&pod, call.options.get("container"))?,
    };
    let node = text(&pod, "/spec/nodeName");
    if node.is_empty() {
        let reason = format!("pod {} does not have a host assigned", call.target.name);
        return Err(ApiError::BadRequest(reason));
    }
    if !request.headers().contains_key(header::UPGRADE) {
        return Err(ApiError::BadRequest("Upgrade request required".to_owned()));
    }
    let commands = call.options.all("command").map(|command| ("command", command));
    let streams = [
        ("stdin", "input"),
        ("stdout", "output"),
        ("stderr", "error"),
        ("tty", "tty"),
    ]
    .into_iter()
    .filter_map(|(asked, known)| call.options.flag(asked).then_some((known, "1")));
    let ports = call.options.all("ports").map(|port| ("port", port));
    let uri = match part {
        Subresource::Attach => uri(call, "attach", &container, streams)?,
        Subresource::PortForward => uri(call, "portForward", &container, ports)?,
        _ => uri(call, "exec", &container, commands.chain(streams))?,
    };
    let (head, body) = request.into_parts();
    let websocket = super::websocket::asked(&head).await;
    let (method, mut headers) = (head.method.clone(), head.headers.clone());
    let client = hyper::upgrade::on(http::Request::from_parts(head, body));
    headers.remove(header::AUTHORIZATION);
    headers.insert(header::HOST, HeaderValue::from_static("kubelet"));
    let forwarded = || {
        let mut forwarded = http::Request::builder().method(method.clone()).uri(&uri);
        if let Some(own) = forwarded.headers_mut() {
            own.clone_from(&headers);
        }
        forwarded.body(Body::empty()).map_err(internal)
    };
    // A program that may have run must not run twice.
    let Some(mut answer) = begin(call, node, Repeat::IfUnsent, &forwarded).await? else {
        return match websocket.filter(|_| part != Subresource::PortForward) {
            Some(upgrade) => Ok(super::websocket::refuse(
                upgrade,
                &ApiError::Internal(undelivered(call, node, &uri)),
            )),
            None => Err(ApiError::Unclassified(silence(call, node, &forwarded()?))),
        };
    };
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let agent = hyper::upgrade::on(&mut answer);
        tokio::spawn(join(client, agent, call.state.shutdown.clone()));
    }
    Ok(answer.map(Body::new))
}

/// Carries bytes both ways between two upgraded connections until either ends.
pub async fn join(client: OnUpgrade, agent: OnUpgrade, shutdown: tokio_util::sync::CancellationToken) {
    let copied = async {
        let (client, agent) = tokio::try_join!(client, agent).map_err(std::io::Error::other)?;
        copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(agent)).await
    };
    tokio::select! {
        result = copied => match result {
            Ok((sent, received)) => tracing::debug!(sent, received, "a session ended"),
            // Either side may hang up when it has what it wanted.
            Err(error) => tracing::debug!(%error, "a session broke off"),
        },
        () = shutdown.cancelled() => {}
    }
}

fn pod(call: &Call) -> Result<Value, ApiError> {
    let entry = call
        .state
        .storage
        .cache()
        .get(&call.key())
        .ok_or_else(|| call.not_found())?;
    Ok(document::parse(call.info(), &entry.value)?)
}

/// The container that is meant: the one named, or the only one.
fn container(pod: &Value, named: Option<&str>) -> Result<String, ApiError> {
    let names = |field: &str| -> Vec<&str> {
        let containers = pod.pointer(field).and_then(Value::as_array);
        containers
            .into_iter()
            .flatten()
            .map(|container| text(container, "/name"))
            .collect()
    };
    let (containers, init) = (names("/spec/containers"), names("/spec/initContainers"));
    let ephemeral = names("/spec/ephemeralContainers");
    let name = text(pod, "/metadata/name");
    match (named, containers.as_slice()) {
        (Some(named), _) => {
            if [containers, init, ephemeral].iter().any(|names| names.contains(&named)) {
                Ok(named.to_owned())
            } else {
                Err(ApiError::BadRequest(format!(
                    "container {named} is not valid for pod {name}"
                )))
            }
        }
        (None, [only]) => Ok((*only).to_owned()),
        (None, several) => {
            let choices = several.join(" ");
            let mut reason = format!("a container name must be specified for pod {name}, choose one of: [{choices}]");
            if !init.is_empty() {
                reason.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
            }
            Err(ApiError::BadRequest(reason))
        }
    }
}

fn uri<'o>(
    call: &Call,
    endpoint: &str,
    container: &str,
    options: impl Iterator<Item = (&'o str, &'o str)>,
) -> Result<String, ApiError> {
    let query = serde_urlencoded::to_string(options.collect::<Vec<_>>()).map_err(internal)?;
    let (namespace, name) = (&call.target.namespace, &call.target.name);
    let path = format!("/{endpoint}/{namespace}/{name}/{container}");
    Ok(format!("{}?{query}", path.trim_end_matches('/')))
}

/// Whether a request may be made again when its connection broke off before an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// It changes nothing.
    Always,
    /// If nothing of it was sent.
    IfUnsent,
}

/// Asks the agent of a node, and again if that died over it. One that is being started again is waited for: its
/// socket is open all the while.
///
/// # Errors
/// There is no such node, or its agent does not answer in time.
pub async fn ask(
    call: &Call,
    node: &str,
    repeat: Repeat,
    request: impl Fn() -> Result<http::Request<Body>, ApiError>,
) -> Result<http::Response<hyper::body::Incoming>, ApiError> {
    match begin(call, node, repeat, &request).await? {
        Some(answer) => Ok(answer),
        None => Err(ApiError::Unclassified(silence(call, node, &request()?))),
    }
}

/// The same; nothing when there is no answer in time.
async fn begin(
    call: &Call,
    node: &str,
    repeat: Repeat,
    request: &impl Fn() -> Result<http::Request<Body>, ApiError>,
) -> Result<Option<http::Response<hyper::body::Incoming>>, ApiError> {
    let answered = async {
        let mut attempts = 1..=ATTEMPTS;
        loop {
            attempts.next();
            let mut agent = connect(call, node).await?;
            match agent.try_send_request(request()?).await {
                Ok(answer) => return Ok(answer),
                Err(mut failed) => {
                    let unsent = failed.take_message().is_some();
                    if attempts.is_empty() || !(unsent || repeat == Repeat::Always) {
                        return Err(internal(failed.into_error()));
                    }
                }
            }
        }
    };
    match tokio::time::timeout(PATIENCE, answered).await {
        Ok(answer) => answer.map(Some),
        Err(_elapsed) => Ok(None),
    }
}

/// What Go's dialer says, through a real API server, of a kubelet whose machine is off.
fn silence<B>(call: &Call, node: &str, asked: &http::Request<B>) -> String {
    let timeout = unanswered(call, node);
    if asked.headers().contains_key(header::UPGRADE) {
        return format!("error dialing backend: {timeout}");
    }
    let path = asked.uri().to_string();
    let url = format!("https://{}:10250{}", address(call, node), path.trim_end_matches('?'));
    format!("Get \"{url}\": {timeout}")
}

/// The same of a session whose client had its WebSocket before the kubelet was asked.
fn undelivered(call: &Call, node: &str, uri: &str) -> String {
    let url = format!("https://{}:10250{}", address(call, node), uri.trim_end_matches('?'));
    format!(
        "Internal error occurred: error sending request: Post \"{url}\": {}",
        unanswered(call, node)
    )
}

/// What Go's dialer says of a node that answers nothing.
#[must_use]
pub fn unanswered(call: &Call, node: &str) -> String {
    format!("dial tcp {}:10250: i/o timeout", address(call, node))
}

/// The address that a node says it has; its name without one.
fn address(call: &Call, node: &str) -> String {
    let known = || {
        let kind = call.state.registry.by_plural("", "v1", "nodes")?;
        let entry = call.state.storage.cache().get(&key(&kind.info, "", node))?;
        let node = document::parse(&kind.info, &entry.value).ok()?;
        let addresses = node.pointer("/status/addresses")?.as_array()?;
        let internal = addresses
            .iter()
            .find(|address| text(address, "/type") == "InternalIP")?;
        Some(text(internal, "/address").to_owned())
    };
    known().unwrap_or_else(|| node.to_owned())
}

/// A connection to the agent of a node.
///
/// # Errors
/// There is no such node, or its agent does not answer.
pub async fn connect(call: &Call, node: &str) -> Result<SendRequest<Body>, ApiError> {
    if node.contains('/') || node.starts_with('.') {
        return Err(ApiError::BadRequest(format!("{node:?} is not the name of a node")));
    }
    let path = call.state.config.nodes_dir.join(node).join("kubelet.sock");
    let unreachable = |error: &dyn std::fmt::Display| {
        ApiError::Internal(format!("the agent of node {node:?} does not answer: {error}"))
    };
    let stream = UnixStream::connect(&path).await.map_err(|e| unreachable(&e))?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|e| unreachable(&e))?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to an agent broke off");
        }
    });
    Ok(sender)
}

fn plain(body: Body) -> Response {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

/// 500 about what failed on the way.
pub fn internal(error: impl std::fmt::Display) -> ApiError {
    ApiError::Internal(error.to_string())
}
