//! Packets through the rules: one node, three Pods on routed links and a client outside, all in namespaces of
//! the test's own. A server answers `NAME SOURCE`, its own name and the address that it saw.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use super::{compile, node};
use crate::private_net::{Space, ip};
use crate::proxy::iptables::kernel::Kernel;
use crate::proxy::iptables::plan::Plan;
use crate::proxy::iptables::ruleset::Ruleset;

const MANIFESTS: &str = include_str!("../../../../testdata/packets.yaml");

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
const NODE: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 10);

/// The lab. Pods `a` and `b` serve, `c` only asks.
struct Lab {
    node: Space,
    a: Space,
    c: Space,
    outside: Space,
    _b: Space,
}

impl Lab {
    fn new(variant: &'static str) -> Self {
        let node_space = Space::new();
        node_space.run(|| {
            for (key, value) in [
                ("ip_forward", "1"),
                ("conf/all/route_localnet", "1"),
                ("conf/all/rp_filter", "0"),
                ("conf/default/rp_filter", "0"),
            ] {
                std::fs::write(format!("/proc/sys/net/ipv4/{key}"), value).expect("the namespace's own sysctl");
            }
            // A dead end as default route: without one, addresses that only rules know are unreachable.
            ip(&["link", "add", "dead0", "type", "veth", "peer", "name", "dead1"]);
            ip(&["link", "set", "dead0", "up"]);
            ip(&["link", "set", "dead1", "up"]);
            ip(&[
                "neigh",
                "add",
                "169.254.0.1",
                "lladdr",
                "02:00:00:00:00:01",
                "dev",
                "dead0",
                "nud",
                "permanent",
            ]);
        });
        let pod = |name, host| node_space.pod(name, Ipv4Addr::new(10, 244, 0, host), GATEWAY);
        let (a, b, c) = (pod("veth-a", 2), pod("veth-b", 3), pod("veth-c", 4));
        let outside = node_space.pod("underlay", Ipv4Addr::new(172, 30, 0, 1), NODE);
        node_space.run(|| {
            ip(&[
                "route",
                "add",
                "default",
                "via",
                "169.254.0.1",
                "dev",
                "dead0",
                "onlink",
                "src",
                "172.30.0.10",
            ]);
        });
        for (space, name) in [(&a, "a"), (&b, "b")] {
            space.run(move || serve(name));
        }
        let rules = compile(MANIFESTS, node("n1", "172.30.0.10", "10.244.0.0/16"));
        node_space.block_on(move || async move {
            let directory = tempfile::tempdir().expect("a directory");
            let lock = directory.path().join("xtables.lock");
            let mut kernel = Kernel::with_variant(variant, lock)
                .await
                .expect("the variant is installed");
            kernel
                .apply(&Plan::new(&Ruleset::default(), &rules))
                .await
                .expect("the rules are accepted");
        });
        Self {
            node: node_space,
            a,
            c,
            outside,
            _b: b,
        }
    }
}

/// Answers on TCP and UDP port 8080 for as long as the test runs.
fn serve(name: &'static str) {
    let tcp = TcpListener::bind("0.0.0.0:8080").expect("a free port");
    std::thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.expect("a connection");
            let source = stream.peer_addr().expect("a peer").ip();
            // The client may be gone already; the next one is not.
            let _ = write!(stream, "{name} {source}");
        }
    });
    let udp = UdpSocket::bind("0.0.0.0:8080").expect("a free port");
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, source)) = udp.recv_from(&mut buffer) {
            udp.send_to(format!("{name} {}", source.ip()).as_bytes(), source)
                .expect("a way back");
        }
    });
}

/// One request over a new connection.
fn get(from: &Space, to: &str) -> Result<String, io::ErrorKind> {
    let to: SocketAddr = to.parse().expect("an address");
    from.run(move || {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_millis(700))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })
    .map_err(|error: io::Error| error.kind())
}

/// All different answers to 40 requests; that one of two backends stays unseen has a chance of 2⁻³⁹.
fn answers(from: &Space, to: &str) -> BTreeSet<String> {
    (0..40).map(|_| get(from, to).expect("an answer")).collect()
}

fn set(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn every_way(variant: &'static str) {
    let lab = Lab::new(variant);
    assert_eq!(
        answers(&lab.c, "10.96.0.1:80"),
        set(&["a 10.244.0.4", "b 10.244.0.4"]),
        "a Pod's address is kept"
    );
    assert_eq!(
        answers(&lab.a, "10.96.0.1:80"),
        set(&["a 10.244.0.1", "b 10.244.0.2"]),
        "only the hairpin is masqueraded"
    );
    assert_eq!(
        answers(&lab.outside, "172.30.0.10:30001"),
        set(&["a 10.244.0.1", "b 10.244.0.1"]),
        "node port"
    );
    assert_eq!(
        answers(&lab.node, "127.0.0.1:30001"),
        set(&["a 10.244.0.1", "b 10.244.0.1"]),
        "node port on loopback"
    );
    assert_eq!(
        answers(&lab.outside, "10.96.0.1:80"),
        set(&["a 10.244.0.1", "b 10.244.0.1"]),
        "cluster IP from outside"
    );
    assert_eq!(answers(&lab.node, "10.96.0.1:80").len(), 2, "cluster IP from the node");
    assert_eq!(
        answers(&lab.outside, "172.30.0.10:30002"),
        set(&["a 172.30.0.1"]),
        "policy Local keeps the source"
    );
    assert_eq!(
        answers(&lab.c, "10.96.0.3:80").len(),
        1,
        "a client with affinity sees one endpoint"
    );

    what_has_no_endpoint_or_rule_is_refused_or_dropped(&lab);

    let answer = lab.c.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.connect("10.96.0.6:53")?;
        socket.send(b"?")?;
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer)?;
        io::Result::Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    });
    assert_eq!(answer.expect("an answer"), "b 10.244.0.4", "UDP");
}

fn what_has_no_endpoint_or_rule_is_refused_or_dropped(lab: &Lab) {
    assert_eq!(
        get(&lab.c, "10.96.0.4:80"),
        Err(io::ErrorKind::ConnectionRefused),
        "no endpoints, from a Pod"
    );
    assert_eq!(
        get(&lab.node, "10.96.0.4:80"),
        Err(io::ErrorKind::ConnectionRefused),
        "no endpoints, from the node"
    );
    assert_eq!(
        get(&lab.outside, "172.30.0.10:30004"),
        Err(io::ErrorKind::ConnectionRefused),
        "no endpoints, node port"
    );
    assert_eq!(
        get(&lab.c, "10.96.0.5:80"),
        Err(io::ErrorKind::TimedOut),
        "no local endpoints, policy Local"
    );
    assert_eq!(
        get(&lab.c, "10.96.0.1:8080"),
        Err(io::ErrorKind::TimedOut),
        "a port that the Service does not have"
    );
}

#[test]
fn every_way_with_the_nft_variant() {
    every_way("iptables-nft");
}

#[test]
fn every_way_with_the_legacy_variant() {
    every_way("iptables-legacy");
}
