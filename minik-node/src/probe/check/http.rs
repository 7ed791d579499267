//! `httpGet`: one GET, with the kubelet's headers, its redirects and its ignorance of certificates.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, USER_AGENT};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::HTTPGetAction;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Outcome;
use super::tls;
use crate::probe::go;

/// Most of a body that is read: the kubelet's 10 KiB.
const MAX_BODY: usize = 10 << 10;
/// Requests after which redirects are no longer followed, as Go's client has it.
const MAX_REQUESTS: usize = 10;
/// What a request line may not hold as it is.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Who asks, which is the first word of `User-Agent`: `kube-probe/1.36`, `kube-lifecycle/1.36`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// A probe: a redirect to another host is an answer.
    Probe,
    /// A lifecycle hook: redirects are followed anywhere.
    Lifecycle,
}

/// A GET as a container's probe or hook describes it.
#[derive(Debug, Clone)]
pub struct Get {
    uri: Uri,
    headers: HeaderMap,
    asker: Asker,
}

/// What came of it in the end.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// The first of the body.
    pub body: String,
}

/// Why there was no answer.
#[derive(Debug, PartialEq, Eq)]
pub enum GetError {
    /// In the words of Go's client.
    Failed(String),
    /// The answer began and did not end in time.
    Body(String),
}

impl Get {
    /// From the API's fields; `host` and `port` are resolved already.
    ///
    /// # Errors
    /// When they make no URL.
    pub fn new(action: &HTTPGetAction, host: &str, port: u16, asker: Asker) -> Result<Self, http::Error> {
        let scheme = action.scheme.as_deref().unwrap_or("HTTP").to_lowercase();
        let path = action.path.as_deref().unwrap_or_default();
        let slash = if path.starts_with('/') { "" } else { "/" };
        let path = utf8_percent_encode(path, ESCAPED);
        let uri = format!("{scheme}://{host}:{port}{slash}{path}").parse()?;
        let mut headers = HeaderMap::new();
        for header in action.http_headers.iter().flatten() {
            let name = HeaderName::from_bytes(header.name.as_bytes())?;
            headers.append(name, HeaderValue::from_str(&header.value)?);
        }
        let word = match asker {
            Asker::Probe => "kube-probe/1.36",
            Asker::Lifecycle => "kube-lifecycle/1.36",
        };
        headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(word));
        if headers
            .entry(ACCEPT)
            .or_insert(HeaderValue::from_static("*/*"))
            .is_empty()
        {
            headers.remove(ACCEPT);
        }
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        Ok(Self { uri, headers, asker })
    }

    /// Asks, following redirects as the asker does.
    pub async fn send(&self) -> Result<Answer, GetError> {
        let mut uri = self.uri.clone();
        for _ in 0..MAX_REQUESTS {
            let response = self.once(&uri).await.map_err(|error| failed(&uri, &error))?;
            let next = redirect(&uri, &response);
            match next.filter(|next| self.asker == Asker::Lifecycle || next.host() == self.uri.host()) {
                Some(next) => uri = next,
                None => return read(response).await,
            }
        }
        Err(failed(&uri, "stopped after 10 redirects"))
    }

    async fn once(&self, uri: &Uri) -> Result<Response<Incoming>, String> {
        let host = uri.host().unwrap_or_default();
        let secure = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let stream = TcpStream::connect((host, port))
            .await
            .map_err(|error| go::dial(host, port, &error))?;
        if !secure {
            return self.over(stream, uri).await;
        }
        static CONNECTOR: LazyLock<TlsConnector> =
            LazyLock::new(|| TlsConnector::from(Arc::new(tls::any_certificate())));
        let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
        let stream = CONNECTOR
            .connect(name, stream)
            .await
            .map_err(|error| tls::text(&error))?;
        self.over(stream, uri).await
    }

    async fn over(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        uri: &Uri,
    ) -> Result<Response<Incoming>, String> {
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .title_case_headers(true)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| text(&error))?;
        // Ends with the response's body, or when the request is dropped.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::trace!(%error, "a probe's connection broke off");
            }
        });
        let mut request = Request::get(uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str))
            .body(Empty::<Bytes>::new())
            .map_err(|error| error.to_string())?;
        *request.headers_mut() = self.headers.clone();
        if let Some(authority) = uri.authority().filter(|_| !self.headers.contains_key(HOST)) {
            let host = HeaderValue::from_str(authority.as_str()).map_err(|error| error.to_string())?;
            request.headers_mut().insert(HOST, host);
        }
        sender.send_request(request).await.map_err(|error| text(&error))
    }
}

/// Asks once for a probe.
pub async fn check(get: &Get, timeout: Duration) -> Outcome {
    let answer = match tokio::time::timeout(timeout, get.send()).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(GetError::Failed(text))) => return Outcome::Failure(text),
        Ok(Err(GetError::Body(text))) => return Outcome::Errored("failure", text),
        Err(_late) => {
            let late = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
            return Outcome::Failure(format!("Get {:?}: {late}", get.uri.to_string()));
        }
    };
    match answer.status {
        200..300 => Outcome::Success,
        300..400 => Outcome::Warning(format!("Probe terminated redirects, Response body: {}", answer.body)),
        status => Outcome::Failure(format!("HTTP probe failed with statuscode: {status}")),
    }
}

async fn read(response: Response<Incoming>) -> Result<Answer, GetError> {
    let status = response.status().as_u16();
    let mut incoming = response.into_body();
    let mut body = Vec::new();
    while body.len() < MAX_BODY {
        match incoming.frame().await {
            Some(Ok(frame)) => body.extend_from_slice(frame.data_ref().map_or(&[], Bytes::as_ref)),
            Some(Err(error)) => return Err(GetError::Body(text(&error))),
            None => break,
        }
    }
    body.truncate(MAX_BODY);
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Answer { status, body })
}

fn failed(uri: &Uri, error: &str) -> GetError {
    GetError::Failed(format!("Get {:?}: {error}", uri.to_string()))
}

/// Where a response sends its client.
fn redirect(from: &Uri, response: &Response<Incoming>) -> Option<Uri> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    resolve(from, response.headers().get(LOCATION)?.to_str().ok()?)
}

/// A `Location` against the address that it came from (RFC 3986, section 5, without dots).
fn resolve(from: &Uri, location: &str) -> Option<Uri> {
    let (scheme, authority) = (from.scheme_str()?, from.authority()?);
    let location = location.split('#').next().unwrap_or_default();
    if location.contains("://") {
        return location.parse().ok();
    }
    if let Some(rest) = location.strip_prefix("//") {
        return format!("{scheme}://{rest}").parse().ok();
    }
    let path = from.path();
    let path = match location.chars().next() {
        Some('/') => location.to_owned(),
        Some('?') => format!("{path}{location}"),
        _ => format!("{}/{location}", path.rsplit_once('/').map_or("", |(folder, _)| folder)),
    };
    format!("{scheme}://{authority}{path}").parse().ok()
}

/// hyper's error as Go's client words it.
fn text(error: &hyper::Error) -> String {
    if error.is_incomplete_message() {
        return "EOF".to_owned();
    }
    if error.is_parse() {
        return "net/http: HTTP/1.x transport connection broken: malformed HTTP response".to_owned();
    }
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    match cause {
        Some(cause) => format!("read tcp: read: {}", go::errno(cause)),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(action: serde_json::Value) -> Get {
        let action: HTTPGetAction = serde_json::from_value(action).unwrap();
        Get::new(&action, "10.244.1.3", 8080, Asker::Probe).unwrap()
    }

    #[test]
    fn the_url_is_made_as_the_kubelet_makes_it() {
        for (path, url) in [
            ("/", "http://10.244.1.3:8080/"),
            ("healthz", "http://10.244.1.3:8080/healthz"),
            ("/a b?c=d", "http://10.244.1.3:8080/a%20b?c=d"),
        ] {
            let get = get(serde_json::json!({"path": path, "port": 8080}));
            assert_eq!(get.uri.to_string(), url);
        }
        let secure = get(serde_json::json!({"scheme": "HTTPS", "path": "/", "port": 8080}));
        assert_eq!(secure.uri.to_string(), "https://10.244.1.3:8080/");
    }

    #[test]
    fn headers_have_the_kubelets_defaults() {
        let plain = get(serde_json::json!({"port": 1}));
        assert_eq!(plain.headers[USER_AGENT], "kube-probe/1.36");
        assert_eq!(plain.headers[ACCEPT], "*/*");
        let own = [("User-Agent", "me"), ("Accept", ""), ("Host", "shop.example")];
        let own = own.map(|(name, value)| serde_json::json!({"name": name, "value": value}));
        let given = get(serde_json::json!({"port": 1, "httpHeaders": own}));
        assert_eq!(given.headers[USER_AGENT], "me");
        assert_eq!(given.headers.get(ACCEPT), None);
        assert_eq!(given.headers[HOST], "shop.example");
    }

    #[test]
    fn locations_are_resolved() {
        let from: Uri = "http://10.244.1.3:8080/a/b?c".parse().unwrap();
        for (location, url) in [
            ("/x", "http://10.244.1.3:8080/x"),
            ("x", "http://10.244.1.3:8080/a/x"),
            ("?x", "http://10.244.1.3:8080/a/b?x"),
            ("//other/x", "http://other/x"),
            ("https://other:1/x#y", "https://other:1/x"),
        ] {
            assert_eq!(resolve(&from, location).unwrap().to_string(), url, "{location}");
        }
    }
}
