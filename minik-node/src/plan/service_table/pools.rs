//! Which endpoints a Service port has, and for which kind of traffic: what kube-proxy calls
//! `CategorizeEndpoints`, with its fallbacks and its topology hints.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;

use super::NodeFacts;
use super::treatment::Policies;
use crate::model::{Endpoint, ServicePortName};
use crate::view::ClusterView;

/// An endpoint that packets can be sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Address and port.
    pub target: SocketAddrV4,
    /// Whether it runs on this node.
    pub local: bool,
}

/// Why a pool holds what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolReason {
    /// No kind of traffic uses this pool.
    Unused,
    /// Everything that is ready.
    Ready,
    /// Ready and meant for this node (`trafficDistribution: PreferSameNode`).
    SameNode,
    /// Ready and meant for this node's zone (`trafficDistribution: PreferSameZone`).
    SameZone,
    /// Nothing is ready: those that still serve while they terminate (KEP-1669).
    Terminating,
    /// Neither ready nor serving anything.
    Empty,
}

/// Endpoints for one traffic policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Ordered by the text `ADDRESS:PORT`, as kube-proxy orders them.
    pub backends: Vec<Backend>,
    /// How they were chosen.
    pub reason: PoolReason,
}

/// The endpoints of a Service port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pools {
    /// For policy `Cluster`.
    pub cluster: Pool,
    /// For policy `Local`.
    pub local: Pool,
    /// Whether any endpoint anywhere could serve. When false, every way in rejects; when true, ways whose
    /// pool is empty drop.
    pub any: bool,
}

/// An endpoint of a slice, with the port it has there.
#[derive(Debug)]
pub(super) struct Candidate<'a> {
    backend: Backend,
    endpoint: &'a Endpoint,
}

/// The IPv4 endpoints of a Service port over all its slices, each address and port once.
pub(super) fn candidates<'a>(view: &'a ClusterView, name: &ServicePortName) -> Vec<Candidate<'a>> {
    let mut found: BTreeMap<String, Candidate<'a>> = BTreeMap::new();
    let node = view.node.as_deref();
    for slice in view.slices_of(&name.service).filter(|slice| slice.proxied) {
        let ports = slice
            .ports
            .iter()
            .filter(|port| port.name == name.port && port.protocol == name.protocol);
        for port in ports.filter_map(|port| port.port) {
            for endpoint in &slice.endpoints {
                let target = SocketAddrV4::new(endpoint.address, port);
                let local = endpoint.node.is_some() && endpoint.node.as_deref() == node;
                let candidate = Candidate {
                    backend: Backend { target, local },
                    endpoint,
                };
                // While slices are being rebalanced an endpoint may be in two; the living one counts.
                found
                    .entry(target.to_string())
                    .and_modify(|held| {
                        if held.endpoint.terminating && !endpoint.terminating {
                            *held = Candidate {
                                backend: held.backend.clone(),
                                endpoint,
                            };
                        }
                    })
                    .or_insert(candidate);
            }
        }
    }
    found.into_values().collect()
}

impl Candidate<'_> {
    fn ready(&self) -> bool {
        self.endpoint.ready
    }

    fn serving_last(&self) -> bool {
        self.endpoint.serving && self.endpoint.terminating
    }
}

impl Pools {
    /// Sorts candidates into pools. A Service that is reachable from outside always has its cluster pool:
    /// under policy `Local` Pods and the node itself still reach every endpoint.
    pub(super) fn choose(candidates: &[Candidate<'_>], policies: Policies, node: &NodeFacts) -> Self {
        let usable = candidates
            .iter()
            .any(|candidate| candidate.ready() || candidate.serving_last());
        Self {
            cluster: if policies.uses_cluster() {
                cluster_pool(candidates, node)
            } else {
                Pool::unused()
            },
            local: if policies.uses_local() {
                local_pool(candidates)
            } else {
                Pool::unused()
            },
            any: usable,
        }
    }

    /// Backends of either pool, each once, in order: those that a packet of any kind may reach from here.
    #[must_use]
    pub fn reachable(&self) -> Vec<&Backend> {
        let all = self.cluster.backends.iter().chain(&self.local.backends);
        let by_text: BTreeMap<String, &Backend> = all.map(|backend| (backend.target.to_string(), backend)).collect();
        by_text.into_values().collect()
    }
}

impl Pool {
    fn unused() -> Self {
        Self {
            backends: Vec::new(),
            reason: PoolReason::Unused,
        }
    }

    fn of<'a>(candidates: impl Iterator<Item = &'a Candidate<'a>>, reason: PoolReason) -> Option<Self> {
        let backends: Vec<Backend> = candidates.map(|candidate| candidate.backend.clone()).collect();
        (!backends.is_empty()).then_some(Self { backends, reason })
    }

    fn empty() -> Self {
        Self {
            backends: Vec::new(),
            reason: PoolReason::Empty,
        }
    }
}

fn cluster_pool(candidates: &[Candidate<'_>], node: &NodeFacts) -> Pool {
    let ready = || candidates.iter().filter(|candidate| candidate.ready());
    let same_node = |candidate: &&Candidate<'_>| candidate.endpoint.for_nodes.contains(&node.name);
    let same_zone = |candidate: &&Candidate<'_>| {
        node.zone
            .as_ref()
            .is_some_and(|zone| candidate.endpoint.for_zones.contains(zone))
    };
    // Hints count only when every ready endpoint carries them: a mixture means that they are being changed.
    let all_hint_nodes = ready().all(|candidate| !candidate.endpoint.for_nodes.is_empty());
    let all_hint_zones = ready().all(|candidate| !candidate.endpoint.for_zones.is_empty());
    let hinted_node = all_hint_nodes.then(|| Pool::of(ready().filter(same_node), PoolReason::SameNode));
    let hinted_zone = || all_hint_zones.then(|| Pool::of(ready().filter(same_zone), PoolReason::SameZone));
    hinted_node
        .flatten()
        .or_else(|| hinted_zone().flatten())
        .or_else(|| Pool::of(ready(), PoolReason::Ready))
        .or_else(|| {
            Pool::of(
                candidates.iter().filter(|candidate| candidate.serving_last()),
                PoolReason::Terminating,
            )
        })
        .unwrap_or_else(Pool::empty)
}

fn local_pool(candidates: &[Candidate<'_>]) -> Pool {
    let local = || candidates.iter().filter(|candidate| candidate.backend.local);
    Pool::of(local().filter(|candidate| candidate.ready()), PoolReason::Ready)
        .or_else(|| {
            Pool::of(
                local().filter(|candidate| candidate.serving_last()),
                PoolReason::Terminating,
            )
        })
        .unwrap_or_else(Pool::empty)
}
