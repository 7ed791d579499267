//! `/dial/ADDRESS`: a TCP connection from this node's namespace, for the API server's proxy, which has no address here.
//!
//! The answer is an upgrade to `tcp`; from then on bytes go both ways.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::Refusal;

/// How long an address may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Connects, then hands the connection over.
pub async fn dial(Path(address): Path<SocketAddr>, mut request: Request) -> Result<Response, Refusal> {
    let unreachable = |error: &dyn std::fmt::Display| Refusal(StatusCode::BAD_GATEWAY, error.to_string());
    let server = tokio::time::timeout(TIMEOUT, TcpStream::connect(address))
        .await
        .map_err(|late| unreachable(&late))?
        .map_err(|error| unreachable(&error))?;
    let client = hyper::upgrade::on(&mut request);
    tokio::spawn(carry(client, server));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("tcp"));
    Ok(response)
}

async fn carry(client: OnUpgrade, mut server: TcpStream) {
    let carried = async {
        let client = client.await.map_err(std::io::Error::other)?;
        tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut server).await
    };
    if let Err(error) = carried.await {
        tracing::debug!(%error, "a dialled connection broke off");
    }
}
