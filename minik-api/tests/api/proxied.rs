//! `/proxy`: what a server behind it and its client see of each other. An agent that the test plays dials.

use crate::common::{Server, pod};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use minik_api::server::{Identity, serve_unix};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

const PODS: &str = "/api/v1/namespaces/demo/pods";

/// A Pod with a server, and a client of the API server.
struct Proxied {
    server: Server,
    sender: SendRequest<Empty<Bytes>>,
    _dir: TempDir,
}

impl Proxied {
    async fn start() -> Self {
        let dir = tempfile::tempdir().expect("is made");
        std::fs::create_dir(dir.path().join("w1")).expect("is made");
        let socket = UnixListener::bind(dir.path().join("w1/kubelet.sock")).expect("binds");
        tokio::spawn(dialling_agent(socket));
        let server = Server::with_nodes_dir(dir.path().to_owned()).await;
        server.post(PODS, &pod("p", "w1")).await;
        let status = serde_json::json!({"status": {"podIP": "10.244.0.9", "podIPs": [{"ip": "10.244.0.9"}]}});
        let patch = [("content-type", "application/merge-patch+json")];
        let told = server
            .request("PATCH", &format!("{PODS}/p/status"), &patch, status.to_string())
            .await;
        assert_eq!(told.code, StatusCode::OK, "{}", told.message());

        let path = dir.path().join("api.sock");
        let listener = UnixListener::bind(&path).expect("binds");
        tokio::spawn(serve_unix(server.state.clone(), listener, Identity::admin()));
        let stream = UnixStream::connect(&path).await.expect("connects");
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .expect("starts");
        tokio::spawn(connection.with_upgrades());
        Self {
            server,
            sender,
            _dir: dir,
        }
    }
}

/// An agent that dials for `/proxy`: behind every address is a server that greets, and turns upgrades into an echo.
async fn dialling_agent(listener: UnixListener) {
    loop {
        let (stream, _) = listener.accept().await.expect("accepts");
        let service = hyper::service::service_fn(|mut request: Request<hyper::body::Incoming>| async move {
            let mut response = http::Response::new(Full::new(Bytes::new()));
            if request.uri().path() != "/dial/10.244.0.9:8080" {
                *response.status_mut() = StatusCode::BAD_GATEWAY;
                return Ok(response);
            }
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move { echo(upgrade.await.expect("is upgraded")).await });
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let headers = response.headers_mut();
            headers.insert("connection", "Upgrade".parse().expect("is a value"));
            headers.insert("upgrade", "tcp".parse().expect("is a value"));
            Ok::<_, std::convert::Infallible>(response)
        });
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::spawn(connection.with_upgrades());
    }
}

/// The server behind the proxy: gives back what comes over a WebSocket, and otherwise tells in a page what it was sent.
async fn echo(stream: hyper::upgrade::Upgraded) {
    let service = hyper::service::service_fn(|mut request: Request<hyper::body::Incoming>| async move {
        let path = request.uri().path_and_query().expect("has a path").to_string();
        if !request.headers().contains_key("upgrade") {
            return Ok(page(&path, request.headers()));
        }
        let key = request.headers()["sec-websocket-key"].clone();
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgrade.await.expect("is upgraded"));
            let (mut read, mut write) = tokio::io::split(&mut stream);
            tokio::io::copy(&mut read, &mut write).await.expect("echoes");
            write.shutdown().await.expect("ends");
        });
        let mut response = http::Response::new(Full::<Bytes>::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert("connection", "Upgrade".parse().expect("is a value"));
        headers.insert("upgrade", "websocket".parse().expect("is a value"));
        headers.insert("x-asked", path.parse().expect("is a value"));
        headers.insert("x-key", key);
        Ok::<_, std::convert::Infallible>(response)
    });
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(stream, service);
    connection.with_upgrades().await.expect("is served");
}

/// A page with links, and in headers the `path` and `headers` of the request for it.
fn page(path: &str, headers: &HeaderMap) -> http::Response<Full<Bytes>> {
    let links = r#"<a href="/up">up</a><a href="http://10.244.0.9:8080/all">all</a><a href="next">next</a>"#;
    let mut response = http::Response::new(Full::from(links));
    let sent = ["host", "x-forwarded-uri", "impersonate-user", "impersonate-group"].map(|name| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or("-").to_owned()
    });
    let told = [
        ("content-type", "text/html; charset=utf-8".to_owned()),
        ("access-control-allow-origin", "*".to_owned()),
        ("x-asked", path.to_owned()),
        ("x-sent", sent.join(" ")),
    ];
    for (name, value) in told {
        response.headers_mut().insert(name, value.parse().expect("is a value"));
    }
    if path.starts_with("/moved") {
        let to = "/login?next=%2F".parse().expect("is a value");
        response.headers_mut().insert("location", to);
        *response.status_mut() = StatusCode::FOUND;
    }
    response
}

/// Links of pages and redirections stay behind the proxy; who asks is told to this server alone.
#[tokio::test]
async fn a_page_behind_the_proxy_leads_back_behind_it() {
    let mut proxied = Proxied::start().await;
    let base = format!("{PODS}/p:8080/proxy");
    let request = |path: &str| {
        Request::get(format!("{base}{path}"))
            .header("host", "localhost:8001")
            .header("impersonate-group", "system:masters")
            .header("impersonate-user", "kubernetes-admin")
            .body(Empty::<Bytes>::new())
            .expect("is a request")
    };
    let answer = proxied
        .sender
        .send_request(request("/a/b?c=d"))
        .await
        .expect("is answered");
    let headers = answer.headers().clone();
    assert_eq!(
        (answer.status(), &headers["x-asked"]),
        (StatusCode::OK, &"/a/b?c=d".parse().expect("is a value"))
    );
    assert_eq!(headers["x-sent"], format!("localhost:8001 {base}/a/b - -"));
    assert!(!headers.contains_key("access-control-allow-origin"), "{headers:?}");
    let page = answer.into_body().collect().await.expect("comes").to_bytes();
    assert_eq!(headers["content-length"], page.len().to_string());
    let links = format!(r#"<a href="{base}/up">up</a><a href="{base}/all">all</a><a href="next">next</a>"#);
    assert_eq!(page, links);

    let moved = proxied
        .sender
        .send_request(request("/moved"))
        .await
        .expect("is answered");
    assert_eq!(moved.headers()["location"], format!("{base}/login?next=%2F"));
    drop(moved.into_body().collect().await.expect("comes"));
    let slash = proxied.sender.send_request(request("?c=d")).await.expect("is answered");
    assert_eq!(slash.status(), StatusCode::MOVED_PERMANENTLY);
    assert_eq!(slash.headers()["location"], format!("{base}/?c=d"));
    proxied.server.state.shutdown.cancel();
}

/// A WebSocket through `/proxy`: the handshake goes through as it is, and bytes both ways until both ends are done.
#[tokio::test]
async fn an_upgraded_connection_goes_through_the_proxy_both_ways() {
    let mut proxied = Proxied::start().await;
    let request = Request::get(format!("{PODS}/p:8080/proxy/chat?room=1"))
        .header("host", "minik")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(Empty::<Bytes>::new())
        .expect("is a request");
    let mut response = proxied.sender.send_request(request).await.expect("is answered");
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["upgrade"], "websocket");
    assert_eq!(response.headers()["x-asked"], "/chat?room=1");
    assert_eq!(response.headers()["x-key"], "dGhlIHNhbXBsZSBub25jZQ==");
    let mut session = TokioIo::new(hyper::upgrade::on(&mut response).await.expect("is upgraded"));
    // More than any buffer between the two ends.
    let sent: Vec<u8> = (0..1 << 20).map(|n: u32| n.to_le_bytes()[0]).collect();
    let (mut read, mut write) = tokio::io::split(&mut session);
    let writing = async {
        write.write_all(&sent).await.expect("writes");
        write.shutdown().await.expect("ends");
    };
    let mut echoed = Vec::new();
    let reading = async { read.read_to_end(&mut echoed).await.expect("reads") };
    tokio::join!(writing, reading);
    assert!(echoed == sent, "{} bytes came back of {}", echoed.len(), sent.len());
    proxied.server.state.shutdown.cancel();
}
