//! What a Service is given and refused, against Kubernetes 1.36's behaviour and texts.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::resource::field::Reason;

fn allocators() -> Allocators {
    Allocators::new("10.96.0.0/12".parse().unwrap(), 30000..=32767)
}

fn service(spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": spec})
}

fn create(allocators: &Allocators, spec: Value) -> Result<Value, Refusal> {
    let mut service = service(spec);
    allocators.for_create(&mut service)?.commit();
    Ok(service)
}

fn message(refusal: &Refusal) -> String {
    let errors = match refusal {
        Refusal::Invalid(errors) => errors,
        Refusal::Exhausted(text) => return text.clone(),
    };
    let error = &errors[0];
    let Reason::Invalid(value) = &error.reason else {
        panic!("{error:?}")
    };
    format!("{}: Invalid value: {value}: {}", error.field, error.detail)
}

fn node_port_of(service: &Value, index: usize) -> u64 {
    service["spec"]["ports"][index]["nodePort"]
        .as_u64()
        .expect("a node port")
}

#[test]
fn refusals_speak_as_kubernetes() {
    let allocators = allocators();
    create(&allocators, json!({"type": "ClusterIP", "clusterIPs": ["10.96.0.1"]})).unwrap();
    create(
        &allocators,
        json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}),
    )
    .unwrap();
    for (spec, expected) in [
        (
            json!({"type": "ClusterIP", "clusterIPs": ["10.96.0.1"]}),
            r#"spec.clusterIPs: Invalid value: ["10.96.0.1"]: failed to allocate IP 10.96.0.1: provided IP is already allocated"#,
        ),
        (
            json!({"type": "ClusterIP", "clusterIPs": ["192.168.1.1"]}),
            r#"spec.clusterIPs: Invalid value: ["192.168.1.1"]: failed to allocate IP 192.168.1.1: the provided network does not match the current range"#,
        ),
        (
            json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}),
            "spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated",
        ),
        (
            json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]}),
            "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767",
        ),
    ] {
        assert_eq!(message(&create(&allocators, spec).unwrap_err()), expected);
    }
}

#[test]
fn a_refused_service_keeps_nothing() {
    let allocators = allocators();
    create(
        &allocators,
        json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": 30001}]}),
    )
    .unwrap();
    let both = json!({"type": "NodePort", "clusterIPs": ["10.96.7.7"], "ports": [{"port": 1, "nodePort": 30002}, {"port": 2, "nodePort": 30001}]});
    create(&allocators, both).unwrap_err();
    let spec = json!({"type": "NodePort", "clusterIPs": ["10.96.7.7"], "ports": [{"port": 1, "nodePort": 30002}]});
    create(&allocators, spec).expect("both numbers are free again");
}

#[test]
fn numbers_nobody_asked_for_come_from_the_upper_bands() {
    let allocators = allocators();
    for _ in 0..64 {
        let made = create(&allocators, json!({"type": "NodePort", "ports": [{"port": 80}]})).unwrap();
        assert!(
            node_port_of(&made, 0) >= 30000 + 86,
            "2768 ports: the lower 86 are the static band"
        );
        let address: Ipv4Addr = made["spec"]["clusterIP"].as_str().unwrap().parse().unwrap();
        assert!(u32::from(address) - u32::from(Ipv4Addr::new(10, 96, 0, 0)) >= 256);
    }
}

#[test]
fn two_protocols_of_one_port_share_a_node_port() {
    let spec = json!({"type": "NodePort", "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}, {"port": 54, "protocol": "TCP"}]});
    let made = create(&allocators(), spec).unwrap();
    assert_eq!(node_port_of(&made, 0), node_port_of(&made, 1));
    assert_ne!(node_port_of(&made, 0), node_port_of(&made, 2));
}

#[test]
fn a_change_of_type_takes_and_gives_up() {
    let allocators = allocators();
    let old = create(&allocators, json!({"type": "NodePort", "clusterIPs": ["10.96.5.5"], "clusterIP": "10.96.5.5", "ports": [{"port": 80, "nodePort": 30500}]})).unwrap();
    let mut new = service(json!({"type": "ExternalName", "externalName": "a.example"}));
    allocators.for_update(&mut new, &old).unwrap().commit();
    create(
        &allocators,
        json!({"type": "NodePort", "clusterIPs": ["10.96.5.5"], "ports": [{"port": 80, "nodePort": 30500}]}),
    )
    .expect("the ExternalName Service gave both up");
}

#[test]
fn an_unchanged_service_keeps_its_numbers() {
    let allocators = allocators();
    let old = create(&allocators, json!({"type": "NodePort", "ports": [{"port": 80}]})).unwrap();
    let mut new = old.clone();
    allocators.for_update(&mut new, &old).unwrap().commit();
    assert_eq!(new, old);
    let claims: BTreeSet<_> = service::claims(&Service::deserialize(&new).unwrap());
    assert_eq!(claims.len(), 2);
    allocators.release(&new).unwrap();
    create(&allocators, old["spec"].clone()).expect("released numbers are free");
}

#[test]
fn a_small_range_fills_up() {
    let allocators = Allocators::new("10.0.0.0/29".parse().unwrap(), 30000..=30001);
    for _ in 0..6 {
        create(&allocators, json!({"type": "ClusterIP"})).expect("six of eight addresses are usable");
    }
    let error = create(&allocators, json!({"type": "ClusterIP"})).unwrap_err();
    assert_eq!(message(&error), "failed to allocate a serviceIP: range is full");
}
