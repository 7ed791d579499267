//! `agnhost connect`: one connection, and one word about it that scripts can ask for.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::net::{TcpStream, UdpSocket};

use super::query::go_duration;
use crate::probe::go;
use crate::runtime::standin::say;

/// Longest answer over UDP that is read.
const MAX_ANSWER: usize = 1024;

/// Its flags.
#[derive(Debug, Args)]
pub struct Connect {
    /// host:port
    destination: String,
    /// Longest wait; 0 means as long as the kernel tries
    #[arg(long, default_value = "0s", value_parser = |text: &str| go_duration(text).ok_or("not a duration of Go's"))]
    timeout: Duration,
    /// How to connect
    #[arg(long, value_enum, default_value = "tcp")]
    protocol: Protocol,
    /// What is sent over UDP
    #[arg(long, default_value = "hostname")]
    udp_data: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Protocol {
    Tcp,
    Udp,
}

impl Connect {
    /// Connects once; says nothing when that works.
    pub async fn run(self) -> ExitCode {
        match self.attempt().await {
            Ok(()) => ExitCode::SUCCESS,
            Err(word) => {
                say(&mut io::stderr(), &format!("{word}\n"));
                ExitCode::FAILURE
            }
        }
    }

    async fn attempt(&self) -> Result<(), String> {
        if !self.destination.contains(':') {
            return Err(format!(
                "UNKNOWN: address {}: missing port in address",
                self.destination
            ));
        }
        let found = tokio::net::lookup_host(&self.destination).await;
        let found = found.map_err(|error| format!("DNS: {error}"))?.next();
        let address = found.ok_or_else(|| format!("DNS: lookup {}: no such host", self.destination))?;
        let connecting = async {
            match self.protocol {
                Protocol::Tcp => TcpStream::connect(address)
                    .await
                    .map(drop)
                    .map_err(|error| tcp(address, &error)),
                Protocol::Udp => self.datagram(address).await.map_err(|error| udp(&error)),
            }
        };
        if self.timeout.is_zero() {
            return connecting.await;
        }
        match (tokio::time::timeout(self.timeout, connecting).await, self.protocol) {
            (Ok(connected), _) => connected,
            (Err(_elapsed), Protocol::Tcp) => Err("TIMEOUT".to_owned()),
            (Err(_elapsed), Protocol::Udp) => Err(format!("TIMEOUT: read udp {address}: i/o timeout")),
        }
    }

    async fn datagram(&self, address: SocketAddr) -> io::Result<()> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        socket.connect(address).await?;
        socket.send(format!("{}\n", self.udp_data).as_bytes()).await?;
        socket.recv(&mut [0; MAX_ANSWER]).await.map(drop)
    }
}

fn tcp(address: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "REFUSED".to_owned(),
        io::ErrorKind::TimedOut => "TIMEOUT".to_owned(),
        _ => format!("OTHER: {}", go::dial(&address.ip().to_string(), address.port(), error)),
    }
}

fn udp(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => format!("REFUSED: {}", go::errno(error)),
        _ => format!("UNKNOWN: {}", go::errno(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_wrong_is_one_word() {
        let address = SocketAddr::from(([10, 0, 0, 1], 80));
        let error = |number| io::Error::from_raw_os_error(number);
        assert_eq!(tcp(address, &error(libc::ECONNREFUSED)), "REFUSED");
        assert_eq!(tcp(address, &error(libc::ETIMEDOUT)), "TIMEOUT");
        assert_eq!(
            tcp(address, &error(libc::EHOSTUNREACH)),
            "OTHER: dial tcp 10.0.0.1:80: connect: no route to host"
        );
    }
}
