//! Names of the chains that belong to one Service port, derived as kube-proxy derives them: the first 16
//! characters of the base32 of a SHA-256 over the port's name, its protocol and, for an endpoint, its address.

use data_encoding::BASE32;
use sha2::{Digest, Sha256};

use crate::model::ServicePortName;

/// Chain of the endpoints under policy `Cluster`.
pub(super) fn cluster(port: &ServicePortName) -> String {
    named("KUBE-SVC-", port, "")
}

/// Chain of the endpoints under policy `Local`.
pub(super) fn local(port: &ServicePortName) -> String {
    named("KUBE-SVL-", port, "")
}

/// Chain that all traffic from outside passes.
pub(super) fn external(port: &ServicePortName) -> String {
    named("KUBE-EXT-", port, "")
}

/// Chain that checks a load balancer's source ranges.
pub(super) fn firewall(port: &ServicePortName) -> String {
    named("KUBE-FW-", port, "")
}

/// Chain of one endpoint, `target` as `ADDRESS:PORT`.
pub(super) fn endpoint(port: &ServicePortName, target: &str) -> String {
    named("KUBE-SEP-", port, target)
}

fn named(prefix: &str, port: &ServicePortName, target: &str) -> String {
    let digest = Sha256::digest(format!("{port}{}{target}", port.protocol));
    format!("{prefix}{}", &BASE32.encode(&digest)[..16])
}
