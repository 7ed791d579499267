//! Behaviours of Services that Kubernetes' own network tests name, as packets; a test names the ones it stands for.

use std::collections::BTreeSet;

use super::lab::{Answer, Connection, Datagrams, Lab, PATIENCE, SILENCE};
use crate::private_net::Space;

/// A Service `s` at 10.96.0.1:80 and node port 30080 with more of a spec, and a slice with these endpoints.
pub(super) fn service(spec: &str, endpoints: &str) -> String {
    format!(
        "kind: Service
metadata: {{namespace: d, name: s}}
spec: {{type: NodePort, clusterIP: 10.96.0.1, ports: [{{port: 80, nodePort: 30080}}]{spec}}}
---
kind: EndpointSlice
metadata: {{namespace: d, name: s-1, labels: {{kubernetes.io/service-name: s}}}}
addressType: IPv4
ports: [{{name: '', port: 8080, protocol: TCP}}]
endpoints: [{endpoints}]
"
    )
}

pub(super) const A: &str = "{addresses: [10.244.1.2], nodeName: n1}";
pub(super) const B: &str = "{addresses: [10.244.1.3], nodeName: n1}";
const X: &str = "{addresses: [10.244.2.2], nodeName: n2}";

pub(super) const VIP: &str = "10.96.0.1:80";
pub(super) const NODE_PORT: &str = "172.30.0.11:30080";

pub(super) fn get(from: &Space, to: &str) -> Answer {
    let answer = Connection::open(from, to, PATIENCE).and_then(|mut connection| connection.read());
    answer.unwrap_or_else(|error| panic!("{to}: {error}"))
}

/// Who answers 30 requests; that one of two stays unseen has a chance of 2⁻²⁹.
pub(super) fn answering(from: &Space, to: &str) -> BTreeSet<String> {
    (0..30).map(|_| get(from, to).pod).collect()
}

pub(super) fn pods(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

pub(super) fn terminating(endpoint: &str, serving: bool) -> String {
    let conditions = format!(", conditions: {{ready: false, serving: {serving}, terminating: true}}}}");
    endpoint.replace('}', &conditions)
}

pub(super) fn silent(from: &Space, to: &str) -> bool {
    Connection::open(from, to, SILENCE).is_err_and(|error| error.kind() == std::io::ErrorKind::TimedOut)
}

/// "Should be able to send traffic between Pods without SNAT"; "node-pod communication".
#[test]
fn pods_see_each_other_s_own_addresses() {
    let mut lab = Lab::new();
    lab.apply(&service("", A));
    for (from, address) in [(&lab.c, "10.244.1.4"), (&lab.y, "10.244.2.3")] {
        for to in ["10.244.1.2:8080", "10.244.2.2:8080"] {
            assert_eq!(get(from, to).source.to_string(), address, "{to}");
        }
    }
    assert_eq!(get(&lab.outside, "10.244.1.2:8080").source.to_string(), "172.30.0.1");
}

/// "should fallback to terminating endpoints when there are no ready endpoints with internalTrafficPolicy=Cluster",
/// the same with externalTrafficPolicy=Cluster, and both with Local.
#[test]
fn the_last_that_serve_are_used_while_they_terminate() {
    let mut lab = Lab::new();
    let local = ", internalTrafficPolicy: Local, externalTrafficPolicy: Local";
    for policies in ["", local] {
        let ready_first = [terminating(A, true), B.to_owned()].join(", ");
        lab.apply(&service(policies, &ready_first));
        for (from, to) in [(&lab.c, VIP), (&lab.outside, NODE_PORT)] {
            assert_eq!(answering(from, to), pods(&["b"]), "{policies} {to}");
        }
        let last = [terminating(A, true), terminating(B, false)].join(", ");
        lab.apply(&service(policies, &last));
        for (from, to) in [(&lab.c, VIP), (&lab.outside, NODE_PORT)] {
            assert_eq!(answering(from, to), pods(&["a"]), "{policies} {to}");
        }
    }
    // Policy Local looks at its own node alone, and falls back there though others elsewhere are ready.
    lab.apply(&service(local, &[terminating(A, true), X.to_owned()].join(", ")));
    assert_eq!(answering(&lab.c, VIP), pods(&["a"]));
    assert_eq!(answering(&lab.outside, NODE_PORT), pods(&["a"]));
}

/// "should respect internalTrafficPolicy=Local Pod to Pod"; "should support externalTrafficPolicy=Local for type=NodePort":
/// of endpoints on both nodes a node takes its own, but for its own Pods that come by a node port.
#[test]
fn policy_local_keeps_to_its_own_node() {
    let mut lab = Lab::new();
    let both = [A, X].join(", ");
    lab.apply(&service(
        ", internalTrafficPolicy: Local, externalTrafficPolicy: Local",
        &both,
    ));
    assert_eq!(answering(&lab.c, VIP), pods(&["a"]));
    assert_eq!(answering(&lab.y, VIP), pods(&["x"]));
    assert_eq!(answering(&lab.outside, NODE_PORT), pods(&["a"]));
    assert_eq!(get(&lab.outside, NODE_PORT).source.to_string(), "172.30.0.1");
    assert_eq!(answering(&lab.c, NODE_PORT), pods(&["a", "x"]));
}

/// "should be able to switch session affinity for service with type clusterIP" and "for NodePort service".
#[test]
fn affinity_can_be_switched_on_and_off() {
    let mut lab = Lab::new();
    let both = [A, B].join(", ");
    for (from, to) in [(0, VIP), (1, NODE_PORT)] {
        lab.apply(&service("", &both));
        let from = [&lab.c, &lab.outside][from];
        assert_eq!(answering(from, to).len(), 2, "{to} balanced");
        lab.n1.apply(&service(", sessionAffinity: ClientIP", &both));
        assert_eq!(answering(from, to).len(), 1, "{to} kept");
        lab.n1.apply(&service("", &both));
        assert_eq!(answering(from, to).len(), 2, "{to} balanced again");
    }
}

/// "should serve endpoints on same port and different protocols", "should serve multiport endpoints from pods",
/// "should be updated after adding or deleting ports", "should be able to update service type to NodePort listening
/// on same port number but different protocols".
#[test]
fn ports_come_and_go_one_by_one_also_of_one_number() {
    const SLICE: &str = "
---
kind: EndpointSlice
metadata: {namespace: d, name: s-1, labels: {kubernetes.io/service-name: s}}
addressType: IPv4
ports: [{name: t, port: 8080, protocol: TCP}, {name: u, port: 9090, protocol: UDP}, {name: w, port: 9090, protocol: TCP}]
endpoints: [{addresses: [10.244.1.2], nodeName: n1}]
";
    let with = |kind: &str, ports: &str| {
        format!(
            "kind: Service\nmetadata: {{namespace: d, name: s}}\nspec: {{type: {kind}, clusterIP: 10.96.0.1, ports: [{ports}]}}{SLICE}"
        )
    };
    let udp = |from: &Space, to: &str| Datagrams::from(from).ask(to, SILENCE).map(|answer| answer.port);
    let mut lab = Lab::new();

    lab.apply(&with("ClusterIP", "{name: t, port: 80, protocol: TCP}"));
    assert_eq!(get(&lab.c, VIP).port, 8080);
    assert_eq!(udp(&lab.c, VIP), None);
    lab.apply(&with(
        "ClusterIP",
        "{name: t, port: 80, protocol: TCP}, {name: u, port: 80, protocol: UDP}, {name: w, port: 81, protocol: TCP}",
    ));
    assert_eq!(
        (
            get(&lab.c, VIP).port,
            udp(&lab.c, VIP),
            get(&lab.c, "10.96.0.1:81").port
        ),
        (8080, Some(9090), 9090)
    );
    lab.apply(&with(
        "NodePort",
        "{name: t, port: 80, protocol: TCP, nodePort: 30080}, {name: u, port: 80, protocol: UDP, nodePort: 30080}",
    ));
    assert_eq!(
        (get(&lab.outside, NODE_PORT).port, udp(&lab.outside, NODE_PORT)),
        (8080, Some(9090))
    );
    assert!(silent(&lab.c, "10.96.0.1:81"), "deleted");
    lab.apply(&with("ClusterIP", "{name: t, port: 80, protocol: TCP}"));
    assert!(
        Connection::open(&lab.outside, NODE_PORT, PATIENCE).is_err(),
        "no NodePort any more"
    );
}

/// "should be able to up and down services", "should be able to change the type from ClusterIP to ExternalName" and
/// back, "should implement service.kubernetes.io/service-proxy-name", "should implement
/// service.kubernetes.io/headless", "should be rejected when no endpoints exist".
#[test]
fn a_service_that_is_no_longer_ours_to_serve_is_not_served() {
    let mut lab = Lab::new();
    let up = service("", A);
    let refused = |from: &Space| {
        let error = Connection::open(from, VIP, PATIENCE).err();
        error.is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    };
    for down in [
        String::new(),
        up.replace(
            "type: NodePort, clusterIP: 10.96.0.1",
            "type: ExternalName, externalName: example.com",
        ),
        up.replace(
            "d, name: s}",
            "d, name: s, labels: {service.kubernetes.io/service-proxy-name: other}}",
        ),
        up.replace(
            "d, name: s}",
            "d, name: s, labels: {service.kubernetes.io/headless: ''}}",
        ),
    ] {
        lab.apply(&up);
        assert_eq!(get(&lab.c, VIP).pod, "a");
        lab.apply(&down);
        assert!(silent(&lab.c, VIP), "{down}");
    }
    lab.apply(&service("", ""));
    assert!(refused(&lab.c) && refused(&lab.n1.space));
}

/// "Traffic Distribution should route traffic to an endpoint in the same zone", "… on the same node", "… fall back".
#[test]
fn hints_keep_traffic_near_and_fall_back() {
    let mut lab = Lab::new();
    let nodes = ["n1", "n2"].map(|name| {
        format!("---\nkind: Node\nmetadata: {{name: {name}, labels: {{topology.kubernetes.io/zone: zone-{name}}}}}\n")
    });
    let nodes = nodes.concat();
    let hint = |endpoint: &str, hints: &str| endpoint.replace('}', &format!(", hints: {{{hints}}}}}"));
    let zone = |endpoint: &str, zone: &str| hint(endpoint, &format!("forZones: [{{name: zone-{zone}}}]"));
    let both = [zone(A, "n1"), zone(X, "n2")].join(", ");
    lab.apply(&(service("", &both) + &nodes));
    assert_eq!(
        (answering(&lab.c, VIP), answering(&lab.y, VIP)),
        (pods(&["a"]), pods(&["x"]))
    );
    // Nobody for the other zone: everybody for it.
    lab.apply(&(service("", &zone(A, "n1")) + &nodes));
    assert_eq!(
        (answering(&lab.c, VIP), answering(&lab.y, VIP)),
        (pods(&["a"]), pods(&["a"]))
    );
    // A mixture means that hints are being changed: nobody follows them.
    lab.apply(&(service("", &[zone(A, "n1"), X.to_owned()].join(", ")) + &nodes));
    assert_eq!(answering(&lab.c, VIP), pods(&["a", "x"]));
    let node = |endpoint: &str, node: &str| {
        hint(
            endpoint,
            &format!("forZones: [{{name: zone-n1}}], forNodes: [{{name: {node}}}]"),
        )
    };
    lab.apply(&(service("", &[node(A, "n1"), node(X, "n2")].join(", ")) + &nodes));
    assert_eq!(
        (answering(&lab.c, VIP), answering(&lab.y, VIP)),
        (pods(&["a"]), pods(&["x"]))
    );
}
