//! Random clusters, changes and packets, all drawn by proptest so that a failure shrinks. Services of every
//! kind and field that the table knows; addresses and ports of two Services never clash, as the API server
//! sees to.

use std::net::Ipv4Addr;

use k8s_openapi::serde_json::{Value, from_value, json};
use kube::runtime::watcher::Event;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::{Origin, Packet, Protocol};
use super::{GATEWAY, NEIGHBOUR, NODE};
use crate::view::{Change, Collector};

/// Services that may exist.
pub(super) const SERVICES: u8 = 6;

/// Endpoints: Pods here, Pods on the neighbour, both nodes themselves.
const TARGETS: [(&str, &str); 6] = [
    ("10.244.1.2", "n1"),
    ("10.244.1.3", "n1"),
    ("10.244.2.2", "n2"),
    ("10.244.2.3", "n2"),
    ("172.30.0.11", "n1"),
    ("172.30.0.12", "n2"),
];

const STATES: [(bool, bool, bool); 4] = [
    (true, true, false),
    (false, true, true),
    (false, false, true),
    (false, false, false),
];

/// A Service and its endpoints.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    kind: &'static str,
    flags: [bool; 8],
    sources: &'static [&'static str],
    affinity: Option<u32>,
    /// Index of target, index of state, hinted zone, hinted node.
    endpoints: Vec<(usize, usize, Option<&'static str>, Option<&'static str>)>,
}

/// A Service appears, changes or (`None`) goes.
pub(super) type Edit = (u8, Option<Spec>);

/// A packet to be asked about.
#[derive(Clone)]
pub(super) struct Probe {
    pub origin: Origin,
    pub packet: Packet,
    /// Chooses among what may happen.
    pub luck: u64,
    /// Seconds since the packet before.
    pub later: u64,
}

/// In one line, since a failure prints many.
impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            origin,
            packet,
            luck,
            later,
        } = self;
        let origin = match origin {
            Origin::Local => "here",
            Origin::Link(link) => link.as_str(),
        };
        write!(f, "{packet} from {origin}, luck {luck}, {later} s later")
    }
}

/// Some edits, then some packets.
pub(super) type Step = (Vec<Edit>, Vec<Probe>);

pub(super) fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let edit = (0..SERVICES, proptest::option::weighted(0.9, spec()));
    vec((vec(edit, 0..4), vec(probe(), 3..7)), 1..=most)
}

fn spec() -> impl Strategy<Value = Spec> {
    let sources: Vec<&'static [&'static str]> = vec![
        &[],
        &[],
        &["192.0.2.0/24"],
        &["0.0.0.0/0"],
        &["172.30.0.0/24", "10.244.1.2/32"],
        &["10.244.0.0/16", "198.18.0.0/15"],
    ];
    let endpoint = (
        0..TARGETS.len(),
        0..STATES.len() + 3,
        proptest::option::weighted(0.7, select(vec!["east", "west"])),
        proptest::option::weighted(0.5, select(vec!["n1", "n2"])),
    );
    (
        select(vec!["ClusterIP", "NodePort", "LoadBalancer", "LoadBalancer"]),
        any::<[bool; 8]>(),
        select(sources),
        proptest::option::weighted(0.4, select(vec![1_u32, 60, 10_800])),
        vec(endpoint, 0..6),
    )
        .prop_map(|(kind, flags, sources, affinity, endpoints)| Spec {
            kind,
            flags,
            sources,
            affinity,
            // Ready ones are drawn more often than all others together.
            endpoints: endpoints
                .into_iter()
                .map(|(target, state, zone, node)| (target, state % 4 * usize::from(state < 4), zone, node))
                .collect(),
        })
}

fn probe() -> impl Strategy<Value = Probe> {
    let pod = Ipv4Addr::new;
    let from = |link: &str, source: Ipv4Addr| (Origin::Link(link.to_owned()), source);
    let senders = vec![
        from("veth-a", pod(10, 244, 1, 2)),
        from("veth-b", pod(10, 244, 1, 3)),
        from("eth0", pod(10, 244, 2, 2)),
        from("eth0", pod(192, 0, 2, 7)),
        from("eth0", pod(172, 30, 0, 1)),
        from("eth0", NEIGHBOUR),
        (Origin::Local, Ipv4Addr::UNSPECIFIED),
        (Origin::Local, NODE),
    ];
    let protocol = select(vec![Protocol::Tcp, Protocol::Tcp, Protocol::Udp, Protocol::Sctp]);
    let target = (0..SERVICES, 0_u16..3, 0_u8..11);
    (
        select(senders),
        protocol,
        target,
        any::<u64>(),
        select(vec![0_u64, 0, 1, 30, 61, 10_801]),
    )
        .prop_map(|((origin, source), protocol, (service, port, way), luck, later)| {
            let (address, port) = destination(service, port, way);
            let packet = Packet::new(protocol, (source, 40_000), (address, port));
            Probe {
                origin,
                packet,
                luck,
                later,
            }
        })
}

/// Each way into a Service, and some that lead past.
fn destination(service: u8, port: u16, way: u8) -> (Ipv4Addr, u16) {
    let (number, node_port) = (port_number(service, port), node_port(service, port));
    match way {
        0..=2 => (Ipv4Addr::new(10, 96, 0, 10 + service), number),
        3 => (NODE, node_port),
        4 => (GATEWAY, node_port),
        5 => (Ipv4Addr::LOCALHOST, node_port),
        6 => (NODE, number),
        7 => (Ipv4Addr::new(203, 0, 113, service), number),
        8 => (Ipv4Addr::new(198, 51, 100, service), number),
        9 => (Ipv4Addr::new(198, 51, 100, 200), number),
        _ => (Ipv4Addr::new(10, 96, 0, 10 + service), 7),
    }
}

fn port_number(service: u8, port: u16) -> u16 {
    100 + u16::from(service) * 10 + port / 2
}

fn node_port(service: u8, port: u16) -> u16 {
    30_000 + u16::from(service) * 10 + port / 2
}

/// Applies an edit as watches would.
pub(super) fn apply(collector: &mut Collector, (number, spec): &Edit) {
    let name = format!("s{number}");
    let objects = match spec {
        Some(spec) => (service(*number, &name, spec), slice(&name, spec)),
        None => (
            json!({"metadata": {"namespace": "d", "name": name}}),
            slice_without(&name),
        ),
    };
    let service = from_value(objects.0).expect("a Service");
    let slice = from_value(objects.1).expect("a slice");
    let (service, slice) = match spec {
        Some(_) => (Event::Apply(service), Event::Apply(slice)),
        None => (Event::Delete(service), Event::Delete(slice)),
    };
    collector.take(Change::service(service));
    collector.take(Change::slice(slice));
}

/// A synced collector of nothing but both nodes.
pub(super) fn collector() -> Collector {
    let mut collector = Collector::new(Some("n1".to_owned()));
    for change in [
        Change::service(Event::Init),
        Change::slice(Event::Init),
        Change::node(Event::Init),
    ] {
        collector.take(change);
    }
    for (name, zone) in [("n1", "east"), ("n2", "west")] {
        let node = json!({"metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone}}});
        collector.take(Change::node(Event::InitApply(from_value(node).expect("a Node"))));
    }
    for change in [
        Change::service(Event::InitDone),
        Change::slice(Event::InitDone),
        Change::node(Event::InitDone),
    ] {
        collector.take(change);
    }
    collector
}

/// Port 1 is TCP, port 2 the same number in another protocol, port 3 a second number.
fn service(number: u8, name: &str, spec: &Spec) -> Value {
    let [
        internal,
        external,
        external_ip,
        node_ip,
        proxy_mode,
        no_node_ports,
        foreign,
        several,
    ] = spec.flags;
    let policy = |local: bool| if local { "Local" } else { "Cluster" };
    let has_node_ports = spec.kind == "NodePort" || spec.kind == "LoadBalancer" && !no_node_ports;
    let port = |index: u16, name: &str, protocol: &str| {
        let node_port = if has_node_ports {
            json!(node_port(number, index))
        } else {
            Value::Null
        };
        json!({"name": name, "protocol": protocol, "port": port_number(number, index), "nodePort": node_port})
    };
    let mut ports = vec![port(0, "a", "TCP")];
    if several {
        let protocol = if number.is_multiple_of(2) { "UDP" } else { "SCTP" };
        ports.extend([port(1, "b", protocol), port(2, "c", "TCP")]);
    }
    let mut external_ips = Vec::new();
    external_ips.extend(external_ip.then(|| format!("203.0.113.{number}")));
    external_ips.extend(node_ip.then(|| NODE.to_string()));
    let ingress = if spec.kind == "LoadBalancer" {
        let mode = if proxy_mode { "Proxy" } else { "VIP" };
        json!([{"ip": format!("198.51.100.{number}"), "ipMode": mode}, {"ip": "198.51.100.200"}])
    } else {
        json!([])
    };
    // One in sixteen belongs to another proxy.
    let foreign = foreign && several && internal && external;
    let labels = if foreign {
        json!({"service.kubernetes.io/service-proxy-name": "mesh"})
    } else {
        json!({})
    };
    let health = (spec.kind == "LoadBalancer" && external).then_some(32_000 + i32::from(number));
    json!({
        "metadata": {"namespace": "d", "name": name, "labels": labels},
        "spec": {
            "type": spec.kind, "clusterIP": format!("10.96.0.{}", 10 + number), "ports": ports,
            "externalIPs": external_ips, "loadBalancerSourceRanges": spec.sources,
            "internalTrafficPolicy": policy(internal), "externalTrafficPolicy": policy(external),
            "sessionAffinity": if spec.affinity.is_some() { "ClientIP" } else { "None" },
            "sessionAffinityConfig": spec.affinity.map(|seconds| json!({"clientIP": {"timeoutSeconds": seconds}})),
            "healthCheckNodePort": health,
        },
        "status": {"loadBalancer": {"ingress": ingress}},
    })
}

fn slice(name: &str, spec: &Spec) -> Value {
    let endpoint = |(target, state, zone, node): &(usize, usize, Option<&str>, Option<&str>)| {
        let (address, on) = TARGETS[*target];
        let (ready, serving, terminating) = STATES[*state];
        let hints = json!({
            "forZones": zone.iter().map(|zone| json!({"name": zone})).collect::<Vec<_>>(),
            "forNodes": node.iter().map(|node| json!({"name": node})).collect::<Vec<_>>(),
        });
        json!({
            "addresses": [address], "nodeName": on, "hints": hints,
            "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        })
    };
    let port = |name: &str, protocol: &str, port: u16| json!({"name": name, "protocol": protocol, "port": port});
    json!({
        "metadata": {"namespace": "d", "name": format!("{name}-1"), "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [port("a", "TCP", 8080), port("b", "UDP", 8053), port("b", "SCTP", 8054), port("c", "TCP", 8443)],
        "endpoints": spec.endpoints.iter().map(endpoint).collect::<Vec<_>>(),
    })
}

fn slice_without(name: &str) -> Value {
    json!({
        "metadata": {"namespace": "d", "name": format!("{name}-1"), "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4", "endpoints": [],
    })
}
