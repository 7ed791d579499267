//! One probe, asked once: of a program in the container, or of a port from this node's own namespace, in which the
//! agent runs.
//!
//! Decides nothing about containers; what a result means for them is [`super::schedule`]'s.

pub mod exec;
mod grpc;
pub mod http;
mod tcp;
mod tls;

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::runtime::client::ShimClient;

/// Attempts before an error is told (`maxProbeRetries`).
const ATTEMPTS: u32 = 3;

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Success,
    /// Success with something to tell.
    Warning(String),
    /// Not as it should be.
    Failure(String),
    /// The probe itself failed, which counts neither way; the first text is the state it is told with.
    Errored(&'static str, String),
}

impl Outcome {
    /// For [`super::schedule::Schedule::finish`].
    #[must_use]
    pub fn result(&self) -> Option<bool> {
        match self {
            Self::Success | Self::Warning(_) => Some(true),
            Self::Failure(_) => Some(false),
            Self::Errored(..) => None,
        }
    }
}

/// Whom to ask.
#[derive(Debug, Clone)]
pub struct Target {
    /// The container.
    pub container: Container,
    /// The Pod's address.
    pub address: std::net::Ipv4Addr,
    /// The Pod's shim.
    pub shim: ShimClient,
}

impl Target {
    /// A given host, or the Pod.
    #[must_use]
    pub fn host(&self, given: Option<&str>) -> String {
        given
            .filter(|host| !host.is_empty())
            .map_or_else(|| self.address.to_string(), str::to_owned)
    }
}

/// The number of a container's port that may be a name.
///
/// # Errors
/// In Go's words, when there is no such port.
pub fn port(container: &Container, port: &IntOrString) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let ports = container.ports.iter().flatten();
            let mut named = ports.filter(|port| port.name.as_deref() == Some(name));
            match named.next() {
                Some(port) => port.container_port,
                None => name
                    .parse()
                    .map_err(|_syntax| format!("strconv.Atoi: parsing {name:?}: invalid syntax"))?,
            }
        }
    };
    match u16::try_from(number) {
        Ok(number @ 1..) => Ok(number),
        _ => Err(format!("invalid port number: {number}")),
    }
}

/// A command with the `$(NAME)`s that the container's own `env` spells out.
fn command(container: &Container, command: Option<&Vec<String>>) -> Vec<String> {
    let env = container.env.iter().flatten();
    let env: BTreeMap<&str, &str> = env
        .filter_map(|variable| Some((variable.name.as_str(), variable.value.as_deref()?)))
        .collect();
    let lookup = |name: &str| env.get(name).map(|value| (*value).to_owned());
    command
        .into_iter()
        .flatten()
        .map(|text| crate::pods::expand(text, lookup))
        .collect()
}

/// Asks; again when the asking itself fails.
pub async fn check(probe: &Probe, target: &Target) -> Outcome {
    let mut attempt = 1;
    loop {
        match once(probe, target).await {
            Outcome::Errored(..) if attempt < ATTEMPTS => attempt += 1,
            outcome => return outcome,
        }
    }
}

async fn once(probe: &Probe, target: &Target) -> Outcome {
    let timeout = probe.timeout_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let timeout = Duration::from_secs(timeout.filter(|seconds| *seconds > 0).unwrap_or(1));
    let errored = |text: String| Outcome::Errored("unknown", text);
    if let Some(action) = &probe.exec {
        let argv = command(&target.container, action.command.as_ref());
        return match exec::run(&target.shim, &target.container.name, argv, Some(timeout)).await {
            Ok(ended) if ended.code == 0 => Outcome::Success,
            Ok(ended) => Outcome::Failure(ended.output),
            Err(error @ exec::ExecError::Late(..)) => Outcome::Failure(error.to_string()),
            Err(error) => errored(error.to_string()),
        };
    }
    if let Some(action) = &probe.http_get {
        let number = match port(&target.container, &action.port) {
            Ok(port) => port,
            Err(text) => return errored(text),
        };
        let host = target.host(action.host.as_deref());
        return match http::Get::new(action, &host, number, http::Asker::Probe) {
            Ok(get) => http::check(&get, timeout).await,
            Err(error) => errored(error.to_string()),
        };
    }
    if let Some(action) = &probe.tcp_socket {
        return match port(&target.container, &action.port) {
            Ok(port) => tcp::check(&target.host(action.host.as_deref()), port, timeout).await,
            Err(text) => errored(text),
        };
    }
    if let Some(action) = &probe.grpc {
        let service = action.service.as_deref().unwrap_or_default();
        return match u16::try_from(action.port) {
            Ok(port) => grpc::check(&target.host(None), port, service, timeout).await,
            Err(_range) => errored(format!("invalid port number: {}", action.port)),
        };
    }
    errored(format!("missing probe handler for {}", target.container.name))
}

#[cfg(test)]
mod tests;
