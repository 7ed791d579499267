//! Conformance: way in × policy × where the endpoints are × where the client is, with the source address that the
//! Pod sees.
//!
//! The table is kube-proxy's behaviour in iptables mode for this network (its rules, and what it was seen to do),
//! not ours: a cell that differs is our mistake. A Pod's answer names the Pod, so a source also says that the one
//! endpoint there is was reached.

use std::io;
use std::net::Ipv4Addr;

use super::lab::{Connection, Datagrams, Lab, PATIENCE, SILENCE, ping};
use crate::private_net::Space;

/// Clients: Pod `c` beside the entry node n1's endpoint, Pod `y` on n2, the endpoint itself, n1, and outside.
///
/// * `refused`: ICMP port unreachable, at once. `silent`: nothing comes back. `-`: there is no such way.
/// * `local` policies are internal for the cluster IP and external for the rest.
/// * `proxied` is a load-balancer address with `ipMode: Proxy`, which is not the proxy's business.
const EXPECTED: &str = "
policy  endpoints way       c           y           itself      node        outside
Cluster on-n1     cluster   10.244.1.4  10.244.2.3  10.244.1.1  10.244.1.1  10.244.1.1
Cluster on-n1     nodeport  10.244.1.1  10.244.1.1  10.244.1.1  10.244.1.1  10.244.1.1
Cluster on-n1     loopback  -           -           -           10.244.1.1  -
Cluster on-n1     external  10.244.1.1  172.30.0.12 10.244.1.1  10.244.1.1  10.244.1.1
Cluster on-n1     balancer  10.244.1.1  172.30.0.12 10.244.1.1  10.244.1.1  10.244.1.1
Cluster on-n1     proxied   silent      silent      silent      silent      silent
Cluster on-n2     cluster   10.244.1.4  10.244.2.3  10.244.2.1  172.30.0.11 172.30.0.11
Cluster on-n2     nodeport  172.30.0.11 172.30.0.11 172.30.0.11 172.30.0.11 172.30.0.11
Cluster on-n2     loopback  -           -           -           172.30.0.11 -
Cluster on-n2     external  172.30.0.11 10.244.2.1  10.244.2.1  172.30.0.11 172.30.0.11
Cluster on-n2     balancer  172.30.0.11 10.244.2.1  10.244.2.1  172.30.0.11 172.30.0.11
Cluster none      cluster   refused     refused     -           refused     refused
Cluster none      nodeport  refused     refused     -           refused     refused
Cluster none      loopback  -           -           -           refused     -
Cluster none      external  refused     refused     -           silent      refused
Cluster none      balancer  refused     refused     -           silent      refused
Local   on-n1     cluster   10.244.1.4  silent      10.244.1.1  10.244.1.1  10.244.1.1
Local   on-n1     nodeport  10.244.1.4  10.244.2.3  10.244.1.1  10.244.1.1  172.30.0.1
Local   on-n1     loopback  -           -           -           10.244.1.1  -
Local   on-n1     external  10.244.1.4  10.244.2.3  10.244.1.1  10.244.1.1  172.30.0.1
Local   on-n1     balancer  10.244.1.4  10.244.2.3  10.244.1.1  10.244.1.1  172.30.0.1
Local   on-n2     cluster   silent      10.244.2.3  10.244.2.1  silent      silent
Local   on-n2     nodeport  10.244.1.4  silent      172.30.0.11 172.30.0.11 silent
Local   on-n2     loopback  -           -           -           172.30.0.11 -
Local   on-n2     external  10.244.1.4  10.244.2.3  10.244.2.1  172.30.0.11 silent
Local   on-n2     balancer  10.244.1.4  10.244.2.3  10.244.2.1  172.30.0.11 silent
Local   none      cluster   refused     refused     -           refused     refused
Local   none      nodeport  refused     refused     -           refused     refused
Local   none      loopback  -           -           -           refused     -
Local   none      external  refused     refused     -           silent      refused
Local   none      balancer  refused     refused     -           silent      refused
";
// Two cells that surprise. `silent` at the node for an address outside without endpoints: kube-proxy rejects those
// where packets arrive or pass, not where the node itself sends. `silent` for Pod y at n1's node port under policy
// Local with the endpoint on y's own node: its source is kept, so the answer takes the short way and never meets n1.

const CLIENTS: [&str; 5] = ["c", "y", "itself", "node", "outside"];

/// One Service for each policy and place, told apart by the last octet of its addresses.
const SERVICES: [(&str, &str, u8); 6] = [
    ("Cluster", "on-n1", 1),
    ("Cluster", "on-n2", 2),
    ("Cluster", "none", 3),
    ("Local", "on-n1", 4),
    ("Local", "on-n2", 5),
    ("Local", "none", 6),
];

fn manifests() -> String {
    let service = |(policy, place, number): (&str, &str, u8)| {
        let endpoints = match place {
            "on-n1" => "{addresses: [10.244.1.2], nodeName: n1}",
            "on-n2" => "{addresses: [10.244.2.2], nodeName: n2}",
            _ => "",
        };
        format!(
            "---
kind: Service
metadata: {{namespace: d, name: s{number}}}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.{number}
  externalIPs: [192.0.2.{number}]
  internalTrafficPolicy: {policy}
  externalTrafficPolicy: {policy}
  ports: [{{name: t, port: 80, protocol: TCP, nodePort: 3000{number}}}, {{name: u, port: 80, protocol: UDP, nodePort: 3000{number}}}]
status: {{loadBalancer: {{ingress: [{{ip: 192.0.2.10{number}}}, {{ip: 192.0.2.20{number}, ipMode: Proxy}}]}}}}
---
kind: EndpointSlice
metadata: {{namespace: d, name: s{number}-1, labels: {{kubernetes.io/service-name: s{number}}}}}
addressType: IPv4
ports: [{{name: t, port: 8080, protocol: TCP}}, {{name: u, port: 8080, protocol: UDP}}]
endpoints: [{endpoints}]
"
        )
    };
    SERVICES.map(service).concat()
}

fn address(way: &str, number: u8) -> String {
    match way {
        "cluster" => format!("10.96.0.{number}:80"),
        "nodeport" => format!("172.30.0.11:3000{number}"),
        "loopback" => format!("127.0.0.1:3000{number}"),
        "external" => format!("192.0.2.{number}:80"),
        "balancer" => format!("192.0.2.10{number}:80"),
        "proxied" => format!("192.0.2.20{number}:80"),
        other => panic!("{other} is no way in"),
    }
}

/// What happens over TCP, and over UDP as far as one can tell: a socket that keeps to no peer hears of no refusal.
fn probe(from: &Space, to: &str, pod: Option<&str>, expected: &str) -> String {
    let patience = if expected == "silent" { SILENCE } else { PATIENCE };
    let tcp = Connection::open(from, to, patience).and_then(|mut connection| connection.read());
    let udp = tcp.is_ok().then(|| Datagrams::from(from).ask(to, PATIENCE)).flatten();
    match tcp {
        Ok(answer) if Some(answer.pod.as_str()) != pod => format!("{} answered", answer.pod),
        Ok(answer) if udp.as_ref() != Some(&answer) => format!("{} and over UDP {udp:?}", answer.source),
        Ok(answer) => answer.source.to_string(),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => "refused".to_owned(),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => "silent".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// The probes of one client, one after the other: `(row, what differs)`.
fn differences(lab: &Lab, column: usize) -> Vec<String> {
    let rows = EXPECTED.lines().filter(|line| !line.is_empty()).skip(1);
    let mut wrong = Vec::new();
    for row in rows {
        let [policy, place, way, cells @ ..] = &row.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("{row:?} is no row");
        };
        let expected = cells[column];
        if expected == "-" {
            continue;
        }
        let (pod, endpoint) = match *place {
            "on-n1" => (Some("a"), &lab.a),
            "on-n2" => (Some("x"), &lab.x),
            _ => (None, &lab.c),
        };
        let from = [&lab.c, &lab.y, endpoint, &lab.n1.space, &lab.outside][column];
        let (.., number) = SERVICES
            .into_iter()
            .find(|(of, at, _)| of == policy && at == place)
            .expect("a Service for each policy and place");
        let seen = probe(from, &address(way, number), pod, expected);
        if seen != expected {
            let client = CLIENTS[column];
            wrong.push(format!("{policy} {place} {way} from {client}: {seen}, not {expected}"));
        }
    }
    wrong
}

#[test]
fn every_way_in_leads_where_kube_proxy_leads_it_with_the_source_it_leaves() {
    let mut lab = Lab::new();
    lab.apply(&manifests());
    let lab = &lab;
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let clients = [0, 1, 2, 3, 4].map(|column| scope.spawn(move || differences(lab, column)));
        clients
            .into_iter()
            .flat_map(|client| client.join().expect("no panic"))
            .collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_no_service_has_is_nobody_s() {
    let mut lab = Lab::new();
    lab.apply(&manifests());
    // The target port, at the Service's address.
    assert_eq!(probe(&lab.c, "10.96.0.1:8080", None, "silent"), "silent");
    // An address of the range that no Service has: the dead end that stands for a default route.
    assert_eq!(probe(&lab.c, "10.96.0.99:80", None, "silent"), "silent");
    assert_eq!(probe(&lab.n1.space, "10.96.0.99:80", None, "silent"), "silent");
    let vip = Ipv4Addr::new(10, 96, 0, 1);
    assert!(
        !ping(&lab.c, vip) && !ping(&lab.n1.space, vip),
        "no rule matches a ping"
    );
    assert!(ping(&lab.c, Ipv4Addr::new(10, 244, 1, 2)), "Pods answer them");
    // A node port that no Service has: the node itself refuses, as any host does.
    assert_eq!(probe(&lab.outside, "172.30.0.11:31999", None, "refused"), "refused");
}
