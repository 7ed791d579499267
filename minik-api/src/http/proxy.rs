//! `/proxy` of Pods, Services and nodes: one HTTP request, carried to whoever is meant and its answer back.
//!
//! The API server has no address in the lab, so the agent of a node dials for it, from the node's own namespace; what
//! is addressed to a node is answered by its agent. Bodies are streamed; what of an answer leads back here is for
//! [`super::links`]. The server behind sees the host that the client named, as behind a real API server.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use hyper::client::conn::http1::{SendRequest, handshake};
use serde_json::Value;

use crate::error::ApiError;

use super::call::Call;
use super::document;
use super::links::Place;
use super::object::text;
use super::request::{key, prefix};
use super::tunnel::{PATIENCE, Repeat, ask, connect, internal, join, unanswered};

/// The protocol that an agent's `/dial` upgrades to.
const DIAL: &str = "tcp";

/// Tells the server behind the path that the client asked for.
const FORWARDED: HeaderName = HeaderName::from_static("x-forwarded-uri");

/// What lets pages of other origins ask. That is for this server to say, and it says it to none.
const ANOTHER_ORIGIN: [HeaderName; 4] = [
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
];

/// `[scheme:]name[:port]`, as the path names what is meant.
struct Meant<'a> {
    name: &'a str,
    port: &'a str,
}

/// Where a request goes: who dials, and which address.
struct Way {
    node: String,
    /// `None` for the agent itself.
    address: Option<String>,
}

/// Carries `request` to what the path names.
///
/// # Errors
/// It is not there, has no endpoint or address, or nobody answers.
pub async fn carry(call: &Call, mut request: Request) -> Result<Response, ApiError> {
    let path = request.uri().path().to_owned();
    let named = path
        .match_indices('/')
        .nth(depth(call))
        .map_or(path.len(), |(at, _)| at);
    let (base, rest) = path.split_at(named);
    let way = way(call)?;
    let upgrades = request.headers().contains_key(header::UPGRADE);
    let query = request.uri().query().map(|query| format!("?{query}"));
    let query = query.unwrap_or_default();
    if rest.is_empty() && !upgrades && matches!(*request.method(), Method::GET | Method::HEAD) {
        return redirect(&format!("{base}/{query}"));
    }
    let target = format!("{}{query}", if rest.is_empty() { "/" } else { rest });
    let client = hyper::upgrade::on(&mut request);
    let asked = asked(&request);
    let (mut parts, body) = request.into_parts();
    own(&mut parts.headers);
    parts
        .headers
        .insert(header::HOST, HeaderValue::from_str(&asked).map_err(internal)?);
    if !upgrades {
        parts
            .headers
            .insert(FORWARDED, HeaderValue::from_str(&path).map_err(internal)?);
    }
    let mut forwarded = http::Request::builder()
        .method(parts.method)
        .uri(target)
        .body(body)
        .map_err(internal)?;
    *forwarded.headers_mut() = parts.headers;

    let mut server = match &way.address {
        None => connect(call, &way.node).await?,
        Some(address) => dial(call, &way.node, address).await?,
    };
    let failed = |error: String| ApiError::Unavailable(format!("error trying to reach service: {error}"));
    let mut answer = match (&way.address, server.send_request(forwarded)) {
        // Whoever listens there may take its time; an agent answers, or its node is off.
        (None, answer) => tokio::time::timeout(PATIENCE, answer)
            .await
            .map_err(|_elapsed| failed(unanswered(call, &way.node)))?,
        (Some(_), answer) => answer.await,
    }
    .map_err(|error| failed(error.to_string()))?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let server = hyper::upgrade::on(&mut answer);
        tokio::spawn(join(client, server, call.state.shutdown.clone()));
    }
    if upgrades {
        return Ok(answer.map(Body::new));
    }
    for name in ANOTHER_ORIGIN {
        answer.headers_mut().remove(name);
    }
    let place = Place {
        base,
        behind: way.address.as_deref().unwrap_or(&way.node),
        asked: &asked,
    };
    place.lead_back(answer).await
}

/// The host that the client named: in its header, or, with HTTP/2, beside the path.
fn asked(request: &Request) -> String {
    let host = match super::negotiate::text(request.headers(), header::HOST) {
        "" => request.uri().authority().map_or("", http::uri::Authority::as_str),
        host => host,
    };
    host.to_owned()
}

/// Takes from `headers` what says who asks, which is for this server alone.
fn own(headers: &mut HeaderMap) {
    headers.remove(header::AUTHORIZATION);
    let named = |name: &HeaderName| name.as_str().starts_with("impersonate-");
    let whom: Vec<HeaderName> = headers.keys().filter(|name| named(name)).cloned().collect();
    for name in whom {
        headers.remove(name);
    }
}

/// How many slashes the path up to and with `/proxy` has: `/api/v1/[namespaces/NS/]PLURAL/NAME/proxy`.
fn depth(call: &Call) -> usize {
    if call.info().namespaced { 7 } else { 5 }
}

fn redirect(to: &str) -> Result<Response, ApiError> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    let to = HeaderValue::from_str(to).map_err(internal)?;
    response.headers_mut().insert(header::LOCATION, to);
    Ok(response)
}

impl<'a> Meant<'a> {
    fn parse(text: &'a str) -> Result<Self, ApiError> {
        let parts: Vec<&str> = text.split(':').collect();
        match parts.as_slice() {
            [name] | ["http" | "", name, ""] => Ok(Self { name, port: "" }),
            [name, port] | ["http" | "", name, port] => Ok(Self { name, port }),
            ["https", ..] => Err(ApiError::BadRequest(
                "the proxy speaks plain HTTP to what is behind it, not https".to_owned(),
            )),
            _ => Err(ApiError::BadRequest(format!("invalid proxy request {text:?}"))),
        }
    }
}

fn way(call: &Call) -> Result<Way, ApiError> {
    let meant = Meant::parse(&call.target.name)?;
    let object =
        stored(call, call.info().plural, meant.name).ok_or_else(|| ApiError::not_found(call.info(), meant.name))?;
    match call.info().kind {
        "Node" => Ok(Way {
            node: meant.name.to_owned(),
            address: None,
        }),
        "Pod" => to_pod(&object, &meant),
        _ => to_service(call, &object, &meant),
    }
}

fn stored(call: &Call, plural: &str, name: &str) -> Option<Value> {
    let kind = call.state.registry.by_plural("", "v1", plural)?;
    let entry = call
        .state
        .storage
        .cache()
        .get(&key(&kind.info, &call.target.namespace, name))?;
    document::parse(&kind.info, &entry.value).ok()
}

fn to_pod(pod: &Value, meant: &Meant<'_>) -> Result<Way, ApiError> {
    let (node, ip) = (text(pod, "/spec/nodeName"), text(pod, "/status/podIP"));
    if node.is_empty() || ip.is_empty() {
        return Err(ApiError::BadRequest("address not allowed".to_owned()));
    }
    let first = pod
        .pointer("/spec/containers/0/ports/0/containerPort")
        .and_then(Value::as_u64);
    let port = match meant.port {
        "" => first.unwrap_or(80).to_string(),
        port => port.to_owned(),
    };
    Ok(Way {
        node: node.to_owned(),
        address: Some(format!("{ip}:{port}")),
    })
}

fn to_service(call: &Call, service: &Value, meant: &Meant<'_>) -> Result<Way, ApiError> {
    let name = meant.name;
    let ports = service.pointer("/spec/ports").and_then(Value::as_array);
    let ports = ports.map(Vec::as_slice).unwrap_or_default();
    let wanted = ports.iter().find(|port| match meant.port {
        "" => ports.len() == 1,
        named => text(port, "/name") == named || named.parse::<u64>().is_ok_and(|n| port["port"].as_u64() == Some(n)),
    });
    let wanted = wanted
        .ok_or_else(|| ApiError::Unavailable(format!("no service port {:?} found for service {name:?}", meant.port)))?;
    let none = || ApiError::Unavailable(format!("no endpoints available for service {name:?}"));
    let endpoints = stored(call, "endpoints", name).ok_or_else(none)?;
    let subsets = endpoints["subsets"].as_array().ok_or_else(none)?;
    let mut found = Vec::new();
    for subset in subsets {
        let ports = subset["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
        let port = ports.iter().find(|port| text(port, "/name") == text(wanted, "/name"));
        let addresses = subset["addresses"].as_array().map(Vec::as_slice).unwrap_or_default();
        for address in addresses.iter().filter(|_| port.is_some()) {
            found.push((address, port.map(|port| port["port"].to_string()).unwrap_or_default()));
        }
    }
    if found.is_empty() {
        return Err(none());
    }
    let (address, port) = &found[rand::random_range(0..found.len())];
    let node = match text(address, "/nodeName") {
        "" => some_node(call).ok_or_else(none)?,
        node => node.to_owned(),
    };
    Ok(Way {
        node,
        address: Some(format!("{}:{port}", text(address, "/ip"))),
    })
}

/// The first node: an endpoint without one is as near to each.
fn some_node(call: &Call) -> Option<String> {
    let kind = call.state.registry.by_plural("", "v1", "nodes")?;
    let snapshot = call.state.storage.cache().snapshot();
    let nodes = prefix(&kind.info, "");
    let entry = snapshot.range(&nodes, None).next()?;
    let node = document::parse(&kind.info, &entry.value).ok()?;
    Some(text(&node, "/metadata/name").to_owned())
}

/// A connection to `address` that the agent of `node` opened.
async fn dial(call: &Call, node: &str, address: &str) -> Result<SendRequest<Body>, ApiError> {
    let unreachable = |error: &dyn std::fmt::Display| {
        ApiError::Unavailable(format!("error trying to reach service: dial tcp {address}: {error}"))
    };
    let request = || {
        http::Request::get(format!("/dial/{address}"))
            .header(header::HOST, node)
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, DIAL)
            .body(Body::empty())
            .map_err(internal)
    };
    let mut answer = ask(call, node, Repeat::Always, request).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(unreachable(&answer.status()));
    }
    let stream = hyper::upgrade::on(&mut answer).await.map_err(internal)?;
    let (sender, connection) = handshake(stream).await.map_err(|error| unreachable(&error))?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a proxied connection broke off");
        }
    });
    Ok(sender)
}
