//! The streams of one connection: a task reads frames and hands them to their streams, another writes.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use futures::{Sink, SinkExt, Stream as Incoming, StreamExt};
use tokio::sync::mpsc;

use super::frame::{CANCEL, Decoder, Encoder, Frame, FrameError, Headers, REFUSED_STREAM};

/// Streams of one connection that may have input to come.
const MAX_STREAMS: usize = 1024;
/// Frames that may wait for the connection, and pieces that may wait for a stream's reader.
const WAITING: usize = 32;

/// Streams as the client begins them.
#[derive(Debug)]
pub struct Session {
    begun: mpsc::Receiver<Stream>,
}

/// One stream: what the client sends on it, and the way back.
#[derive(Debug)]
pub struct Stream {
    /// What it is for.
    pub headers: Headers,
    /// What the client sends.
    pub input: Input,
    /// The way back.
    pub output: Output,
}

/// What the client sends on a stream.
#[derive(Debug)]
pub struct Input(mpsc::Receiver<Piece>);

/// The way to the client on a stream. One that is dropped before it has [finished](Output::finish) resets the stream.
#[derive(Debug)]
pub struct Output {
    number: u32,
    frames: mpsc::Sender<Frame>,
    finished: bool,
}

#[derive(Debug)]
enum Piece {
    Bytes(Bytes),
    Reset,
}

/// The client has reset the stream, or the connection has gone.
#[derive(Debug, thiserror::Error)]
#[error("the client has gone")]
pub struct Unread;

impl Session {
    /// Speaks over a connection until it ends or nobody holds the session and its streams any more.
    ///
    /// # Errors
    /// When zlib cannot be set up.
    pub fn start<I, O>(incoming: I, outgoing: O) -> io::Result<Self>
    where
        I: Incoming<Item = io::Result<Bytes>> + Send + Unpin + 'static,
        O: Sink<Bytes, Error = io::Error> + Send + Unpin + 'static,
    {
        let encoder = Encoder::new().map_err(io::Error::other)?;
        let (frames, to_write) = mpsc::channel(WAITING);
        let (begin, begun) = mpsc::channel(WAITING);
        tokio::spawn(write(encoder, to_write, outgoing));
        let reader = Reader {
            begin,
            frames,
            streams: BTreeMap::new(),
        };
        tokio::spawn(async move {
            if let Err(error) = reader.run(incoming).await {
                tracing::debug!(error = &error as &dyn std::error::Error, "a SPDY connection broke off");
            }
        });
        Ok(Self { begun })
    }

    /// The next stream; `None` when the connection has ended.
    pub async fn accept(&mut self) -> Option<Stream> {
        self.begun.recv().await
    }
}

impl Input {
    /// What comes next; `None` at the end.
    ///
    /// # Errors
    /// [`Unread`], when the client has reset the stream. A connection that breaks off is an end.
    pub async fn read(&mut self) -> Result<Option<Bytes>, Unread> {
        match self.0.recv().await {
            Some(Piece::Bytes(bytes)) => Ok(Some(bytes)),
            Some(Piece::Reset) => Err(Unread),
            None => Ok(None),
        }
    }
}

impl Output {
    /// Sends bytes.
    ///
    /// # Errors
    /// [`Unread`], when the connection has gone.
    pub async fn write(&self, bytes: Bytes) -> Result<(), Unread> {
        self.data(bytes, false).await
    }

    /// Says that nothing more follows.
    ///
    /// # Errors
    /// [`Unread`], when the connection has gone.
    pub async fn finish(mut self) -> Result<(), Unread> {
        self.finished = true;
        self.data(Bytes::new(), true).await
    }

    async fn data(&self, bytes: Bytes, fin: bool) -> Result<(), Unread> {
        let frame = Frame::Data {
            stream: self.number,
            fin,
            bytes,
        };
        self.frames.send(frame).await.map_err(|_gone| Unread)
    }
}

impl Drop for Output {
    /// A client that still waits for the stream learns that nobody is there.
    fn drop(&mut self) {
        if !self.finished {
            let reset = Frame::RstStream {
                stream: self.number,
                status: CANCEL,
            };
            // A connection too busy for it is one whose client will see the end of all streams.
            drop(self.frames.try_send(reset));
        }
    }
}

/// What ends a connection early.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("read")]
    Read(#[source] io::Error),
    #[error("understand")]
    Frame(#[from] FrameError),
    #[error("answer: the connection has gone")]
    Answer,
}

struct Reader {
    begin: mpsc::Sender<Stream>,
    frames: mpsc::Sender<Frame>,
    /// Those with input to come.
    streams: BTreeMap<u32, mpsc::Sender<Piece>>,
}

impl Reader {
    async fn run<I>(mut self, mut incoming: I) -> Result<(), SessionError>
    where
        I: Incoming<Item = io::Result<Bytes>> + Send + Unpin,
    {
        let mut decoder = Decoder::default();
        loop {
            let bytes = tokio::select! {
                bytes = incoming.next() => bytes,
                () = self.unheard() => return Ok(()),
            };
            let Some(bytes) = bytes else { return Ok(()) };
            decoder.push(&bytes.map_err(SessionError::Read)?);
            while let Some(frame) = decoder.next_frame()? {
                self.take(frame).await?;
            }
        }
    }

    /// Nobody takes new streams, and none of the old ones has a reader.
    async fn unheard(&self) {
        self.begin.closed().await;
        for stream in self.streams.values() {
            stream.closed().await;
        }
    }

    async fn take(&mut self, frame: Frame) -> Result<(), SessionError> {
        match frame {
            Frame::SynStream { stream, fin, headers } => self.begin(stream, fin, headers).await?,
            Frame::Data { stream, fin, bytes } => {
                if let Some(reader) = self.streams.get(&stream)
                    && !bytes.is_empty()
                    && reader.send(Piece::Bytes(bytes)).await.is_err()
                {
                    self.streams.remove(&stream);
                }
                if fin {
                    self.streams.remove(&stream);
                }
            }
            Frame::RstStream { stream, .. } => {
                if let Some(reader) = self.streams.remove(&stream) {
                    // One without a reader needs no telling.
                    drop(reader.send(Piece::Reset).await);
                }
            }
            Frame::Ping(number) => self.answer(Frame::Ping(number)).await?,
            Frame::SynReply { .. } => {}
        }
        Ok(())
    }

    async fn begin(&mut self, number: u32, fin: bool, headers: Headers) -> Result<(), SessionError> {
        self.streams.retain(|_, reader| !reader.is_closed());
        if self.streams.contains_key(&number) || self.streams.len() == MAX_STREAMS {
            let status = REFUSED_STREAM;
            return self.answer(Frame::RstStream { stream: number, status }).await;
        }
        self.answer(Frame::SynReply { stream: number }).await?;
        let (reader, input) = mpsc::channel(WAITING);
        if !fin {
            self.streams.insert(number, reader);
        }
        let stream = Stream {
            headers,
            input: Input(input),
            output: Output {
                number,
                frames: self.frames.clone(),
                finished: false,
            },
        };
        // When nobody takes it, dropping it tells the client.
        drop(self.begin.send(stream).await);
        Ok(())
    }

    async fn answer(&self, frame: Frame) -> Result<(), SessionError> {
        self.frames.send(frame).await.map_err(|_gone| SessionError::Answer)
    }
}

async fn write<O>(mut encoder: Encoder, mut frames: mpsc::Receiver<Frame>, mut outgoing: O)
where
    O: Sink<Bytes, Error = io::Error> + Send + Unpin,
{
    let written = async {
        while let Some(frame) = frames.recv().await {
            let bytes = encoder.encode(&frame).map_err(io::Error::other)?;
            outgoing.feed(bytes).await?;
            if frames.is_empty() {
                outgoing.flush().await?;
            }
        }
        outgoing.close().await
    };
    if let Err(error) = written.await {
        tracing::debug!(%error, "a SPDY client has gone");
    }
}
