//! Conditions out of options: those of the header, then one function a match. An option or match that is not
//! known here becomes a condition that nobody can judge, never one that holds.

use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;

use super::super::AddressKind;
use super::option::Opt;
use super::rule::{Masked, Maybe, Part, Ports, Recent, RecentAction, Side, Test, state};

type Parts = Result<Vec<Part>, String>;

/// `-s`, `-d`, `-i`, `-o`, `-p`.
pub(super) fn header(options: &[Opt<'_>]) -> Parts {
    each(options, |option| {
        Ok(match option.name {
            "-s" => Test::Address(Side::Source, maybe(option, masked)?),
            "-d" => Test::Address(Side::Destination, maybe(option, masked)?),
            "-i" => Test::InLink(maybe(option, text)?),
            "-o" => Test::OutLink(maybe(option, text)?),
            "-p" => Test::Protocol(maybe(option, protocol)?),
            _ => Test::Unsupported,
        })
    })
}

/// The options of one match.
pub(super) fn module(name: &str, options: &[Opt<'_>]) -> Parts {
    match name {
        "comment" | "nfacct" => Ok(vec![whole(name, options, Test::Always)]),
        "tcp" | "udp" | "sctp" => each(options, transport),
        "icmp" => each(options, |option| match option.name {
            "--icmp-type" => Ok(Test::Icmp(maybe(option, icmp)?)),
            _ => Ok(Test::Unsupported),
        }),
        "multiport" => each(options, |option| {
            Ok(match option.name {
                "--sports" => Test::Port(Side::Source, maybe(option, ports)?),
                "--dports" => Test::Port(Side::Destination, maybe(option, ports)?),
                "--ports" => Test::EitherPort(maybe(option, ports)?),
                _ => Test::Unsupported,
            })
        }),
        "conntrack" => each(options, conntrack),
        "state" => each(options, |option| match option.name {
            "--state" => Ok(Test::State(maybe(option, states)?)),
            _ => Ok(Test::Unsupported),
        }),
        "mark" => each(options, |option| match option.name {
            "--mark" => Ok(Test::Mark(maybe(option, marked)?)),
            _ => Ok(Test::Unsupported),
        }),
        "addrtype" => each(options, |option| {
            Ok(match option.name {
                "--src-type" => Test::Kind(Side::Source, maybe(option, kinds)?),
                "--dst-type" => Test::Kind(Side::Destination, maybe(option, kinds)?),
                _ => Test::Unsupported,
            })
        }),
        "statistic" => Ok(vec![whole(name, options, statistic(options)?)]),
        "recent" => Ok(vec![whole(name, options, recent(options)?)]),
        _ => Ok(vec![whole(name, options, Test::Unsupported)]),
    }
}

/// A condition for each option.
fn each(options: &[Opt<'_>], test: impl Fn(&Opt<'_>) -> Result<Test, String>) -> Parts {
    let part = |option: &Opt<'_>| {
        Ok(Part {
            text: option.text(),
            test: test(option)?,
        })
    };
    options.iter().map(part).collect()
}

/// One condition for all options of a match.
fn whole(module: &str, options: &[Opt<'_>], test: Test) -> Part {
    let options: String = options.iter().map(|option| format!(" {}", option.text())).collect();
    Part {
        text: format!("-m {module}{options}").into(),
        test,
    }
}

fn transport(option: &Opt<'_>) -> Result<Test, String> {
    Ok(match option.name {
        "--sport" => Test::Port(Side::Source, maybe(option, one_range)?),
        "--dport" => Test::Port(Side::Destination, maybe(option, one_range)?),
        "--tcp-flags" => match option.values.as_slice() {
            [looked_at, set] => Test::Flags(Maybe {
                not: option.not,
                of: (flags(looked_at)?, flags(set)?),
            }),
            _ => return Err("--tcp-flags wants two values".to_owned()),
        },
        _ => Test::Unsupported,
    })
}

fn conntrack(option: &Opt<'_>) -> Result<Test, String> {
    Ok(match option.name {
        "--ctstate" => Test::State(maybe(option, states)?),
        "--ctproto" => Test::ConnectionProtocol(maybe(option, protocol)?),
        "--ctorigsrc" => Test::Original(Side::Source, maybe(option, masked)?),
        "--ctorigdst" => Test::Original(Side::Destination, maybe(option, masked)?),
        "--ctreplsrc" => Test::Reply(Side::Source, maybe(option, masked)?),
        "--ctrepldst" => Test::Reply(Side::Destination, maybe(option, masked)?),
        "--ctorigsrcport" => Test::OriginalPort(Side::Source, maybe(option, one_range)?),
        "--ctorigdstport" => Test::OriginalPort(Side::Destination, maybe(option, one_range)?),
        "--ctdir" => Test::Direction {
            original: (option.value()? == "ORIGINAL") != option.not,
        },
        _ => Test::Unsupported,
    })
}

fn statistic(options: &[Opt<'_>]) -> Result<Test, String> {
    let find = |name: &str| options.iter().find(|option| option.name == name);
    let mode = find("--mode").ok_or("statistic without --mode")?.value()?;
    match mode {
        "random" => {
            let option = find("--probability").ok_or("random without --probability")?;
            let probability: f64 = parse(option.value()?)?;
            // The kernel keeps it in steps of 2^-31, and more than all of them is no probability.
            let steps = (probability * f64::from(1_u32 << 31)).round();
            if !(0.0..=f64::from(1_u32 << 31)).contains(&steps) {
                return Err(format!("{probability} is no probability"));
            }
            Ok(Test::Random(Maybe {
                not: option.not,
                of: steps as u32,
            }))
        }
        "nth" => {
            let every = find("--every").ok_or("nth without --every")?;
            let packet = find("--packet").map_or(Ok(0), |option| parse(option.value()?))?;
            let (not, every) = (every.not, parse(every.value()?)?);
            if packet >= every {
                return Err(format!("--packet {packet} is none of {every}"));
            }
            Ok(Test::Nth { not, every, packet })
        }
        _ => Ok(Test::Unsupported),
    }
}

fn recent(options: &[Opt<'_>]) -> Result<Test, String> {
    let mut action = None;
    let mut recent = Recent {
        action: RecentAction::Check,
        list: Arc::from("DEFAULT"),
        side: Side::Source,
        mask: u32::MAX,
        seconds: None,
        reap: false,
        hits: 0,
    };
    for option in options {
        let does = match option.name {
            "--set" => Some(RecentAction::Set),
            "--rcheck" => Some(RecentAction::Check),
            "--update" => Some(RecentAction::Update),
            "--remove" => Some(RecentAction::Remove),
            _ => None,
        };
        match (does, option.name) {
            (Some(does), _) => action = Some((option.not, does)),
            (_, "--name") => recent.list = option.value()?.into(),
            (_, "--seconds") => recent.seconds = Some(parse(option.value()?)?),
            (_, "--hitcount") => recent.hits = parse(option.value()?)?,
            (_, "--reap") => recent.reap = true,
            (_, "--mask") => recent.mask = parse::<std::net::Ipv4Addr>(option.value()?)?.into(),
            (_, "--rsource") => recent.side = Side::Source,
            (_, "--rdest") => recent.side = Side::Destination,
            _ => return Ok(Test::Unsupported),
        }
    }
    let (not, action) = action.ok_or("recent does nothing")?;
    if recent.hits > super::super::state::MOST_SIGHTINGS {
        return Ok(Test::Unsupported);
    }
    Ok(Test::Recent(Maybe {
        not,
        of: Recent { action, ..recent },
    }))
}

fn maybe<T>(option: &Opt<'_>, read: impl Fn(&str) -> Result<T, String>) -> Result<Maybe<T>, String> {
    Ok(Maybe {
        not: option.not,
        of: read(option.value()?)?,
    })
}

pub(super) fn parse<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_wrong| format!("{text} is not what belongs there"))
}

/// Decimal, or hexadecimal after `0x`.
pub(super) fn number(text: &str) -> Result<u32, String> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).map_err(|_wrong| format!("{text} is no number")),
        None => parse(text),
    }
}

fn text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

/// `10.0.0.0/8`, `10.0.0.0/255.0.255.0` or `10.0.0.1`.
fn masked(text: &str) -> Result<Masked, String> {
    let (address, mask) = text.split_once('/').unwrap_or((text, "32"));
    let mask = match mask.parse::<u8>() {
        Ok(length @ 0..=32) => u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0),
        Ok(_) => return Err(format!("{text} has no such mask")),
        Err(_) => parse::<std::net::Ipv4Addr>(mask)?.into(),
    };
    Ok(Masked {
        address: parse(address)?,
        mask,
    })
}

fn protocol(text: &str) -> Result<u8, String> {
    match text.to_ascii_lowercase().as_str() {
        "all" => Ok(0),
        "icmp" => Ok(1),
        "tcp" => Ok(6),
        "udp" => Ok(17),
        "sctp" => Ok(132),
        "esp" => Ok(50),
        "ah" => Ok(51),
        "dccp" => Ok(33),
        "udplite" => Ok(136),
        other => parse(other),
    }
}

/// `80`, `80:90`, `:90`, `80:`.
fn range(text: &str) -> Result<RangeInclusive<u16>, String> {
    match text.split_once(':') {
        None => parse(text).map(|port| port..=port),
        Some((from, to)) => {
            let end = |text: &str, default| if text.is_empty() { Ok(default) } else { parse(text) };
            Ok(end(from, 0)?..=end(to, u16::MAX)?)
        }
    }
}

fn one_range(text: &str) -> Result<Ports, String> {
    range(text).map(|range| vec![range])
}

fn ports(text: &str) -> Result<Ports, String> {
    text.split(',').map(range).collect()
}

fn flags(text: &str) -> Result<u8, String> {
    const NAMES: [&str; 6] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG"];
    text.split(',').try_fold(0, |flags, name| match name {
        "NONE" => Ok(flags),
        "ALL" => Ok(0x3f),
        name => match NAMES.iter().position(|known| *known == name) {
            Some(bit) => Ok(flags | 1 << bit),
            None => Err(format!("{name} is no TCP flag")),
        },
    })
}

/// `8`, `3/1` or `any`.
fn icmp(text: &str) -> Result<(u8, Option<RangeInclusive<u8>>), String> {
    match text.split_once('/') {
        Some((kind, code)) => Ok((parse(kind)?, Some(parse(code)?..=parse(code)?))),
        None if text == "any" => Ok((u8::MAX, None)),
        None => Ok((parse(text)?, None)),
    }
}

fn states(text: &str) -> Result<u8, String> {
    text.split(',').try_fold(0, |bits, name| {
        let known = state::NAMES.iter().find(|(known, _)| *known == name);
        known
            .map(|(_, bit)| bits | bit)
            .ok_or_else(|| format!("{name} is no state"))
    })
}

/// `0x4000/0x4000` or `0x1`.
fn marked(text: &str) -> Result<(u32, u32), String> {
    let (value, mask) = text.split_once('/').unwrap_or((text, "0xffffffff"));
    Ok((number(value)?, number(mask)?))
}

fn kinds(text: &str) -> Result<Vec<AddressKind>, String> {
    let kind = |name: &str| match name {
        "UNSPEC" => Ok(AddressKind::Unspecified),
        "LOCAL" => Ok(AddressKind::Local),
        "BROADCAST" => Ok(AddressKind::Broadcast),
        "MULTICAST" => Ok(AddressKind::Multicast),
        "UNICAST" => Ok(AddressKind::Unicast),
        "UNREACHABLE" => Ok(AddressKind::Unreachable),
        _ => Err(format!("{name} is no type of address")),
    };
    text.split(',').map(kind).collect()
}
