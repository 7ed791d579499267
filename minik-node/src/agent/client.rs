//! A kube client over a path socket.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::Uri;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::Client;
use kube::client::Body;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tower::{Service, ServiceBuilder};

/// Opens connections to one path socket, whatever the address asked for.
#[derive(Debug, Clone)]
struct Connector(PathBuf);

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = std::io::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let path = self.0.clone();
        Box::pin(async move { Ok(TokioIo::new(Stream(UnixStream::connect(path).await?))) })
    }
}

/// A path-socket connection that hyper can keep in its pool.
#[derive(Debug)]
struct Stream(UnixStream);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// What the agent calls itself: the owner of the fields that it writes is named after the kubelet, as everywhere.
const COMPONENT: http::HeaderValue = http::HeaderValue::from_static("kubelet/v1.36 (minik)");

/// Makes a client that talks HTTP to whoever listens at `socket`.
#[must_use]
pub fn over_socket(socket: &Path) -> Client {
    let http = HttpClient::builder(TokioExecutor::new()).build::<_, Body>(Connector(socket.to_owned()));
    // A path socket has no address, but a request must name one.
    let service = ServiceBuilder::new().map_request(absolute).service(http);
    Client::new(service, "default")
}

fn absolute(mut request: http::Request<Body>) -> http::Request<Body> {
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", http::uri::PathAndQuery::as_str);
    if let Ok(uri) = format!("http://minik{path}").parse() {
        *request.uri_mut() = uri;
    }
    let headers = request.headers_mut();
    headers.entry(http::header::USER_AGENT).or_insert(COMPONENT);
    request
}
