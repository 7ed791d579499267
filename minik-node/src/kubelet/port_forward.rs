//! `/portForward`: connections to ports of a Pod, made to `localhost` inside its network namespace.
//!
//! kubectl begins two streams of SPDY for each of its connections, inside a WebSocket since 1.31 (KEP-4006): `data`,
//! and `error` for what went wrong. Other clients (kube-rs, Kubernetes' Python client) name the ports in the request
//! and have two channels of a plain WebSocket for each.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use bytes::{Buf, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Refusal;
use super::spdy::{Input, Output, Session, Stream, Unread};
use super::upgrade::{self, Upgrade};
use crate::kernel::netns::NetNs;
use crate::pods::Registry;
use crate::probe::go;

/// SPDY inside a WebSocket.
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
/// Channels of a WebSocket: two for each port of the request.
const CHANNELS: &str = "v4.channel.k8s.io";
/// Streams of SPDY.
const STREAMS: &str = "portforward.k8s.io";
/// How long a client may take to begin the second of two streams (the kubelet's own time).
const PAIR_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may go on when the Pod has said everything: what containerd gives it. A channel of a WebSocket has
/// no end that would tell the client that it is over.
const LINGER: Duration = Duration::from_millis(500);
/// How much is read from the Pod at once.
const PIECE: usize = 32 * 1024;
/// Pieces that may wait for one end.
const WAITING: usize = 32;

/// Forwards connections until the client has gone.
pub async fn port_forward(
    State(registry): State<Registry>,
    Path((namespace, pod)): Path<(String, String)>,
    Query(query): Query<Vec<(String, String)>>,
    upgrade: Upgrade,
) -> Result<Response, Refusal> {
    let facts = super::find(&registry, &namespace, &pod)
        .await
        .ok_or_else(|| Refusal(StatusCode::NOT_FOUND, "pod does not exist".to_owned()))?;
    let place = {
        let facts = facts.borrow();
        if facts.client.is_none() {
            let text = format!("unable to do port forwarding: pod {pod:?} has no sandbox");
            return Err(Refusal(StatusCode::INTERNAL_SERVER_ERROR, text));
        }
        Place {
            netns: facts.netns.clone(),
            uid: facts.uid.clone(),
        }
    };
    let ports: Vec<u16> = query
        .iter()
        .filter(|(name, _)| name == "port" || name == "ports")
        .flat_map(|(_, value)| value.split(','))
        .map(|port| port.parse().ok().filter(|port| *port != 0))
        .collect::<Option<_>>()
        .ok_or_else(|| Refusal(StatusCode::BAD_REQUEST, "port must be between 1 and 65535".to_owned()))?;
    Ok(match upgrade {
        Upgrade::Spdy(upgrade) => upgrade.on_upgrade(STREAMS, |session| forward(session, place)),
        Upgrade::WebSocket(upgrade) => upgrade
            .protocols([TUNNEL, CHANNELS])
            .on_upgrade(|socket| over_websocket(socket, place, ports)),
    })
}

async fn over_websocket(socket: WebSocket, place: Place, ports: Vec<u16>) {
    if socket.protocol().is_some_and(|protocol| protocol == TUNNEL) {
        match upgrade::tunnel(socket) {
            Ok(session) => forward(session, place).await,
            Err(error) => tracing::warn!(%error, "set up SPDY"),
        }
    } else {
        channels(socket, &place, &ports).await;
    }
}

/// The inside of a Pod.
#[derive(Debug, Clone)]
struct Place {
    /// File of its network namespace; `None` for a Pod in the node's own, where the agent is.
    netns: Option<PathBuf>,
    uid: String,
}

impl Place {
    /// Connects to a port that something in the Pod listens on, at either loopback address.
    async fn connect(&self, port: u16) -> Result<TcpStream, String> {
        let mut failures = Vec::new();
        for address in [
            SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
        ] {
            match self.dial(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failures.push(format!("dial tcp {address}: connect: {}", go::errno(&error))),
            }
        }
        let namespace = self.netns.as_deref().unwrap_or(std::path::Path::new("host"));
        Err(format!(
            "failed to connect to localhost:{port} inside namespace {:?}, IPv4: {} IPv6 {}",
            namespace.display().to_string(),
            failures[0],
            failures[1]
        ))
    }

    async fn dial(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let open = || match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        };
        // A socket belongs to the namespace in which it was opened, wherever it is used.
        let socket = match self.netns.as_deref().and_then(|path| path.file_name()?.to_str()) {
            Some(name) => NetNs::open(name)
                .and_then(|namespace| namespace.run(open))
                .map_err(io::Error::other)??,
            None => open()?,
        };
        socket.connect(address).await
    }
}

/// The two streams of one connection, while the client begins them.
#[derive(Debug)]
struct Pair {
    error: Option<Stream>,
    data: Option<Stream>,
    until: Instant,
}

/// Joins streams that carry the same request ID, and each pair with a connection of its own.
async fn forward(mut session: Session, place: Place) {
    let mut pairs: BTreeMap<String, Pair> = BTreeMap::new();
    let mut connections = JoinSet::new();
    loop {
        let earliest = pairs.values().map(|pair| pair.until).min();
        let stream = tokio::select! {
            stream = session.accept() => stream,
            () = sleep_until(earliest) => {
                let now = Instant::now();
                pairs.retain(|_, pair| pair.until > now);
                continue;
            }
            Some(_) = connections.join_next() => continue,
        };
        let Some(stream) = stream else { break };
        let Some(request) = stream.headers.get("requestid").cloned() else {
            tracing::debug!("a stream without a request ID");
            continue;
        };
        let pair = pairs.entry(request.clone()).or_insert_with(|| Pair {
            error: None,
            data: None,
            until: Instant::now() + PAIR_TIMEOUT,
        });
        match stream.headers.get("streamtype").map(String::as_str) {
            Some("error") => pair.error = Some(stream),
            Some("data") => pair.data = Some(stream),
            kind => tracing::debug!(kind, "a stream of no use"),
        }
        if let Pair {
            error: Some(_),
            data: Some(_),
            ..
        } = pair
            && let Some(Pair {
                error: Some(error),
                data: Some(data),
                ..
            }) = pairs.remove(&request)
        {
            let port = data.headers.get("port").and_then(|port| port.parse().ok());
            let Some(port) = port.filter(|port| *port != 0) else {
                tracing::debug!("a stream without a port");
                continue;
            };
            let (reader, writer) = (Reader::Stream(data.input), Writer::Stream(data.output));
            connections.spawn(connection(
                place.clone(),
                port,
                reader,
                writer,
                Writer::Stream(error.output),
            ));
        }
    }
    // Nobody is left to forward for: connections end as they are dropped.
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// One connection of the client's, for as long as it lasts.
async fn connection(place: Place, port: u16, reader: Reader, writer: Writer, error: Writer) {
    let carried = match place.connect(port).await {
        Ok(stream) => carry(stream, reader, writer).await,
        Err(text) => {
            let text = format!("error forwarding port {port} to pod {}, uid : {text}", place.uid);
            error.write(text.into()).await
        }
    };
    let ended = match carried {
        Ok(()) => error.finish().await,
        gone => gone,
    };
    if let Err(error) = ended {
        tracing::debug!(port, %error, "a forwarded connection broke off");
    }
}

/// Carries bytes both ways until the Pod has said everything, or either end has gone.
async fn carry(stream: TcpStream, mut reader: Reader, writer: Writer) -> Result<(), Unread> {
    let (mut from_pod, mut to_pod) = stream.into_split();
    let up = async {
        while let Some(mut bytes) = reader.read().await? {
            if let Err(error) = to_pod.write_all_buf(&mut bytes).await {
                tracing::debug!(%error, "the Pod reads no more");
                return Ok(());
            }
        }
        if let Err(error) = to_pod.shutdown().await {
            tracing::debug!(%error, "the Pod has gone");
        }
        Ok(())
    };
    let down = async {
        loop {
            let mut bytes = BytesMut::with_capacity(PIECE);
            match from_pod.read_buf(&mut bytes).await {
                Ok(0) => return writer.finish().await,
                Ok(_) => writer.write(bytes.freeze()).await?,
                Err(error) => {
                    tracing::debug!(%error, "the Pod has broken off");
                    return writer.finish().await;
                }
            }
        }
    };
    tokio::pin!(up, down);
    tokio::select! {
        said = &mut up => {
            said?;
            down.await
        }
        said = &mut down => {
            said?;
            tokio::time::timeout(LINGER, up).await.unwrap_or(Ok(()))
        }
    }
}

/// What the client sends on one connection.
#[derive(Debug)]
enum Reader {
    Stream(Input),
    Channel(mpsc::Receiver<Bytes>),
}

/// The way to the client.
#[derive(Debug)]
enum Writer {
    Stream(Output),
    Channel(u8, mpsc::Sender<Message>),
}

impl Reader {
    async fn read(&mut self) -> Result<Option<Bytes>, Unread> {
        match self {
            Self::Stream(input) => input.read().await,
            Self::Channel(pieces) => Ok(pieces.recv().await),
        }
    }
}

impl Writer {
    async fn write(&self, bytes: Bytes) -> Result<(), Unread> {
        match self {
            Self::Stream(output) => output.write(bytes).await,
            Self::Channel(number, messages) => {
                let message = Message::Binary([&[*number], bytes.as_ref()].concat().into());
                messages.send(message).await.map_err(|_gone| Unread)
            }
        }
    }

    /// Channels have no end of their own: the socket closes when the last of them is done.
    async fn finish(self) -> Result<(), Unread> {
        match self {
            Self::Stream(output) => output.finish().await,
            Self::Channel(..) => Ok(()),
        }
    }
}

/// One connection to each port, each with a channel for data and the next one for errors, which both open with the
/// port's number, low byte first.
async fn channels(socket: WebSocket, place: &Place, ports: &[u16]) {
    let (mut sink, mut stream) = socket.split();
    let (messages, mut to_send) = mpsc::channel(WAITING);
    let mut connections = JoinSet::new();
    let mut inputs = Vec::new();
    for (port, data) in ports.iter().zip((0..=u8::MAX - 1).step_by(2)) {
        let [low, high] = port.to_le_bytes();
        for channel in [data, data + 1] {
            let opening = Message::Binary(Bytes::copy_from_slice(&[channel, low, high]));
            if sink.send(opening).await.is_err() {
                return;
            }
        }
        let (input, pieces) = mpsc::channel(WAITING);
        inputs.push(input);
        let writer = |channel| Writer::Channel(channel, messages.clone());
        let (reader, data, error) = (Reader::Channel(pieces), writer(data), writer(data + 1));
        connections.spawn(connection(place.clone(), *port, reader, data, error));
    }
    drop(messages);
    let receive = async {
        while let Some(Ok(message)) = stream.next().await {
            let mut bytes = match message {
                Message::Binary(bytes) => bytes,
                Message::Close(_) => return,
                _ => continue,
            };
            let Ok(channel) = bytes.try_get_u8() else { continue };
            if channel % 2 == 0
                && let Some(input) = inputs.get(usize::from(channel / 2))
            {
                // A connection that has ended takes no more, and the others go on.
                drop(input.send(bytes).await);
            }
        }
    };
    let send = async {
        while let Some(message) = to_send.recv().await {
            sink.send(message).await?;
        }
        sink.close().await
    };
    tokio::select! {
        () = receive => {}
        sent = send => if let Err(error) = sent {
            tracing::debug!(%error, "a client has gone");
        },
    }
}
