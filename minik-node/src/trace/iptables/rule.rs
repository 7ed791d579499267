//! Rules as data: conditions in the order in which the kernel tests them, and what to do when all hold.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::super::AddressKind;

/// A table.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub name: Arc<str>,
    pub chains: Vec<Chain>,
}

/// A chain.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    pub name: Arc<str>,
    /// What happens at the end of a built-in chain; user chains return.
    pub policy: Option<Policy>,
    pub rules: Vec<Rule>,
}

/// A built-in chain's last word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    Accept,
    Drop,
}

/// A rule.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    /// As `iptables-save` prints it, without its chain.
    pub text: Arc<str>,
    pub parts: Vec<Part>,
    pub target: Target,
}

/// One condition.
#[derive(Debug, Clone)]
pub(super) struct Part {
    /// In the rule's words.
    pub text: Arc<str>,
    pub test: Test,
}

/// Something, or its contrary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Maybe<T> {
    pub not: bool,
    pub of: T,
}

/// An address and the bits of it that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Masked {
    pub address: Ipv4Addr,
    pub mask: u32,
}

impl Masked {
    pub fn holds(self, address: Ipv4Addr) -> bool {
        (u32::from(address) ^ u32::from(self.address)) & self.mask == 0
    }
}

/// Which end of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Source,
    Destination,
}

/// Port ranges.
pub(super) type Ports = Vec<RangeInclusive<u16>>;

/// What to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Test {
    Address(Side, Maybe<Masked>),
    /// A name, or the beginning of one when it ends in `+`.
    InLink(Maybe<String>),
    OutLink(Maybe<String>),
    /// A number in the header; 0 is all.
    Protocol(Maybe<u8>),
    Port(Side, Maybe<Ports>),
    EitherPort(Maybe<Ports>),
    /// Of a TCP segment: those looked at, those set.
    Flags(Maybe<(u8, u8)>),
    /// Kind and, if given, code; kind 255 is any.
    Icmp(Maybe<(u8, Option<RangeInclusive<u8>>)>),
    State(Maybe<u8>),
    /// Of the connection's first packet as it was sent.
    Original(Side, Maybe<Masked>),
    OriginalPort(Side, Maybe<Ports>),
    /// Of the answers to it.
    Reply(Side, Maybe<Masked>),
    ConnectionProtocol(Maybe<u8>),
    /// Whether the packet goes the way of the connection's first.
    Direction {
        original: bool,
    },
    Mark(Maybe<(u32, u32)>),
    /// So many chances in 2³¹.
    Random(Maybe<u32>),
    Nth {
        not: bool,
        every: u32,
        packet: u32,
    },
    Recent(Maybe<Recent>),
    Kind(Side, Maybe<Vec<AddressKind>>),
    /// Comments and counters.
    Always,
    /// A match or option that the tracer does not know.
    Unsupported,
}

/// Bits of [`Test::State`].
pub(super) mod state {
    pub const INVALID: u8 = 1;
    pub const ESTABLISHED: u8 = 2;
    pub const RELATED: u8 = 4;
    pub const NEW: u8 = 8;
    pub const UNTRACKED: u8 = 16;
    pub const SNAT: u8 = 32;
    pub const DNAT: u8 = 64;

    pub const NAMES: [(&str, u8); 7] = [
        ("INVALID", INVALID),
        ("NEW", NEW),
        ("RELATED", RELATED),
        ("ESTABLISHED", ESTABLISHED),
        ("UNTRACKED", UNTRACKED),
        ("SNAT", SNAT),
        ("DNAT", DNAT),
    ];
}

/// `-m recent`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recent {
    pub action: RecentAction,
    pub list: Arc<str>,
    pub side: Side,
    pub mask: u32,
    pub seconds: Option<u64>,
    pub reap: bool,
    pub hits: usize,
}

/// What `-m recent` does with its list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecentAction {
    Set,
    Check,
    Update,
    Remove,
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// Nothing: the next rule follows. Logs too.
    Continue,
    Accept,
    Drop,
    Return,
    Reject(String),
    /// `(mark & !mask) ^ value`
    Mark {
        value: u32,
        mask: u32,
    },
    /// A new destination: address and port as far as given.
    Dnat {
        address: Option<Ipv4Addr>,
        port: Option<u16>,
    },
    Redirect {
        port: Option<u16>,
    },
    Snat {
        address: Option<Ipv4Addr>,
        port: SourcePort,
    },
    Masquerade {
        port: SourcePort,
    },
    /// Index of a chain of the same table.
    Jump(usize),
    Goto(usize),
    /// A target that the tracer does not know.
    Unsupported(String),
}

/// What translation of a source does with its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SourcePort {
    Kept,
    Fixed(u16),
    Chosen,
}

impl Rule {
    /// Lists of `-m recent` that it names.
    pub fn lists(&self) -> impl Iterator<Item = &Arc<str>> {
        self.parts.iter().filter_map(|part| match &part.test {
            Test::Recent(recent) => Some(&recent.of.list),
            _ => None,
        })
    }
}

impl Table {
    pub fn chain(&self, name: &str) -> Option<usize> {
        self.chains.iter().position(|chain| &*chain.name == name)
    }
}
