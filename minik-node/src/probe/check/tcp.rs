//! `tcpSocket`: whether a port takes connections.

use std::time::Duration;

use tokio::net::TcpStream;

use super::Outcome;
use crate::probe::go;

/// Connects and closes.
pub async fn check(host: &str, port: u16, timeout: Duration) -> Outcome {
    match tokio::time::timeout(timeout, TcpStream::connect((host, port))).await {
        Ok(Ok(_connection)) => Outcome::Success,
        Ok(Err(error)) => Outcome::Failure(go::dial(host, port, &error)),
        Err(_late) => Outcome::Failure(format!("dial tcp {host}:{port}: i/o timeout")),
    }
}
