//! What the scheduler wants to know of a Pod, read once when the Pod changes. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Affinity, Container, Pod, PodAffinityTerm, PodSpec, Toleration, TopologySpreadConstraint,
};

use super::resources::{Resources, estimated, requested};
use super::selector::{Labels, NodeDemand, NodeTerm, Requirement, Selector};
use crate::controllers::cache::Key;
use crate::controllers::owner::controller_of;

/// The weight of the required affinity of a Pod that is placed already, when others are compared with it.
const REQUIRED_WEIGHT: i64 = 1;

/// Namespace and labels: Pods that share them are the same to every selector.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Class {
    /// Namespace.
    pub namespace: String,
    /// Labels.
    pub labels: Labels,
}

/// A term of Pod affinity or anti-affinity.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodTerm {
    /// Namespaces by name.
    pub namespaces: BTreeSet<String>,
    /// Namespaces by label.
    pub namespace_selector: Option<Selector>,
    /// Pods; `None` selects none.
    pub selector: Option<Selector>,
    /// The node label whose values are the places.
    pub topology_key: String,
}

/// A topology spread constraint.
#[derive(Debug, Clone, PartialEq)]
pub struct Spread {
    /// How far places may differ.
    pub max_skew: i32,
    /// The node label whose values are the places.
    pub topology_key: String,
    /// Pods that are counted.
    pub selector: Selector,
    /// Below so many places the smallest count is taken for 0.
    pub min_domains: i32,
    /// Whether only nodes that the Pod's node affinity allows are counted.
    pub honours_affinity: bool,
    /// Whether only nodes whose taints the Pod tolerates are counted.
    pub honours_taints: bool,
}

/// A port of the node that a Pod takes: address (`0.0.0.0` is every one), protocol, number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// `hostIP`.
    pub ip: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// `hostPort`.
    pub port: i32,
}

impl HostPort {
    /// Whether one node cannot have both.
    pub fn conflicts(&self, other: &Self) -> bool {
        let any = |port: &Self| port.ip == "0.0.0.0";
        self.protocol == other.protocol && self.port == other.port && (any(self) || any(other) || self.ip == other.ip)
    }
}

/// Everything about a Pod that decides where it may go, and where others may.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// Namespace and name.
    pub key: Key,
    /// `metadata.uid`.
    pub uid: String,
    /// Namespace and labels.
    pub class: Arc<Class>,
    /// What is spread where nothing else decides: the Pods of a controller, or loose ones with the same labels.
    pub group: String,
    /// `spec.priority`.
    pub priority: i32,
    /// `metadata.creationTimestamp`.
    pub created: Option<Timestamp>,
    /// `status.startTime`.
    pub started: Option<Timestamp>,
    /// Whether it is going.
    pub terminating: bool,
    /// Whether it goes because the scheduler made it go.
    pub preempted: bool,
    /// Requests.
    pub requests: Resources,
    /// Requests, with a little for containers that state none.
    pub estimate: Resources,
    /// Ports of the node.
    pub ports: Vec<HostPort>,
    /// Tolerations.
    pub tolerations: Vec<Toleration>,
    /// Required of nodes.
    pub demand: NodeDemand,
    /// Preferred of nodes, with weights.
    pub preferred: Vec<(i64, NodeTerm)>,
    /// Required affinity.
    pub affinity: Vec<PodTerm>,
    /// Required anti-affinity.
    pub anti_affinity: Vec<PodTerm>,
    /// Preferred affinity, with weights, and anti-affinity, with negative ones.
    pub leanings: Vec<(i64, PodTerm)>,
    /// What the placed Pod thinks of newcomers: its leanings, and its required affinity.
    pub pulls: Vec<(i64, PodTerm)>,
    /// Constraints that must hold.
    pub must_spread: Vec<Spread>,
    /// Constraints that should.
    pub may_spread: Vec<Spread>,
    /// Whether the Pod has any constraint of its own.
    pub spreads: bool,
    /// Claims that it mounts, by name.
    pub claims: Vec<String>,
    /// Whether it may make room for itself.
    pub preempts: bool,
}

impl Facts {
    /// Reads a Pod.
    pub fn of(pod: &Pod) -> Self {
        let unspecified = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&unspecified);
        let status = pod.status.as_ref();
        let class = Arc::new(Class {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            labels: pod.metadata.labels.clone().unwrap_or_default(),
        });
        let affinity = spec.affinity.clone().unwrap_or_default();
        let (leanings, required, against) = pod_terms(&affinity, &class);
        let pulls = required.iter().map(|term| (REQUIRED_WEIGHT, term.clone()));
        let constraints = spec.topology_spread_constraints.as_deref().unwrap_or_default();
        let spread = |action: &str| {
            let chosen = constraints.iter().filter(|given| given.when_unsatisfiable == action);
            chosen.map(|given| spread(given, &class)).collect()
        };
        Self {
            key: Key::of(pod),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            group: group(pod, &class),
            priority: spec.priority.unwrap_or_default(),
            created: pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
            started: status.and_then(|status| status.start_time.as_ref()).map(|time| time.0),
            terminating: pod.metadata.deletion_timestamp.is_some(),
            preempted: is_preempted(pod),
            requests: requested(spec),
            estimate: estimated(spec),
            ports: host_ports(spec),
            tolerations: spec.tolerations.clone().unwrap_or_default(),
            demand: demand(spec, &affinity),
            preferred: preferred(&affinity),
            pulls: leanings.iter().cloned().chain(pulls).collect(),
            leanings,
            affinity: required,
            anti_affinity: against,
            must_spread: spread("DoNotSchedule"),
            may_spread: spread("ScheduleAnyway"),
            spreads: !constraints.is_empty(),
            claims: claims(spec),
            preempts: spec.preemption_policy.as_deref() != Some("Never"),
            class,
        }
    }
}

/// Preferred terms with weights, required ones, and required anti-affinity.
fn pod_terms(affinity: &Affinity, class: &Class) -> (Vec<(i64, PodTerm)>, Vec<PodTerm>, Vec<PodTerm>) {
    let read = |terms: &Option<Vec<PodAffinityTerm>>| -> Vec<PodTerm> {
        terms.iter().flatten().map(|term| pod_term(term, class)).collect()
    };
    let (towards, away) = (&affinity.pod_affinity, &affinity.pod_anti_affinity);
    let mut leanings = Vec::new();
    for given in towards.iter().flat_map(|side| {
        side.preferred_during_scheduling_ignored_during_execution
            .iter()
            .flatten()
    }) {
        leanings.push((i64::from(given.weight), pod_term(&given.pod_affinity_term, class)));
    }
    for given in away.iter().flat_map(|side| {
        side.preferred_during_scheduling_ignored_during_execution
            .iter()
            .flatten()
    }) {
        leanings.push((-i64::from(given.weight), pod_term(&given.pod_affinity_term, class)));
    }
    let required = towards
        .as_ref()
        .map(|side| read(&side.required_during_scheduling_ignored_during_execution));
    let against = away
        .as_ref()
        .map(|side| read(&side.required_during_scheduling_ignored_during_execution));
    (leanings, required.unwrap_or_default(), against.unwrap_or_default())
}

fn pod_term(term: &PodAffinityTerm, class: &Class) -> PodTerm {
    let mut namespaces: BTreeSet<String> = term.namespaces.iter().flatten().cloned().collect();
    // Neither names nor a selector mean the Pod's own.
    if namespaces.is_empty() && term.namespace_selector.is_none() {
        namespaces.insert(class.namespace.clone());
    }
    let selector = term.label_selector.as_ref().map(|given| {
        let keyed = |keys: &Option<Vec<String>>, make: fn(&str, &[&str]) -> Requirement| -> Vec<Requirement> {
            let present = keys
                .iter()
                .flatten()
                .filter_map(|key| Some((key, class.labels.get(key)?)));
            present.map(|(key, value)| make(key, &[value])).collect()
        };
        let same = keyed(&term.match_label_keys, Requirement::is_in);
        let other = keyed(&term.mismatch_label_keys, Requirement::is_not_in);
        same.into_iter().chain(other).fold(Selector::of(given), Selector::and)
    });
    PodTerm {
        namespaces,
        namespace_selector: term.namespace_selector.as_ref().map(Selector::of),
        selector,
        topology_key: term.topology_key.clone(),
    }
}

fn spread(given: &TopologySpreadConstraint, class: &Class) -> Spread {
    let keys = given.match_label_keys.iter().flatten();
    let same = keys.filter_map(|key| Some(Requirement::is_in(key, &[class.labels.get(key)?])));
    // An absent selector selects nothing.
    let none = || Selector::default().and(Requirement::is_in("", &[]));
    let selector = given.label_selector.as_ref().map_or_else(none, Selector::of);
    Spread {
        max_skew: given.max_skew,
        topology_key: given.topology_key.clone(),
        selector: same.fold(selector, Selector::and),
        min_domains: given.min_domains.unwrap_or(1),
        honours_affinity: given.node_affinity_policy.as_deref() != Some("Ignore"),
        honours_taints: given.node_taints_policy.as_deref() == Some("Honor"),
    }
}

pub fn demand(spec: &PodSpec, affinity: &Affinity) -> NodeDemand {
    let required = affinity.node_affinity.as_ref();
    let required = required.and_then(|side| side.required_during_scheduling_ignored_during_execution.as_ref());
    NodeDemand {
        labels: spec.node_selector.clone().unwrap_or_default(),
        terms: required.map(|selector| selector.node_selector_terms.iter().map(NodeTerm::of).collect()),
    }
}

fn preferred(affinity: &Affinity) -> Vec<(i64, NodeTerm)> {
    let terms = affinity.node_affinity.iter();
    terms
        .flat_map(|side| {
            side.preferred_during_scheduling_ignored_during_execution
                .iter()
                .flatten()
        })
        .map(|term| (i64::from(term.weight), NodeTerm::of(&term.preference)))
        .collect()
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    // A sidecar goes on running beside the containers; its ports count too.
    let is_sidecar = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let sidecars = spec.init_containers.iter().flatten().filter(is_sidecar);
    let ports = spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|c| c.ports.iter().flatten());
    ports
        .filter_map(|port| {
            Some(HostPort {
                port: port.host_port.filter(|port| *port > 0)?,
                ip: port
                    .host_ip
                    .clone()
                    .filter(|ip| !ip.is_empty())
                    .unwrap_or_else(|| "0.0.0.0".to_owned()),
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            })
        })
        .collect()
}

fn claims(spec: &PodSpec) -> Vec<String> {
    let volumes = spec.volumes.iter().flatten();
    volumes
        .filter_map(|volume| Some(volume.persistent_volume_claim.as_ref()?.claim_name.clone()))
        .collect()
}

fn group(pod: &Pod, class: &Class) -> String {
    match controller_of(&pod.metadata) {
        Some(owner) => owner.uid.clone(),
        None => format!("{}/{:?}", class.namespace, class.labels),
    }
}

fn is_preempted(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| {
        condition.type_ == "DisruptionTarget"
            && condition.status == "True"
            && condition.reason.as_deref() == Some("PreemptionByScheduler")
    })
}
