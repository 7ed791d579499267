//! Servers that answer each datagram with one.

use std::net::{IpAddr, SocketAddr};

use tokio::net::UdpSocket;

use crate::runtime::standin::{StandInError, log};

/// Longest question that is read.
const MAX_QUESTION: usize = 2048;

/// A port for datagrams.
pub async fn bind(address: IpAddr, port: u16) -> Result<UdpSocket, StandInError> {
    let bound = UdpSocket::bind((address, port)).await;
    bound.map_err(|source| StandInError::Listen {
        address: format!("udp {address}:{port}"),
        source,
    })
}

/// Answers until the socket fails.
pub async fn answer(socket: &UdpSocket, answer: impl Fn(&str, SocketAddr) -> Option<String>) {
    let mut question = [0; MAX_QUESTION];
    loop {
        let (length, from) = match socket.recv_from(&mut question).await {
            Ok(received) => received,
            Err(error) => return log(&format!("UDP server exited: {error}")),
        };
        if let Some(text) = answer(&String::from_utf8_lossy(&question[..length]), from)
            && let Err(error) = socket.send_to(text.as_bytes(), from).await
        {
            log(&format!("failed to answer UDP client {from}: {error}"));
        }
    }
}

/// What netexec understands.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// The Pod's name.
    Hostname,
    /// The same text, in small letters.
    Echo(String),
    /// Who asks.
    ClientIp,
    /// Anything else, which is not answered.
    Unknown(String),
}

impl Command {
    /// Reads a datagram; case and white space around it do not matter.
    pub fn read(asked: &str) -> Self {
        let asked = asked.trim().to_lowercase();
        match asked.as_str() {
            "hostname" => Self::Hostname,
            "clientip" => Self::ClientIp,
            _ => match asked.strip_prefix("echo ") {
                Some(text) => Self::Echo(text.to_owned()),
                None => Self::Unknown(asked),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_as_netexec_reads_them() {
        assert_eq!(Command::read("hostName\n"), Command::Hostname);
        assert_eq!(
            Command::read("Echo Hello World"),
            Command::Echo("hello world".to_owned())
        );
        assert_eq!(Command::read("clientip"), Command::ClientIp);
        assert_eq!(Command::read("echo"), Command::Unknown("echo".to_owned()));
    }
}
