//! Clients that keep their port, across every change that makes their flow stale: the behaviours under "Conntrack"
//! of Kubernetes' own network tests.

use std::time::Duration;

use super::lab::{Connection, Datagrams, Lab, PATIENCE, SILENCE};

/// A UDP and a TCP port with every way in, led to the given endpoints: `ADDRESS NODE CONDITIONS`.
fn service(target_port: u16, endpoints: &[(&str, &str, &str)]) -> String {
    let listed = endpoints.iter().map(|(address, node, conditions)| {
        format!("  {{addresses: [{address}], nodeName: {node}, conditions: {{{conditions}}}}},\n")
    });
    format!(
        "kind: Service
metadata: {{namespace: d, name: s}}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.1
  externalIPs: [192.0.2.1]
  ports: [{{name: u, port: 53, protocol: UDP, nodePort: 30053}}, {{name: t, port: 80, protocol: TCP, nodePort: 30080}}]
status: {{loadBalancer: {{ingress: [{{ip: 192.0.2.9}}]}}}}
---
kind: EndpointSlice
metadata: {{namespace: d, name: s-1, labels: {{kubernetes.io/service-name: s}}}}
addressType: IPv4
ports: [{{name: u, port: {target_port}, protocol: UDP}}, {{name: t, port: {target_port}, protocol: TCP}}]
endpoints: [
{}]",
        listed.collect::<String>()
    )
}

const READY: &str = "ready: true";
const A: (&str, &str, &str) = ("10.244.1.2", "n1", READY);
const B: (&str, &str, &str) = ("10.244.1.3", "n1", READY);
const X: (&str, &str, &str) = ("10.244.2.2", "n2", READY);

/// Every way in, from where it can be taken: client and address.
fn every_way(lab: &Lab) -> Vec<(Datagrams, &'static str)> {
    vec![
        (Datagrams::from(&lab.c), "10.96.0.1:53"),
        (Datagrams::from(&lab.n1.space), "10.96.0.1:53"),
        (Datagrams::from(&lab.y), "10.96.0.1:53"),
        (Datagrams::from(&lab.outside), "172.30.0.11:30053"),
        (Datagrams::from(&lab.n1.space), "127.0.0.1:30053"),
        (Datagrams::from(&lab.c), "172.30.0.11:30053"),
        (Datagrams::from(&lab.outside), "192.0.2.1:53"),
        (Datagrams::from(&lab.outside), "192.0.2.9:53"),
    ]
}

fn answered_by(clients: &[(Datagrams, &str)], pod: &str, port: u16) {
    for (client, to) in clients {
        let answer = client
            .ask(to, PATIENCE)
            .unwrap_or_else(|| panic!("no answer from {to}"));
        assert_eq!((answer.pod.as_str(), answer.port), (pod, port), "{to}");
    }
}

fn answered_by_nobody(clients: &[(Datagrams, &str)]) {
    clients.iter().for_each(|(client, to)| client.send(to));
    for (patience, (client, to)) in std::iter::once(SILENCE)
        .chain(std::iter::repeat(Duration::from_millis(1)))
        .zip(clients)
    {
        assert_eq!(client.receive(patience), None, "{to}");
    }
}

#[test]
fn clients_that_keep_their_port_follow_the_endpoints() {
    let mut lab = Lab::new();
    lab.apply(&service(8080, &[A]));
    let clients = every_way(&lab);
    answered_by(&clients, "a", 8080);

    lab.apply(&service(8080, &[B]));
    answered_by(&clients, "b", 8080);
    assert_eq!(
        lab.n1.metrics.conntrack_reconciler_deleted_entries_total.get(),
        clients.len() as u64 - 1,
        "one flow for each client of this node"
    );
    assert_eq!(lab.n2.metrics.conntrack_reconciler_deleted_entries_total.get(), 1);
    assert!(lab.n1.metrics.conntrack_reconciler_sync_duration_seconds.read().count >= 2);

    lab.apply(&service(8080, &[X]));
    answered_by(&clients, "x", 8080);

    // The Pod stays, its port changes.
    lab.apply(&service(9090, &[X]));
    answered_by(&clients, "x", 9090);
}

#[test]
fn a_flow_that_began_before_its_service_is_translated_once_it_is_there() {
    let mut lab = Lab::new();
    lab.apply("");
    let clients = every_way(&lab);
    answered_by_nobody(&clients);
    // Refused by now, which leaves what was tracked before as it is.
    lab.apply(&service(8080, &[]));
    answered_by_nobody(&clients);
    // Not ready, thus no endpoint yet.
    lab.apply(&service(8080, &[("10.244.1.2", "n1", "ready: false, serving: false")]));
    answered_by_nobody(&clients);
    lab.apply(&service(8080, &[A]));
    answered_by(&clients, "a", 8080);
}

#[test]
fn policy_local_follows_its_own_endpoints() {
    let mut lab = Lab::new();
    let local = |endpoints: &[_]| {
        let policies = "internalTrafficPolicy: Local, externalTrafficPolicy: Local, clusterIP: 10.96.0.1";
        service(8080, endpoints).replace(
            "  clusterIP: 10.96.0.1",
            &format!("  {}", policies.replace(", ", "\n  ")),
        )
    };
    lab.apply(&local(&[A, X]));
    let clients = [
        (Datagrams::from(&lab.c), "10.96.0.1:53"),
        (Datagrams::from(&lab.outside), "172.30.0.11:30053"),
    ];
    answered_by(&clients, "a", 8080);
    lab.apply(&local(&[B, X]));
    answered_by(&clients, "b", 8080);
}

#[test]
fn what_still_serves_keeps_its_flows_and_what_is_no_stale_flow_is_left_alone() {
    let mut lab = Lab::new();
    lab.apply(&service(8080, &[A]));
    let udp = [(Datagrams::from(&lab.c), "10.96.0.1:53")];
    answered_by(&udp, "a", 8080);
    let mut tcp = Connection::open(&lab.c, "10.96.0.1:80", PATIENCE).expect("connected");
    assert_eq!(tcp.read().expect("an answer").pod, "a");
    let direct = Datagrams::from(&lab.c);
    assert_eq!(direct.ask("10.244.1.2:8080", PATIENCE).expect("an answer").pod, "a");

    // Gracefully: new flows go elsewhere, this one is finished where it is.
    lab.apply(&service(
        8080,
        &[
            ("10.244.1.2", "n1", "ready: false, serving: true, terminating: true"),
            B,
        ],
    ));
    answered_by(&udp, "a", 8080);
    answered_by(&[(Datagrams::from(&lab.c), "10.96.0.1:53")], "b", 8080);
    let deleted = &lab.n1.metrics.conntrack_reconciler_deleted_entries_total;
    assert_eq!(deleted.get(), 0);

    // Gone, and no rule changes with it: flows that need no connection follow, connections are left to finish.
    lab.apply(&service(8080, &[B]));
    answered_by(&udp, "b", 8080);
    assert_eq!(lab.n1.metrics.conntrack_reconciler_deleted_entries_total.get(), 1);
    assert_eq!(tcp.ask().expect("the connection goes on").pod, "a");
    assert_eq!(direct.ask("10.244.1.2:8080", PATIENCE).expect("an answer").pod, "a");
}
