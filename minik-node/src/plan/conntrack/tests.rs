use super::*;
use crate::plan::service_table::{NodeFacts, NodePortAddresses};
use crate::view::testing;

/// A UDP Service with every way in. Endpoints: `.2` ready, `.3` terminating but serving, `.4` gone; the other
/// node's `.5` ready.
const MANIFESTS: &str = "
kind: Service
metadata: {namespace: d, name: dns}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.10
  externalIPs: [192.0.2.1]
  externalTrafficPolicy: Local
  ports: [{name: dns, port: 53, protocol: UDP, nodePort: 30053}, {name: web, port: 80, protocol: TCP, nodePort: 30080}]
status: {loadBalancer: {ingress: [{ip: 192.0.2.9}]}}
---
kind: EndpointSlice
metadata: {namespace: d, name: dns-1, labels: {kubernetes.io/service-name: dns}}
addressType: IPv4
ports: [{name: dns, port: 5353, protocol: UDP}, {name: web, port: 8080, protocol: TCP}]
endpoints:
- {addresses: [10.244.0.2], nodeName: n1, conditions: {ready: true}}
- {addresses: [10.244.0.3], nodeName: n1, conditions: {ready: false, serving: true, terminating: true}}
- {addresses: [10.244.0.4], nodeName: n1, conditions: {ready: false, serving: false, terminating: true}}
- {addresses: [10.244.1.5], nodeName: n2, conditions: {ready: true}}
---
kind: Service
metadata: {namespace: d, name: empty}
spec: {clusterIP: 10.96.0.11, ports: [{port: 53, protocol: UDP}]}
";

fn destinations(manifests: &str) -> Destinations {
    let view = testing::view(Some("n1"), manifests);
    let node = NodeFacts {
        name: "n1".to_owned(),
        address: "172.30.0.10".parse().expect("an address"),
        cluster_cidr: "10.244.0.0/16".parse().expect("a range"),
        zone: None,
        node_port_addresses: NodePortAddresses::All,
        conntrack_tcp_liberal: false,
    };
    Destinations::all(&view, &ServiceTable::full(&view, node))
}

fn stale(protocol: Protocol, to: &str, answers_from: &str) -> bool {
    let flow = Flow {
        protocol,
        source: "10.244.0.9:40000".parse().expect("a socket address"),
        destination: to.parse().expect("a socket address"),
        answers_from: answers_from.parse().expect("a socket address"),
        id: 1,
    };
    destinations(MANIFESTS).is_stale(&flow, &BTreeSet::from([Ipv4Addr::new(172, 30, 0, 10)]))
}

#[test]
fn a_flow_is_stale_when_nobody_serves_where_it_leads() {
    for to in [
        "10.96.0.10:53",
        "192.0.2.1:53",
        "192.0.2.9:53",
        "172.30.0.10:30053",
        "127.0.0.1:30053",
    ] {
        for (answers_from, expected) in [
            ("10.244.0.2:5353", false),
            // Finishing what it has is what grace is for.
            ("10.244.0.3:5353", false),
            ("10.244.0.4:5353", true),
            // Policy Local chooses for new flows only.
            ("10.244.1.5:5353", false),
            // The same Pod, the Service's former target port.
            ("10.244.0.2:53", true),
            ("10.244.9.9:5353", true),
            // Never translated: it began before the rule was there.
            (to, true),
        ] {
            assert_eq!(
                stale(Protocol::Udp, to, answers_from),
                expected,
                "{to} → {answers_from}"
            );
        }
    }
}

#[test]
fn what_is_no_service_traffic_or_none_of_ours_stays() {
    for (protocol, to) in [
        (Protocol::Tcp, "10.96.0.10:80"),
        (Protocol::Tcp, "172.30.0.10:30080"),
        // The right number, another protocol.
        (Protocol::Sctp, "10.96.0.10:53"),
        // The right address, another port.
        (Protocol::Udp, "10.96.0.10:54"),
        // A node port's number at an address that is no node's.
        (Protocol::Udp, "10.244.1.7:30053"),
        (Protocol::Udp, "10.244.0.2:5353"),
        // A Service without endpoints rejects; there is nothing to lead to.
        (Protocol::Udp, "10.96.0.11:53"),
    ] {
        assert!(!stale(protocol, to, "10.244.9.9:5353"), "{protocol} {to}");
    }
}

#[test]
fn nothing_is_listed_for_clusters_without_such_services() {
    let protocols = |manifests: &str| destinations(manifests).protocols().collect::<Vec<_>>();
    assert_eq!(protocols(MANIFESTS), [Protocol::Udp]);
    assert_eq!(protocols(&MANIFESTS.replace("UDP", "TCP")), []);
    assert_eq!(protocols(&MANIFESTS.replace("UDP", "SCTP")), [Protocol::Sctp]);
}

#[test]
fn an_address_that_two_services_claim_leads_to_the_endpoints_of_both() {
    let second = MANIFESTS
        .replace("name: dns", "name: two")
        .replace("service-name: dns", "service-name: two")
        .replace("10.96.0.10", "10.96.0.20")
        .replace("10.244.0.", "10.244.7.");
    let both = destinations(&format!("{MANIFESTS}---\n{second}"));
    let flow = |answers_from: &str| Flow {
        protocol: Protocol::Udp,
        source: "10.244.0.9:40000".parse().expect("a socket address"),
        destination: "192.0.2.1:53".parse().expect("a socket address"),
        answers_from: answers_from.parse().expect("a socket address"),
        id: 1,
    };
    for answers_from in ["10.244.0.2:5353", "10.244.7.2:5353"] {
        assert!(!both.is_stale(&flow(answers_from), &BTreeSet::new()), "{answers_from}");
    }
}
