//! What a trace answers, in every mode: outcomes, how likely each is, and the path that led there. Pure data.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

use num_bigint::BigUint;
use num_rational::Ratio;

use super::{AddressKind, Packet, State};

/// An exact probability between 0 and 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probability(Ratio<BigUint>);

impl Probability {
    /// `numerator` chances in `denominator`.
    ///
    /// # Panics
    /// If `denominator` is zero.
    #[must_use]
    pub fn new(numerator: u64, denominator: u64) -> Self {
        Self(Ratio::new(numerator.into(), denominator.into()))
    }

    /// Certainty.
    #[must_use]
    pub fn one() -> Self {
        Self::new(1, 1)
    }

    /// Both of two things that do not depend on each other.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self(&self.0 * &other.0)
    }

    /// Either of two things that exclude each other.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        Self(&self.0 + &other.0)
    }

    /// The contrary.
    #[must_use]
    pub fn not(&self) -> Self {
        Self(Ratio::from_integer(1_u32.into()) - &self.0)
    }

    /// Rounded, for people.
    #[must_use]
    pub fn as_f64(&self) -> f64 {
        // 2^64 steps keep more digits than the result has.
        let scaled = (&self.0 * BigUint::from(1_u128 << 64)).to_integer();
        scaled.to_string().parse::<f64>().unwrap_or(f64::NAN) / 18_446_744_073_709_551_616.0
    }
}

/// Prints as a percentage with two digits.
impl fmt::Display for Probability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2}%", self.as_f64() * 100.0)
    }
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// A process on this node gets it, if one listens.
    Delivered,
    /// It leaves by a link.
    Forwarded {
        /// Name of the link.
        link: String,
        /// Next hop, when the destination is not on the link.
        gateway: Option<Ipv4Addr>,
    },
    /// It vanishes.
    Dropped,
    /// It vanishes and the sender is told.
    Rejected {
        /// As `--reject-with` names it: `icmp-port-unreachable`, `tcp-reset`, …
        with: String,
    },
    /// No route leads to its destination.
    Unroutable,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delivered => f.write_str("delivered here"),
            Self::Forwarded { link, gateway: None } => write!(f, "forwarded by {link}"),
            Self::Forwarded {
                link,
                gateway: Some(gateway),
            } => write!(f, "forwarded by {link} via {gateway}"),
            Self::Dropped => f.write_str("dropped"),
            Self::Rejected { with } => write!(f, "rejected with {with}"),
            Self::Unroutable => f.write_str("no route"),
        }
    }
}

/// Where a rule is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Point of the packet's way through the node: `PREROUTING`, `INPUT`, …
    pub hook: &'static str,
    /// Table.
    pub table: Arc<str>,
    /// Chain.
    pub chain: Arc<str>,
    /// Number in the chain, from 1; 0 for what the chain does when its rules are through.
    pub number: usize,
}

/// What the packet had where a rule wanted something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actual {
    /// An address.
    Address(Ipv4Addr),
    /// A port.
    Port(u16),
    /// Both ports, source first.
    Ports(u16, u16),
    /// A protocol.
    Protocol(String),
    /// A link; `None` where a packet has none, such as the incoming one of a local sender.
    Link(Option<Arc<str>>),
    /// The mark.
    Mark(u32),
    /// States of conntrack.
    State(String),
    /// Kind of an address.
    Kind(Ipv4Addr, AddressKind),
    /// Not seen lately, for `-m recent`.
    NotSeen(Ipv4Addr),
    /// Seen lately where a rule wants strangers.
    Seen(Ipv4Addr),
    /// Not this packet's turn, or not its luck.
    Chance,
}

impl fmt::Display for Actual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Port(port) => write!(f, "{port}"),
            Self::Ports(source, destination) => write!(f, "{source} and {destination}"),
            Self::Protocol(text) | Self::State(text) => f.write_str(text),
            Self::Link(Some(link)) => f.write_str(link),
            Self::Link(None) => f.write_str("no link"),
            Self::Mark(mark) => write!(f, "mark {mark:#x}"),
            Self::Kind(address, kind) => write!(f, "{address}, which is {kind:?}"),
            Self::NotSeen(address) => write!(f, "{address} not seen"),
            Self::Seen(address) => write!(f, "{address} seen"),
            Self::Chance => f.write_str("not its turn"),
        }
    }
}

/// The first condition of a rule that a packet did not meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Miss {
    /// The condition, in the rule's own words.
    pub expected: Arc<str>,
    /// What the packet had.
    pub actual: Actual,
}

/// A rule on the packet's way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Where.
    pub place: Place,
    /// The rule, as it is printed without its chain.
    pub rule: Arc<str>,
    /// Why it did not match; `None` when it did.
    pub miss: Option<Miss>,
}

/// The rules on a packet's way, in order. Outcomes that part late share what they have in common.
#[derive(Debug, Clone, Default)]
pub struct Path {
    /// What came before the last parting of ways.
    shared: Option<Arc<Path>>,
    own: Vec<Step>,
}

impl Path {
    pub(super) fn push(&mut self, step: Step) {
        self.own.push(step);
    }

    /// Shares what there is so far, so that a copy of the path costs nothing.
    pub(super) fn part(&mut self) {
        if !self.own.is_empty() {
            self.shared = Some(Arc::new(std::mem::take(self)));
        }
    }

    /// The steps from first to last.
    #[must_use]
    pub fn steps(&self) -> Vec<&Step> {
        let segments = std::iter::successors(Some(self), |path| path.shared.as_deref());
        let mut steps: Vec<&Step> = segments.flat_map(|path| path.own.iter().rev()).collect();
        steps.reverse();
        steps
    }
}

/// One way in which a packet may fare.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How likely it is.
    pub probability: Probability,
    /// What becomes of the packet.
    pub verdict: Verdict,
    /// The packet as it is then.
    pub packet: Packet,
    /// The way there.
    pub path: Path,
    /// What the rules remember afterwards.
    pub state: State,
}

/// Adds up the probabilities of outcomes that are the same under `key`.
pub fn group<K: Ord>(outcomes: &[Outcome], key: impl Fn(&Outcome) -> K) -> BTreeMap<K, Probability> {
    let mut groups = BTreeMap::<K, Probability>::new();
    for outcome in outcomes {
        groups
            .entry(key(outcome))
            .and_modify(|sum| *sum = sum.or(&outcome.probability))
            .or_insert_with(|| outcome.probability.clone());
    }
    groups
}
