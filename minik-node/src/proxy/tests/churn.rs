//! Services and endpoints that change fast while clients open connections: what is ready is always reached.
//!
//! Every endpoint that is ever ready answers all the time, so a connection may be led to the old or the new ones, but
//! never to nobody. `MINIK_CHURN` lengthens both tests (`scripts/soak churn`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::clients::{Clients, Report};
use super::lab::{Lab, Variant, ip_line};
use super::times;
use crate::model::{Endpoint, ObjectName};
use crate::view::{ClusterView, testing};

/// Services that change in a second.
const SERVICES: usize = 100;
/// Services of the test with many endpoints, and endpoints of each.
const BUSY: (usize, usize) = (20, 50);
/// Endpoints of the busy Services are addresses of this range, all of them Pod `a`'s.
const RANGE: &str = "10.244.128.0/17";

/// Service `number` at 10.96.1.`number` and at its own node port, with `endpoints`.
fn service(number: usize, endpoints: &[String]) -> String {
    let listed: String = endpoints
        .iter()
        .map(|address| format!("- {{addresses: [{address}], nodeName: n1}}\n"))
        .collect();
    format!(
        "---
kind: Service
metadata: {{namespace: d, name: s{number}}}
spec: {{type: NodePort, clusterIP: 10.96.1.{number}, ports: [{{port: 80, nodePort: {}}}]}}
---
kind: EndpointSlice
metadata: {{namespace: d, name: s{number}-1, labels: {{kubernetes.io/service-name: s{number}}}}}
addressType: IPv4
ports: [{{name: '', port: 8080, protocol: TCP}}]
endpoints:
{listed}",
        node_port(number)
    )
}

fn node_port(number: usize) -> usize {
    30_000 + number
}

/// Clients in a Pod, on the node and outside, at every Service's ways in.
fn clients(lab: &Lab, services: usize) -> Clients {
    let cluster: Vec<String> = (0..services).map(|number| format!("10.96.1.{number}:80")).collect();
    let ports = |host: &'static str| (0..services).map(move |number| format!("{host}:{}", node_port(number)));
    let loopback = ports("127.0.0.1").collect();
    let outside = ports("172.30.0.11").collect();
    Clients::start(&[
        (&lab.c, cluster.clone()),
        (&lab.y, cluster),
        (&lab.n1.space, loopback),
        (&lab.outside, outside),
    ])
}

/// Replaces what the one slice of Service `number` offers.
fn set(view: &mut ClusterView, number: usize, change: impl FnOnce(&mut Vec<Endpoint>)) {
    let service = ObjectName::new("d", format!("s{number}"));
    let slices = view.slices.get_mut(&service).expect("a Service of the test");
    let slice = slices.get_mut(&format!("s{number}-1")).expect("its slice");
    change(&mut Arc::make_mut(slice).endpoints);
}

fn judge(variant: Variant, report: &Report, passes: u64) {
    assert!(report.failed.is_empty(), "{variant:?}: {report:#?}");
    assert!(report.answered > 100, "{variant:?}: {} answered", report.answered);
    eprintln!(
        "{variant:?}: {} connections during {passes} passes, none failed",
        report.answered
    );
}

/// All Services move from Pod `a` to Pod `b`, one every ten milliseconds, and back.
fn services_change(variant: Variant) {
    let mut lab = Lab::with(variant);
    let manifests: String = (0..SERVICES)
        .map(|number| service(number, &["10.244.1.2".to_owned()]))
        .collect();
    lab.apply(&manifests);
    let mut view = [
        testing::view(Some("n1"), &manifests),
        testing::view(Some("n2"), &manifests),
    ];
    let before = lab.n1.passes();
    let clients = clients(&lab, SERVICES);
    for round in 0..times() {
        let next = ["10.244.1.3", "10.244.1.2"][round % 2].parse().expect("an address");
        let began = Instant::now();
        for number in 0..SERVICES {
            for view in &mut view {
                set(view, number, |endpoints| endpoints[0].address = next);
            }
            lab.n1.show(&view[0]);
            lab.n2.show(&view[1]);
            let due = Duration::from_secs(1) * (number as u32 + 1) / SERVICES as u32;
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
    }
    lab.n1.settle();
    lab.n2.settle();
    let report = clients.stop();
    judge(variant, &report, lab.n1.passes() - before);
    let counted = lab.n1.metrics.sync_proxy_rules_endpoint_changes_total.get();
    assert!(counted > SERVICES as u64, "{counted} changes of endpoints were seen");
}

/// Endpoints of a few Services come and go at random by the hundred; one of each Service always stays.
fn endpoints_come_and_go(variant: Variant) {
    let (services, endpoints) = BUSY;
    let mut lab = Lab::with(variant);
    lab.a.run(|| ip_line(&format!("route add local {RANGE} dev lo")));
    lab.n1
        .space
        .run(|| ip_line(&format!("route add {RANGE} via 10.244.1.2 dev pod-a onlink")));
    lab.n2
        .space
        .run(|| ip_line(&format!("route add {RANGE} via 172.30.0.11")));
    let all: Vec<Vec<String>> = (0..services)
        .map(|number| {
            (0..endpoints)
                .map(|host| format!("10.244.{}.{}", 128 + number, 1 + host))
                .collect()
        })
        .collect();
    let manifests: String = (0..services).map(|number| service(number, &all[number])).collect();
    lab.apply(&manifests);
    let whole = [
        testing::view(Some("n1"), &manifests),
        testing::view(Some("n2"), &manifests),
    ];
    let before = lab.n1.passes();
    let clients = clients(&lab, services);
    let mut luck = 1_u64;
    for _ in 0..20 * times() {
        let mut view = whole.clone();
        for number in 0..services {
            luck = luck
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let there = luck;
            for view in &mut view {
                set(view, number, |endpoints| {
                    let mut index = 0;
                    endpoints.retain(|_| {
                        index += 1;
                        there >> index & 1 == 1 || index == 1
                    });
                });
            }
        }
        lab.n1.show(&view[0]);
        lab.n2.show(&view[1]);
        std::thread::sleep(Duration::from_millis(100));
    }
    lab.n1.settle();
    lab.n2.settle();
    judge(variant, &clients.stop(), lab.n1.passes() - before);
}

#[test]
fn a_hundred_services_change_in_a_second_and_no_connection_fails() {
    services_change(Variant::Default);
}

#[test]
fn a_hundred_services_change_in_a_second_and_no_connection_fails_with_the_legacy_variant() {
    services_change(Variant::Legacy);
}

#[test]
fn a_thousand_endpoints_come_and_go_and_no_connection_fails() {
    endpoints_come_and_go(Variant::Default);
}

#[test]
fn a_thousand_endpoints_come_and_go_and_no_connection_fails_with_the_legacy_variant() {
    endpoints_come_and_go(Variant::Legacy);
}
