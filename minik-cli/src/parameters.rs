//! From what `minik up` was asked for, and what the cluster was made with, to its complete parameters. Pure.
//!
//! A flag that is not given means the stored value, or else the default; one that contradicts the stored
//! value is an error, since ranges and nodes are baked into the cluster's objects. Whether the ranges are free is
//! asked of the provider.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use ipnet::Ipv4Net;

use crate::cluster::{ClusterSpec, NodeSpec, ProxyMode, names};

/// Nodes of a new cluster.
const DEFAULT_NODES: u8 = 3;
/// The node range's address of node 0 counts from its network address.
const FIRST_NODE: u32 = 10;
/// Longest cluster name: a Pod's sockets lie under `/run/minik/NAME/nodes/NODE/pods/UID/`, and a socket's
/// path has at most 107 bytes.
const NAME_MAX: usize = 20;

/// The flags of `minik up`, as given.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// `--name`
    pub name: String,
    /// `--nodes`
    pub nodes: Option<u8>,
    /// `--isolated`
    pub isolated: bool,
    /// `--egress`
    pub egress: bool,
    /// `--node-network-cidr`
    pub node_network_cidr: Option<Ipv4Net>,
    /// `--pod-network-cidr`
    pub pod_network_cidr: Option<Ipv4Net>,
    /// `--service-cidr`
    pub service_cidr: Option<Ipv4Net>,
    /// `--cluster-domain`
    pub cluster_domain: Option<String>,
    /// `--proxy-mode`
    pub proxy_mode: Option<ProxyMode>,
    /// `--state-dir`
    pub state_dir: Option<PathBuf>,
}

/// Why parameters cannot be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    /// Not an RFC 1123 label, too long, or taken by the images.
    #[error(
        "cluster name {0:?} is invalid: it must be lower case letters, digits and '-', start and end with a \
         letter or digit, have at most {NAME_MAX} characters, and not be \"images\""
    )]
    Name(String),
    /// Not an RFC 1123 subdomain.
    #[error("--cluster-domain {0:?} is invalid: it must be a lower case DNS name, for example cluster.local")]
    Domain(String),
    /// No node.
    #[error("--nodes must be at least 1")]
    NoNodes,
    /// The node range has too few addresses.
    #[error("--node-network-cidr {range} has room for {room} nodes, not {nodes}: use a wider range, for example {range_base}/{wider}", range_base = range.network(), wider = range.prefix_len().saturating_sub(1))]
    NodeRange {
        /// As asked.
        range: Ipv4Net,
        /// Nodes that fit.
        room: u32,
        /// Nodes wanted.
        nodes: u8,
    },
    /// The Pod range has too few /24s.
    #[error("--pod-network-cidr {range} has room for {room} nodes, not {nodes}: every node gets a /24 of it")]
    PodRange {
        /// As asked.
        range: Ipv4Net,
        /// Nodes that fit.
        room: u32,
        /// Nodes wanted.
        nodes: u8,
    },
    /// kube-apiserver's limits, and room for DNS at the tenth address.
    #[error("--service-cidr {0} must be between /12 and /28")]
    ServiceRange(Ipv4Net),
    /// A private outside world has nothing beyond it.
    #[error("--egress leads out of this machine and --isolated keeps a cluster in: leave one of them out")]
    IsolatedEgress,
    /// The cluster was made with another value.
    #[error(
        "cluster {cluster:?} was made with {flag} {stored}, not {asked}: leave the flag out, choose another --name, \
         or remove the cluster and its state with `minik down --name {cluster} --purge`"
    )]
    Differs {
        /// Its name.
        cluster: String,
        /// The flag.
        flag: &'static str,
        /// Kept.
        stored: String,
        /// Asked for.
        asked: String,
    },
}

/// The complete parameters.
///
/// # Errors
/// [`ParameterError`]: the first thing that is wrong.
pub fn resolve(asked: &Asked, stored: Option<&ClusterSpec>) -> Result<ClusterSpec, ParameterError> {
    check_name(&asked.name)?;
    if let Some(stored) = stored {
        check_same(asked, stored)?;
        return Ok(stored.clone());
    }
    if asked.isolated && asked.egress {
        return Err(ParameterError::IsolatedEgress);
    }
    let node_network_cidr = asked.node_network_cidr.unwrap_or_else(|| range([172, 30, 0, 0], 24));
    let pod_network_cidr = asked.pod_network_cidr.unwrap_or_else(|| range([10, 244, 0, 0], 16));
    let service_cidr = asked.service_cidr.unwrap_or_else(|| range([10, 96, 0, 0], 12));
    let cluster_domain = asked
        .cluster_domain
        .clone()
        .unwrap_or_else(|| "cluster.local".to_owned());
    check_domain(&cluster_domain)?;
    let nodes = asked.nodes.unwrap_or(DEFAULT_NODES);
    check_room(nodes, node_network_cidr, pod_network_cidr, service_cidr)?;
    Ok(ClusterSpec {
        name: asked.name.clone(),
        nodes: (0..nodes)
            .map(|index| node(index, node_network_cidr, pod_network_cidr))
            .collect(),
        node_network_cidr,
        pod_network_cidr,
        service_cidr,
        cluster_domain,
        isolated: asked.isolated,
        egress: asked.egress,
        proxy_mode: asked.proxy_mode.unwrap_or(ProxyMode::Iptables),
        state_dir: asked
            .state_dir
            .clone()
            .unwrap_or_else(|| names::default_state_dir(&asked.name)),
        api_port: None,
    })
}

fn range(network: [u8; 4], prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::from(network), prefix)
}

fn node(index: u8, nodes: Ipv4Net, pods: Ipv4Net) -> NodeSpec {
    let name = if index == 0 {
        "control-plane".to_owned()
    } else {
        format!("worker{index}")
    };
    let ip = Ipv4Addr::from(u32::from(nodes.network()) + FIRST_NODE + u32::from(index));
    let pod_network = Ipv4Addr::from(u32::from(pods.network()) + (u32::from(index) << 8));
    NodeSpec {
        name,
        index,
        ip,
        pod_cidr: Ipv4Net::new_assert(pod_network, 24),
    }
}

fn is_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty() && text.len() <= 63 && text.chars().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// Every command checks the name it is given, since paths are made of it.
///
/// # Errors
/// [`ParameterError::Name`]
pub fn check_name(name: &str) -> Result<(), ParameterError> {
    if is_label(name) && name.len() <= NAME_MAX && name != names::IMAGES {
        Ok(())
    } else {
        Err(ParameterError::Name(name.to_owned()))
    }
}

fn check_domain(domain: &str) -> Result<(), ParameterError> {
    if domain.len() <= 253 && domain.split('.').all(is_label) {
        Ok(())
    } else {
        Err(ParameterError::Domain(domain.to_owned()))
    }
}

fn check_room(nodes: u8, node_range: Ipv4Net, pod_range: Ipv4Net, services: Ipv4Net) -> Result<(), ParameterError> {
    if nodes == 0 {
        return Err(ParameterError::NoNodes);
    }
    // The last address is the broadcast address.
    let room = u32::from(node_range.broadcast()) - u32::from(node_range.network());
    let room = room.saturating_sub(FIRST_NODE);
    if room < u32::from(nodes) {
        return Err(ParameterError::NodeRange {
            range: node_range,
            room,
            nodes,
        });
    }
    let room = 24_u8.checked_sub(pod_range.prefix_len()).map_or(0, |bits| 1 << bits);
    if room < u32::from(nodes) {
        return Err(ParameterError::PodRange {
            range: pod_range,
            room,
            nodes,
        });
    }
    if (12..=28).contains(&services.prefix_len()) {
        Ok(())
    } else {
        Err(ParameterError::ServiceRange(services))
    }
}

fn check_same(asked: &Asked, stored: &ClusterSpec) -> Result<(), ParameterError> {
    let differs = |flag, kept: String, wanted: String| {
        Err(ParameterError::Differs {
            cluster: stored.name.clone(),
            flag,
            stored: kept,
            asked: wanted,
        })
    };
    let nodes = stored.nodes.len();
    if let Some(count) = asked.nodes.filter(|count| usize::from(*count) != nodes) {
        return differs("--nodes", nodes.to_string(), count.to_string());
    }
    for (flag, kept, wanted) in [
        ("--node-network-cidr", stored.node_network_cidr, asked.node_network_cidr),
        ("--pod-network-cidr", stored.pod_network_cidr, asked.pod_network_cidr),
        ("--service-cidr", stored.service_cidr, asked.service_cidr),
    ] {
        if let Some(wanted) = wanted.filter(|wanted| *wanted != kept) {
            return differs(flag, kept.to_string(), wanted.to_string());
        }
    }
    if let Some(dir) = asked.state_dir.as_ref().filter(|dir| **dir != stored.state_dir) {
        return differs(
            "--state-dir",
            stored.state_dir.display().to_string(),
            dir.display().to_string(),
        );
    }
    if let Some(domain) = asked
        .cluster_domain
        .as_ref()
        .filter(|domain| **domain != stored.cluster_domain)
    {
        return differs("--cluster-domain", stored.cluster_domain.clone(), domain.clone());
    }
    for (flag, kept, wanted) in [
        ("--isolated", stored.isolated, asked.isolated),
        ("--egress", stored.egress, asked.egress),
    ] {
        if wanted && !kept {
            return differs(flag, "off".to_owned(), "on".to_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> Asked {
        Asked {
            name: "minik".to_owned(),
            ..Asked::default()
        }
    }

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let spec = resolve(&asked(), None).unwrap();
        let nodes: Vec<_> = spec
            .nodes
            .iter()
            .map(|node| format!("{} {} {}", node.name, node.ip, node.pod_cidr))
            .collect();
        assert_eq!(
            nodes,
            [
                "control-plane 172.30.0.10 10.244.0.0/24",
                "worker1 172.30.0.11 10.244.1.0/24",
                "worker2 172.30.0.12 10.244.2.0/24"
            ]
        );
        assert_eq!(spec.service_cidr, net("10.96.0.0/12"));
        assert_eq!(spec.cluster_domain, "cluster.local");
        assert_eq!(spec.state_dir, PathBuf::from("/var/lib/minik/minik"));
    }

    #[test]
    fn names_become_paths_so_only_labels_pass() {
        for bad in [
            "",
            "-a",
            "a-",
            "A",
            "a.b",
            "../x",
            "a/b",
            "images",
            "twenty-one-characters",
        ] {
            assert_eq!(check_name(bad), Err(ParameterError::Name(bad.to_owned())), "{bad}");
        }
        for good in ["a", "minik", "s01", "twenty-characters-20"] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn a_range_must_have_room_for_every_node() {
        let small = Asked {
            node_network_cidr: Some(net("172.30.0.0/28")),
            nodes: Some(6),
            ..asked()
        };
        assert!(matches!(
            resolve(&small, None),
            Err(ParameterError::NodeRange { room: 5, .. })
        ));
        let small = Asked {
            pod_network_cidr: Some(net("10.244.0.0/23")),
            ..asked()
        };
        assert!(matches!(
            resolve(&small, None),
            Err(ParameterError::PodRange { room: 2, .. })
        ));
        let tiny = Asked {
            pod_network_cidr: Some(net("10.244.0.0/26")),
            ..asked()
        };
        assert!(matches!(
            resolve(&tiny, None),
            Err(ParameterError::PodRange { room: 0, .. })
        ));
    }

    #[test]
    fn stored_parameters_win_over_silence_and_refuse_contradiction() {
        let stored = resolve(
            &Asked {
                nodes: Some(2),
                isolated: true,
                ..asked()
            },
            None,
        )
        .unwrap();
        assert_eq!(resolve(&asked(), Some(&stored)).unwrap(), stored);
        assert_eq!(
            resolve(
                &Asked {
                    nodes: Some(2),
                    ..asked()
                },
                Some(&stored)
            )
            .unwrap(),
            stored
        );
        let error = resolve(
            &Asked {
                nodes: Some(4),
                ..asked()
            },
            Some(&stored),
        )
        .unwrap_err();
        assert!(matches!(error, ParameterError::Differs { flag: "--nodes", .. }));
        let error = resolve(
            &Asked {
                state_dir: Some("/elsewhere".into()),
                ..asked()
            },
            Some(&stored),
        )
        .unwrap_err();
        assert!(matches!(
            error,
            ParameterError::Differs {
                flag: "--state-dir",
                ..
            }
        ));
        let error = resolve(
            &Asked {
                egress: true,
                ..asked()
            },
            Some(&stored),
        )
        .unwrap_err();
        assert!(matches!(error, ParameterError::Differs { flag: "--egress", .. }));
    }
}
