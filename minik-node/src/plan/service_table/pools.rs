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
    /// Endpoints of the Service that were not chosen, in the same order; empty when the pool is unused.
    pub left_out: Vec<LeftOut>,
    /// Why hints were not followed, where ready endpoints carry any.
    pub hints_ignored: Option<HintsIgnored>,
}

/// An endpoint that a pool does without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// The endpoint.
    pub backend: Backend,
    /// The first reason that holds.
    pub why: Why,
}

/// Why a pool does without an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It runs on another node, and policy `Local` keeps traffic on this one.
    OtherNode,
    /// It is neither ready nor serving.
    NotReady,
    /// It terminates and no longer serves.
    Terminated,
    /// It still serves while it terminates, but others are ready.
    Terminating,
    /// Its hints are for other nodes, and some are for this one.
    HintedToOtherNodes,
    /// Its hints are for other zones, and some are for this one.
    HintedToOtherZones,
}

/// Why topology hints are not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HintsIgnored {
    /// A ready endpoint has none: they are being changed.
    SomeWithout,
    /// The node has no label `topology.kubernetes.io/zone`.
    NodeWithoutZone,
    /// No ready endpoint is meant for this zone or node.
    NoneForHere,
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

    fn for_node(&self, node: &NodeFacts) -> bool {
        self.endpoint.for_nodes.contains(&node.name)
    }

    fn for_zone(&self, node: &NodeFacts) -> bool {
        node.zone
            .as_ref()
            .is_some_and(|zone| self.endpoint.for_zones.contains(zone))
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
            left_out: Vec::new(),
            hints_ignored: None,
        }
    }

    /// The candidates that `chosen` admits. The others are left out for the reason that `why` has, which is asked
    /// about those that are ready too.
    fn of(
        candidates: &[Candidate<'_>],
        reason: PoolReason,
        chosen: impl Fn(&Candidate<'_>) -> bool,
        why: impl Fn(&Candidate<'_>) -> Why,
    ) -> Self {
        let (chosen, others): (Vec<_>, Vec<_>) = candidates.iter().partition(|candidate| chosen(candidate));
        let left_out = others.into_iter().map(|candidate| LeftOut {
            backend: candidate.backend.clone(),
            why: why(candidate),
        });
        Self {
            backends: chosen.into_iter().map(|candidate| candidate.backend.clone()).collect(),
            reason,
            left_out: left_out.collect(),
            hints_ignored: None,
        }
    }
}

/// Why an endpoint that is not ready is not in a pool.
fn unready(candidate: &Candidate<'_>) -> Why {
    match (candidate.endpoint.serving, candidate.endpoint.terminating) {
        (true, true) => Why::Terminating,
        (false, true) => Why::Terminated,
        (_, false) => Why::NotReady,
    }
}

/// For policy `Cluster`: what is ready and, where hints are to be followed, meant for this node or zone; else what
/// serves while it terminates (KEP-1669).
fn cluster_pool(candidates: &[Candidate<'_>], node: &NodeFacts) -> Pool {
    if !candidates.iter().any(Candidate::ready) {
        return last_resort(candidates, |_| true, unready);
    }
    let chosen = match followed_hints(candidates, node) {
        Ok(chosen) => chosen,
        Err(hints_ignored) => {
            return Pool {
                hints_ignored,
                ..Pool::of(candidates, PoolReason::Ready, |candidate| candidate.ready(), unready)
            };
        }
    };
    let here = |candidate: &Candidate<'_>| match chosen {
        PoolReason::SameNode => candidate.for_node(node),
        _ => candidate.for_zone(node),
    };
    let why = |candidate: &Candidate<'_>| match chosen {
        _ if !candidate.ready() => unready(candidate),
        PoolReason::SameNode => Why::HintedToOtherNodes,
        _ => Why::HintedToOtherZones,
    };
    Pool::of(
        candidates,
        chosen,
        |candidate| candidate.ready() && here(candidate),
        why,
    )
}

/// Which hints to follow, as kube-proxy's `topologyModeFromHints`: they count only when every ready endpoint
/// carries them, and one of them is for here. Otherwise why not, if there are any.
fn followed_hints(candidates: &[Candidate<'_>], node: &NodeFacts) -> Result<PoolReason, Option<HintsIgnored>> {
    let ready = || candidates.iter().filter(|candidate| candidate.ready());
    let all_name_nodes = ready().all(|candidate| !candidate.endpoint.for_nodes.is_empty());
    let all_name_zones = ready().all(|candidate| !candidate.endpoint.for_zones.is_empty());
    if all_name_nodes && ready().any(|candidate| candidate.for_node(node)) {
        return Ok(PoolReason::SameNode);
    }
    if all_name_zones && ready().any(|candidate| candidate.for_zone(node)) {
        return Ok(PoolReason::SameZone);
    }
    let any =
        ready().any(|candidate| !candidate.endpoint.for_nodes.is_empty() || !candidate.endpoint.for_zones.is_empty());
    Err(any.then_some(
        match (all_name_nodes || all_name_zones, all_name_zones && node.zone.is_none()) {
            (false, _) => HintsIgnored::SomeWithout,
            (true, true) => HintsIgnored::NodeWithoutZone,
            (true, false) => HintsIgnored::NoneForHere,
        },
    ))
}

/// For policy `Local`: the same among the endpoints of this node, without hints.
fn local_pool(candidates: &[Candidate<'_>]) -> Pool {
    let local = |candidate: &Candidate<'_>| candidate.backend.local;
    let why = |candidate: &Candidate<'_>| {
        if local(candidate) {
            unready(candidate)
        } else {
            Why::OtherNode
        }
    };
    if candidates.iter().any(|candidate| local(candidate) && candidate.ready()) {
        let chosen = |candidate: &Candidate<'_>| local(candidate) && candidate.ready();
        return Pool::of(candidates, PoolReason::Ready, chosen, why);
    }
    last_resort(candidates, local, why)
}

/// What serves while it terminates, or nothing.
fn last_resort(
    candidates: &[Candidate<'_>],
    among: impl Fn(&Candidate<'_>) -> bool,
    why: impl Fn(&Candidate<'_>) -> Why,
) -> Pool {
    let chosen = |candidate: &Candidate<'_>| among(candidate) && candidate.serving_last();
    let reason = if candidates.iter().any(chosen) {
        PoolReason::Terminating
    } else {
        PoolReason::Empty
    };
    Pool::of(candidates, reason, chosen, why)
}
