//! Names that are not the cluster's, asked of the servers in the Pod's `/etc/resolv.conf`.
//!
//! Never asks itself: loopback addresses, this Pod's own and cluster IPs are left out, since a name server
//! that finds itself there forwards for ever. Without servers the answer is SERVFAIL, as from a CoreDNS whose
//! last plugin is reached: the name may exist, only nobody here can tell.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use hickory_proto::serialize::binary::BinDecodable;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use super::reply::Reply;
use crate::plan::dns_zone::Zone;

pub(super) const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Servers used of a resolv.conf, as resolvers do.
const SERVERS: usize = 3;
/// Waiting for one server, as CoreDNS does.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Queries under way at once, as in kubeadm's Corefile.
const CONCURRENT: usize = 1000;
/// Largest response without EDNS.
const UDP_SIZE: usize = 512;

/// The servers to ask.
#[derive(Debug)]
pub(super) struct Upstream {
    servers: Vec<SocketAddr>,
    slots: Semaphore,
}

/// Why a server gave no answer.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("exchange messages")]
    Io(#[from] io::Error),
    #[error("encode or decode a message")]
    Message(#[from] hickory_proto::ProtoError),
    #[error("decode a message")]
    Decode(#[from] hickory_proto::serialize::binary::DecodeError),
    #[error("the response answers another question")]
    Mismatch,
    #[error("no response in {} s", TIMEOUT.as_secs())]
    Timeout,
}

impl Upstream {
    /// Servers at these addresses.
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        Self {
            servers,
            slots: Semaphore::new(CONCURRENT),
        }
    }

    /// Servers of `/etc/resolv.conf`; a missing file names none.
    pub async fn from_resolv_conf() -> io::Result<Self> {
        let text = match tokio::fs::read_to_string(RESOLV_CONF).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            text => text?,
        };
        let mut servers = Vec::new();
        for address in nameservers(&text) {
            // An address that can be bound is this Pod's own.
            let own = UdpSocket::bind((address, 0)).await.is_ok();
            if !own && servers.len() < SERVERS {
                servers.push(SocketAddr::new(address, 53));
            }
        }
        Ok(Self::new(servers))
    }

    /// Whether there is nobody to ask.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// Asks one server after the other. `zone` tells which addresses are cluster IPs.
    pub async fn ask(&self, name: &Name, kind: RecordType, zone: Option<&Zone>) -> Reply {
        let Ok(_slot) = self.slots.try_acquire() else {
            return Reply::error(ResponseCode::Refused);
        };
        let foreign = |server: &&SocketAddr| match server.ip() {
            IpAddr::V4(address) => !zone.is_some_and(|zone| zone.is_cluster_ip(address)),
            IpAddr::V6(_) => true,
        };
        for server in self.servers.iter().filter(foreign) {
            let asked = tokio::time::timeout(TIMEOUT, exchange(*server, name, kind)).await;
            match asked.unwrap_or(Err(AskError::Timeout)) {
                Ok(message) => return reply(message),
                Err(error) => {
                    tracing::debug!(%server, %name, error = &error as &dyn std::error::Error, "upstream failed");
                }
            }
        }
        Reply::error(ResponseCode::ServFail)
    }
}

fn reply(message: Message) -> Reply {
    Reply {
        code: message.metadata.response_code,
        authoritative: message.metadata.authoritative,
        recursion_available: message.metadata.recursion_available,
        answers: message.answers,
        authority: message.authorities,
        additional: message.additionals,
    }
}

/// Addresses of a resolv.conf, but for loopback, where only this Pod listens.
fn nameservers(text: &str) -> impl Iterator<Item = IpAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some("nameserver"))
                .then(|| words.next()?.parse().ok())
                .flatten()
        })
        .filter(|address: &IpAddr| !address.is_loopback() && !address.is_unspecified())
}

/// One question by UDP, and again by TCP when the response did not fit.
async fn exchange(server: SocketAddr, name: &Name, kind: RecordType) -> Result<Message, AskError> {
    let mut question = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name.clone(), kind));
    let bytes = question.to_vec()?;
    let response = by_udp(server, &bytes).await?;
    let response = if response.metadata.truncation {
        by_tcp(server, &bytes).await?
    } else {
        response
    };
    let same = response.metadata.id == question.metadata.id && response.queries == question.queries;
    if same { Ok(response) } else { Err(AskError::Mismatch) }
}

async fn by_udp(server: SocketAddr, question: &[u8]) -> Result<Message, AskError> {
    let any: SocketAddr = if server.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0u16; 8], 0).into()
    };
    let socket = UdpSocket::bind(any).await?;
    // A connected socket takes nothing from other senders.
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut buffer = [0; UDP_SIZE];
    let length = socket.recv(&mut buffer).await?;
    Ok(Message::from_bytes(&buffer[..length])?)
}

async fn by_tcp(server: SocketAddr, question: &[u8]) -> Result<Message, AskError> {
    let mut stream = TcpStream::connect(server).await?;
    stream
        .write_u16(u16::try_from(question.len()).map_err(|_too_long| AskError::Mismatch)?)
        .await?;
    stream.write_all(question).await?;
    let mut response = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut response).await?;
    Ok(Message::from_bytes(&response)?)
}

#[cfg(test)]
mod tests {
    use super::nameservers;

    #[test]
    fn loopback_and_other_words_are_no_servers() {
        let text = "# made by hand\nsearch lab\nnameserver 127.0.0.53\nnameserver 192.0.2.1 # first\nnameserver ::1\nnameserver 2001:db8::1\noptions ndots:5\n";
        let found: Vec<String> = nameservers(text).map(|address| address.to_string()).collect();
        assert_eq!(found, ["192.0.2.1", "2001:db8::1"]);
    }
}
