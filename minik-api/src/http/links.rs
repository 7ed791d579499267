//! What leads back into `/proxy`: the `Location` and the links of pages that the server behind it answers with name paths
//! of that server, which the client reaches below the path of the proxy only.
//!
//! Does what the `Transport` of apimachinery's `util/proxy` does. A page is held whole while its links are written anew,
//! up to [`MOST_OF_A_PAGE`]; what is no page, too large, or packed in a way that is not known goes through as it came.

use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::ops::Range;

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use flate2::Compression;
use flate2::read::{DeflateDecoder, GzDecoder};
use flate2::write::{DeflateEncoder, GzEncoder};
use futures::StreamExt;
use html5gum::emitters::callback::{CallbackEmitter, CallbackEvent};
use html5gum::{Span, Tokenizer};
use http::{HeaderMap, HeaderValue, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::error::ApiError;

/// The most bytes of a page whose links are written anew, packed and unpacked.
const MOST_OF_A_PAGE: usize = 8 << 20;

/// The attributes of HTML elements that name another resource: the table of apimachinery, HTML 4 and 5 together.
const LINKS: [(&str, &[&str]); 25] = [
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];

/// Where a server is and where the client takes it to be.
pub struct Place<'a> {
    /// The path of the proxy, without a slash at its end.
    pub base: &'a str,
    /// The host and port that was proxied to.
    pub behind: &'a str,
    /// The host that the client named.
    pub asked: &'a str,
}

/// How a page is packed.
#[derive(Clone, Copy)]
enum Packing {
    Plain,
    Gzip,
    Deflate,
}

/// A start tag as it is read: its name and its attributes in order.
struct Tag {
    start: usize,
    name: String,
    attributes: Vec<(String, String)>,
}

impl Place<'_> {
    /// Leads what `answer` names back to this place.
    ///
    /// # Errors
    /// The server behind broke off in the midst of a page, or packed it otherwise than it says.
    pub async fn lead_back(&self, answer: Response<Incoming>) -> Result<Response, ApiError> {
        let (mut parts, body) = answer.into_parts();
        let location = parts.headers.get(header::LOCATION);
        if let Some(location) = location.filter(|to| !to.is_empty()) {
            let moved = location.to_str().ok().and_then(|to| self.moved(to));
            if let Some(Ok(to)) = moved.map(|to| HeaderValue::from_str(&to)) {
                parts.headers.insert(header::LOCATION, to);
            }
            return Ok(Response::from_parts(parts, Body::new(body)));
        }
        let Some(packing) = page(&parts.headers) else {
            return Ok(Response::from_parts(parts, Body::new(body)));
        };
        let (page, rest) = beginning(body).await.map_err(unreachable)?;
        let mended = match rest {
            None if !page.is_empty() => self.mend(packing, &page).map_err(unreachable)?,
            _ => None,
        };
        let body = match (mended, rest) {
            (Some(mended), _) => {
                parts.headers.remove(header::CONTENT_LENGTH);
                Body::from(mended)
            }
            (None, None) => Body::from(page),
            (None, Some(rest)) => {
                let page = futures::stream::iter([Ok(page)]);
                Body::from_stream(page.chain(rest.into_data_stream()))
            }
        };
        Ok(Response::from_parts(parts, body))
    }

    /// Where a link to `to` leads below the proxy; nothing when it leads elsewhere or says no whole path.
    fn moved(&self, to: &str) -> Option<String> {
        let (place, fragment) = to.find('#').map_or((to, ""), |at| to.split_at(at));
        let url: http::Uri = place.parse().ok()?;
        let host = url.authority().map(http::uri::Authority::as_str);
        let elsewhere = host.is_some_and(|host| host != self.behind && host != self.asked);
        if elsewhere || host.is_none() && !to.starts_with('/') {
            return None;
        }
        // Who named the host of the client means the client's way to us, scheme and all.
        let origin = match (url.scheme_str(), host) {
            (Some(scheme), Some(host)) if host == self.asked => format!("{scheme}://{host}"),
            _ => String::new(),
        };
        let below = if url.path().starts_with(self.base) {
            ""
        } else {
            self.base
        };
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        Some(format!("{origin}{below}{}{query}{fragment}", url.path()))
    }

    /// `page` with its links led back, packed as it was; nothing when it is too large.
    fn mend(&self, packing: Packing, page: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let read: Box<dyn Read + '_> = match packing {
            Packing::Plain => Box::new(page),
            Packing::Gzip => Box::new(GzDecoder::new(page)),
            Packing::Deflate => Box::new(DeflateDecoder::new(page)),
        };
        let mut unpacked = Vec::new();
        read.take(MOST_OF_A_PAGE as u64 + 1).read_to_end(&mut unpacked)?;
        if unpacked.len() > MOST_OF_A_PAGE {
            return Ok(None);
        }
        let mended = self.rewritten(&unpacked);
        Ok(Some(match packing {
            Packing::Plain => mended,
            Packing::Gzip => {
                let mut packed = GzEncoder::new(Vec::new(), Compression::default());
                packed.write_all(&mended)?;
                packed.finish()?
            }
            Packing::Deflate => {
                let mut packed = DeflateEncoder::new(Vec::new(), Compression::best());
                packed.write_all(&mended)?;
                packed.finish()?
            }
        }))
    }

    /// `page` with the tags written anew that have a link to lead back, and everything else as it stands.
    fn rewritten(&self, page: &[u8]) -> Vec<u8> {
        let mut tag: Option<Tag> = None;
        let mut emitter = CallbackEmitter::new(|event: CallbackEvent<'_>, span: Span<usize>| {
            self.read(&mut tag, &event, &(span.start..span.end))
        });
        emitter.naively_switch_states(true);
        let mut mended = Vec::with_capacity(page.len());
        let mut copied = 0;
        for edit in Tokenizer::new_with_emitter(page, emitter) {
            let (Range { start, end }, tag): (Range<usize>, String) = match edit {
                Ok(edit) => edit,
                Err(never) => {
                    let never: Infallible = never;
                    match never {}
                }
            };
            mended.extend_from_slice(&page[copied..start]);
            mended.extend_from_slice(tag.as_bytes());
            copied = end;
        }
        mended.extend_from_slice(&page[copied..]);
        mended
    }

    /// Takes in what was met of a page; at the end of a tag that has a link to lead back, the tag that goes in its place.
    fn read(
        &self,
        tag: &mut Option<Tag>,
        event: &CallbackEvent<'_>,
        span: &Range<usize>,
    ) -> Option<(Range<usize>, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match event {
            CallbackEvent::OpenStartTag { name } => {
                *tag = Some(Tag {
                    start: span.start,
                    name: text(name),
                    attributes: Vec::new(),
                });
                None
            }
            CallbackEvent::AttributeName { name } => {
                tag.as_mut()?.attributes.push((text(name), String::new()));
                None
            }
            CallbackEvent::AttributeValue { value } => {
                tag.as_mut()?.attributes.last_mut()?.1 = text(value);
                None
            }
            CallbackEvent::CloseStartTag { self_closing } => {
                let mut tag = tag.take()?;
                self.lead(&mut tag)
                    .then(|| (tag.start..span.end, tag.written(*self_closing)))
            }
            _ => None,
        }
    }

    /// Leads the links of `tag` back; whether it has any.
    fn lead(&self, tag: &mut Tag) -> bool {
        let links = LINKS.iter().find(|(name, _)| *name == tag.name);
        let links = links.map(|(_, links)| *links).unwrap_or_default();
        let mut led = false;
        for (name, value) in &mut tag.attributes {
            if let Some(moved) = self.moved(value).filter(|_| links.contains(&name.as_str())) {
                *value = moved;
                led = true;
            }
        }
        led
    }
}

impl Tag {
    fn written(&self, self_closing: bool) -> String {
        let mut text = format!("<{}", self.name);
        for (name, value) in &self.attributes {
            text.push_str(&format!(" {name}=\"{}\"", escaped(value)));
        }
        text.push_str(if self_closing { "/>" } else { ">" });
        text
    }
}

fn escaped(value: &str) -> String {
    let value = value.replace('&', "&amp;").replace('"', "&#34;").replace('\r', "&#13;");
    value.replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&#39;")
}

/// How the page that comes with `headers` is packed; nothing when it is none, or in a way that is not known.
fn page(headers: &HeaderMap) -> Option<Packing> {
    let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    if kind.split(';').next()?.trim() != "text/html" {
        return None;
    }
    match headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"") => Some(Packing::Plain),
        Some(b"gzip") => Some(Packing::Gzip),
        Some(b"deflate") => Some(Packing::Deflate),
        Some(_) => None,
    }
}

/// What `body` begins with, and the rest of it when that is more than a page may have.
async fn beginning(mut body: Incoming) -> Result<(Bytes, Option<Incoming>), hyper::Error> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            read.extend_from_slice(&data);
        }
        if read.len() > MOST_OF_A_PAGE {
            return Ok((read.freeze(), Some(body)));
        }
    }
    Ok((read.freeze(), None))
}

fn unreachable(error: impl std::fmt::Display) -> ApiError {
    ApiError::Unavailable(format!("error trying to reach service: {error}"))
}

#[cfg(test)]
mod tests {
    use super::{GzDecoder, MOST_OF_A_PAGE, Packing, Place};
    use std::io::{Read, Write};

    const BASE: &str = "/api/v1/namespaces/demo/services/web/proxy";
    const PLACE: Place<'static> = Place {
        base: BASE,
        behind: "10.244.1.7:80",
        asked: "localhost:8001",
    };

    fn rewritten(page: &str) -> String {
        String::from_utf8(PLACE.rewritten(page.as_bytes())).unwrap()
    }

    #[test]
    fn redirections_stay_behind_the_proxy() {
        let lead = |to: &str| PLACE.moved(to);
        let below = |rest: &str| Some(format!("{BASE}{rest}"));
        assert_eq!(lead("/login?next=%2F#top"), below("/login?next=%2F#top"));
        assert_eq!(lead("http://10.244.1.7:80/login/"), below("/login/"));
        assert_eq!(lead(&format!("{BASE}/login")), below("/login"));
        assert_eq!(
            lead("http://localhost:8001/login"),
            Some(format!("http://localhost:8001{BASE}/login"))
        );
        assert_eq!(lead("https://example.com/login"), None);
        assert_eq!(lead("login"), None);
    }

    // The pages of transport_test.go: what is a whole path or names the server is led back, the rest stays.
    #[test]
    fn links_of_pages_lead_behind_the_proxy() {
        for (page, mended) in [
            (
                r#"<pre><a href="kubelet.log">kubelet.log</a><a href="/google.log">google.log</a></pre>"#,
                format!(
                    r#"<pre><a href="kubelet.log">kubelet.log</a><a href="{BASE}/google.log">google.log</a></pre>"#
                ),
            ),
            (
                r#"<a href="http://10.244.1.7:80/log?a=1&amp;b=2">l</a> <a href="https://example.com/">e</a>"#,
                format!(r#"<a href="{BASE}/log?a=1&amp;b=2">l</a> <a href="https://example.com/">e</a>"#),
            ),
            (
                "<IMG SRC=/a.png alt='a \"b\"'/><video src=/v poster='/p.png' controls></video>\u{e4}",
                format!(
                    "<img src=\"{BASE}/a.png\" alt=\"a &#34;b&#34;\"/>\
                     <video src=\"{BASE}/v\" poster=\"{BASE}/p.png\" controls=\"\"></video>\u{e4}"
                ),
            ),
            (
                "<!DOCTYPE html><!-- <a href='/x'> --><script src=\"/s.js\">'<a href=\"/no\">'</script><p title='/t'>&amp;<a href='/",
                format!(
                    "<!DOCTYPE html><!-- <a href='/x'> --><script src=\"{BASE}/s.js\">'<a href=\"/no\">'</script><p title='/t'>&amp;<a href='/"
                ),
            ),
        ] {
            assert_eq!(rewritten(page), mended, "{page}");
            assert_eq!(rewritten(&mended), mended, "again");
        }
        let latin: &[u8] = b"<p>\xe4</p><a href=/x>\xfc</a>";
        let mended = [b"<p>\xe4</p><a href=\"", BASE.as_bytes(), b"/x\">\xfc</a>"].concat();
        assert_eq!(PLACE.rewritten(latin), mended);
    }

    #[test]
    fn packed_pages_are_mended_and_packed_again() {
        let packed = |page: &[u8]| {
            let mut packed = super::GzEncoder::new(Vec::new(), super::Compression::none());
            packed.write_all(page).unwrap();
            packed.finish().unwrap()
        };
        let mended = PLACE
            .mend(Packing::Gzip, &packed(b"<a href=\"/x\">x</a>"))
            .unwrap()
            .unwrap();
        let mut page = String::new();
        GzDecoder::new(mended.as_slice()).read_to_string(&mut page).unwrap();
        assert_eq!(page, format!("<a href=\"{BASE}/x\">x</a>"));

        let large = packed(&vec![b' '; MOST_OF_A_PAGE + 1]);
        assert!(PLACE.mend(Packing::Gzip, &large).unwrap().is_none());
        assert!(PLACE.mend(Packing::Gzip, b"<a href=/x>").is_err());
    }
}
