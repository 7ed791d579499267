//! Pure domain types: the parts of Kubernetes objects that decide about packets and names.
//!
//! Objects are stripped down once, where they enter ([`crate::view`]), so that the planners see neither
//! optional fields nor unparsed addresses, and an update that changes nothing here changes nothing at all.
//! Owns no state, knows no clock and does no IO.

mod endpoint;
mod node;
mod service;

pub use endpoint::{Endpoint, Slice, SlicePort};
pub use node::Node;
pub use service::{Service, ServicePort, ServiceType, TrafficPolicy};

use std::fmt;

/// Namespace and name of an object; prints as `NAMESPACE/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// Its namespace; empty for cluster-wide kinds.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ObjectName {
    /// Joins the two halves.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Transport protocol of a Service port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum Protocol {
    /// TCP, the default.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Reads the API's spelling; `None` stands for TCP and an unknown word for nothing.
    #[must_use]
    pub fn from_api(text: Option<&str>) -> Option<Self> {
        match text {
            None | Some("TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }

    /// Lower case, as packet filters and SRV names spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One port of one Service. Prints as kube-proxy names it: `NAMESPACE/NAME:PORT`, without the colon when
/// the port has no name; the protocol is not part of the text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServicePortName {
    /// The Service.
    pub service: ObjectName,
    /// The port's name, empty when it has none.
    pub port: String,
    /// Two ports may share number and differ in protocol.
    pub protocol: Protocol,
}

impl fmt::Display for ServicePortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.port.is_empty() {
            write!(f, "{}", self.service)
        } else {
            write!(f, "{}:{}", self.service, self.port)
        }
    }
}

/// Labels with which an object asks the cluster's own proxy to leave it alone.
///
/// kube-proxy's informers select on the absence of both, for Services and EndpointSlices alike.
pub(crate) fn left_to_others(labels: Option<&std::collections::BTreeMap<String, String>>) -> bool {
    const SERVICE_PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
    const IS_HEADLESS: &str = "service.kubernetes.io/headless";
    labels.is_some_and(|labels| labels.contains_key(SERVICE_PROXY_NAME) || labels.contains_key(IS_HEADLESS))
}
