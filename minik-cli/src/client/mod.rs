//! The small built-in client, for machines without kubectl: speaks to a cluster's API over root's own socket and
//! prints what kubectl would print.

pub mod apply;
pub mod manifest;
pub mod resource;
pub mod table;
pub mod yaml;

use std::path::PathBuf;

use anyhow::Context;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::Client;
use kube::client::Body;
use kube::core::Status;
use tokio::net::UnixStream;

use crate::cluster::names;
use crate::errors::Rejected;
use crate::store::{StoreError, supervisor_runs};

/// Longest answer that is read: far more than a lab's largest list.
const MOST: usize = 256 << 20;

/// A client for the API server of a cluster that is up. Needs a tokio runtime.
///
/// # Errors
/// [`StoreError::NotUp`]
pub fn connect(cluster: &str) -> Result<Client, StoreError> {
    if !supervisor_runs(cluster) {
        return Err(StoreError::NotUp {
            cluster: cluster.to_owned(),
        });
    }
    Ok(over_socket(names::run_dir(cluster).join("api.sock")))
}

/// A client over a path socket. kube's requests carry no host; the connector needs none.
fn over_socket(path: PathBuf) -> Client {
    let connector = tower::service_fn(move |_: http::Uri| {
        let path = path.clone();
        Box::pin(async move { UnixStream::connect(path).await.map(TokioIo::new) })
    });
    let http = HttpClient::builder(TokioExecutor::new()).build(connector);
    let base = http::Uri::from_static("http://minik");
    let service = tower::ServiceBuilder::new()
        .layer(kube::client::middleware::BaseUriLayer::new(base))
        .service(http);
    Client::new(service, "default")
}

/// One request and its whole answer. Warnings of the server go to standard error.
///
/// # Errors
/// [`Rejected`] if the server refuses; what keeps it from being asked otherwise.
pub async fn call(client: &Client, request: Request<Vec<u8>>) -> anyhow::Result<Vec<u8>> {
    let response = client
        .send(request.map(Body::from))
        .await
        .context("reach the API server")?;
    for warning in response.headers().get_all(header::WARNING) {
        if let Some(text) = warning.to_str().ok().and_then(warning_text) {
            eprintln!("Warning: {text}");
        }
    }
    let code = response.status();
    let body = Limited::new(response.into_body(), MOST)
        .collect()
        .await
        .map_err(|error| anyhow::anyhow!("read the API server's answer: {error}"))?;
    let body = body.to_bytes().to_vec();
    if code.is_success() {
        Ok(body)
    } else {
        Err(refusal(code, &body))
    }
}

/// A request that wants `accept`.
///
/// # Errors
/// A path that is none.
pub fn request(method: http::Method, path: &str, accept: &str, body: Vec<u8>) -> anyhow::Result<Request<Vec<u8>>> {
    Ok(Request::builder()
        .method(method)
        .uri(path)
        .header(header::ACCEPT, accept)
        .body(body)?)
}

fn refusal(code: StatusCode, body: &[u8]) -> anyhow::Error {
    match serde_json::from_slice::<Status>(body) {
        Ok(status) => Rejected {
            status: Box::new(status),
            doing: None,
        }
        .into(),
        Err(_) => anyhow::anyhow!("the server answered {code}: {}", String::from_utf8_lossy(body).trim()),
    }
}

/// The text of `299 - "text"` (RFC 9111 section 5.5 before it went, and Kubernetes since).
fn warning_text(header: &str) -> Option<String> {
    let quoted = header.strip_prefix("299 ")?.split_once(' ')?.1;
    serde_json::from_str(quoted).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_its_text() {
        let header = "299 - \"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\"";
        assert_eq!(
            warning_text(header).as_deref(),
            Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
        );
        assert_eq!(warning_text("112 - \"Disconnected\""), None);
    }
}
