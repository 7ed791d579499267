//! The small built-in client, for machines without kubectl: speaks to a cluster's API over root's own socket and
//! prints what kubectl would print.

pub mod yaml;

use std::path::PathBuf;

use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::Client;
use tokio::net::UnixStream;

use crate::cluster::names;
use crate::store::{StoreError, supervisor_runs};

/// A client for the API server of a cluster that is up. Needs a tokio runtime.
///
/// # Errors
/// [`StoreError::NotUp`]
pub fn connect(cluster: &str) -> Result<Client, StoreError> {
    if !supervisor_runs(cluster) {
        return Err(StoreError::NotUp { cluster: cluster.to_owned() });
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
