//! `/dial` of netexec: asks another server some times, and gives its answers and errors as JSON.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::Json;
use axum::extract::Query;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::{TcpStream, UdpSocket};

use super::query::{Parameters, text};
use crate::probe::go;

/// For one question and its answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Most of an answer over HTTP that is read.
const MAX_ANSWER: usize = 1 << 20;
/// Most of an answer over UDP that is read.
const MAX_DATAGRAM: usize = 2048;
/// Most questions of one request.
const MAX_TRIES: u32 = 10_000;

#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Answers {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    responses: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http,
    Udp,
}

/// Answers `/dial?host=&port=&request=[&protocol=][&tries=]`.
pub async fn handle(Query(asked): Query<Parameters>) -> Response {
    let wrong = |text: String| (StatusCode::BAD_REQUEST, format!("{text}\n")).into_response();
    let tries = match text(&asked, "tries") {
        "" => 1,
        given => match given.parse::<u32>() {
            Ok(tries) => tries.min(MAX_TRIES),
            Err(error) => return wrong(format!("tries parameter is invalid. {error}")),
        },
    };
    let request = text(&asked, "request");
    if request.is_empty() {
        return wrong("request parameter not specified. <nil>".to_owned());
    }
    let protocol = match text(&asked, "protocol").to_lowercase().as_str() {
        "" | "http" => Protocol::Http,
        "udp" => Protocol::Udp,
        other => return wrong(format!("unsupported protocol. {other}")),
    };
    let (host, port) = (text(&asked, "host"), text(&asked, "port"));
    let address = match resolve(host, port).await {
        Ok(address) => address,
        Err(error) => return wrong(format!("host and/or port param are invalid. {error}")),
    };
    let mut answers = Answers::default();
    let mut last = String::new();
    for _ in 0..tries {
        let asked = async {
            match protocol {
                Protocol::Http => get(address, request).await,
                Protocol::Udp => datagram(address, request).await,
            }
        };
        match asked.await {
            Ok(response) => {
                last.clone_from(&response);
                answers.responses.push(response);
            }
            Err(error) => {
                last.clear();
                answers.errors.push(error);
            }
        }
    }
    if last.is_empty() {
        // The real one shows responses only when the last one was.
        answers.responses.clear();
    }
    Json(answers).into_response()
}

async fn resolve(host: &str, port: &str) -> Result<SocketAddr, String> {
    let port: u16 = port
        .parse()
        .map_err(|_unparsed| format!("lookup tcp/{port}: unknown port"))?;
    let mut found = tokio::net::lookup_host((host, port))
        .await
        .map_err(|error| format!("lookup {host}: {error}"))?;
    found.next().ok_or_else(|| format!("lookup {host}: no such host"))
}

async fn get(address: SocketAddr, path: &str) -> Result<String, String> {
    let failed = |error: String| format!("Get \"http://{address}/{path}\": {error}");
    let late = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
    match tokio::time::timeout(TIMEOUT, exchange(address, path)).await {
        Ok(answer) => answer.map_err(failed),
        Err(_elapsed) => Err(failed(late.to_owned())),
    }
}

async fn exchange(address: SocketAddr, path: &str) -> Result<String, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let stream = TcpStream::connect(address).await;
    let stream = stream.map_err(|error| go::dial(&address.ip().to_string(), address.port(), &error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| text(&error))?;
    // Ends when the sender is dropped; what goes wrong is the sender's error too.
    tokio::spawn(async move { drop(connection.await) });
    let request = Request::get(format!("/{path}"))
        .header(http::header::HOST, address.to_string())
        .header(http::header::USER_AGENT, "Go-http-client/1.1")
        .body(Empty::<Bytes>::new())
        .map_err(|error| text(&error))?;
    let response = sender.send_request(request).await.map_err(|error| text(&error))?;
    let body = Limited::new(response.into_body(), MAX_ANSWER)
        .collect()
        .await
        .map_err(|error| text(&error))?;
    Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
}

async fn datagram(address: SocketAddr, request: &str) -> Result<String, String> {
    let dialled = async {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        socket.connect(address).await?;
        Ok::<_, std::io::Error>(socket)
    };
    let socket = dialled
        .await
        .map_err(|error| format!("udp dial failed. err:{}", go::errno(&error)))?;
    let sent = socket.send(request.as_bytes()).await;
    sent.map_err(|error| format!("udp connection write failed. err:{}", go::errno(&error)))?;
    let mut answer = [0; MAX_DATAGRAM];
    let failed = |error: &str| format!("reading from udp connection failed. err:'read udp {address}: {error}'");
    match tokio::time::timeout(TIMEOUT, socket.recv(&mut answer)).await {
        Ok(Ok(length)) if length > 0 => Ok(String::from_utf8_lossy(&answer[..length]).into_owned()),
        Ok(Ok(_empty)) => Err("reading from udp connection failed. err:'<nil>'".to_owned()),
        Ok(Err(error)) => Err(failed(&format!("read: {}", go::errno(&error)))),
        Err(_elapsed) => Err(failed("i/o timeout")),
    }
}
