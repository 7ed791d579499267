//! Host ports beside a working Service proxy, packet by packet: the behaviours under "HostPort" and "Networking … SCTP
//! HostPort" of Kubernetes' own network tests, and what a client at each place must find.

use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::channel;

use tokio_util::sync::CancellationToken;

use super::lab::{Connection, Datagrams, Lab, Node, PATIENCE, SILENCE, Variant};
use crate::model::Protocol;
use crate::plan::host_ports::{HostPort, PodPorts};
use crate::private_net::Space;
use crate::reconcile::host_ports::HostPortTable;

/// The table of a node, on a thread in its namespace.
struct Ports {
    table: Arc<HostPortTable>,
    shutdown: CancellationToken,
}

impl Drop for Ports {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Ports {
    fn start(node: &Node) -> Self {
        let (sender, table) = channel();
        let shutdown = CancellationToken::new();
        let (ended, lock_file) = (shutdown.clone(), node.lock_file.clone());
        node.space.run(move || {
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime").block_on(async {
                    let table = Arc::new(HostPortTable::spawn(lock_file, ended.clone()));
                    sender.send(table).expect("the test waits");
                    ended.cancelled().await;
                });
            });
        });
        Self {
            table: table.recv().expect("the table starts"),
            shutdown,
        }
    }

    fn set(&self, uid: &str, address: [u8; 4], ports: &[(Protocol, Option<[u8; 4]>, u16, u16)]) {
        let port = |(protocol, host_ip, host_port, container_port): &(Protocol, Option<[u8; 4]>, u16, u16)| HostPort {
            protocol: *protocol,
            host_ip: host_ip.map(Ipv4Addr::from),
            host_port: *host_port,
            container_port: *container_port,
        };
        let pod = PodPorts {
            address: address.into(),
            ports: ports.iter().map(port).collect(),
        };
        self.put(uid, Some(pod));
    }

    fn put(&self, uid: &str, pod: Option<PodPorts>) {
        futures::executor::block_on(self.table.set(uid, pod)).expect("rules can be written");
    }
}

const A: [u8; 4] = [10, 244, 1, 2];
const B: [u8; 4] = [10, 244, 1, 3];
const C: [u8; 4] = [10, 244, 1, 4];
const NODE: [u8; 4] = [172, 30, 0, 11];
const LOCAL: [u8; 4] = [127, 0, 0, 1];

/// A Service of every kind, so that its chains are there.
const SERVICE: &str = "kind: Service
metadata: {namespace: d, name: s}
spec:
  type: NodePort
  clusterIP: 10.96.0.1
  ports: [{port: 80, protocol: TCP, nodePort: 30080}]
---
kind: EndpointSlice
metadata: {namespace: d, name: s-1, labels: {kubernetes.io/service-name: s}}
addressType: IPv4
ports: [{port: 8080, protocol: TCP}]
endpoints: [{addresses: [10.244.1.3], nodeName: n1, conditions: {ready: true}}]
";

fn saved(node: &Node) -> String {
    let output = node
        .space
        .run(|| Command::new("iptables-save").output().expect("iptables-save"));
    String::from_utf8(output.stdout).expect("text")
}

fn tcp(from: &Space, to: &str) -> (String, Ipv4Addr) {
    let mut connection = Connection::open(from, to, PATIENCE).unwrap_or_else(|error| panic!("{to}: {error}"));
    let answer = connection.read().expect("an answer");
    (answer.pod, answer.source)
}

fn udp(from: &Space, to: &str) -> Option<(String, Ipv4Addr)> {
    let answer = Datagrams::from(from).ask(to, PATIENCE)?;
    Some((answer.pod, answer.source))
}

#[test]
fn a_port_of_the_node_leads_to_its_pod_from_everywhere() {
    let mut lab = Lab::new();
    lab.apply(SERVICE);
    let ports = Ports::start(&lab.n1);
    let passes = lab.n1.passes();
    ports.set(
        "pod-a",
        A,
        &[
            (Protocol::Tcp, None, 8000, 8080),
            (Protocol::Udp, None, 8000, 8080),
            (Protocol::Sctp, None, 8000, 8080),
        ],
    );
    let gateway = Ipv4Addr::new(10, 244, 1, 1);
    for (from, to, source) in [
        (&lab.outside, "172.30.0.11:8000", Ipv4Addr::new(172, 30, 0, 1)),
        (&lab.y, "172.30.0.11:8000", Ipv4Addr::new(10, 244, 2, 3)),
        (&lab.n2.space, "172.30.0.11:8000", Ipv4Addr::new(172, 30, 0, 12)),
        (&lab.b, "172.30.0.11:8000", Ipv4Addr::from(B)),
        (&lab.n1.space, "172.30.0.11:8000", Ipv4Addr::from(NODE)),
        // These two would not find back: they are masqueraded.
        (&lab.n1.space, "127.0.0.1:8000", gateway),
        (&lab.a, "172.30.0.11:8000", gateway),
    ] {
        assert_eq!(tcp(from, to), ("a".to_owned(), source), "{to}");
        assert_eq!(udp(from, to), Some(("a".to_owned(), source)), "{to}");
    }
    assert_eq!(tcp(&lab.outside, "172.30.0.11:30080").0, "b", "Services go on");
    assert!(saved(&lab.n1).contains("-p sctp -m sctp --dport 8000 -j DNAT --to-destination 10.244.1.2:8080"));
    assert_eq!(lab.n1.passes(), passes, "the Service proxy knows the agent's own hand");
    ports.put("pod-a", None);
    let refused = Connection::open(&lab.outside, "172.30.0.11:8000", PATIENCE)
        .err()
        .expect("nobody listens");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert!(!saved(&lab.n1).contains("CNI-"), "nothing is left");
}

#[test]
fn pods_with_one_port_and_different_addresses_or_protocols_do_not_conflict() {
    let mut lab = Lab::new();
    lab.apply(SERVICE);
    let ports = Ports::start(&lab.n1);
    ports.set("pod-a", A, &[(Protocol::Tcp, Some(LOCAL), 54323, 8080)]);
    ports.set("pod-b", B, &[(Protocol::Tcp, Some(NODE), 54323, 8080)]);
    ports.set("pod-c", C, &[(Protocol::Udp, Some(NODE), 54323, 8080)]);
    assert_eq!(tcp(&lab.n1.space, "127.0.0.1:54323").0, "a");
    // As the test's client does that binds to the node's address and asks for loopback.
    let source = lab.n1.space.run(|| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        let own = std::net::SocketAddrV4::new(NODE.into(), 0);
        socket.bind(&own.into()).expect("the node's address");
        let to = std::net::SocketAddrV4::new(LOCAL.into(), 54323);
        socket.connect_timeout(&to.into(), PATIENCE).expect("a connection");
        let mut line = String::new();
        let mut reader = std::io::BufReader::new(TcpStream::from(socket));
        std::io::BufRead::read_line(&mut reader, &mut line).expect("an answer");
        super::lab::Answer::parse(&line)
    });
    assert_eq!((source.pod.as_str(), source.source), ("a", Ipv4Addr::from(NODE)));
    for from in [&lab.outside, &lab.n1.space] {
        assert_eq!(tcp(from, "172.30.0.11:54323").0, "b");
        assert_eq!(udp(from, "172.30.0.11:54323").expect("an answer").0, "c");
    }
}

#[test]
fn clients_that_keep_their_port_follow_the_pod() {
    let lab = Lab::new();
    let ports = Ports::start(&lab.n1);
    let client = Datagrams::from(&lab.outside);
    let to = "172.30.0.11:5353";
    assert_eq!(client.ask(to, SILENCE), None);
    ports.set("pod-a", A, &[(Protocol::Udp, None, 5353, 8080)]);
    assert_eq!(client.ask(to, PATIENCE).expect("an answer").pod, "a");
    ports.put("pod-a", None);
    ports.set("pod-b", B, &[(Protocol::Udp, None, 5353, 8080)]);
    assert_eq!(client.ask(to, PATIENCE).expect("an answer").pod, "b");
    assert_eq!(
        Datagrams::from(&lab.n1.space)
            .ask("127.0.0.1:5353", PATIENCE)
            .expect("an answer")
            .pod,
        "b"
    );
}

#[test]
fn what_others_flush_comes_back() {
    for variant in [Variant::Default, Variant::Legacy] {
        let mut lab = Lab::with(variant);
        lab.apply(SERVICE);
        let ports = Ports::start(&lab.n1);
        ports.set("pod-a", A, &[(Protocol::Tcp, None, 8000, 8080)]);
        assert_eq!(tcp(&lab.outside, "172.30.0.11:8000").0, "a", "{variant:?}");
        let (program, lock) = match variant {
            Variant::Default => ("iptables", lab.n1.lock_file.clone()),
            Variant::Legacy => ("iptables-legacy", lab.n1.lock_file.clone()),
        };
        lab.n1.space.run(move || {
            let flushed = Command::new(program)
                .args(["-w", "-t", "nat", "-F"])
                .env("XTABLES_LOCKFILE", lock)
                .status();
            assert!(flushed.expect("iptables").success());
        });
        let deadline = std::time::Instant::now() + PATIENCE;
        let back = || Connection::open(&lab.outside, "172.30.0.11:8000", PATIENCE).is_ok();
        while !back() {
            assert!(std::time::Instant::now() < deadline, "{variant:?}");
            std::thread::yield_now();
        }
    }
}
