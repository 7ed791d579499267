//! Checks against servers on the loopback of this machine.

use std::net::Ipv4Addr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::HTTPGetAction;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Answers every connection with `answer`, once the request has been read; gives the port.
async fn serve(answer: &'static str) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let read = stream.read(&mut request).await.unwrap_or(0);
                let answer = answer.replace("PORT", &port.to_string());
                assert!(read > 0);
                drop(stream.write_all(answer.as_bytes()).await);
            });
        }
    });
    port
}

async fn get(scheme: &str, port: u16, asker: http::Asker) -> Outcome {
    let action = HTTPGetAction {
        scheme: Some(scheme.to_owned()),
        path: Some("/healthz".to_owned()),
        ..HTTPGetAction::default()
    };
    let get = http::Get::new(&action, "127.0.0.1", port, asker).unwrap();
    http::check(&get, SECOND).await
}

#[tokio::test]
async fn codes_from_200_to_399_are_good_and_the_body_is_not_told() {
    for (answer, expected) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Outcome::Success),
        ("HTTP/1.1 204 No Content\r\n\r\n", Outcome::Success),
        (
            "HTTP/1.1 304 Not Modified\r\n\r\n",
            Outcome::Warning("Probe terminated redirects, Response body: ".into()),
        ),
        (
            "HTTP/1.1 500 Oh\r\nContent-Length: 6\r\n\r\nsecret",
            Outcome::Failure("HTTP probe failed with statuscode: 500".into()),
        ),
    ] {
        let port = serve(answer).await;
        assert_eq!(get("HTTP", port, http::Asker::Probe).await, expected, "{answer}");
    }
}

#[tokio::test]
async fn redirects_are_followed_on_the_same_host_and_ten_times() {
    let round = serve("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:PORT/again\r\nContent-Length: 0\r\n\r\n").await;
    let text = format!("Get \"http://127.0.0.1:{round}/again\": stopped after 10 redirects");
    assert_eq!(get("HTTP", round, http::Asker::Probe).await, Outcome::Failure(text));
    let away = serve("HTTP/1.1 302 Found\r\nLocation: http://localhost:1/\r\nContent-Length: 4\r\n\r\nbody").await;
    let warning = Outcome::Warning("Probe terminated redirects, Response body: body".into());
    assert_eq!(get("HTTP", away, http::Asker::Probe).await, warning);
    // A hook goes wherever it is sent.
    let followed = get("HTTP", away, http::Asker::Lifecycle).await;
    assert!(matches!(followed, Outcome::Failure(text) if text.contains("localhost:1")));
}

#[tokio::test]
async fn what_is_no_answer_is_told_in_gos_words() {
    let silent = serve("").await;
    let text = format!("Get \"http://127.0.0.1:{silent}/healthz\": EOF");
    assert_eq!(get("HTTP", silent, http::Asker::Probe).await, Outcome::Failure(text));

    let slow = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = slow.local_addr().unwrap().port();
    let late = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
    let text = format!("Get \"http://127.0.0.1:{port}/healthz\": {late}");
    assert_eq!(get("HTTP", port, http::Asker::Probe).await, Outcome::Failure(text));

    drop(slow);
    let refused = format!("dial tcp 127.0.0.1:{port}: connect: connection refused");
    let text = format!("Get \"http://127.0.0.1:{port}/healthz\": {refused}");
    assert_eq!(get("HTTP", port, http::Asker::Probe).await, Outcome::Failure(text));
    assert_eq!(tcp::check("127.0.0.1", port, SECOND).await, Outcome::Failure(refused));
    let text = format!("timeout: failed to connect service \"127.0.0.1:{port}\" within 1s: context deadline exceeded");
    assert_eq!(grpc::check("127.0.0.1", port, "", SECOND).await, Outcome::Failure(text));
}

#[tokio::test]
async fn https_takes_any_certificate_and_knows_plain_http() {
    let key = rcgen::generate_simple_self_signed(vec!["example.com".to_owned()]).unwrap();
    let private = rustls_pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], private)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        let mut request = [0; 4096];
        let read = stream.read(&mut request).await.unwrap();
        assert!(request[..read].starts_with(b"GET /healthz HTTP/1.1\r\n"));
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        stream.shutdown().await.unwrap();
    });
    assert_eq!(get("HTTPS", port, http::Asker::Probe).await, Outcome::Success);

    let plain = serve("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let text = format!("Get \"https://127.0.0.1:{plain}/healthz\": http: server gave HTTP response to HTTPS client");
    assert_eq!(get("HTTPS", plain, http::Asker::Probe).await, Outcome::Failure(text));
}

#[test]
fn ports_may_have_names() {
    let container = serde_json::json!({"name": "c", "ports": [{"name": "web", "containerPort": 8080}],
        "env": [{"name": "FILE", "value": "/tmp/x"}]});
    let container: Container = serde_json::from_value(container).unwrap();
    let name = |name: &str| IntOrString::String(name.to_owned());
    assert_eq!(port(&container, &name("web")), Ok(8080));
    assert_eq!(port(&container, &name("81")), Ok(81));
    assert_eq!(port(&container, &IntOrString::Int(80)), Ok(80));
    let unknown = Err("strconv.Atoi: parsing \"nope\": invalid syntax".to_owned());
    assert_eq!(port(&container, &name("nope")), unknown);
    assert_eq!(
        port(&container, &IntOrString::Int(0)),
        Err("invalid port number: 0".to_owned())
    );
    let command = vec!["cat".to_owned(), "$(FILE)".to_owned(), "$(OTHER)".to_owned()];
    assert_eq!(
        super::command(&container, Some(&command)),
        ["cat", "/tmp/x", "$(OTHER)"]
    );
}
