//! The table, case by case: which Services are in it, which endpoints each kind of traffic may use, and what
//! happens at each way in. That updating equals computing anew is a law in `proxy::iptables`' tests, where
//! random clusters live.

use super::{Masquerade, NodeFacts, PoolReason, PortEntry, ServiceTable, Treatment, Way};
use crate::model::TrafficPolicy;
use crate::view::testing;

fn table(manifests: &str) -> ServiceTable {
    let node = NodeFacts {
        name: "n1".to_owned(),
        address: "172.30.0.11".parse().expect("an address"),
        cluster_cidr: "10.244.0.0/16".parse().expect("a range"),
        zone: Some("east".to_owned()),
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
