//! Packets that no socket sends: what connection tracking cannot place, and SCTP on kernels without it.

use std::net::Ipv4Addr;
use std::process::Command;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::lab::{Connection, Lab, PATIENCE};
use crate::private_net::Space;

/// Sends a transport segment in an IP packet; the kernel writes the IP header.
fn send(from: &Space, to: Ipv4Addr, protocol: i32, segment: Vec<u8>) {
    from.run(move || {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(protocol))).expect("a raw socket");
        let to = SockAddr::from(std::net::SocketAddrV4::new(to, 0));
        socket.send_to(&segment, &to).expect("sent");
    });
}

/// The Internet checksum (RFC 1071).
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u32 = words
        .map(|word| u32::from(word[0]) << 8 | word.get(1).map_or(0, |low| u32::from(*low)))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

/// A TCP acknowledgment of a connection whose numbers it does not know.
fn acknowledgment(source: (Ipv4Addr, u16), to: (Ipv4Addr, u16), sequence: u32) -> Vec<u8> {
    const ACK: u8 = 0x10;
    let mut segment = Vec::new();
    segment.extend(source.1.to_be_bytes());
    segment.extend(to.1.to_be_bytes());
    segment.extend(sequence.to_be_bytes());
    segment.extend(0x1234_5678_u32.to_be_bytes());
    segment.extend([5 << 4, ACK, 0xff, 0xff, 0, 0, 0, 0]);
    let length = u16::try_from(segment.len()).expect("a small segment").to_be_bytes();
    let pseudo = [&source.0.octets()[..], &to.0.octets()[..], &[0, 6], &length].concat();
    let sum = checksum(&[&pseudo, &segment]).to_be_bytes();
    segment[16..18].copy_from_slice(&sum);
    segment
}

fn count(node: &Space, rule: &'static str) -> u64 {
    let rules = node.run(|| {
        Command::new("iptables-save")
            .args(["-c", "-t", "filter"])
            .output()
            .expect("iptables-save")
    });
    let rules = String::from_utf8(rules.stdout).expect("text");
    let line = rules
        .lines()
        .find(|line| line.contains(rule))
        .unwrap_or_else(|| panic!("{rule} in {rules}"));
    let packets = line.trim_start_matches('[').split(':').next().expect("a counter");
    packets.parse().expect("a number")
}

const TCP: &str = "
kind: Service
metadata: {namespace: d, name: s}
spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}
---
kind: EndpointSlice
metadata: {namespace: d, name: s-1, labels: {kubernetes.io/service-name: s}}
addressType: IPv4
ports: [{name: '', port: 8080, protocol: TCP}]
endpoints: [{addresses: [10.244.1.2], nodeName: n1}]
";

/// Un-translated, it would reach the client from an address it never spoke to; the client would reset, and with the
/// reset translated the connection would be gone (kubernetes/kubernetes#74839).
#[test]
fn a_packet_that_tracking_cannot_place_ends_at_the_node_and_the_connection_goes_on() {
    let mut lab = Lab::new();
    lab.apply(TCP);
    let mut connection = Connection::open(&lab.c, "10.96.0.1:80", PATIENCE).expect("connected");
    assert_eq!(connection.read().expect("an answer").pod, "a");
    let (a, c) = (Ipv4Addr::new(10, 244, 1, 2), Ipv4Addr::new(10, 244, 1, 4));
    const RULE: &str = "--ctstate INVALID -j DROP";
    let before = count(&lab.n1.space, RULE);
    // All round the circle of sequence numbers: what lies behind the window is let pass as a late copy, and what lies
    // ahead of it, two of the four wherever the connection began, cannot be placed.
    for sequence in [0, 1 << 30, 2 << 30, 3 << 30] {
        let segment = acknowledgment((a, 8080), (c, connection.local_port()), sequence);
        send(&lab.a, c, 6, segment);
    }
    // The node may take them up a moment after they were sent.
    let dropped = || count(&lab.n1.space, RULE) > before;
    let seen = (0..100).any(|_| {
        dropped() || {
            std::thread::sleep(PATIENCE / 100);
            false
        }
    });
    assert!(seen, "dropped at the node");
    assert_eq!(connection.ask().expect("the connection goes on").pod, "a");
}

/// CRC-32C, as SCTP sums its packets (RFC 9260, appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
        })
    })
}

/// An INIT chunk: the first packet of an association.
fn sctp_init(source: u16, to: u16) -> Vec<u8> {
    let mut packet = Vec::new();
    packet.extend(source.to_be_bytes());
    packet.extend(to.to_be_bytes());
    packet.extend([0; 8]);
    packet.extend([1, 0, 0, 20]);
    packet.extend(0x1122_3344_u32.to_be_bytes());
    packet.extend(65_536_u32.to_be_bytes());
    packet.extend([0, 10, 0, 10]);
    packet.extend(1_u32.to_be_bytes());
    let sum = crc32c(&packet).to_le_bytes();
    packet[8..12].copy_from_slice(&sum);
    packet
}

/// Waits for an SCTP packet in a Pod and tells where it came from.
fn sctp_source(socket: &Socket) -> Option<Ipv4Addr> {
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut buffer = [std::mem::MaybeUninit::uninit(); 128];
    let (_, source) = socket.recv_from(&mut buffer).ok()?;
    source.as_socket_ipv4().map(|source| *source.ip())
}

#[test]
fn sctp_flows_follow_the_endpoints_too() {
    let mut lab = Lab::new();
    let service = |address: &str| {
        TCP.replace("{port: 80}", "{port: 80, protocol: SCTP}")
            .replace("TCP", "SCTP")
            .replace("10.244.1.2", address)
    };
    let listen = |pod: &Space| {
        pod.run(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(132))).expect("a raw socket"))
    };
    let (at_a, at_b) = (listen(&lab.a), listen(&lab.b));
    let (vip, c) = (Ipv4Addr::new(10, 96, 0, 1), Ipv4Addr::new(10, 244, 1, 4));

    lab.apply(&service("10.244.1.2"));
    send(&lab.c, vip, 132, sctp_init(40_000, 80));
    assert_eq!(sctp_source(&at_a), Some(c));
    send(&lab.c, vip, 132, sctp_init(40_000, 80));
    assert_eq!(sctp_source(&at_a), Some(c), "the same flow");

    lab.apply(&service("10.244.1.3"));
    send(&lab.c, vip, 132, sctp_init(40_000, 80));
    assert_eq!(sctp_source(&at_b), Some(c));
    assert_eq!(lab.n1.metrics.conntrack_reconciler_deleted_entries_total.get(), 1);
    at_a.set_nonblocking(true).expect("non-blocking");
    assert_eq!(sctp_source(&at_a), None, "nothing more for the Pod that left");
}
