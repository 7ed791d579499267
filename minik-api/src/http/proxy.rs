//! `/proxy` of Pods, Services and nodes: one HTTP request, carried to whoever is meant and its answer back.
//!
//! The API server has no address in the lab, so the agent of a node dials for it, from the node's own namespace; what
//! is addressed to a node is answered by its agent. Bodies are streamed; nothing of them is read here.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use hyper::client::conn::http1::{SendRequest, handshake};
use serde_json::Value;

use crate::error::ApiError;

use super::call::Call;
use super::document;
use super::object::text;
use super::request::{key, prefix};
use super::tunnel::{PATIENCE, Repeat, ask, connect, internal, join, unanswered};

/// The protocol that an agent's `/dial` upgrades to.
const DIAL: &str = "tcp";

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
    if rest.is_empty() && matches!(*request.method(), Method::GET | Method::HEAD) {
        return redirect(&format!("{base}/"));
    }
    let way = way(call)?;
    let mut target = if rest.is_empty() {
        "/".to_owned()
    } else {
        rest.to_owned()
    };
    if let Some(query) = request.uri().query() {
        target = format!("{target}?{query}");
    }
    let client = hyper::upgrade::on(&mut request);
    let host = way.address.clone().unwrap_or_else(|| way.node.clone());
    let asked = super::negotiate::text(request.headers(), header::HOST).to_owned();
    let (mut parts, body) = request.into_parts();
    parts.headers.remove(header::AUTHORIZATION);
    parts
        .headers
        .insert(header::HOST, HeaderValue::from_str(&host).map_err(internal)?);
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
    relocate(answer.headers_mut(), base, &host, &asked);
    Ok(answer.map(Body::new))
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

/// A redirection to a path of the server behind is one to that path behind the proxy.
fn relocate(headers: &mut HeaderMap, base: &str, behind: &str, asked: &str) {
    let to = headers.get(header::LOCATION).and_then(|to| to.to_str().ok());
    let moved = to.and_then(|to| relocated(to, base, behind, asked));
    if let Some(Ok(to)) = moved.map(|to| HeaderValue::from_str(&to)) {
        headers.insert(header::LOCATION, to);
    }
}

/// Where a redirection to `to` leads below `base`, as apimachinery's `proxy.Transport` rewrites it; nothing when it leads
/// elsewhere or says no whole path. `behind` is the host that was proxied to, `asked` the one that the client named.
fn relocated(to: &str, base: &str, behind: &str, asked: &str) -> Option<String> {
    let (place, fragment) = to.find('#').map_or((to, ""), |at| to.split_at(at));
    let url: http::Uri = place.parse().ok()?;
    let host = url.authority().map(http::uri::Authority::as_str);
    if host.is_some_and(|host| host != behind && host != asked) || host.is_none() && !to.starts_with('/') {
        return None;
    }
    // Who named the host of the client means the client's way to us, scheme and all.
    let origin = match (url.scheme_str(), host) {
        (Some(scheme), Some(host)) if host == asked => format!("{scheme}://{host}"),
        _ => String::new(),
    };
    let below = if url.path().starts_with(base) { "" } else { base };
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    Some(format!("{origin}{below}{}{query}{fragment}", url.path()))
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

#[cfg(test)]
mod tests {
    use super::relocated;

    #[test]
    fn redirections_stay_behind_the_proxy() {
        let base = "/api/v1/namespaces/demo/services/web/proxy";
        let lead = |to: &str| relocated(to, base, "10.244.1.7:80", "localhost:8001");
        let below = |rest: &str| Some(format!("{base}{rest}"));
        assert_eq!(lead("/login?next=%2F#top"), below("/login?next=%2F#top"));
        assert_eq!(lead("http://10.244.1.7:80/login/"), below("/login/"));
        assert_eq!(lead(&format!("{base}/login")), below("/login"));
        assert_eq!(
            lead("http://localhost:8001/login"),
            Some(format!("http://localhost:8001{base}/login"))
        );
        assert_eq!(lead("https://example.com/login"), None);
        assert_eq!(lead("login"), None);
    }
}
