//! echoserver: tells whoever asks on port 8080 what it was asked and from which address, which is how lessons show the
//! source address of a Service's clients.
//!
//! The text is that of version 1.10, line by line, except for the server's own version.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use http::header::HOST;
use http::request::Parts;
use http_body_util::{BodyExt, Limited};

use super::{StandInError, hostname, serve_until_asked};

const PORT: u16 = 8080;
/// Most of a request's body that is read.
const MAX_BODY: usize = 1 << 20;
/// What a Pod may tell of itself, and the variables that say it.
const POD: [(&str, &str); 4] = [
    ("node name", "NODE_NAME"),
    ("pod name", "POD_NAME"),
    ("pod namespace", "POD_NAMESPACE"),
    ("pod IP", "POD_IP"),
];

/// Serves until it is asked to stop.
pub async fn run() -> Result<(), StandInError> {
    serve_until_asked(PORT, Router::new().fallback(answer)).await
}

async fn answer(ConnectInfo(from): ConnectInfo<SocketAddr>, request: Request) -> String {
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        Err(error) => error.to_string(),
    };
    let pod = pod(|variable| std::env::var(variable).ok());
    format!(
        "\n\nHostname: {}\n\nPod Information:\n{pod}\n{}",
        hostname(),
        asked(&head, &body, from)
    )
}

fn pod(variable: impl Fn(&str) -> Option<String>) -> String {
    if variable("POD_NAME").is_none() {
        return "\t-no pod information available-\n".to_owned();
    }
    let line =
        |(name, from): (&str, &str)| format!("\t{name}:\t{}\n", variable(from).unwrap_or_else(|| "N/A".to_owned()));
    POD.into_iter().map(line).collect()
}

fn asked(head: &Parts, body: &str, from: SocketAddr) -> String {
    let (path, query) = (head.uri.path(), head.uri.query().unwrap_or_default());
    let host = head
        .headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(host, _port)| host);
    let version = format!("{:?}", head.version);
    let target = head.uri.path_and_query().map_or(path, |target| target.as_str());
    let mut headers: Vec<String> = head
        .headers
        .iter()
        .map(|(name, value)| format!("\t{name}={}\n", String::from_utf8_lossy(value.as_bytes())))
        .collect();
    headers.sort();
    let body = if body.is_empty() {
        "\t-no body in request-"
    } else {
        body
    };
    format!(
        "Server values:\n\tserver_version=minik's stand-in\n\nRequest Information:\n\tclient_address={}\n\tmethod={}\n\treal path={path}\n\t\
         query={query}\n\trequest_version={}\n\trequest_scheme=http\n\trequest_uri=http://{host}:{PORT}{target}\n\nRequest Headers:\n{}\n\
         Request Body:\n{body}\n\n",
        from.ip(),
        head.method,
        version.trim_start_matches("HTTP/"),
        headers.concat()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_told_line_by_line() {
        let request = Request::get("/a?b=c")
            .header("host", "192.168.99.100:30674")
            .header("accept", "*/*");
        let (head, ()) = request.body(()).unwrap().into_parts();
        let text = asked(&head, "", SocketAddr::from(([172, 17, 0, 1], 40_000)));
        let expected = "Request Information:\n\tclient_address=172.17.0.1\n\tmethod=GET\n\treal path=/a\n\tquery=b=c\n\
                        \trequest_version=1.1\n\trequest_scheme=http\n\trequest_uri=http://192.168.99.100:8080/a?b=c\n\n\
                        Request Headers:\n\taccept=*/*\n\thost=192.168.99.100:30674\n\nRequest Body:\n\t-no body in request-\n\n";
        assert_eq!(text.split_once("\n\n").unwrap().1, expected);
    }

    #[test]
    fn a_pod_tells_of_itself_what_it_knows() {
        assert_eq!(pod(|_| None), "\t-no pod information available-\n");
        let known = |name: &str| (name == "POD_NAME").then(|| "web".to_owned());
        assert!(pod(known).contains("\tpod name:\tweb\n\tpod namespace:\tN/A\n"));
    }
}
