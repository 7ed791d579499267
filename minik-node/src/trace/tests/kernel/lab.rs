//! A node of its own in namespaces: three links whose far ends send whatever they are told and answer nothing,
//! and sockets that see every packet that comes out, at a link's far end or at a process on the node.

use std::io::{ErrorKind, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto, socket};

use super::super::super::{Host, HostLink, HostRoute, Origin, Outcome, Packet, Protocol, Verdict};
use super::super::{GATEWAY, NODE};
use super::generate::Sent;
use crate::private_net::{Space, ip};

/// First rules of raw OUTPUT: they keep the node's own answers (refusals, resets) away from all others.
pub(super) const SILENCE: [&str; 3] = [
    "-p icmp -m icmp --icmp-type 3 -j DROP",
    "-p icmp -m icmp --icmp-type 0 -j DROP",
    "-p tcp -m tcp --tcp-flags RST RST -j DROP",
];

const LINKS: [(&str, Ipv4Addr, Ipv4Addr); 3] = [
    ("eth0", Ipv4Addr::new(172, 30, 0, 1), NODE),
    ("veth-a", Ipv4Addr::new(10, 244, 1, 2), GATEWAY),
    ("veth-b", Ipv4Addr::new(10, 244, 1, 3), GATEWAY),
];

/// The node as [`Lab::new`] builds it.
pub(super) fn host() -> Host {
    let link = |name: &str, address: &str| HostLink {
        name: name.to_owned(),
        addresses: vec![address.parse().expect("an address")],
    };
    let routes = LINKS.iter().map(|(name, far, near)| HostRoute {
        destination: (*far).into(),
        gateway: None,
        link: Some((*name).to_owned()),
        source: Some(*near),
    });
    let default = HostRoute {
        destination: "0.0.0.0/0".parse().expect("a range"),
        gateway: Some(LINKS[0].1),
        link: Some("eth0".to_owned()),
        source: None,
    };
    Host {
        links: vec![
            link("lo", "127.0.0.1/8"),
            link("eth0", "172.30.0.11/32"),
            link("veth-a", "10.244.1.1/32"),
            link("veth-b", "10.244.1.1/32"),
        ],
        routes: routes.chain([default]).collect(),
    }
}

/// A packet that came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// By which link; `None` at a process on the node.
    pub link: Option<String>,
    pub protocol: u8,
    pub from: (Ipv4Addr, Option<u16>),
    pub to: (Ipv4Addr, u16),
}

/// What should come out. A port chosen by chance is seen as none.
pub(super) fn expected(outcome: &Outcome) -> Vec<Expected> {
    let link = match &outcome.verdict {
        Verdict::Delivered => None,
        Verdict::Forwarded { link, .. } => Some(link.clone()),
        _ => return Vec::new(),
    };
    let packet = &outcome.packet;
    vec![Expected(Seen {
        link,
        protocol: packet.protocol.number(),
        from: (packet.source, packet.source_port),
        to: (packet.destination, packet.destination_port),
    })]
}

/// Equal to what was seen if chance could have made it that.
#[derive(Debug)]
pub(super) struct Expected(Seen);

impl PartialEq<Expected> for Seen {
    fn eq(&self, other: &Expected) -> bool {
        let mut seen = self.clone();
        if other.0.from.1.is_none() {
            seen.from.1 = None;
        }
        seen == other.0
    }
}

pub(super) struct Lab {
    variant: &'static str,
    node: Space,
    /// Far ends of [`LINKS`], each with what sees packets arrive.
    ends: Vec<(Space, OwnedFd)>,
    /// See packets arrive at the node, one a protocol.
    here: Vec<OwnedFd>,
    lock: tempfile::TempDir,
}

impl Lab {
    pub fn new(variant: &'static str) -> Self {
        let node = Space::new();
        let sysctls = [
            ("ip_forward", "1"),
            ("icmp_echo_ignore_all", "1"),
            ("conf/all/rp_filter", "0"),
            ("conf/default/rp_filter", "0"),
            ("conf/all/send_redirects", "0"),
            ("conf/default/send_redirects", "0"),
            ("conf/all/route_localnet", "1"),
        ];
        node.run(move || {
            for (key, value) in sysctls {
                std::fs::write(format!("/proc/sys/net/ipv4/{key}"), value).expect("the namespace's own sysctl");
            }
        });
        let ends = LINKS.iter().map(|(name, far, near)| {
            let end = node.pod(name, *far, *near);
            // Both ends have one address and know it: nobody asks by ARP.
            let quiet = |link: &str| {
                ip(&["link", "set", link, "address", "02:00:00:00:00:01"]);
                ip(&["link", "set", link, "arp", "off"]);
            };
            node.run(move || quiet(name));
            let sees = end.run(move || {
                quiet("eth0");
                // Without an address of its own it takes nothing for itself, and so answers nothing.
                ip(&["addr", "flush", "dev", "eth0"]);
                ip(&["route", "replace", "default", "dev", "eth0"]);
                open(AddressFamily::Packet, SockType::Datagram, SockProtocol::EthIp)
            });
            (end, sees)
        });
        let ends = ends.collect();
        let here = node.run(|| {
            ip(&["route", "add", "default", "via", "172.30.0.1", "dev", "eth0"]);
            [SockProtocol::Tcp, SockProtocol::Udp, SockProtocol::Icmp]
                .map(|protocol| open(AddressFamily::Inet, SockType::Raw, protocol))
        });
        Self {
            variant,
            node,
            ends,
            here: here.into(),
            lock: tempfile::tempdir().expect("a directory"),
        }
    }

    pub fn load(&self, rules: &str) {
        self.program("-restore", &[], rules);
    }

    /// Without rules nothing remembers: the next ruleset starts with fresh lists and counters.
    pub fn clear(&self) {
        let empty = ["raw", "mangle", "nat", "filter"].map(|table| format!("*{table}\nCOMMIT\n"));
        self.program("-restore", &[], &empty.concat());
    }

    /// All rules with their counters.
    pub fn save(&self) -> String {
        self.program("-save", &["-c"], "")
    }

    fn program(&self, which: &str, arguments: &'static [&'static str], input: &str) -> String {
        let (program, input) = (format!("{}{which}", self.variant), input.to_owned());
        let lock = self.lock.path().join("xtables.lock");
        self.node.run(move || {
            let mut child = Command::new(&program)
                .args(arguments)
                .env("XTABLES_LOCKFILE", lock)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("the program (Debian package iptables)");
            let mut stdin = child.stdin.take().expect("piped");
            stdin.write_all(input.as_bytes()).expect("it reads");
            drop(stdin);
            let output = child.wait_with_output().expect("it ends");
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{program}: {stderr}\n{input}");
            String::from_utf8(output.stdout).expect("text")
        })
    }

    /// Sends from the far end of a link, or from the node itself.
    pub fn send(&self, sent: &Sent) {
        let space = match &sent.origin {
            Origin::Local => &self.node,
            Origin::Link(link) => {
                let index = LINKS.iter().position(|(name, ..)| name == link);
                &self.ends[index.expect("a link of the lab")].0
            }
        };
        let (packet, id) = (sent.packet.clone(), sent.id);
        space.run(move || {
            let socket = open(AddressFamily::Inet, SockType::Raw, SockProtocol::Raw);
            let to = SockaddrIn::from(SocketAddrV4::new(packet.destination, 0));
            match sendto(socket.as_raw_fd(), &bytes(&packet, id), &to, MsgFlags::empty()) {
                // What a rule drops on the way out is the sender's to know.
                Ok(_) | Err(nix::Error::EPERM) => {}
                Err(error) => panic!("send {packet}: {error}"),
            }
        });
    }

    /// What has come out since the last look.
    pub fn seen(&self) -> Vec<Seen> {
        let links = self.ends.iter().zip(LINKS);
        let links = links.map(|((_, socket), (name, ..))| (Some(name.to_owned()), socket));
        let here = self.here.iter().map(|socket| (None, socket));
        links
            .chain(here)
            .flat_map(|(link, socket)| drain(link.as_deref(), socket))
            .collect()
    }
}

fn open(family: AddressFamily, kind: SockType, protocol: SockProtocol) -> OwnedFd {
    socket(family, kind, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, protocol)
        .expect("tests of the network run as root")
}

fn drain(link: Option<&str>, socket: &OwnedFd) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut buffer = [0; 256];
    loop {
        match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(length) => seen.extend(read(link, &buffer[..length])),
            Err(error) => {
                assert_eq!(std::io::Error::from(error).kind(), ErrorKind::WouldBlock);
                return seen;
            }
        }
    }
}

/// Nothing for what is none of the packets that are sent: errors of ICMP.
fn read(link: Option<&str>, bytes: &[u8]) -> Option<Seen> {
    let address = |at: usize| Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]);
    let header = usize::from(bytes[0] & 15) * 4;
    let port = |at: usize| u16::from_be_bytes([bytes[header + at], bytes[header + at + 1]]);
    let (protocol, payload) = (bytes[9], &bytes[header..]);
    let ports = match protocol {
        1 if payload[0] == 8 => (0, 0),
        6 | 17 => (port(0), port(2)),
        _ => return None,
    };
    Some(Seen {
        link: link.map(str::to_owned),
        protocol,
        from: (address(12), Some(ports.0)),
        to: (address(16), ports.1),
    })
}

/// An IPv4 packet; the kernel fills in the header's checksum and length.
fn bytes(packet: &Packet, id: u16) -> Vec<u8> {
    let ports = || {
        let source = packet.source_port.expect("known");
        [source.to_be_bytes(), packet.destination_port.to_be_bytes()].concat()
    };
    let payload = match packet.protocol {
        Protocol::Udp => [ports(), vec![0, 8, 0, 0]].concat(),
        Protocol::Tcp => {
            let rest = [0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0x20, 0, 0, 0, 0, 0];
            with_checksum([ports(), rest.to_vec()].concat(), 16, Some(packet))
        }
        Protocol::Icmp { kind, code } => {
            let id = id.to_be_bytes();
            with_checksum(vec![kind, code, 0, 0, id[0], id[1], 0, 1], 2, None)
        }
        Protocol::Sctp => panic!("no such packet is made"),
    };
    let total = u16::try_from(20 + payload.len()).expect("short").to_be_bytes();
    let mut bytes = vec![
        0x45,
        0,
        total[0],
        total[1],
        0,
        0,
        0,
        0,
        64,
        packet.protocol.number(),
        0,
        0,
    ];
    bytes.extend(packet.source.octets());
    bytes.extend(packet.destination.octets());
    bytes.extend(payload);
    bytes
}

/// The Internet checksum (RFC 1071), over the pseudo header too when the protocol wants it.
fn with_checksum(mut payload: Vec<u8>, at: usize, pseudo: Option<&Packet>) -> Vec<u8> {
    let mut all = payload.clone();
    if let Some(packet) = pseudo {
        all.extend(packet.source.octets());
        all.extend(packet.destination.octets());
        all.extend([
            0,
            packet.protocol.number(),
            0,
            u8::try_from(payload.len()).expect("short"),
        ]);
    }
    let sum: u32 = all
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((folded & 0xffff) + (folded >> 16)).expect("folded");
    payload[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    payload
}
