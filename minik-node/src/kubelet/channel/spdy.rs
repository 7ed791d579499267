//! The streams of a container as streams of SPDY, each named by its header `streamType`; the closing Status goes out
//! on `error`.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};

use super::{STDERR, STDOUT, Said, Size};
use crate::kubelet::spdy::{Input, Output, Session, Stream};
use crate::kubelet::stdio::Wanted;

/// The protocol, and the only one: clients have known it since 2015.
pub const PROTOCOL: &str = "v4.channel.k8s.io";
/// How long a client may take to begin the streams that its request announces (the kubelet's own time).
const BEGIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Most of a terminal size that is incomplete.
const MAX_SIZE: usize = 1024;

/// What the client sends.
#[derive(Debug)]
pub struct Incoming {
    session: Session,
    stdin: Option<Input>,
    resize: Option<Input>,
    /// Sizes that have not arrived as a whole.
    sizes: BytesMut,
    /// The unused halves of its streams: to drop one resets its stream, and a client says no more on that.
    _unused: Vec<Output>,
}

/// The way to the client.
#[derive(Debug)]
pub struct Outgoing {
    error: Output,
    stdout: Option<Output>,
    stderr: Option<Output>,
}

/// Waits for the streams of a request; `None` when the client begins others, or too late.
pub async fn begin(mut session: Session, wanted: Wanted, terminal: bool) -> Option<(Outgoing, Incoming)> {
    let expected = 1 + [wanted.stdin, wanted.stdout, wanted.stderr, terminal]
        .into_iter()
        .filter(|wanted| *wanted)
        .count();
    let (mut error, mut stdin, mut stdout, mut stderr, mut resize) = (None, None, None, None, None);
    let begun = async {
        for _ in 0..expected {
            let stream = session.accept().await?;
            let place = match stream.headers.get("streamtype").map(String::as_str) {
                Some("error") => &mut error,
                Some("stdin") => &mut stdin,
                Some("stdout") => &mut stdout,
                Some("stderr") => &mut stderr,
                Some("resize") => &mut resize,
                _ => return None,
            };
            *place = Some(stream);
        }
        Some(())
    };
    tokio::time::timeout(BEGIN_TIMEOUT, begun).await.ok()??;
    let outgoing = Outgoing {
        error: error?.output,
        stdout: stdout.map(|stream| stream.output),
        stderr: stderr.map(|stream| stream.output),
    };
    let mut unused = Vec::new();
    let mut input = |stream: Option<Stream>| {
        let Stream { input, output, .. } = stream?;
        unused.push(output);
        Some(input)
    };
    let incoming = Incoming {
        session,
        stdin: input(stdin),
        resize: input(resize),
        sizes: BytesMut::new(),
        _unused: unused,
    };
    Some((outgoing, incoming))
}

impl Incoming {
    /// What comes next; `None` when the client has gone.
    pub async fn next(&mut self) -> Option<Said> {
        loop {
            if let Some(size) = self.size() {
                return Some(Said::Resize(size));
            }
            tokio::select! {
                read = read(&mut self.stdin) => return Some(match read {
                    Some(bytes) => Said::Input(bytes),
                    None => {
                        self.stdin = None;
                        Said::InputEnd
                    }
                }),
                read = read(&mut self.resize) => match read {
                    Some(bytes) if self.sizes.len() < MAX_SIZE => self.sizes.extend_from_slice(&bytes),
                    Some(_) | None => self.resize = None,
                },
                // A stream that the request did not announce is refused by dropping it.
                stream = self.session.accept() => drop(stream?),
            }
        }
    }

    /// The first whole size that has arrived.
    fn size(&mut self) -> Option<Size> {
        let mut sizes = serde_json::Deserializer::from_slice(&self.sizes).into_iter::<Size>();
        let size = sizes.next()?;
        let used = sizes.byte_offset();
        match size {
            Ok(size) => {
                self.sizes.advance(used);
                Some(size)
            }
            Err(error) if error.is_eof() => None,
            Err(error) => {
                tracing::debug!(%error, "a terminal size");
                self.sizes.clear();
                None
            }
        }
    }
}

async fn read(stream: &mut Option<Input>) -> Option<Bytes> {
    match stream {
        Some(stream) => stream.read().await.ok().flatten(),
        None => std::future::pending().await,
    }
}

impl Outgoing {
    /// Sends bytes of a channel; `None` when the client has gone.
    pub async fn send(&mut self, channel: u8, bytes: &[u8]) -> Option<()> {
        let stream = match channel {
            STDOUT => &self.stdout,
            STDERR => &self.stderr,
            _ => &None,
        };
        match stream {
            Some(stream) => stream.write(Bytes::copy_from_slice(bytes)).await.ok(),
            None => Some(()),
        }
    }

    /// Says how it ended and closes the streams.
    pub async fn close(self, status: &[u8]) {
        let closed = async {
            for output in [self.stdout, self.stderr].into_iter().flatten() {
                output.finish().await?;
            }
            self.error.write(Bytes::copy_from_slice(status)).await?;
            self.error.finish().await
        };
        if let Err(error) = closed.await {
            tracing::debug!(%error, "nobody learns how it ended");
        }
    }
}
