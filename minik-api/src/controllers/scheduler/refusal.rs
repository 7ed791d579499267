//! Why a Pod cannot go to a node, in the words of Kubernetes 1.36's scheduler, and what could change that. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What a plugin of the scheduler says of a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// NodeUnschedulable.
    Cordoned,
    /// TaintToleration.
    Taints,
    /// NodeAffinity.
    NodeAffinity,
    /// NodeAffinity, when the Pod names other nodes.
    OtherNodeNamed,
    /// NodePorts.
    Ports,
    /// NodeResourcesFit: the number of Pods.
    TooManyPods,
    /// NodeResourcesFit: a resource.
    Insufficient(String),
    /// VolumeRestrictions: a volume for one Pod has its Pod.
    VolumeInUse,
    /// VolumeBinding: the volume is elsewhere.
    VolumeElsewhere,
    /// VolumeBinding: the volume is gone.
    VolumeGone,
    /// VolumeBinding: no volume fits, and none can be made.
    NoVolume,
    /// PodTopologySpread.
    Spread,
    /// PodTopologySpread: the node has no such label.
    SpreadLabel,
    /// InterPodAffinity.
    Affinity,
    /// InterPodAffinity.
    AntiAffinity,
    /// InterPodAffinity, the other way round.
    ExistingAntiAffinity,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cordoned => "node(s) were unschedulable",
            Self::Taints => "node(s) had untolerated taint(s)",
            Self::NodeAffinity => "node(s) didn't match Pod's node affinity/selector",
            Self::OtherNodeNamed => "node(s) didn't satisfy plugin(s) [NodeAffinity]",
            Self::Ports => "node(s) didn't have free ports for the requested pod ports",
            Self::TooManyPods => "Too many pods",
            Self::Insufficient(resource) => return write!(f, "Insufficient {resource}"),
            Self::VolumeInUse => {
                "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"
            }
            Self::VolumeElsewhere => "node(s) didn't match PersistentVolume's node affinity",
            Self::VolumeGone => "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",
            Self::NoVolume => "node(s) didn't find available persistent volumes to bind",
            Self::Spread => "node(s) didn't match pod topology spread constraints",
            Self::SpreadLabel => "node(s) didn't match pod topology spread constraints (missing required label)",
            Self::Affinity => "node(s) didn't match pod affinity rules",
            Self::AntiAffinity => "node(s) didn't match pod anti-affinity rules",
            Self::ExistingAntiAffinity => "node(s) didn't satisfy existing pods anti-affinity rules",
        })
    }
}

/// A change of the cluster that may make room for a Pod that has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// A node came, went or changed.
    Node,
    /// A Pod left its node.
    Departure,
    /// A Pod was placed, or one that is placed changed.
    Arrival,
    /// A claim, volume or storage class changed.
    Volume,
    /// The labels of a namespace changed.
    Namespace,
}

impl Reason {
    /// Whether after `event` the answer may be another.
    pub fn may_yield_to(&self, event: Event) -> bool {
        use Event::{Arrival, Departure, Namespace, Node, Volume};
        match self {
            Self::Cordoned | Self::Taints | Self::NodeAffinity | Self::OtherNodeNamed => event == Node,
            Self::Ports | Self::TooManyPods | Self::Insufficient(_) => matches!(event, Node | Departure),
            Self::VolumeInUse => matches!(event, Node | Departure | Volume),
            Self::VolumeElsewhere | Self::VolumeGone | Self::NoVolume => matches!(event, Node | Volume),
            Self::Spread | Self::SpreadLabel => matches!(event, Node | Departure | Arrival),
            Self::Affinity | Self::AntiAffinity | Self::ExistingAntiAffinity => {
                matches!(event, Node | Departure | Arrival | Namespace)
            }
        }
    }
}

/// One node's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// All that the first plugin that refuses has to say.
    pub reasons: Vec<Reason>,
    /// Whether it could be otherwise if Pods left the node.
    pub for_want_of_room: bool,
}

impl Refusal {
    /// A refusal that Pods leaving could undo.
    pub fn crowded(reason: Reason) -> Self {
        Self {
            reasons: vec![reason],
            for_want_of_room: true,
        }
    }

    /// A refusal that nothing on the node could undo.
    pub fn flat(reason: Reason) -> Self {
        Self {
            reasons: vec![reason],
            for_want_of_room: false,
        }
    }
}

/// Nothing to choose from.
pub const NO_NODES: &str = "no nodes available to schedule pods";
/// What the plugin for device claims, which comes before preemption, says of a Pod without any.
const NO_CLAIMS: &str = "no new claims to deallocate";
/// What it says of a Pod that was refused before its turn came.
const NOT_PREPARED: &str = "not found";
/// Preemption's words for nodes that Pods leaving would not help.
pub const NOT_HELPFUL: &str = "Preemption is not helpful for scheduling";
/// Preemption's words for nodes without Pods of lower priority.
pub const NO_VICTIMS: &str = "No preemption victims found for incoming pod";
/// Preemption's words for a Pod that may not.
pub const NEVER: &str = "not eligible due to preemptionPolicy=Never.";
/// Preemption's words for a Pod whose victims are going.
pub const VICTIM_GOING: &str = "not eligible due to a terminating pod on the nominated node.";

/// `0/3 nodes are available: 1 Too many pods, 2 node(s) were unschedulable.`: every text with its count, ordered as texts.
pub fn count(nodes: usize, texts: impl Iterator<Item = String>) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for text in texts {
        *counts.entry(text).or_default() += 1;
    }
    let mut lines: Vec<String> = counts
        .into_iter()
        .map(|(text, count)| format!("{count} {text}"))
        .collect();
    lines.sort();
    format!("0/{nodes} nodes are available: {}.", lines.join(", "))
}

/// The message of a Pod that every node refuses; `preemption` says what came of making room, unless room was made.
pub fn refused<'a>(nodes: usize, refusals: impl Iterator<Item = &'a Refusal>, preemption: Option<&str>) -> String {
    let texts = refusals.flat_map(|refusal| refusal.reasons.iter().map(ToString::to_string));
    let message = count(nodes, texts);
    match preemption {
        Some(words) => format!("{message} {NO_CLAIMS}, preemption: {words}"),
        None => message,
    }
}

/// The message of a Pod that is refused whatever the nodes are.
pub fn refused_at_once(nodes: usize, why: &str) -> String {
    format!("0/{nodes} nodes are available: {why}. {NOT_PREPARED}")
}

/// All reasons of some refusals.
pub fn reasons<'a>(refusals: impl Iterator<Item = &'a Refusal>) -> BTreeSet<Reason> {
    refusals.flat_map(|refusal| refusal.reasons.iter().cloned()).collect()
}
