//! What Services look like once they are taken, and what is said about them.

use proptest::prelude::{Strategy as Generate, any, prop, prop_assert_eq, proptest};
use serde_json::{Value, json};

use super::*;

#[test]
fn defaults_by_type() {
    let port = json!([{"protocol": "TCP", "port": 80, "targetPort": 80}]);
    for (spec, expected) in [
        (
            json!({"ports": [{"port": 80}]}),
            json!({
                "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster", "ports": port,
                "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
            }),
        ),
        (
            json!({"type": "NodePort", "ports": [{"name": "", "port": 80, "targetPort": "http", "nodePort": 0}]}),
            json!({
                "type": "NodePort", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
                "externalTrafficPolicy": "Cluster", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
                "ports": [{"protocol": "TCP", "port": 80, "targetPort": "http"}],
            }),
        ),
        (
            json!({"type": "LoadBalancer", "sessionAffinity": "ClientIP", "ports": [{"port": 80, "targetPort": ""}]}),
            json!({
                "type": "LoadBalancer", "sessionAffinity": "ClientIP", "internalTrafficPolicy": "Cluster",
                "externalTrafficPolicy": "Cluster", "allocateLoadBalancerNodePorts": true, "ports": port,
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}},
                "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
            }),
        ),
        (
            json!({"externalIPs": ["192.0.2.1"], "clusterIP": "10.96.0.9", "ports": [{"port": 80}]}),
            json!({
                "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster", "ports": port,
                "externalTrafficPolicy": "Cluster", "externalIPs": ["192.0.2.1"], "clusterIP": "10.96.0.9",
                "clusterIPs": ["10.96.0.9"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
            }),
        ),
        (
            json!({"clusterIP": "None", "selector": {"a": "b"}}),
            json!({
                "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
                "clusterIP": "None", "clusterIPs": ["None"], "selector": {"a": "b"},
                "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
            }),
        ),
        (
            json!({"clusterIP": "None"}),
            json!({
                "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
                "clusterIP": "None", "clusterIPs": ["None"],
                "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack",
            }),
        ),
        (
            json!({"type": "ExternalName", "externalName": "a.example", "selector": {"a": "b"}}),
            json!({
                "type": "ExternalName", "sessionAffinity": "None", "externalName": "a.example",
                "selector": {"a": "b"},
            }),
        ),
    ] {
        let service = created(spec);
        assert_eq!(spec_of(&service), expected);
        assert_eq!(texts(&Services.validate(&service)), [""; 0]);
        assert_eq!(
            serde_json::to_value(&service).expect("JSON")["status"],
            json!({"loadBalancer": {}})
        );
    }
}

#[test]
fn a_creating_client_sets_no_status() {
    let mut service = written(json!({"type": "LoadBalancer", "ports": [{"port": 80}]}));
    service.status =
        serde_json::from_value(json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}})).expect("status");
    assert_eq!(
        prepared(service).status,
        created(json!({"ports": [{"port": 80}]})).status
    );
}

#[test]
fn warnings_tell_what_is_ignored_or_will_go() {
    for (spec, expected) in [
        (json!({"ports": [{"port": 80}]}), vec![]),
        (
            json!({"externalIPs": ["192.0.2.1"]}),
            vec!["spec.externalIPs is deprecated and may no longer be implemented in some clusters"],
        ),
        (
            json!({"clusterIP": "None", "externalIPs": ["192.0.2.1"], "sessionAffinity": "ClientIP", "loadBalancerIP": "192.0.2.1"}),
            vec![
                "spec.loadBalancerIP is ignored for headless services",
                "spec.externalIPs is ignored for headless services",
                "spec.SessionAffinity is ignored for headless services",
            ],
        ),
        (
            json!({"type": "ExternalName", "externalName": "a.example", "externalIPs": ["192.0.2.1"]}),
            vec![r#"spec.externalIPs is ignored when spec.type is "ExternalName""#],
        ),
        (
            json!({"externalName": "a.example", "trafficDistribution": "PreferClose"}),
            vec![
                r#"spec.externalName is ignored when spec.type is not "ExternalName""#,
                r#"spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone""#,
            ],
        ),
        (
            json!({"type": "LoadBalancer", "loadBalancerIP": "192.0.2.010", "loadBalancerSourceRanges": ["2001:DB8::/64"]}),
            vec![
                r#"spec.loadBalancerIP: non-standard IP address "192.0.2.010" will be considered invalid in a future Kubernetes release: use "192.0.2.10""#,
                r#"spec.loadBalancerSourceRanges[0]: IPv6 CIDR value "2001:DB8::/64" should be in RFC 5952 canonical format ("2001:db8::/64")"#,
            ],
        ),
    ] {
        assert_eq!(Services.warnings(&created(spec)), expected);
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn rows_read_as_in_kubectl() {
    let pending = json!({"loadBalancer": {}});
    let balanced =
        json!({"loadBalancer": {"ingress": [{"ip": "192.168.126.40", "ipMode": "VIP"}, {"hostname": "lb.example"}]}});
    for (spec, status, expected) in [
        (
            json!({"type": "ClusterIP", "clusterIPs": ["10.107.22.83"], "ports": [{"port": 80, "protocol": "TCP"}], "selector": {"app": "web"}}),
            &pending,
            json!(["s", "ClusterIP", "10.107.22.83", "<none>", "80/TCP", "24s", "app=web"]),
        ),
        (
            json!({"type": "NodePort", "clusterIPs": ["10.107.80.83"], "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30301}]}),
            &pending,
            json!([
                "s",
                "NodePort",
                "10.107.80.83",
                "<none>",
                "80:30301/TCP",
                "24s",
                "<none>"
            ]),
        ),
        (
            json!({"type": "LoadBalancer", "clusterIPs": ["10.103.199.116"], "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30436}]}),
            &pending,
            json!([
                "s",
                "LoadBalancer",
                "10.103.199.116",
                "<pending>",
                "80:30436/TCP",
                "24s",
                "<none>"
            ]),
        ),
        (
            json!({"type": "LoadBalancer", "clusterIPs": ["10.103.199.116"], "externalIPs": ["192.0.2.1"], "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30436}]}),
            &balanced,
            json!([
                "s",
                "LoadBalancer",
                "10.103.199.116",
                "192.168.126.40,lb.example,192.0.2.1",
                "80:30436/TCP",
                "24s",
                "<none>"
            ]),
        ),
        (
            json!({"type": "ClusterIP", "clusterIPs": ["10.108.97.165"], "externalIPs": ["192.168.241.130"], "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}, {"port": 9153, "protocol": "TCP"}]}),
            &pending,
            json!([
                "s",
                "ClusterIP",
                "10.108.97.165",
                "192.168.241.130",
                "53/UDP,53/TCP,9153/TCP",
                "24s",
                "<none>"
            ]),
        ),
        (
            json!({"type": "ClusterIP", "clusterIPs": ["None"], "selector": {"b": "2", "a": "1"}}),
            &pending,
            json!(["s", "ClusterIP", "None", "<none>", "<none>", "24s", "a=1,b=2"]),
        ),
        (
            json!({"type": "ExternalName", "externalName": "www.qq.com", "selector": {"app": "my-ns"}}),
            &pending,
            json!([
                "s",
                "ExternalName",
                "<none>",
                "www.qq.com",
                "<none>",
                "24s",
                "app=my-ns"
            ]),
        ),
    ] {
        let object = json!({
            "metadata": {"name": "s", "creationTimestamp": "2026-11-21T02:55:53Z"}, "spec": spec, "status": status,
        });
        let service: Service = serde_json::from_value(object).expect("a Service");
        let now = "2026-11-21T02:56:17Z".parse().expect("a time");
        assert_eq!(Value::from(Services.row(&service, now)), expected);
    }
    let heads: Vec<(&str, i32)> = Services
        .columns()
        .iter()
        .map(|column| (column.name, column.priority))
        .collect();
    let expected = [
        ("Name", 0),
        ("Type", 0),
        ("Cluster-IP", 0),
        ("External-IP", 0),
        ("Port(s)", 0),
        ("Age", 0),
        ("Selector", 1),
    ];
    assert_eq!(heads, expected);
}

#[test]
fn type_and_cluster_ip_select() {
    let service = stored(json!({"clusterIP": "10.96.0.9", "ports": [{"port": 80}]}));
    let found = Services
        .selectable_fields()
        .iter()
        .map(|label| Services.selectable_field(&service, label));
    assert_eq!(
        found.collect::<Vec<_>>(),
        [Some("10.96.0.9".to_owned()), Some("ClusterIP".to_owned())]
    );
    assert_eq!(Services.selectable_field(&service, "spec.externalName"), None);
}

/// Specs that a client may write, of all types, with more or less left out.
fn valid_spec() -> impl Generate<Value = Value> {
    let ports = prop::collection::btree_map(1u16.., (any::<bool>(), prop::option::of(0u16..)), 1..4);
    let kind = prop::sample::select(vec![
        "",
        "ClusterIP",
        "NodePort",
        "LoadBalancer",
        "ExternalName",
        "None",
    ]);
    (kind, ports, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(kind, ports, sticky, selects, outside)| {
        let ports: Vec<Value> = ports
            .into_iter()
            .map(|(port, (udp, target))| {
                let mut entry =
                    json!({"name": format!("p{port}"), "port": port, "targetPort": target.unwrap_or_default()});
                if udp {
                    entry["protocol"] = json!("UDP");
                }
                entry
            })
            .collect();
        let mut spec = json!({"ports": ports, "type": kind});
        match kind {
            "None" => {
                spec["type"] = json!("ClusterIP");
                spec["clusterIP"] = json!("None");
            }
            "ExternalName" => spec["externalName"] = json!("a.example"),
            _ => {}
        }
        if sticky {
            spec["sessionAffinity"] = json!("ClientIP");
        }
        if selects {
            spec["selector"] = json!({"app": "web"});
        }
        if outside {
            spec["externalIPs"] = json!(["192.0.2.1"]);
        }
        spec
    })
}

proptest! {
    #[test]
    fn defaults_are_idempotent_and_acceptable(spec in valid_spec()) {
        let once = created(spec);
        let mut twice = once.clone();
        Services.default(&mut twice);
        prop_assert_eq!(&twice, &once);
        prop_assert_eq!(texts(&Services.validate(&once)), [""; 0]);
    }

    #[test]
    fn a_put_of_what_was_first_written_changes_nothing(spec in valid_spec()) {
        let old = created(spec.clone());
        let (new, errors) = put(&old, spec);
        prop_assert_eq!(errors, [""; 0]);
        prop_assert_eq!(new.spec, old.spec);
    }
}
