//! Port-forward as kube-rs does it: the ports in the request, and two channels of a WebSocket for each
//! (`v4.channel.k8s.io`). kubectl's way, SPDY, is tried from outside.

use std::path::{Path, PathBuf};

use axum::http::{HeaderValue, Request, header};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::client::Body;
use kube::{Api, Client};
use libtest_mimic::Trial;
use minik_node::kubelet;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

use crate::pods::{Node, pod, running};
use crate::trial;

/// How often a server that has just been started is asked.
const MOST_ATTEMPTS: usize = 100;

pub fn trials() -> Vec<Trial> {
    vec![trial("forward::kube_rs_reaches_ports_of_a_pod", ports_of_a_pod)]
}

/// A client that takes the agent for the API server, which would hand the connection on under the agent's path.
fn client(socket: &Path) -> Client {
    let socket = socket.to_owned();
    let service = tower::service_fn(move |request| ask(socket.clone(), request));
    Client::new(service, "default")
}

async fn ask(
    socket: PathBuf,
    mut request: Request<Body>,
) -> Result<axum::http::Response<hyper::body::Incoming>, Box<dyn std::error::Error + Send + Sync>> {
    let query = request.uri().query().unwrap_or_default();
    let path = format!("/portForward/default/web?{query}");
    assert_eq!(request.uri().path(), "/api/v1/namespaces/default/pods/web/portforward");
    *request.uri_mut() = path.parse()?;
    request
        .headers_mut()
        .insert(header::HOST, HeaderValue::from_static("minik"));
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection.with_upgrades());
    Ok(sender.send_request(request).await?)
}

/// What the server at `port` answers, or what went wrong on the way to it.
async fn page(pods: &Api<Pod>, port: u16) -> Result<String, String> {
    let mut forwarded = pods.portforward("web", &[port]).await.unwrap();
    let mut stream = forwarded.take_stream(port).unwrap();
    let error = forwarded.take_error(port).unwrap();
    let mut page = String::new();
    // A connection that was never made ends when the error has been told.
    let asked = async {
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
        stream.read_to_string(&mut page).await
    }
    .await;
    match (asked, page.is_empty()) {
        (Ok(_), false) => Ok(page),
        _ => Err(error.await.unwrap_or_default()),
    }
}

async fn ports_of_a_pod() {
    let mut node = Node::new();
    node.api
        .put(pod("web", json!({"containers": [{"name": "main", "image": "nginx"}]})));
    node.api.until("web", running).await;
    let socket = node.dir.path().join("kubelet.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let shutdown = CancellationToken::new();
    let server = kubelet::spawn(listener, node.registry.clone(), shutdown.clone()).unwrap();
    let pods: Api<Pod> = Api::default_namespaced(client(&socket));

    let mut welcome = Err(String::new());
    for _ in 0..MOST_ATTEMPTS {
        welcome = page(&pods, 80).await;
        if welcome.is_ok() {
            break;
        }
    }
    assert!(
        welcome.as_ref().is_ok_and(|page| page.contains("Welcome to nginx!")),
        "{welcome:?}"
    );
    let refused = page(&pods, 81).await.unwrap_err();
    assert!(
        refused.contains("dial tcp 127.0.0.1:81: connect: connection refused"),
        "{refused}"
    );

    node.finish("web").await;
    shutdown.cancel();
    server.await.unwrap();
}
