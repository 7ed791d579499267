//! Holds a packet against one condition. What a condition remembers is changed here, as the kernel does it
//! while it tests.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use super::super::{Actual, Host, Packet, Probability, Protocol, Tracking};
use super::branch::Branch;
use super::rule::{Masked, Maybe, Ports, Recent, RecentAction, Side, Test, state};

/// Whether a condition holds.
#[derive(Debug)]
pub(super) enum Judgement {
    Yes,
    No(Actual),
    /// It holds with this probability.
    Chance(Probability),
}

/// What a condition may look at besides the packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Surroundings<'a> {
    pub host: &'a Host,
    pub now: Duration,
    /// Table and chain, index of the rule there, index of the condition in it: by these counters are kept.
    pub at: (&'a Arc<str>, &'a Arc<str>, usize, usize),
}

/// `Err` says what is not known: the match itself, or something about the packet.
pub(super) fn judge(test: &Test, branch: &mut Branch, around: Surroundings<'_>) -> Result<Judgement, &'static str> {
    let packet = &branch.packet;
    Ok(match test {
        Test::Always => Judgement::Yes,
        Test::Unsupported => return Err("this match"),
        Test::Address(side, wanted) => address(wanted, end(packet, *side)),
        Test::InLink(wanted) => link(wanted, branch.in_link.as_ref()),
        Test::OutLink(wanted) => link(wanted, branch.out_link.as_ref()),
        Test::Protocol(wanted) => protocol(wanted, packet.protocol),
        Test::Port(side, wanted) => port(wanted, port_of(packet, *side)?),
        Test::EitherPort(wanted) => {
            let (source, destination) = (port_of(packet, Side::Source)?, packet.destination_port);
            yes_if(
                (contains(&wanted.of, source) || contains(&wanted.of, destination)) != wanted.not,
                || Actual::Ports(source, destination),
            )
        }
        Test::Flags(wanted) => {
            let flags = flags(packet.tracking);
            let (looked_at, set) = wanted.of;
            yes_if((flags & looked_at == set) != wanted.not, || {
                Actual::Protocol(format!("tcp flags {flags:#x}"))
            })
        }
        Test::Icmp(wanted) => {
            let Protocol::Icmp { kind, code } = packet.protocol else {
                return Ok(Judgement::No(Actual::Protocol(packet.protocol.to_string())));
            };
            let (wanted_kind, codes) = &wanted.of;
            let holds = *wanted_kind == u8::MAX
                || *wanted_kind == kind && codes.as_ref().is_none_or(|codes| codes.contains(&code));
            yes_if(holds != wanted.not, || Actual::Protocol(format!("icmp {kind}/{code}")))
        }
        Test::State(wanted) => {
            let bits = states(branch);
            yes_if((bits & wanted.of != 0) != wanted.not, || {
                Actual::State(state_names(bits))
            })
        }
        Test::Original(..)
        | Test::OriginalPort(..)
        | Test::Reply(..)
        | Test::ConnectionProtocol(_)
        | Test::Direction { .. } => connection(test, branch)?,
        Test::Mark(wanted) => {
            let (value, mask) = wanted.of;
            yes_if((packet.mark & mask == value) != wanted.not, || {
                Actual::Mark(packet.mark)
            })
        }
        Test::Random(wanted) => chance(wanted),
        Test::Nth { not, every, packet } => {
            let (table, chain, rule, part) = around.at;
            let key = (table.clone(), chain.clone(), rule, part);
            // Counters start so that the `packet`-th one, from 0, comes round to zero.
            let last = branch.state.nth.get(&key).copied().unwrap_or(every - 1 - packet);
            let next = if last == every - 1 { 0 } else { last + 1 };
            branch.state.nth.insert(key, next);
            yes_if((next == 0) != *not, || Actual::Chance)
        }
        Test::Recent(wanted) => recent(wanted, branch, around.now),
        Test::Kind(side, wanted) => {
            let address = end(packet, *side);
            let kind = around.host.kind(address);
            yes_if(wanted.of.contains(&kind) != wanted.not, || Actual::Kind(address, kind))
        }
    })
}

fn yes_if(holds: bool, actual: impl FnOnce() -> Actual) -> Judgement {
    if holds { Judgement::Yes } else { Judgement::No(actual()) }
}

fn end(packet: &Packet, side: Side) -> Ipv4Addr {
    match side {
        Side::Source => packet.source,
        Side::Destination => packet.destination,
    }
}

fn port_of(packet: &Packet, side: Side) -> Result<u16, &'static str> {
    match side {
        Side::Source => packet
            .source_port
            .ok_or("a look at a source port that chance has chosen"),
        Side::Destination => Ok(packet.destination_port),
    }
}

fn address(wanted: &Maybe<Masked>, actual: Ipv4Addr) -> Judgement {
    yes_if(wanted.of.holds(actual) != wanted.not, || Actual::Address(actual))
}

fn contains(ports: &Ports, port: u16) -> bool {
    ports.iter().any(|range| range.contains(&port))
}

fn port(wanted: &Maybe<Ports>, actual: u16) -> Judgement {
    yes_if(contains(&wanted.of, actual) != wanted.not, || Actual::Port(actual))
}

fn link(wanted: &Maybe<String>, actual: Option<&Arc<str>>) -> Judgement {
    let name = actual.map_or("", |name| &**name);
    let holds = match wanted.of.strip_suffix('+') {
        Some(beginning) => name.starts_with(beginning),
        None => name == wanted.of,
    };
    yes_if(holds != wanted.not, || Actual::Link(actual.cloned()))
}

fn protocol(wanted: &Maybe<u8>, actual: Protocol) -> Judgement {
    let holds = wanted.of == 0 || wanted.of == actual.number();
    yes_if(holds != wanted.not, || Actual::Protocol(actual.to_string()))
}

/// A connection begins with SYN; what follows is taken for a plain segment.
fn flags(tracking: Tracking) -> u8 {
    const SYN: u8 = 2;
    const ACK: u8 = 16;
    if tracking == Tracking::New { SYN } else { ACK }
}

/// Before conntrack has looked, a packet belongs to no connection.
fn states(branch: &Branch) -> u8 {
    if branch.original.is_none() {
        return state::INVALID;
    }
    let tracking = match branch.packet.tracking {
        Tracking::New => state::NEW,
        Tracking::Established => state::ESTABLISHED,
        Tracking::Related => state::RELATED,
        Tracking::Invalid => return state::INVALID,
    };
    let bit = |set: bool, bit: u8| if set { bit } else { 0 };
    tracking | bit(branch.snat, state::SNAT) | bit(branch.dnat, state::DNAT)
}

fn state_names(bits: u8) -> String {
    let names = state::NAMES.iter().filter(|(_, bit)| bits & bit != 0);
    names.map(|(name, _)| *name).collect::<Vec<_>>().join(",")
}

/// What is asked of the connection, known from its first packet.
fn connection(test: &Test, branch: &Branch) -> Result<Judgement, &'static str> {
    let (Some(original), Tracking::New) = (&branch.original, branch.packet.tracking) else {
        return match branch.packet.tracking {
            // A later packet does not tell how its connection began.
            Tracking::Established | Tracking::Related if branch.original.is_some() => {
                Err("a look at an older connection")
            }
            _ => Ok(Judgement::No(Actual::State(state_names(state::INVALID)))),
        };
    };
    let now = &branch.packet;
    Ok(match test {
        Test::Original(side, wanted) => address(wanted, end(original, *side)),
        Test::OriginalPort(side, wanted) => port(wanted, port_of(original, *side)?),
        Test::Reply(Side::Source, wanted) => address(wanted, now.destination),
        Test::Reply(Side::Destination, wanted) => address(wanted, now.source),
        Test::ConnectionProtocol(wanted) => protocol(wanted, now.protocol),
        Test::Direction { original: true } => Judgement::Yes,
        _ => Judgement::No(Actual::State("ORIGINAL".to_owned())),
    })
}

fn chance(wanted: &Maybe<u32>) -> Judgement {
    const STEPS: u64 = 1 << 31;
    let steps = u64::from(wanted.of);
    match if wanted.not { STEPS - steps } else { steps } {
        0 => Judgement::No(Actual::Chance),
        STEPS => Judgement::Yes,
        steps => Judgement::Chance(Probability::new(steps, STEPS)),
    }
}

/// `recent_mt` of the kernel's `xt_recent`.
fn recent(wanted: &Maybe<Recent>, branch: &mut Branch, now: Duration) -> Judgement {
    let Maybe { not, of: recent } = wanted;
    let address = Ipv4Addr::from(u32::from(end(&branch.packet, recent.side)) & recent.mask);
    let list = &recent.list;
    let remembered = &mut branch.state;
    let Some(sightings) = remembered.sightings(list, address).cloned() else {
        if recent.action == RecentAction::Set {
            remembered.see(list, address, now);
            return yes_if(!not, || Actual::Seen(address));
        }
        return yes_if(*not, || Actual::NotSeen(address));
    };
    let limit = recent
        .seconds
        .map(Duration::from_secs)
        .map(|seconds| now.checked_sub(seconds));
    let counts = |seen: &&Duration| limit.flatten().is_none_or(|limit| **seen >= limit);
    let holds = match recent.action {
        RecentAction::Set | RecentAction::Remove => true,
        RecentAction::Check | RecentAction::Update => sightings.iter().filter(counts).count() >= recent.hits.max(1),
    };
    let matches = holds != *not;
    match recent.action {
        RecentAction::Set => remembered.see(list, address, now),
        RecentAction::Remove => remembered.forget(list, address),
        RecentAction::Check | RecentAction::Update => {
            let update = recent.action == RecentAction::Update && matches;
            if let (true, Some(limit)) = (recent.reap, limit.flatten()) {
                remembered.reap(list, limit, update.then_some(address));
            }
            if update {
                remembered.see(list, address, now);
            }
        }
    }
    yes_if(matches, || {
        if holds {
            Actual::Seen(address)
        } else {
            Actual::NotSeen(address)
        }
    })
}
