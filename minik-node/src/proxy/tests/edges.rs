//! Behaviours at the edges that Kubernetes' own network tests name: how long, how much, from whom, from which range, and
//! after rules were torn out. A test names the ones it stands for.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use super::behaviours::{A, B, NODE_PORT, VIP, answering, get, pods, service, silent, terminating};
use super::lab::{Lab, PATIENCE};
use crate::kernel::sysctl;
use crate::private_net::Space;
use crate::proxy::TIMEOUTS;

/// "should have session affinity timeout work for service with type clusterIP" and "for NodePort service".
#[test]
fn affinity_ends_when_a_client_stays_away_longer_than_its_timeout() {
    let affinity = ", sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 1}}";
    let mut lab = Lab::new();
    lab.apply(&service(affinity, &[A, B].join(", ")));
    for (from, to) in [(&lab.c, VIP), (&lab.outside, NODE_PORT)] {
        let first = answering(from, to);
        assert_eq!(first.len(), 1, "{to}: one Pod for a client that keeps coming");
        // That chance takes the same of two Pods each time has a chance of 2⁻²⁰.
        let moved = (0..20).any(|_| {
            std::thread::sleep(Duration::from_millis(1100));
            !first.contains(&get(from, to).pod)
        });
        assert!(moved, "{to}: the other Pod is never chosen again");
    }
}

/// "should be able to connect to terminating and unready endpoints if PublishNotReadyAddresses is true" and "should not
/// … is false"; "should create endpoints for unready pods".
#[test]
fn endpoints_that_are_not_ready_are_reached_when_they_are_published() {
    let mut lab = Lab::new();
    // As the EndpointSlice controller writes them where the Service publishes what is not ready.
    let published = A.replace('}', ", conditions: {ready: true, serving: false, terminating: true}}");
    lab.apply(&service(", publishNotReadyAddresses: true", &published));
    for (from, to) in [(&lab.c, VIP), (&lab.y, VIP), (&lab.outside, NODE_PORT)] {
        assert_eq!(get(from, to).pod, "a", "{to}");
    }
    lab.apply(&service("", &terminating(A, false)));
    assert!(super::lab::Connection::open(&lab.c, VIP, PATIENCE).is_err());
}

/// Repeats what it is sent, on TCP until the client has sent everything, on TCP and UDP 7070.
fn echo() {
    let tcp = TcpListener::bind("0.0.0.0:7070").expect("a free port");
    std::thread::spawn(move || {
        for stream in tcp.incoming() {
            let (mut stream, mut all) = (stream.expect("a connection"), Vec::new());
            stream.read_to_end(&mut all).expect("a request");
            stream.write_all(&all).expect("an answer");
        }
    });
    let udp = UdpSocket::bind("0.0.0.0:7070").expect("a free port");
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok((length, source)) = udp.recv_from(&mut buffer) {
            udp.send_to(&buffer[..length], source).expect("a way back");
        }
    });
}

fn repeated(from: &Space, to: &str, bytes: usize) -> (usize, usize) {
    let to: SocketAddr = to.parse().expect("a socket address");
    from.run(move || {
        let sent: Vec<u8> = (0..bytes).map(|index| index as u8).collect();
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE).expect("connected");
        stream.write_all(&sent).expect("sent");
        stream.shutdown(Shutdown::Write).expect("ended");
        let mut over_tcp = Vec::new();
        stream.read_to_end(&mut over_tcp).expect("an answer");

        let socket = UdpSocket::bind("0.0.0.0:0").expect("a port");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket.send_to(&sent, to).expect("sent");
        let mut over_udp = vec![0; 65_536];
        let (length, source) = socket.recv_from(&mut over_udp).expect("an answer");
        assert_eq!(source, to, "the answer comes from where it was asked");
        assert!(over_tcp == sent && over_udp[..length] == sent, "not a byte is another");
        (over_tcp.len(), length)
    })
}

/// "should be able to handle large requests: http" and "udp": datagrams far larger than a link takes at once.
#[test]
fn large_requests_arrive_whole_by_every_way_in() {
    let mut lab = Lab::new();
    for pod in [&lab.a, &lab.x] {
        pod.run(echo);
    }
    for endpoint in [A, "{addresses: [10.244.2.2], nodeName: n2}"] {
        lab.apply(&format!(
            "kind: Service
metadata: {{namespace: d, name: s}}
spec:
  type: NodePort
  clusterIP: 10.96.0.1
  ports: [{{name: t, port: 80, protocol: TCP, nodePort: 30080}}, {{name: u, port: 80, protocol: UDP, nodePort: 30080}}]
---
kind: EndpointSlice
metadata: {{namespace: d, name: s-1, labels: {{kubernetes.io/service-name: s}}}}
addressType: IPv4
ports: [{{name: t, port: 7070, protocol: TCP}}, {{name: u, port: 7070, protocol: UDP}}]
endpoints: [{endpoint}]
"
        ));
        for (from, to) in [
            (&lab.c, VIP),
            (&lab.y, VIP),
            (&lab.n1.space, VIP),
            (&lab.outside, NODE_PORT),
        ] {
            assert_eq!(repeated(from, to, 60_000), (60_000, 60_000), "{to} {endpoint}");
        }
    }
}

/// "should only allow access from service loadbalancer source ranges".
#[test]
fn a_load_balancer_s_address_admits_its_source_ranges_alone() {
    const BALANCER: &str = "192.0.2.9:80";
    let mut lab = Lab::new();
    let ranges = |ranges: &str| {
        let service = service(&format!(", loadBalancerSourceRanges: [{ranges}]"), A);
        let service = service.replace("type: NodePort", "type: LoadBalancer");
        service.replacen("---", "status: {loadBalancer: {ingress: [{ip: 192.0.2.9}]}}\n---", 1)
    };
    lab.apply(&ranges("172.30.0.1/32"));
    assert_eq!(get(&lab.outside, BALANCER).pod, "a");
    assert!(silent(&lab.c, BALANCER), "a Pod is not in the range");
    assert_eq!(
        get(&lab.c, VIP).pod,
        "a",
        "the cluster IP asks nobody where he comes from"
    );
    lab.apply(&ranges("10.244.1.4/32, 10.9.0.0/16"));
    assert_eq!(get(&lab.c, BALANCER).pod, "a");
    assert!(silent(&lab.outside, BALANCER), "outside is not in the ranges");
    assert_eq!(get(&lab.outside, NODE_PORT).pod, "a", "nor is a node port one of them");
    lab.apply(&ranges(""));
    assert_eq!(
        (get(&lab.c, BALANCER).pod, get(&lab.outside, BALANCER).pod),
        ("a".to_owned(), "a".to_owned())
    );
}

/// "should support named targetPorts that resolve to different ports on different endpoints"; "should create Services and
/// serve on different Service CIDRs"; "should function for multiple endpoint-Services with same selector".
#[test]
fn a_port_s_name_stands_for_each_endpoint_s_own_number_and_any_range_may_hold_services() {
    let slice = |name: &str, of: &str, port: u16, endpoint: &str| {
        format!(
            "---
kind: EndpointSlice
metadata: {{namespace: d, name: {name}, labels: {{kubernetes.io/service-name: {of}}}}}
addressType: IPv4
ports: [{{name: '', port: {port}, protocol: TCP}}]
endpoints: [{endpoint}]
"
        )
    };
    let other = "---
kind: Service
metadata: {namespace: d, name: t}
spec: {clusterIP: 172.20.7.7, ports: [{port: 81, targetPort: web}]}
";
    let slices = [
        slice("s-2", "s", 9090, B),
        slice("t-1", "t", 8080, A),
        slice("t-2", "t", 9090, B),
    ]
    .concat();
    let mut lab = Lab::new();
    lab.apply(&(service("", A) + &slices + other));
    for to in [VIP, "172.20.7.7:81"] {
        assert_eq!(answering(&lab.c, to), pods(&["a", "b"]), "{to}");
        for answer in (0..20).map(|_| get(&lab.c, to)) {
            assert_eq!(answer.port, if answer.pod == "a" { 8080 } else { 9090 }, "{to}");
        }
    }
}

/// "should recreate its iptables rules if they are deleted"; "should work after the service has been recreated".
#[test]
fn rules_that_are_torn_out_come_back_and_so_does_a_service() {
    let mut lab = Lab::new();
    for _ in 0..2 {
        lab.apply(&service("", A));
        let before = lab.n1.passes();
        // At once: between two commands the proxy would have put some of it back.
        let script = r"printf '*nat\nCOMMIT\n*filter\nCOMMIT\n*mangle\nCOMMIT\n' | iptables-restore -w";
        let torn = lab
            .n1
            .space
            .run(move || Command::new("sh").args(["-ec", script]).status());
        assert!(torn.expect("sh").success());
        lab.n1.await_pass(before);
        lab.n1.settle();
        assert_eq!(
            (get(&lab.c, VIP).pod, get(&lab.outside, NODE_PORT).pod),
            ("a".to_owned(), "a".to_owned())
        );
        lab.apply("");
        assert!(silent(&lab.c, VIP));
    }
}

/// "Service endpoints latency should not be very high": as soon as the proxy says so, and that soon.
#[test]
fn services_are_reached_as_soon_as_they_are_written() {
    let mut lab = Lab::new();
    let mut times: Vec<Duration> = (0..20)
        .map(|number| {
            let began = Instant::now();
            lab.n1
                .apply(&service("", A).replace("10.96.0.1", &format!("10.96.3.{number}")));
            assert_eq!(get(&lab.c, &format!("10.96.3.{number}:80")).pod, "a");
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    assert!(times[10] < Duration::from_secs(1), "{times:?}");
}

/// "should set TCP CLOSE_WAIT timeout".
#[test]
fn a_connection_that_one_side_has_closed_is_remembered_for_an_hour() {
    let mut lab = Lab::new();
    lab.n1.space.run(|| {
        sysctl::set(&TIMEOUTS).expect("the namespace's own sysctl");
    });
    lab.apply(&service("", A).replace("port: 8080", "port: 7071"));
    let accepted = lab.a.run(|| {
        let listener = TcpListener::bind("0.0.0.0:7071").expect("a free port");
        std::thread::spawn(move || listener.accept().expect("a connection"))
    });
    let to: SocketAddr = NODE_PORT.parse().expect("a socket address");
    let mut client = lab
        .outside
        .run(move || TcpStream::connect_timeout(&to, PATIENCE))
        .expect("connected");
    let (server, _) = accepted.join().expect("no panic");
    // The client closes, the server does not yet.
    client.shutdown(Shutdown::Write).expect("ended");
    (&server).read_to_end(&mut Vec::new()).expect("the client's end");
    let flow = |port: u16| {
        let table = lab
            .n1
            .space
            .run(|| std::fs::read_to_string("/proc/thread-self/net/nf_conntrack"));
        let table = table.expect("the kernel lists its flows");
        let ours = table.lines().find(|line| line.contains(&format!("sport={port} ")));
        ours.unwrap_or_else(|| panic!("port {port} in {table}")).to_owned()
    };
    let port = client.local_addr().expect("an address").port();
    // The server's kernel may take its time to acknowledge the end, which is when the flow is half closed.
    let closed = (0..100).find_map(|_| {
        std::thread::sleep(Duration::from_millis(20));
        Some(flow(port)).filter(|line| line.contains("CLOSE_WAIT"))
    });
    let line = closed.unwrap_or_else(|| flow(port));
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[5], "CLOSE_WAIT", "{line}");
    let left: u32 = words[4].parse().expect("seconds");
    assert!((3500..=3600).contains(&left), "{line}");
    (&server).write_all(b"late").expect("sent");
    drop(server);
    let mut late = String::new();
    client.read_to_string(&mut late).expect("still translated");
    assert_eq!(late, "late");
}
