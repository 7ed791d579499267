//! Random rules that both variants accept, over few enough values that they often match, and random packets.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::super::super::{Origin, Packet, Protocol};
use super::super::{GATEWAY, NODE};
use super::lab::SILENCE;

/// A table with its built-in chains.
const TABLES: [(&str, &[&str]); 4] = [
    ("raw", &["PREROUTING", "OUTPUT"]),
    ("mangle", &["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"]),
    ("nat", &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"]),
    ("filter", &["INPUT", "FORWARD", "OUTPUT"]),
];

/// Own chains of each table. In `nat` the last belongs to the hooks that translate sources.
const OWN: [&str; 3] = ["U1", "U2", "U3"];

/// A packet to be sent, and from where.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub origin: Origin,
    pub packet: Packet,
    /// Makes a connection of its own of it: the source port, or the identifier of an echo request.
    pub id: u16,
}

pub(super) fn rules(random: &mut StdRng) -> String {
    let mut text = String::new();
    for (table, chains) in TABLES {
        writeln!(text, "*{table}").expect("text grows");
        for chain in chains {
            let drops = table == "filter" && random.random_bool(0.1);
            let policy = if drops { "DROP" } else { "ACCEPT" };
            writeln!(text, ":{chain} {policy} [0:0]").expect("text grows");
        }
        OWN.iter()
            .for_each(|chain| writeln!(text, ":{chain} - [0:0]").expect("text grows"));
        if table == "raw" {
            SILENCE
                .iter()
                .for_each(|rule| writeln!(text, "-A OUTPUT {rule}").expect("text grows"));
        }
        for chain in chains.iter().chain(&OWN) {
            for _ in 0..random.random_range(0..5) {
                writeln!(text, "-A {chain} {}", rule(random, table, chain)).expect("text grows");
            }
        }
        text.push_str("COMMIT\n");
    }
    text
}

fn rule(random: &mut StdRng, table: &str, chain: &str) -> String {
    let protocol = random
        .random_bool(0.6)
        .then(|| one(random, &["tcp", "udp", "icmp", "tcp", "udp", "sctp"]));
    let mut words = header(random, chain);
    words.extend(protocol.map(|protocol| format!("-p {protocol}")));
    let mut ports = false;
    for _ in 0..random.random_range(0..3) {
        let condition = condition(random, protocol, table == "raw");
        // The nft variant prints two matches on ports as one, so that what it prints is not what it does.
        let on_ports = ["-m tcp", "-m udp"].iter().any(|name| condition.starts_with(name));
        if !(on_ports && ports) {
            words.push(condition);
        }
        ports |= on_ports;
    }
    words.push(target(random, table, chain, protocol));
    words.join(" ")
}

fn one<'a>(random: &mut StdRng, of: &[&'a str]) -> &'a str {
    of.choose(random).expect("something to choose from")
}

fn not(random: &mut StdRng) -> &'static str {
    if random.random_bool(0.25) { "! " } else { "" }
}

fn header(random: &mut StdRng, chain: &str) -> Vec<String> {
    let mut words = Vec::new();
    let addresses = [
        "10.244.1.2",
        "10.244.0.0/16",
        "172.30.0.11",
        "172.30.0.0/255.255.0.255",
        "192.0.2.0/24",
        "10.96.0.1",
        "0.0.0.0/1",
    ];
    for flag in ["-s", "-d"] {
        if random.random_bool(0.25) {
            words.push(format!("{}{flag} {}", not(random), one(random, &addresses)));
        }
    }
    let links = ["eth0", "veth-a", "veth+", "lo", "v+"];
    for (flag, missing) in [("-i", ["OUTPUT", "POSTROUTING"]), ("-o", ["PREROUTING", "INPUT"])] {
        if random.random_bool(0.2) && !missing.contains(&chain) {
            words.push(format!("{}{flag} {}", not(random), one(random, &links)));
        }
    }
    words
}

fn condition(random: &mut StdRng, protocol: Option<&str>, raw: bool) -> String {
    let ports = one(random, &["80", "53:443", "8080", "1:1000", "20000:65535"]);
    let list = one(random, &["one", "two"]);
    let flip = not(random);
    match (random.random_range(0..14), protocol) {
        (0 | 1, Some(protocol @ ("tcp" | "udp"))) => format!("-m {protocol} {flip}--dport {ports}"),
        (2, Some(protocol @ ("tcp" | "udp"))) => format!("-m {protocol} {flip}--sport {ports}"),
        (3, Some("tcp")) => format!("-m tcp {flip}--tcp-flags FIN,SYN,RST,ACK SYN"),
        (0..=3, Some("icmp")) => {
            let kind = one(random, &["8", "8/0", "11", "any"]);
            let flip = if kind == "any" { "" } else { flip };
            format!("-m icmp {flip}--icmp-type {kind}")
        }
        (4, Some("tcp" | "udp" | "sctp")) => {
            let side = one(random, &["--dports", "--sports", "--ports"]);
            format!("-m multiport {flip}{side} 80,443,{ports}")
        }
        (5 | 6, _) => {
            let states = one(
                random,
                &["NEW", "INVALID", "RELATED,ESTABLISHED", "DNAT", "SNAT", "NEW,DNAT"],
            );
            format!("-m conntrack {flip}--ctstate {states}")
        }
        (7, _) if !raw => {
            let options = [
                "--ctorigdst 10.96.0.1",
                "--ctorigsrc 10.244.0.0/16",
                "--ctreplsrc 10.244.1.2",
                "--ctrepldst 172.30.0.11",
                "--ctproto tcp",
                "--ctorigdstport 80",
            ];
            format!("-m conntrack {flip}{}", one(random, &options))
        }
        (8, _) => format!(
            "-m mark {flip}--mark {}",
            one(random, &["0x1", "0x4000/0x4000", "0x0/0x1"])
        ),
        (9, _) => format!(
            "-m statistic --mode random {flip}--probability {}",
            one(random, &["0.5", "0.25", "0.99"])
        ),
        (10, _) => format!(
            "-m statistic --mode nth {flip}--every {}",
            one(random, &["2 --packet 0", "3 --packet 1", "3 --packet 2"])
        ),
        (11, _) => {
            let side = one(random, &["--rsource", "--rdest"]);
            let does = one(
                random,
                &[
                    "--set",
                    "--rcheck --seconds 600 --reap",
                    "--update",
                    "--remove",
                    "--rcheck --hitcount 2",
                ],
            );
            format!("-m recent {flip}{does} --name {list} --mask 255.255.255.255 {side}")
        }
        (12, _) => {
            let side = one(random, &["--src-type", "--dst-type"]);
            format!(
                "-m addrtype {flip}{side} {}",
                one(random, &["LOCAL", "UNICAST", "LOCAL,MULTICAST", "BROADCAST"])
            )
        }
        _ => "-m comment --comment \"it's \\\"said\\\" -j\"".to_owned(),
    }
}

fn target(random: &mut StdRng, table: &str, chain: &str, protocol: Option<&str>) -> String {
    let jumps: &[&str] = match (table, chain) {
        ("nat", "INPUT" | "POSTROUTING") => &["U3"],
        ("nat", "U2") | (_, "U3") => &[],
        ("nat", "U1") | (_, "PREROUTING" | "OUTPUT") if table == "nat" => {
            if chain == "U1" {
                &["U2"]
            } else {
                &["U1", "U2"]
            }
        }
        (_, "U2") => &["U3"],
        (_, "U1") => &["U2", "U3"],
        _ => &OWN,
    };
    let has_ports = matches!(protocol, Some("tcp" | "udp"));
    let any = random.random_range(0..20);
    match (any, table) {
        (0..=5, _) if !jumps.is_empty() => format!("{} {}", one(random, &["-j", "-j", "-g"]), one(random, jumps)),
        (6..=9, _) => {
            let forms = [
                "--set-xmark 0x4000/0x4000",
                "--set-mark 0x1/0x3",
                "--or-mark 0x1",
                "--and-mark 0x4000",
                "--xor-mark 0x4001",
            ];
            format!("-j MARK {}", one(random, &forms))
        }
        (10, _) => "-j RETURN".to_owned(),
        (11, _) => "-j ACCEPT".to_owned(),
        (12, "raw" | "mangle" | "filter") => "-j DROP".to_owned(),
        (13, "filter") if protocol == Some("tcp") => "-j REJECT --reject-with tcp-reset".to_owned(),
        (13 | 14, "filter") => "-j REJECT".to_owned(),
        (12..=15, "nat") => translation(random, chain, has_ports),
        _ => String::new(),
    }
}

fn translation(random: &mut StdRng, chain: &str, has_ports: bool) -> String {
    let port = if has_ports { ":8080" } else { "" };
    match chain {
        "PREROUTING" | "OUTPUT" | "U1" | "U2" => match random.random_range(0..6) {
            0 if has_ports => "-j REDIRECT --to-ports 8080".to_owned(),
            0 => "-j REDIRECT".to_owned(),
            _ => {
                let to = one(random, &["10.244.1.2", "10.244.1.3", "172.30.0.11", "203.0.113.5"]);
                format!("-j DNAT --to-destination {to}{port}")
            }
        },
        "POSTROUTING" if random.random_bool(0.7) => {
            format!("-j MASQUERADE{}", one(random, &["", " --random-fully"]))
        }
        _ => format!("-j SNAT --to-source {}", one(random, &["172.30.0.11", "172.30.0.99"])),
    }
}

pub(super) fn packet(random: &mut StdRng, id: u16) -> Sent {
    let link = |name: &str| Origin::Link(name.to_owned());
    let senders = [
        (link("veth-a"), Ipv4Addr::new(10, 244, 1, 2)),
        (link("veth-b"), Ipv4Addr::new(10, 244, 1, 3)),
        (link("eth0"), Ipv4Addr::new(192, 0, 2, 7)),
        (link("eth0"), Ipv4Addr::new(172, 30, 0, 1)),
        (Origin::Local, NODE),
        (Origin::Local, GATEWAY),
    ];
    let destinations = [
        Ipv4Addr::new(10, 244, 1, 2),
        Ipv4Addr::new(10, 244, 1, 3),
        Ipv4Addr::new(10, 96, 0, 1),
        Ipv4Addr::new(203, 0, 113, 9),
        NODE,
        GATEWAY,
    ];
    let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Icmp { kind: 8, code: 0 }];
    let (origin, source) = senders.choose(random).expect("senders").clone();
    let destination = *destinations.choose(random).expect("destinations");
    let protocol = *protocols.choose(random).expect("protocols");
    let port = *[53, 80, 443, 8080].choose(random).expect("ports");
    let ports = if protocol.has_ports() { (id, port) } else { (0, 0) };
    Sent {
        origin,
        packet: Packet::new(protocol, (source, ports.0), (destination, ports.1)),
        id,
    }
}
