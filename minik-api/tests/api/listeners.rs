//! Sockets: who a connection is, TLS in both HTTP versions, tunnels to agents, and a clean end.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::common::{Server, pod};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use minik_api::pki::{ClusterPki, ServerNames};
use minik_api::server::{Identity, serve_tls, serve_unix};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

const PODS: &str = "/api/v1/namespaces/demo/pods";

fn names() -> ServerNames {
    ServerNames::standard("cluster.local", vec!["127.0.0.1".parse().expect("is an address")])
}

/// GET over TLS, as the user of a client certificate or as nobody, in one version of HTTP.
async fn get(
    address: SocketAddr,
    pki: &ClusterPki,
    user: Option<(&str, &str)>,
    path: &str,
    h2: bool,
) -> (StatusCode, Value) {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(pki.ca_pem().as_bytes()).expect("is PEM"))
        .expect("is trusted");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("are known")
        .with_root_certificates(roots);
    let mut config = match user {
        Some((name, group)) => {
            let issued = pki.issue_client(name, &[group]).expect("is issued");
            let certificate = CertificateDer::from_pem_slice(issued.cert_pem.as_bytes()).expect("is PEM");
            let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).expect("is PEM");
            builder.with_client_auth_cert(vec![certificate], key).expect("fits")
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![if h2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    let stream = TcpStream::connect(address).await.expect("connects");
    let name = "127.0.0.1".try_into().expect("is a name");
    let tls = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .expect("agrees");
    let uri = format!("https://{address}{path}");
    let request = Request::get(uri)
        .header("host", "minik")
        .body(Empty::<Bytes>::new())
        .expect("is one");
    let response = if h2 {
        let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls))
            .await
            .expect("starts");
        tokio::spawn(connection);
        sender.send_request(request).await.expect("is answered")
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls))
            .await
            .expect("starts");
        tokio::spawn(connection);
        sender.send_request(request).await.expect("is answered")
    };
    let code = response.status();
    let body = response.into_body().collect().await.expect("is read").to_bytes();
    (code, serde_json::from_slice(&body).expect("is JSON"))
}

#[tokio::test]
async fn a_client_certificate_says_who_is_asking() {
    let server = Server::start().await;
    let dir = tempfile::tempdir().expect("is made");
    let pki = ClusterPki::load_or_create(dir.path(), &names()).expect("is made");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("is bound");
    let tls = Arc::new(pki.server_config().expect("is made"));
    let serving = tokio::spawn(serve_tls(server.state.clone(), listener, tls));
    for h2 in [false, true] {
        let admin = Some(("kubernetes-admin", "system:masters"));
        assert_eq!(get(address, &pki, admin, PODS, h2).await.0, StatusCode::OK);
        let (code, status) = get(address, &pki, Some(("jane", "dev")), PODS, h2).await;
        assert_eq!(code, StatusCode::FORBIDDEN);
        let message = status["message"].as_str().expect("is text");
        assert!(
            message.starts_with("pods is forbidden: User \"jane\" cannot list resource \"pods\""),
            "{message}"
        );
        assert_eq!(
            get(address, &pki, None, "/version", h2).await.1["gitVersion"],
            "v1.36.2"
        );
        assert_eq!(get(address, &pki, None, PODS, h2).await.0, StatusCode::FORBIDDEN);
    }
    server.state.shutdown.cancel();
    serving.await.expect("ends");
}

#[test]
fn keys_are_kept_private_and_reused() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("is made");
    let first = ClusterPki::load_or_create(dir.path(), &names()).expect("is made");
    let certificate = std::fs::read(dir.path().join("apiserver.crt")).expect("is there");
    let again = ClusterPki::load_or_create(dir.path(), &names()).expect("is read");
    assert_eq!(first.ca_pem(), again.ca_pem());
    assert_eq!(
        std::fs::read(dir.path().join("apiserver.crt")).expect("is there"),
        certificate
    );
    let mut more = names();
    more.dns.push("worker1".to_owned());
    let other = ClusterPki::load_or_create(dir.path(), &more).expect("is made");
    assert_eq!(first.ca_pem(), other.ca_pem(), "a new name needs no new authority");
    assert_ne!(
        std::fs::read(dir.path().join("apiserver.crt")).expect("is there"),
        certificate
    );
    for file in std::fs::read_dir(dir.path()).expect("is read") {
        let file = file.expect("is read");
        let mode = file.metadata().expect("is read").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", file.file_name());
    }
}

#[tokio::test]
async fn a_path_socket_is_its_identity_and_watches_end_at_shutdown() {
    let server = Server::start().await;
    let dir = tempfile::tempdir().expect("is made");
    let path = dir.path().join("api.sock");
    let listener = UnixListener::bind(&path).expect("binds");
    let serving = tokio::spawn(serve_unix(server.state.clone(), listener, Identity::admin()));
    let stream = UnixStream::connect(&path).await.expect("connects");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .expect("starts");
    tokio::spawn(connection);
    let request = Request::get(format!("{PODS}?watch=1")).header("host", "minik");
    let watch = sender
        .send_request(request.body(Full::<Bytes>::default()).expect("is one"))
        .await;
    let watch = watch.expect("is answered");
    assert_eq!(watch.status(), StatusCode::OK);
    server.state.shutdown.cancel();
    let rest = watch.into_body().collect().await.expect("ends in order");
    assert!(rest.to_bytes().is_empty());
    serving.await.expect("ends");
}

/// An agent that answers logs with the URI it was asked for, and turns exec into an echo.
async fn agent(listener: UnixListener) {
    loop {
        let (stream, _) = listener.accept().await.expect("accepts");
        let service = hyper::service::service_fn(|mut request: Request<hyper::body::Incoming>| async move {
            let uri = request.uri().to_string();
            let mut response = http::Response::new(Full::new(Bytes::from(uri)));
            if request.headers().contains_key("upgrade") {
                let upgrade = hyper::upgrade::on(&mut request);
                tokio::spawn(async move {
                    let mut stream = TokioIo::new(upgrade.await.expect("is upgraded"));
                    let mut bytes = [0; 4];
                    stream.read_exact(&mut bytes).await.expect("reads");
                    bytes.reverse();
                    stream.write_all(&bytes).await.expect("writes");
                });
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                let headers = response.headers_mut();
                headers.insert("connection", "Upgrade".parse().expect("is a value"));
                headers.insert("upgrade", "websocket".parse().expect("is a value"));
            }
            Ok::<_, std::convert::Infallible>(response)
        });
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::spawn(connection.with_upgrades());
    }
}

#[tokio::test]
async fn logs_and_sessions_go_to_the_agent_of_the_node() {
    let dir = tempfile::tempdir().expect("is made");
    std::fs::create_dir(dir.path().join("w1")).expect("is made");
    let socket = UnixListener::bind(dir.path().join("w1/kubelet.sock")).expect("binds");
    tokio::spawn(agent(socket));
    let server = Server::with_nodes_dir(dir.path().to_owned()).await;
    server.post(PODS, &pod("p", "w1")).await;
    server.post(PODS, &pod("unbound", "")).await;
    let mut two = pod("two", "w1");
    two["spec"]["containers"] = serde_json::json!([{"name": "a", "image": "nginx"}, {"name": "b", "image": "nginx"}]);
    server.post(PODS, &two).await;

    let log = server
        .get(&format!("{PODS}/p/log?tailLines=3&follow=true&container=a"))
        .await;
    assert_eq!(
        String::from_utf8_lossy(&log.body),
        "/containerLogs/demo/p/a?follow=true&tailLines=3"
    );
    let refusals = [
        (
            "two/log",
            "a container name must be specified for pod two, choose one of: [a b]",
        ),
        ("p/log?container=c", "container c is not valid for pod p"),
        ("unbound/exec?command=ls", "pod unbound does not have a host assigned"),
    ];
    for (path, message) in refusals {
        let refused = server.get(&format!("{PODS}/{path}")).await;
        assert_eq!(
            (refused.code, refused.message().as_str()),
            (StatusCode::BAD_REQUEST, message)
        );
    }

    let path = dir.path().join("api.sock");
    let listener = UnixListener::bind(&path).expect("binds");
    tokio::spawn(serve_unix(server.state.clone(), listener, Identity::admin()));
    let stream = UnixStream::connect(&path).await.expect("connects");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .expect("starts");
    tokio::spawn(connection.with_upgrades());
    let request = Request::get(format!(
        "{PODS}/p/exec?command=echo&command=a%20b&stdin=true&stdout=true"
    ))
    .header("host", "minik")
    .header("connection", "Upgrade")
    .header("upgrade", "websocket")
    .body(Empty::<Bytes>::new())
    .expect("is a request");
    let mut response = sender.send_request(request).await.expect("is answered");
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut session = TokioIo::new(hyper::upgrade::on(&mut response).await.expect("is upgraded"));
    session.write_all(b"abcd").await.expect("writes");
    let mut echoed = Vec::new();
    session.read_to_end(&mut echoed).await.expect("reads");
    assert_eq!(echoed, b"dcba");
    server.state.shutdown.cancel();
}

/// A session in the channels of a WebSocket.
fn over_websocket(path: &str) -> Request<Empty<Bytes>> {
    Request::get(path)
        .header("host", "minik")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-protocol", "v5.channel.k8s.io")
        .body(Empty::<Bytes>::new())
        .expect("is a request")
}

/// The socket of a node that is switched off is open, since the supervisor holds it, and nobody answers on it.
#[tokio::test(start_paused = true)]
async fn a_node_that_is_off_is_told_of_as_of_a_kubelet_that_does_not_answer() {
    let dir = tempfile::tempdir().expect("is made");
    std::fs::create_dir(dir.path().join("w1")).expect("is made");
    let _silent = UnixListener::bind(dir.path().join("w1/kubelet.sock")).expect("binds");
    let server = Server::with_nodes_dir(dir.path().to_owned()).await;
    let node = serde_json::json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "w1"},
        "status": {"addresses": [{"type": "InternalIP", "address": "172.30.0.11"}]}});
    assert_eq!(server.post("/api/v1/nodes", &node).await.code, StatusCode::CREATED);
    server.put("/api/v1/nodes/w1/status", &node).await;
    server.post(PODS, &pod("p", "w1")).await;

    let log = server.get(&format!("{PODS}/p/log")).await;
    assert_eq!(
        (log.code, log.message().as_str()),
        (
            StatusCode::INTERNAL_SERVER_ERROR,
            "Get \"https://172.30.0.11:10250/containerLogs/demo/p/a\": dial tcp 172.30.0.11:10250: i/o timeout"
        )
    );
    let upgrade = [("connection", "upgrade"), ("upgrade", "SPDY/3.1")];
    for part in ["exec?command=ls&stdout=1", "attach?stdout=1", "portforward?ports=80"] {
        let refused = server
            .request("POST", &format!("{PODS}/p/{part}"), &upgrade, String::new())
            .await;
        assert_eq!(
            (refused.code, refused.message().as_str()),
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                "error dialing backend: dial tcp 172.30.0.11:10250: i/o timeout"
            ),
            "{part}"
        );
    }
    // Who came with a WebSocket has it by then, and is told over it.
    let path = dir.path().join("api.sock");
    let listener = UnixListener::bind(&path).expect("binds");
    tokio::spawn(serve_unix(server.state.clone(), listener, Identity::admin()));
    let stream = UnixStream::connect(&path).await.expect("connects");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .expect("starts");
    tokio::spawn(connection.with_upgrades());
    let session = over_websocket(&format!("{PODS}/p/exec?command=ls&stdout=true"));
    let mut response = sender.send_request(session).await.expect("is answered");
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["sec-websocket-protocol"], "v5.channel.k8s.io");
    let mut session = TokioIo::new(hyper::upgrade::on(&mut response).await.expect("is upgraded"));
    let mut frames = Vec::new();
    session.read_to_end(&mut frames).await.expect("reads");
    // A whole binary frame of less than 64 KiB: two bytes, its length in two more, and the channel of errors.
    assert_eq!((frames[0], frames[1], frames[4]), (0x82, 126, 3));
    let length = usize::from(u16::from_be_bytes([frames[2], frames[3]]));
    let status: Value = serde_json::from_slice(&frames[5..4 + length]).expect("is a Status");
    // And an end that is no error: 1000.
    assert_eq!(frames[4 + length..], [0x88, 2, 0x03, 0xe8]);
    assert_eq!(
        status["message"],
        "Internal error occurred: error sending request: Post \"https://172.30.0.11:10250/exec/demo/p/a?command=ls&output=1\": dial tcp 172.30.0.11:10250: i/o timeout"
    );

    let proxied = server.get("/api/v1/nodes/w1/proxy/metrics").await;
    assert_eq!(
        (proxied.code, proxied.message().as_str()),
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "error trying to reach service: dial tcp 172.30.0.11:10250: i/o timeout"
        )
    );
    server.state.shutdown.cancel();
}
