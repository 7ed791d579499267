//! `agnhost porter`: what environment variables say, on the ports that their names say.

use std::net::{IpAddr, Ipv4Addr};

use axum::response::IntoResponse;
use axum::{Json, Router};
use http::Method;
use serde_json::json;
use tokio::task::JoinSet;

use super::udp;
use crate::runtime::standin::{StandInError, asked_to_stop, listen, log, serve};

/// What a variable asks for.
#[derive(Debug, PartialEq, Eq)]
enum Port {
    Tcp(u16),
    Udp(u16),
    Missing,
}

/// Reads a variable's name; none for those of others.
fn port(variable: &str) -> Option<Port> {
    let number = |prefix| variable.strip_prefix(prefix).and_then(|port: &str| port.parse().ok());
    if let Some(port) = number("SERVE_PORT_").or_else(|| number("SERVE_TCP_PORT_")) {
        return Some(Port::Tcp(port));
    }
    if let Some(port) = number("SERVE_UDP_PORT_") {
        return Some(Port::Udp(port));
    }
    number("SERVE_TLS_PORT_")
        .or_else(|| number("SERVE_SCTP_PORT_"))
        .map(|_port: u16| Port::Missing)
}

/// Serves every variable until it is asked to stop.
pub async fn run(as_json: bool) -> Result<(), StandInError> {
    let mut servers = JoinSet::new();
    for (variable, value) in std::env::vars() {
        match port(&variable) {
            None => {}
            Some(Port::Missing) => return Err(StandInError::Missing(variable)),
            Some(Port::Tcp(port)) => {
                let listener = listen(port).await?;
                servers.spawn(async move { serve(listener, routes(value, as_json)).await });
            }
            Some(Port::Udp(port)) => {
                let socket = udp::bind(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port).await?;
                log(&format!("Started UDP server on port {port}"));
                servers.spawn(async move {
                    udp::answer(&socket, |_, _| Some(value.clone())).await;
                    Ok(())
                });
            }
        }
    }
    tokio::select! {
        Some(ended) = servers.join_next() => ended.map_err(|error| StandInError::Serve(error.into()))?,
        asked = asked_to_stop() => asked.map(drop),
    }
}

fn routes(value: String, as_json: bool) -> Router {
    Router::new().fallback(move |method: Method| async move {
        if as_json {
            Json(json!({"Method": method.as_str(), "Body": value})).into_response()
        } else {
            value.into_response()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_variables_say_port_and_protocol() {
        for (variable, expected) in [
            ("SERVE_PORT_80", Some(Port::Tcp(80))),
            ("SERVE_TCP_PORT_81", Some(Port::Tcp(81))),
            ("SERVE_UDP_PORT_82", Some(Port::Udp(82))),
            ("SERVE_TLS_PORT_443", Some(Port::Missing)),
            ("SERVE_PORT_x", None),
            ("PATH", None),
        ] {
            assert_eq!(port(variable), expected, "{variable}");
        }
    }
}
