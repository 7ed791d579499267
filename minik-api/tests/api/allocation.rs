//! ServiceCIDRs, IPAddresses, node ports: who has which number, through every change of a Service. With the
//! API behaviours that Kubernetes' sig-network tests name.

use std::net::Ipv4Addr;

use http::StatusCode;
use serde_json::{Value, json};

use crate::common::Server;

const SERVICES: &str = "/api/v1/namespaces/demo/services";
const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";
const RANGES: &str = "/apis/networking.k8s.io/v1/servicecidrs";

fn service(name: &str, spec: &Value) -> Value {
    let mut spec = spec.clone();
    if spec.get("ports").is_none() {
        spec["ports"] = json!([{"port": 80}]);
    }
    json!({"metadata": {"name": name}, "spec": spec})
}

fn range(name: &str, cidr: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"cidrs": [cidr]}})
}

impl Server {
    async fn serve(&self, name: &str, spec: Value) -> Value {
        let answer = self.post(SERVICES, &service(name, &spec)).await;
        assert_eq!(answer.code, StatusCode::CREATED, "{}", answer.message());
        answer.json()
    }

    /// The message with which a Service is refused.
    async fn refuse(&self, name: &str, spec: Value) -> String {
        let answer = self.post(SERVICES, &service(name, &spec)).await;
        assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY);
        answer.message()
    }

    /// Merges `change` into the Service `web`.
    async fn become_(&self, change: Value) -> Value {
        let headers = [("content-type", "application/merge-patch+json")];
        let path = format!("{SERVICES}/web");
        let answer = self
            .request("PATCH", &path, &headers, json!({"spec": change}).to_string())
            .await;
        assert_eq!(answer.code, StatusCode::OK, "{}", answer.message());
        answer.json()
    }

    /// The names of all IPAddresses.
    async fn held(&self) -> Vec<String> {
        let list = self.get(ADDRESSES).await.json();
        let items = list["items"].as_array().expect("is a list").iter();
        items
            .map(|item| item["metadata"]["name"].as_str().expect("has a name").to_owned())
            .collect()
    }
}

fn ip(service: &Value) -> String {
    service["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn every_cluster_ip_is_an_ip_address_of_its_service() {
    let server = Server::start().await;
    let made = server.serve("web", json!({})).await;
    let address = server.get(&format!("{ADDRESSES}/{}", ip(&made))).await.json();
    assert_eq!(
        address["metadata"]["labels"],
        json!({"ipaddress.kubernetes.io/ip-family": "IPv4", "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"})
    );
    assert_eq!(
        address["spec"],
        json!({"parentRef": {"resource": "services", "namespace": "demo", "name": "web"}})
    );
    server.delete(&format!("{SERVICES}/web")).await;
    assert_eq!(server.held().await, [""; 0]);
    // Nothing is made for what is not stored.
    server.refuse("BAD", json!({})).await;
    let dry = server
        .post(&format!("{SERVICES}?dryRun=All"), &service("dry", &json!({})))
        .await;
    assert_eq!(dry.code, StatusCode::CREATED);
    assert_eq!(server.held().await, [""; 0]);
}

#[tokio::test]
async fn every_change_of_type_allocates_and_releases() {
    let server = Server::start().await;
    let first = server.serve("web", json!({"type": "NodePort"})).await;
    let port = first["spec"]["ports"][0]["nodePort"].as_i64().expect("is allocated");
    assert_eq!(server.held().await, [ip(&first)]);
    let plain = server.become_(json!({"type": "ClusterIP"})).await;
    assert_eq!(
        (ip(&plain), plain["spec"]["ports"][0].get("nodePort")),
        (ip(&first), None)
    );
    // The port is free again.
    let taker = server
        .serve(
            "taker",
            json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": port}]}),
        )
        .await;
    assert_eq!(taker["spec"]["ports"][0]["nodePort"], port);
    let named = server
        .become_(json!({"type": "ExternalName", "externalName": "a.example"}))
        .await;
    assert_eq!(named["spec"].get("clusterIP"), None);
    assert_eq!(server.held().await, [ip(&taker)]);
    let back = server.become_(json!({"type": "NodePort", "externalName": null})).await;
    let mut held = vec![ip(&taker), ip(&back)];
    held.sort();
    assert_eq!(server.held().await, held);
    let local = server
        .become_(json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"}))
        .await;
    let check = local["spec"]["healthCheckNodePort"].as_i64().expect("is allocated");
    let refused = server
        .refuse(
            "clash",
            json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": check}]}),
        )
        .await;
    assert!(refused.ends_with("provided port is already allocated"), "{refused}");
    let cluster = server.become_(json!({"externalTrafficPolicy": "Cluster"})).await;
    assert_eq!(cluster["spec"].get("healthCheckNodePort"), None);
    server
        .serve(
            "clash",
            json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": check}]}),
        )
        .await;
    let headless = server.serve("headless", json!({"clusterIP": "None"})).await;
    assert_eq!(ip(&headless), "None");
    assert_eq!(server.held().await.len(), 3);
}

#[tokio::test]
async fn what_is_taken_or_out_of_range_is_refused_before_anything_else() {
    let server = Server::start().await;
    server
        .serve(
            "web",
            json!({"type": "NodePort", "clusterIP": "10.96.0.50", "ports": [{"port": 80, "nodePort": 30080}]}),
        )
        .await;
    let taken = "failed to allocate IP 10.96.0.50: provided IP is already allocated";
    for (name, spec, expected) in [
        ("other", json!({"clusterIP": "10.96.0.50"}), taken),
        // As in Kubernetes, also for the Service itself and for one that is invalid besides.
        ("web", json!({"clusterIP": "10.96.0.50"}), taken),
        (
            "other",
            json!({"clusterIP": "10.96.0.50", "ports": [{"port": 0}]}),
            taken,
        ),
        (
            "other",
            json!({"clusterIP": "192.168.1.1"}),
            "failed to allocate IP 192.168.1.1: the provided network does not match the current range",
        ),
        (
            "other",
            json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}),
            "spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated",
        ),
        (
            "other",
            json!({"ipFamilyPolicy": "RequireDualStack"}),
            "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
        ),
        (
            "other",
            json!({"ipFamilies": ["IPv6"]}),
            "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
        ),
    ] {
        let message = server.refuse(name, spec).await;
        assert!(message.ends_with(expected), "{message}");
    }
    let preferred = server.serve("both", json!({"ipFamilyPolicy": "PreferDualStack"})).await;
    assert_eq!(preferred["spec"]["ipFamilies"], json!(["IPv4"]));
}

#[tokio::test]
async fn services_should_prevent_node_port_collisions() {
    let server = Server::start().await;
    let made = server.serve("a", json!({"type": "NodePort"})).await;
    let port = made["spec"]["ports"][0]["nodePort"].clone();
    let spec = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]});
    let message = server.refuse("b", spec.clone()).await;
    assert!(message.contains("provided port is already allocated"), "{message}");
    server.delete(&format!("{SERVICES}/a")).await;
    server.serve("b", spec).await;
}

#[tokio::test]
async fn services_should_check_node_port_out_of_range() {
    let server = Server::start().await;
    server.serve("web", json!({"type": "NodePort"})).await;
    let expected = "provided port is not in the valid range. The range of valid ports is 30000-32767";
    let spec = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 33000}]});
    assert!(server.refuse("b", spec.clone()).await.ends_with(expected));
    let mut update = server.get(&format!("{SERVICES}/web")).await.json();
    update["spec"]["ports"][0]["nodePort"] = 33000.into();
    let answer = server.put(&format!("{SERVICES}/web"), &update).await;
    assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(answer.message().ends_with(expected), "{}", answer.message());
}

#[tokio::test]
async fn services_should_release_node_ports_on_delete() {
    let server = Server::start().await;
    let made = server.serve("a", json!({"type": "NodePort"})).await;
    let port = made["spec"]["ports"][0]["nodePort"].clone();
    server.delete(&format!("{SERVICES}/a")).await;
    let again = server
        .serve(
            "a",
            json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]}),
        )
        .await;
    assert_eq!(again["spec"]["ports"][0]["nodePort"], port);
}

/// KEP-3070 and KEP-3668: what nobody asked for comes from the upper band.
#[tokio::test]
async fn numbers_nobody_asked_for_leave_the_lower_band_alone() {
    let server = Server::start().await;
    for index in 0..64 {
        let made = server.serve(&format!("s{index}"), json!({"type": "NodePort"})).await;
        let address: Ipv4Addr = ip(&made).parse().expect("is an address");
        // /12 has 2^20 addresses: min(max(16, size / 16), 256) is 256.
        assert!(
            u32::from(address) - u32::from(Ipv4Addr::new(10, 96, 0, 0)) >= 256,
            "{address}"
        );
        // 2768 ports: min(max(16, size / 32), 128) is 86.
        assert!(made["spec"]["ports"][0]["nodePort"].as_i64() >= Some(30086));
    }
}

#[tokio::test]
async fn service_cidr_and_ip_address_api_should_support_ip_address_api_operations() {
    let server = Server::start().await;
    let parent =
        json!({"group": "gateway.networking.k8s.io", "resource": "gateways", "namespace": "foo", "name": "bar"});
    let object = json!({"metadata": {"name": "10.96.0.77"}, "spec": {"parentRef": parent}});
    let made = server.post(ADDRESSES, &object).await;
    assert_eq!(made.code, StatusCode::CREATED, "{}", made.message());
    // Whoever holds it, no Service gets it.
    let message = server.refuse("web", json!({"clusterIP": "10.96.0.77"})).await;
    assert!(message.ends_with("provided IP is already allocated"), "{message}");
    let one = format!("{ADDRESSES}/10.96.0.77");
    let mut read = server.get(&one).await.json();
    assert_eq!(read["spec"]["parentRef"], parent);
    read["metadata"]["labels"] = json!({"patched": "true"});
    assert_eq!(server.put(&one, &read).await.code, StatusCode::OK);
    let mut moved = server.get(&one).await.json();
    moved["spec"]["parentRef"]["name"] = "other".into();
    let refused = server.put(&one, &moved).await;
    assert!(
        refused.message().ends_with("field is immutable"),
        "{}",
        refused.message()
    );
    let bad = json!({"metadata": {"name": "web"}, "spec": {"parentRef": parent}});
    assert_eq!(
        server.post(ADDRESSES, &bad).await.code,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    assert_eq!(
        server.delete(&format!("{ADDRESSES}?labelSelector=patched")).await.code,
        StatusCode::OK
    );
    server.serve("web", json!({"clusterIP": "10.96.0.77"})).await;
}

#[tokio::test]
async fn service_cidr_and_ip_address_api_should_support_service_cidr_api_operations() {
    let server = Server::start().await;
    assert_eq!(
        server.post(RANGES, &range("first", "10.96.0.0/12")).await.code,
        StatusCode::CREATED
    );
    let outside = json!({"clusterIP": "192.168.77.5"});
    server.refuse("web", outside.clone()).await;
    // A second range is usable at once.
    assert_eq!(
        server.post(RANGES, &range("second", "192.168.77.0/24")).await.code,
        StatusCode::CREATED
    );
    server.serve("web", outside).await;
    let one = format!("{RANGES}/second");
    let mut read = server.get(&one).await.json();
    read["metadata"]["annotations"] = json!({"updated": "true"});
    assert_eq!(server.put(&one, &read).await.code, StatusCode::OK);
    read = server.get(&one).await.json();
    read["spec"]["cidrs"] = json!(["192.168.78.0/24"]);
    let refused = server.put(&one, &read).await;
    assert!(
        refused.message().ends_with("field is immutable"),
        "{}",
        refused.message()
    );
    let not_ready = json!({"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "Terminating",
        "message": "going", "lastTransitionTime": "2026-11-21T02:00:00Z"}]}});
    let headers = [("content-type", "application/merge-patch+json")];
    let answer = server
        .request("PATCH", &format!("{one}/status"), &headers, not_ready.to_string())
        .await;
    assert_eq!(answer.code, StatusCode::OK, "{}", answer.message());
    // What is not ready hands nothing out.
    server.refuse("late", json!({"clusterIP": "192.168.77.6"})).await;
    assert_eq!(server.delete(&one).await.code, StatusCode::OK);
    assert_eq!(server.get(&one).await.code, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_full_range_gives_way_to_the_next_and_then_refuses() {
    let server = Server::start().await;
    // Two usable addresses each: neither the network's nor the broadcast address.
    assert_eq!(
        server.post(RANGES, &range("a", "10.200.0.0/30")).await.code,
        StatusCode::CREATED
    );
    assert_eq!(
        server.post(RANGES, &range("b", "10.201.0.0/30")).await.code,
        StatusCode::CREATED
    );
    let mut got = Vec::new();
    for name in ["a", "b", "c", "d"] {
        got.push(ip(&server.serve(name, json!({})).await));
    }
    got.sort();
    assert_eq!(got, ["10.200.0.1", "10.200.0.2", "10.201.0.1", "10.201.0.2"]);
    // To Kubernetes that is nobody's fault.
    let full = server.post(SERVICES, &service("e", &json!({}))).await;
    assert_eq!(
        (full.code, full.message()),
        (
            StatusCode::INTERNAL_SERVER_ERROR,
            "Internal error occurred: failed to allocate a serviceIP: range is full".to_owned()
        )
    );
}

/// A changed Service gets its address, its node ports, its port for health checks, and is looked at only then. What is
/// refused on the way gives everything back.
#[tokio::test]
async fn an_update_allocates_before_it_is_judged_and_leaks_nothing() {
    let server = Server::start().await;
    let taken = json!({"type": "NodePort", "ports": [{"name": "a", "port": 80, "nodePort": 30080}]});
    server.serve("other", taken).await;
    let web = json!({"type": "ExternalName", "externalName": "a.example"});
    let made = server.serve("web", web).await;
    let before = server.held().await;
    let path = format!("{SERVICES}/web");
    let refused = async |change: Value| {
        let headers = [("content-type", "application/merge-patch+json")];
        let body = json!({"spec": change}).to_string();
        let answer = server.request("PATCH", &path, &headers, body).await;
        (answer.code.as_u16(), answer.message())
    };
    let clash = json!([{"name": "a", "port": 80, "nodePort": 30080}, {"name": "b", "port": 81}]);
    let in_use = "spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated";
    // The address was to be had, the port was not; and what is wrong besides is not looked at.
    for besides in [Value::Null, json!("Sticky")] {
        let change = json!({"type": "NodePort", "externalName": null, "ports": clash, "sessionAffinity": besides});
        let (code, message) = refused(change).await;
        assert_eq!((code, message.ends_with(in_use)), (422, true), "{message}");
    }
    let balanced = json!({
        "type": "LoadBalancer", "externalName": null, "externalTrafficPolicy": "Local", "healthCheckNodePort": 30080,
        "ports": [{"name": "a", "port": 80, "nodePort": 30099}],
    });
    assert_eq!(
        refused(balanced).await,
        (
            500,
            "Internal error occurred: failed to allocate requested HealthCheck NodePort 30080: provided port is already allocated".to_owned()
        )
    );
    let invalid = json!({
        "type": "NodePort", "externalName": null, "clusterIP": "10.96.0.77", "sessionAffinity": "Sticky",
        "ports": [{"name": "a", "port": 80, "nodePort": 30099}],
    });
    let (code, message) = refused(invalid).await;
    assert_eq!(
        (code, message.contains("spec.sessionAffinity")),
        (422, true),
        "{message}"
    );
    // Nothing was kept, of what was refused as of what was tried.
    assert_eq!(server.held().await, before);
    assert_eq!(server.get(&path).await.json(), made);
    let free =
        json!({"type": "NodePort", "clusterIP": "10.96.0.77", "ports": [{"name": "a", "port": 80, "nodePort": 30099}]});
    server.serve("free", free).await;
    // An address is not allocated anew because somebody writes another one.
    let moved = server
        .become_(json!({"type": "ClusterIP", "externalName": null, "ports": [{"port": 80}]}))
        .await;
    let (_, message) = refused(json!({"clusterIP": "10.96.0.77"})).await;
    assert!(message.contains("may not change once set"), "{message}");
    assert_eq!(server.get(&path).await.json()["spec"]["clusterIP"], ip(&moved));
    // Ports of equal numbers share a node port when they come with the Service, and not later.
    let twins = json!([{"name": "t", "port": 53, "protocol": "TCP"}, {"name": "u", "port": 53, "protocol": "UDP"}]);
    let node_ports = |service: &Value| {
        let ports = service["spec"]["ports"].as_array().expect("is a list").clone();
        ports
            .iter()
            .map(|port| port["nodePort"].as_i64().expect("is allocated"))
            .collect::<Vec<_>>()
    };
    let together = node_ports(&server.serve("dns", json!({"type": "NodePort", "ports": twins})).await);
    assert_eq!(together[0], together[1]);
    let apart = node_ports(&server.become_(json!({"type": "NodePort", "ports": twins})).await);
    assert_ne!(apart[0], apart[1]);
}
