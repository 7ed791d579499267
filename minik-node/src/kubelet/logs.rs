//! `/containerLogs`: a container's output from its log files, with the options of `kubectl logs`.
//!
//! Following waits for inotify and for the container's end; nothing is polled.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use axum::body::Body;
use axum::extract::{Path as UrlPath, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde::Deserialize;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::Refusal;
use crate::pods::{Facts, Registry};
use crate::runtime::cri_log;

/// Pieces that wait for a slow reader.
const QUEUE: usize = 8;
/// Size of a piece.
const PIECE: usize = 32 * 1024;

/// The query of the kubelet's endpoint, which is `PodLogOptions`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Options {
    follow: bool,
    previous: bool,
    timestamps: bool,
    tail_lines: Option<u64>,
    since_seconds: Option<i64>,
    since_time: Option<Timestamp>,
    limit_bytes: Option<u64>,
}

/// Serves a log.
pub async fn logs(
    State(registry): State<Registry>,
    UrlPath((namespace, pod, container)): UrlPath<(String, String, String)>,
    Query(options): Query<Options>,
) -> Result<Response, Refusal> {
    let gone = || Refusal(StatusCode::NOT_FOUND, format!("pod {pod:?} not found"));
    let facts = super::find(&registry, &namespace, &pod).await.ok_or_else(gone)?;
    let (attempt, path) = find(&facts.borrow(), &pod, &container, options.previous)?;
    let (sender, receiver) = mpsc::channel(QUEUE);
    let reader = LogReader::new(path, options, Timestamp::now());
    tokio::spawn(reader.run(
        sender,
        Ending {
            facts,
            container,
            attempt,
        },
    ));
    Ok(Response::new(Body::from_stream(
        ReceiverStream::new(receiver).map(Ok::<Bytes, Infallible>),
    )))
}

fn find(facts: &Facts, pod: &str, container: &str, previous: bool) -> Result<(u32, PathBuf), Refusal> {
    let bad = |text: String| Refusal(StatusCode::BAD_REQUEST, text);
    let state = facts.states.get(container);
    let attempt = if previous {
        let ended = state.and_then(|state| {
            state
                .previous
                .as_ref()
                .or_else(|| state.current.ended.is_some().then_some(&state.current))
        });
        ended
            .ok_or_else(|| {
                bad(format!(
                    "previous terminated container {container:?} in pod {pod:?} not found"
                ))
            })?
            .attempt
    } else {
        state
            .ok_or_else(|| {
                let why = waits(facts.waiting.get(container).map(String::as_str));
                bad(format!(
                    "container {container:?} in pod {pod:?} is waiting to start: {why}"
                ))
            })?
            .current
            .attempt
    };
    Ok((attempt, facts.logs.join(container).join(format!("{attempt}.log"))))
}

/// What a container that has no log waits for, in the kubelet's words (`validateContainerLogStatus`).
fn waits(reason: Option<&str>) -> &str {
    match reason {
        Some("ErrImagePull") => "image can't be pulled",
        Some("ImagePullBackOff") => "trying and failing to pull image",
        Some(reason) => reason,
        None => "ContainerCreating",
    }
}

/// When following stops.
struct Ending {
    facts: watch::Receiver<Facts>,
    container: String,
    attempt: u32,
}

impl Ending {
    /// Whether the attempt writes no more.
    fn reached(&self) -> bool {
        let facts = self.facts.borrow();
        let state = facts.states.get(&self.container);
        facts.client.is_none()
            || state.is_none_or(|state| state.current.attempt != self.attempt || state.current.ended.is_some())
    }
}

struct LogReader {
    path: PathBuf,
    options: Options,
    since: Option<Timestamp>,
    /// Records that `tailLines` still leaves out.
    skip: u64,
    /// Bytes that `limitBytes` still allows.
    left: u64,
    /// Whether the next text begins a line, which is where a time stamp goes.
    line_start: bool,
    partial: Vec<u8>,
}

impl LogReader {
    fn new(path: PathBuf, options: Options, now: Timestamp) -> Self {
        let since_seconds = options
            .since_seconds
            .and_then(|seconds| now.checked_sub(SignedDuration::from_secs(seconds)).ok());
        let since = options.since_time.or(since_seconds);
        let left = options.limit_bytes.unwrap_or(u64::MAX);
        Self {
            path,
            since,
            left,
            options,
            skip: 0,
            line_start: true,
            partial: Vec::new(),
        }
    }

    async fn run(mut self, sender: mpsc::Sender<Bytes>, ending: Ending) {
        let path = self.path.clone();
        if let Err(error) = self.read(&sender, ending).await {
            tracing::warn!(path = %path.display(), %error, "read log");
        }
    }

    async fn read(&mut self, sender: &mpsc::Sender<Bytes>, mut ending: Ending) -> io::Result<()> {
        let changes = if self.options.follow {
            Some(changes(&self.path)?)
        } else {
            None
        };
        let rotated = rotated(&self.path);
        if let Some(tail) = self.options.tail_lines {
            self.skip = (lines(&rotated)? + lines(&self.path)?).saturating_sub(tail);
        }
        if let Some(mut old) = open(&rotated)? {
            self.drain(&mut old, sender).await?;
        }
        let mut file = open(&self.path)?;
        loop {
            let ended = ending.reached();
            if let Some(file) = &mut file
                && !self.drain(file, sender).await?
            {
                return Ok(());
            }
            if replaced(file.as_ref(), &self.path) {
                file = open(&self.path)?;
                continue;
            }
            let Some(changes) = changes.as_ref().filter(|_| !ended) else {
                return Ok(());
            };
            tokio::select! {
                ready = changes.readable() => {
                    let mut ready = ready?;
                    match changes.get_ref().0.read_events() {
                        Ok(_) => {}
                        Err(nix::Error::EAGAIN) => ready.clear_ready(),
                        Err(error) => return Err(error.into()),
                    }
                }
                changed = ending.facts.changed() => if changed.is_err() { return Ok(()) },
                () = sender.closed() => return Ok(()),
            }
        }
    }

    /// Sends what the file has; `false` when nobody listens any more or the limit is reached.
    async fn drain(&mut self, file: &mut File, sender: &mpsc::Sender<Bytes>) -> io::Result<bool> {
        let mut buffer = vec![0; PIECE];
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                return Ok(true);
            }
            let mut out = Vec::with_capacity(read);
            self.convert(&buffer[..read], &mut out);
            if !out.is_empty() && sender.send(out.into()).await.is_err() || self.left == 0 {
                return Ok(false);
            }
        }
    }

    fn convert(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.partial.extend_from_slice(bytes);
        let mut partial = std::mem::take(&mut self.partial);
        let mut start = 0;
        while let Some(length) = partial[start..].iter().position(|byte| *byte == b'\n') {
            self.line(&partial[start..start + length], out);
            start += length + 1;
        }
        partial.drain(..start);
        self.partial = partial;
        let keep = usize::try_from(self.left).unwrap_or(usize::MAX).min(out.len());
        out.truncate(keep);
        self.left -= keep as u64;
    }

    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) {
        if self.skip > 0 {
            self.skip -= 1;
            return;
        }
        let Some(record) = cri_log::parse(line) else { return };
        if self.since.is_some_and(|since| record.at < since) {
            return;
        }
        if self.options.timestamps && self.line_start {
            out.extend_from_slice(record.time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(record.text);
        if record.complete {
            out.push(b'\n');
        }
        self.line_start = record.complete;
    }
}

struct Changes(Inotify);

impl std::os::fd::AsRawFd for Changes {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

fn changes(path: &Path) -> io::Result<AsyncFd<Changes>> {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    let dir = path.parent().unwrap_or(path);
    inotify.add_watch(
        dir,
        AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO,
    )?;
    // SAFETY: the descriptor lives and stays the same for as long as the `Inotify` that owns it.
    Ok(unsafe { AsyncFd::register_with_interest(Changes(inotify), tokio::io::Interest::READABLE) }?)
}

fn rotated(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        file => file.map(Some),
    }
}

/// Whether another file lies at `path` than the one that is open.
fn replaced(file: Option<&File>, path: &Path) -> bool {
    let Ok(now) = std::fs::metadata(path) else { return false };
    file.and_then(|file| file.metadata().ok())
        .is_none_or(|open| open.ino() != now.ino())
}

fn lines(path: &Path) -> io::Result<u64> {
    let Some(file) = open(path)? else { return Ok(0) };
    let mut reader = BufReader::with_capacity(PIECE, file);
    let mut count = 0;
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(count);
        }
        count += buffer.iter().filter(|byte| **byte == b'\n').count() as u64;
        let length = buffer.len();
        reader.consume(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &[u8] = b"2026-01-01T00:00:01Z stdout F one\n2026-01-01T00:00:02Z stderr P tw\n2026-01-01T00:00:03Z stderr F o\n2026-01-01T00:00:04Z stdout F three\n";

    fn converted(options: Options, skip: u64, chunk: usize) -> String {
        let mut reader = LogReader::new(PathBuf::new(), options, "2026-01-01T00:00:05Z".parse().unwrap());
        reader.skip = skip;
        let mut all = Vec::new();
        for piece in LOG.chunks(chunk) {
            let mut out = Vec::new();
            reader.convert(piece, &mut out);
            all.extend(out);
        }
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn options_choose_and_shape_lines_however_the_file_is_cut() {
        let cases = [
            (Options::default(), 0, "one\ntwo\nthree\n"),
            (Options::default(), 3, "three\n"),
            (
                Options {
                    since_seconds: Some(1),
                    ..Options::default()
                },
                0,
                "three\n",
            ),
            (
                Options {
                    since_time: Some("2026-01-01T00:00:02Z".parse().unwrap()),
                    ..Options::default()
                },
                0,
                "two\nthree\n",
            ),
            (
                Options {
                    limit_bytes: Some(5),
                    ..Options::default()
                },
                0,
                "one\nt",
            ),
            (
                Options {
                    timestamps: true,
                    ..Options::default()
                },
                0,
                "2026-01-01T00:00:01Z one\n2026-01-01T00:00:02Z two\n2026-01-01T00:00:04Z three\n",
            ),
        ];
        for (options, skip, expected) in cases {
            for chunk in [1, 7, 1000] {
                assert_eq!(converted(options.clone(), skip, chunk), expected, "{options:?} {chunk}");
            }
        }
    }
}
