//! The table, case by case: which Services are in it, which endpoints each kind of traffic may use, and what
//! happens at each way in. That updating equals computing anew is a law in `proxy::iptables`' tests, where
//! random clusters live.

use super::{
    HintsIgnored, LeftOut, Masquerade, NodeFacts, NodePortAddresses, PoolReason, PortEntry, ServiceTable, Treatment,
    Way, Why,
};
use crate::model::TrafficPolicy;
use crate::view::testing;

fn table(manifests: &str) -> ServiceTable {
    let node = NodeFacts {
        name: "n1".to_owned(),
        address: "172.30.0.11".parse().expect("an address"),
        cluster_cidr: "10.244.0.0/16".parse().expect("a range"),
        zone: Some("east".to_owned()),
        node_port_addresses: NodePortAddresses::All,
        conntrack_tcp_liberal: false,
    };
    ServiceTable::full(&testing::view(Some("n1"), manifests), node)
}

fn service(name: &str, metadata: &str, spec: &str) -> String {
    format!(
        "---\nkind: Service\nmetadata: {{namespace: d, name: {name}, {metadata}}}\nspec: {{ports: [{{port: 80}}], {spec}}}\n"
    )
}

fn slice(service: &str, number: u8, labels: &str, endpoints: &[&str]) -> String {
    let endpoints: String = endpoints.iter().map(|endpoint| format!("- {{{endpoint}}}\n")).collect();
    format!(
        "---\nkind: EndpointSlice\nmetadata: {{namespace: d, name: {service}-{number}, labels: {{kubernetes.io/service-name: {service}, {labels}}}}}\n\
         addressType: IPv4\nports: [{{name: '', port: 8080, protocol: TCP}}]\nendpoints:\n{endpoints}"
    )
}

/// The one port of Service `s` with this specification and these endpoints.
fn port(spec: &str, endpoints: &[&str]) -> PortEntry {
    let manifests = [service("s", "", spec), slice("s", 1, "", endpoints)].concat();
    let table = table(&manifests);
    table.ports().next().expect("Service s is in the table").clone()
}

fn targets(pool: &super::Pool) -> Vec<String> {
    pool.backends
        .iter()
        .map(|backend| backend.target.ip().to_string())
        .collect()
}

const READY: &str = "addresses: [10.0.0.1], nodeName: n1";
const REMOTE: &str = "addresses: [10.0.0.2], nodeName: n2";
const LEAVING: &str =
    "addresses: [10.0.0.3], nodeName: n1, conditions: {ready: false, serving: true, terminating: true}";
const LEAVING_REMOTE: &str =
    "addresses: [10.0.0.4], nodeName: n2, conditions: {ready: false, serving: true, terminating: true}";
const GONE: &str = "addresses: [10.0.0.5], nodeName: n1, conditions: {ready: false, serving: false, terminating: true}";

#[test]
fn services_without_a_proxied_address_are_not_in_the_table() {
    let manifests = [
        service("headless", "", "clusterIP: None"),
        service("alias", "", "type: ExternalName, externalName: example.com"),
        service(
            "theirs",
            "labels: {service.kubernetes.io/service-proxy-name: mesh}",
            "clusterIP: 10.96.0.1",
        ),
        service(
            "labelled",
            "labels: {service.kubernetes.io/headless: ''}",
            "clusterIP: 10.96.0.2",
        ),
        service("ours", "", "clusterIP: 10.96.0.3"),
    ];
    let names: Vec<String> = table(&manifests.concat())
        .services
        .keys()
        .map(ToString::to_string)
        .collect();
    assert_eq!(names, ["d/ours"]);
}

#[test]
fn slices_for_other_proxies_do_not_count() {
    let labels = "service.kubernetes.io/headless: ''";
    let manifests = [
        service("s", "", "clusterIP: 10.96.0.1"),
        slice("s", 1, labels, &[READY]),
    ]
    .concat();
    assert!(!table(&manifests).ports().next().expect("Service s").pools.any);
}

#[test]
fn ready_endpoints_come_first_then_terminating_ones_that_serve() {
    let pool = |endpoints: &[&str]| port("clusterIP: 10.96.0.1", endpoints).pools.cluster;
    let ready = pool(&[LEAVING, REMOTE, READY, GONE]);
    assert_eq!(
        (targets(&ready), ready.reason),
        (vec!["10.0.0.1".to_owned(), "10.0.0.2".to_owned()], PoolReason::Ready)
    );
    let leaving = pool(&[GONE, LEAVING]);
    assert_eq!(
        (targets(&leaving), leaving.reason),
        (vec!["10.0.0.3".to_owned()], PoolReason::Terminating)
    );
    assert_eq!(pool(&[GONE]).reason, PoolReason::Empty);
}

#[test]
fn the_local_fallback_is_decided_on_the_node() {
    let local = port(
        "clusterIP: 10.96.0.1, internalTrafficPolicy: Local",
        &[REMOTE, LEAVING, LEAVING_REMOTE],
    );
    assert_eq!(targets(&local.pools.local), ["10.0.0.3"]);
    assert_eq!(local.pools.cluster.reason, PoolReason::Unused);
    assert_eq!(
        local.ways_in[0].treatment,
        Treatment::Balance {
            policy: TrafficPolicy::Local,
            masquerade: Masquerade::OffCluster
        }
    );
}

#[test]
fn no_endpoint_anywhere_is_rejected_none_here_is_dropped() {
    let spec = "clusterIP: 10.96.0.1, internalTrafficPolicy: Local";
    assert_eq!(port(spec, &[GONE]).ways_in[0].treatment, Treatment::Reject);
    assert_eq!(port(spec, &[REMOTE]).ways_in[0].treatment, Treatment::Drop);
}

#[test]
fn external_policy_local_has_both_pools() {
    let spec =
        "clusterIP: 10.96.0.1, type: NodePort, externalTrafficPolicy: Local, ports: [{port: 80, nodePort: 30000}]";
    let manifests = [
        service("s", "", spec).replace("ports: [{port: 80}], ", ""),
        slice("s", 1, "", &[READY, REMOTE]),
    ];
    let table = table(&manifests.concat());
    let port = table.ports().next().expect("Service s");
    assert_eq!(
        (port.pools.cluster.backends.len(), port.pools.local.backends.len()),
        (2, 1)
    );
    let ways: Vec<_> = port
        .ways_in
        .iter()
        .map(|way_in| (way_in.way.clone(), way_in.treatment))
        .collect();
    let inside = Treatment::Balance {
        policy: TrafficPolicy::Cluster,
        masquerade: Masquerade::OffCluster,
    };
    assert_eq!(
        ways,
        [
            (Way::ClusterIp("10.96.0.1".parse().expect("an address")), inside),
            (Way::NodePort(30_000), Treatment::KeepSource { local_endpoints: true }),
        ]
    );
}

#[test]
fn hints_count_when_every_ready_endpoint_has_one() {
    let hinted = |address: u8, hints: &str| format!("addresses: [10.0.0.{address}], hints: {{{hints}}}");
    let pool = |endpoints: &[String]| {
        let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
        port("clusterIP: 10.96.0.1", &endpoints).pools.cluster
    };
    let (east, west) = ("forZones: [{name: east}]", "forZones: [{name: west}]");
    let zone = pool(&[hinted(1, east), hinted(2, west)]);
    assert_eq!(
        (targets(&zone), zone.reason),
        (vec!["10.0.0.1".to_owned()], PoolReason::SameZone)
    );
    assert_eq!(
        pool(&[hinted(1, east), hinted(2, "")]).backends.len(),
        2,
        "one has no hint"
    );
    assert_eq!(
        pool(&[hinted(1, west), hinted(2, west)]).backends.len(),
        2,
        "none is for this zone"
    );
    let both = |zone: &str, node: &str| format!("{zone}, forNodes: [{{name: {node}}}]");
    let node = pool(&[hinted(1, &both(east, "n2")), hinted(2, &both(east, "n1"))]);
    assert_eq!(
        (targets(&node), node.reason),
        (vec!["10.0.0.2".to_owned()], PoolReason::SameNode)
    );
}

#[test]
fn an_endpoint_in_two_slices_counts_once_and_alive() {
    let dying = "addresses: [10.0.0.1], nodeName: n1, conditions: {ready: false, serving: true, terminating: true}";
    let manifests = [
        service("s", "", "clusterIP: 10.96.0.1"),
        slice("s", 1, "", &[dying]),
        slice("s", 2, "", &[READY]),
    ];
    let table = table(&manifests.concat());
    let pool = &table.ports().next().expect("Service s").pools.cluster;
    assert_eq!(
        (targets(pool), pool.reason),
        (vec!["10.0.0.1".to_owned()], PoolReason::Ready)
    );
}

#[test]
fn affinity_lasts_three_hours_unless_told_otherwise() {
    let seconds = |spec: &str| port(&format!("clusterIP: 10.96.0.1{spec}"), &[READY]).affinity_seconds;
    assert_eq!(seconds(""), None);
    assert_eq!(seconds(", sessionAffinity: ClientIP"), Some(10_800));
    let config = ", sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 7}}";
    assert_eq!(seconds(config), Some(7));
}

#[test]
fn a_load_balancer_that_proxies_itself_is_no_way_in() {
    let spec = "clusterIP: 10.96.0.1, type: LoadBalancer";
    let manifests = service("s", "", spec)
        + "status: {loadBalancer: {ingress: [{ip: 192.0.2.1, ipMode: Proxy}, {ip: 192.0.2.2, ipMode: VIP}, {hostname: x}]}}\n";
    let table = table(&manifests);
    let ways: Vec<_> = table
        .ports()
        .flat_map(|port| &port.ways_in)
        .skip(1)
        .map(|way_in| way_in.way.clone())
        .collect();
    assert_eq!(
        ways,
        [Way::LoadBalancerIp {
            address: "192.0.2.2".parse().expect("an address"),
            sources: None
        }]
    );
}

#[test]
fn every_endpoint_that_is_left_out_has_a_reason() {
    let why = |pool: &super::Pool| -> Vec<(String, Why)> {
        let named = |left: &LeftOut| (left.backend.target.ip().to_string(), left.why);
        pool.left_out.iter().map(named).collect()
    };
    let unready = "addresses: [10.0.0.6], nodeName: n1, conditions: {ready: false, serving: false}";
    let spec = "clusterIP: 10.96.0.1, internalTrafficPolicy: Local, externalIPs: [192.0.2.1]";
    let port = port(spec, &[READY, REMOTE, LEAVING, GONE, unready]);
    let here = [
        ("10.0.0.3".to_owned(), Why::Terminating),
        ("10.0.0.5".to_owned(), Why::Terminated),
        ("10.0.0.6".to_owned(), Why::NotReady),
    ];
    assert_eq!(why(&port.pools.cluster), here);
    assert_eq!(
        why(&port.pools.local),
        [vec![("10.0.0.2".to_owned(), Why::OtherNode)], here.to_vec()].concat()
    );
}

#[test]
fn hints_that_are_not_followed_have_a_reason() {
    let hinted = |address: u8, hints: &str| format!("addresses: [10.0.0.{address}], hints: {{{hints}}}");
    let pool = |first: &str, second: &str| {
        let endpoints = [hinted(1, first), hinted(2, second)];
        port("clusterIP: 10.96.0.1", &endpoints.each_ref().map(String::as_str))
            .pools
            .cluster
    };
    let (east, west) = ("forZones: [{name: east}]", "forZones: [{name: west}]");
    assert_eq!(pool("", "").hints_ignored, None);
    assert_eq!(pool(east, "").hints_ignored, Some(HintsIgnored::SomeWithout));
    assert_eq!(pool(west, west).hints_ignored, Some(HintsIgnored::NoneForHere));
    let followed = pool(east, west);
    assert_eq!(followed.hints_ignored, None);
    assert_eq!(followed.left_out[0].why, Why::HintedToOtherZones);
    let node = pool(
        "forZones: [{name: east}], forNodes: [{name: n1}]",
        "forZones: [{name: east}], forNodes: [{name: n2}]",
    );
    assert_eq!(
        (node.reason, node.left_out[0].why),
        (PoolReason::SameNode, Why::HintedToOtherNodes)
    );
    // Hints for nodes that do not include this one leave those for its zone.
    let zone = pool(
        "forZones: [{name: east}], forNodes: [{name: n2}]",
        "forZones: [{name: west}], forNodes: [{name: n2}]",
    );
    assert_eq!(
        (zone.reason, targets(&zone)),
        (PoolReason::SameZone, vec!["10.0.0.1".to_owned()])
    );
}

#[test]
fn one_number_may_serve_two_protocols() {
    let manifests = "---
kind: Service
metadata: {namespace: d, name: dns}
spec: {clusterIP: 10.96.0.10, ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53}]}
---
kind: EndpointSlice
metadata: {namespace: d, name: dns-1, labels: {kubernetes.io/service-name: dns}}
addressType: IPv4
ports: [{name: dns, port: 5353, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]
endpoints: [{addresses: [10.244.0.1]}]
";
    let table = table(manifests);
    let ports: Vec<_> = table
        .ports()
        .map(|port| {
            (
                port.name.protocol.as_str(),
                port.pools.cluster.backends[0].target.port(),
            )
        })
        .collect();
    assert_eq!(ports, [("udp", 5353), ("tcp", 53)]);
}

#[test]
fn source_ranges_admit_the_node_through_the_load_balancers_address() {
    let sources = |range: &str| {
        let spec = format!("clusterIP: 10.96.0.1, type: LoadBalancer, loadBalancerSourceRanges: [{range}]");
        let manifests = service("s", "", &spec) + "status: {loadBalancer: {ingress: [{ip: 192.0.2.1}]}}\n";
        let table = table(&manifests);
        let ways = &table.ports().next().expect("Service s").ways_in;
        match &ways[1].way {
            Way::LoadBalancerIp { sources, .. } => sources.as_ref().map(Vec::len),
            way => panic!("{way:?}"),
        }
    };
    assert_eq!(sources(""), None, "everybody");
    assert_eq!(sources("198.51.100.0/24"), Some(1));
    assert_eq!(sources("172.30.0.0/24"), Some(2), "the range holds this node's address");
}

#[test]
fn node_port_addresses_are_all_the_primary_or_those_in_ranges() {
    let (primary, other) = ([172, 30, 0, 11].into(), [192, 0, 2, 1].into());
    let select = |values: &[&str]| {
        let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        NodePortAddresses::select(&values, primary, &[[127, 0, 0, 1].into(), other])
    };
    assert_eq!(select(&[]), Ok(NodePortAddresses::All));
    assert_eq!(select(&["0.0.0.0/0"]), Ok(NodePortAddresses::All));
    assert_eq!(select(&["primary"]), Ok(NodePortAddresses::Only(vec![primary])));
    assert_eq!(
        select(&["192.0.2.0/24", "::/0"]),
        Ok(NodePortAddresses::Only(vec![other]))
    );
    assert!(select(&["secondary"]).is_err());
}
