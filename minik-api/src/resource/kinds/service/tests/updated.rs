//! What an update keeps, drops and may not change.

use serde_json::json;

use super::*;

fn none() -> [&'static str; 0] {
    []
}

#[test]
fn an_update_keeps_the_numbers_it_leaves_out() {
    let old = stored(
        json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30100,
        "ports": [{"name": "a", "port": 80, "nodePort": 30080}, {"name": "b", "port": 81, "nodePort": 30081}]}),
    );
    let (new, errors) = put(
        &old,
        json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local",
            "ports": [{"name": "b", "port": 91}, {"name": "c", "port": 92}, {"name": "a", "port": 80, "nodePort": 30081}]}),
    );
    let spec = spec_of(&new);
    assert_eq!(errors, none());
    assert_eq!(
        (&spec["clusterIP"], &spec["clusterIPs"]),
        (&json!("10.96.0.7"), &json!(["10.96.0.7"]))
    );
    assert_eq!(spec["healthCheckNodePort"], json!(30100));
    // `b` cannot have 30081 back: `a` asks for it.
    let node_ports: Vec<&Value> = (0..3).map(|index| &spec["ports"][index]["nodePort"]).collect();
    assert_eq!(node_ports, [&Value::Null, &Value::Null, &json!(30081)]);

    let (new, _) = put(&old, json!({"type": "NodePort", "ports": [{"name": "b", "port": 91}]}));
    assert_eq!(spec_of(&new)["ports"][0]["nodePort"], json!(30081));
}

#[test]
fn a_new_type_drops_what_only_the_old_one_had() {
    let ports = json!([{"port": 80, "nodePort": 30080}]);
    let node_port = stored(json!({"type": "NodePort", "ports": ports}));
    let (new, errors) = patch(&node_port, json!({"type": "ClusterIP"}));
    assert_eq!(errors, none());
    assert_eq!(spec_of(&new), spec_of(&stored(json!({"ports": [{"port": 80}]}))));

    let mut balanced = stored(
        json!({"type": "LoadBalancer", "loadBalancerClass": "a.example/b", "ports": ports,
        "externalTrafficPolicy": "Local", "healthCheckNodePort": 30100}),
    );
    balanced.status =
        serde_json::from_value(json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ipMode": "VIP"}]}}))
            .expect("status");
    let (new, errors) = patch(&balanced, json!({"type": "ClusterIP"}));
    assert_eq!(errors, none());
    assert_eq!(spec_of(&new), spec_of(&stored(json!({"ports": [{"port": 80}]}))));
    assert_eq!(
        serde_json::to_value(&new).expect("JSON")["status"],
        json!({"loadBalancer": {}})
    );

    let (new, errors) = patch(&node_port, json!({"type": "ExternalName", "externalName": "a.example"}));
    assert_eq!(errors, none());
    assert_eq!(
        spec_of(&new),
        json!({"type": "ExternalName", "externalName": "a.example", "sessionAffinity": "None",
            "internalTrafficPolicy": "Cluster", "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}]}),
    );
}

#[test]
fn what_changes_together_with_the_type_is_refused_not_dropped() {
    let old = stored(json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}));
    let (_, errors) = patch(
        &old,
        json!({"type": "ClusterIP", "ports": [{"port": 80, "nodePort": 30081}]}),
    );
    assert_eq!(
        errors,
        ["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"]
    );
    let changes = json!({"type": "ExternalName", "externalName": "a.example", "clusterIP": "10.96.0.8"});
    let (_, errors) = patch(&old, changes);
    assert_eq!(
        errors,
        ["spec.clusterIPs: Forbidden: may not be set for ExternalName services"]
    );
}

#[test]
fn an_external_name_becomes_a_cluster_ip() {
    let old = stored(json!({"type": "ExternalName", "externalName": "a.example", "ports": [{"port": 80}]}));
    let (new, errors) = patch(
        &old,
        json!({"type": "ClusterIP", "externalName": null, "clusterIP": "10.96.0.8"}),
    );
    assert_eq!(errors, none());
    let spec = spec_of(&new);
    assert_eq!(
        (&spec["clusterIPs"], &spec["ipFamilies"]),
        (&json!(["10.96.0.8"]), &json!(["IPv4"]))
    );
}

#[test]
fn cluster_ips_stay() {
    let old = stored(json!({"clusterIP": "10.96.0.7", "ports": [{"port": 80}]}));
    let change = r#"spec.clusterIPs[0]: Invalid value: ["10.96.7.7"]: may not change once set"#;
    let ports = json!([{"port": 80}]);
    assert_eq!(
        put(
            &old,
            json!({"clusterIP": "10.96.7.7", "clusterIPs": ["10.96.7.7"], "ports": ports})
        )
        .1,
        [change]
    );
    // A client that knows only the singular means both.
    assert_eq!(patch(&old, json!({"clusterIP": "10.96.7.7"})).1, [change]);
    assert_eq!(
        put(&old, json!({"clusterIP": "10.96.7.7", "ports": ports})).1,
        ["spec.clusterIPs: Required value"]
    );
    assert_eq!(
        put(
            &old,
            json!({"clusterIP": "None", "clusterIPs": ["None"], "ports": ports})
        )
        .1,
        [r#"spec.clusterIPs[0]: Invalid value: ["None"]: may not change once set"#],
    );
}

#[test]
fn some_fields_of_load_balancers_stay() {
    let spec = |class: &str, port: i32| {
        json!({"type": "LoadBalancer", "loadBalancerClass": class, "externalTrafficPolicy": "Local",
            "healthCheckNodePort": port, "ports": [{"port": 80}]})
    };
    let old = stored(spec("a.example/b", 30100));
    assert_eq!(
        put(&old, spec("a.example/c", 30101)).1,
        [
            r#"spec.loadBalancerClass: Invalid value: "a.example/c": may not change once set"#,
            "spec.healthCheckNodePort: Forbidden: field is immutable",
        ],
    );
}

#[test]
fn a_status_update_brings_only_what_a_load_balancer_reports() {
    let balanced = stored(json!({"type": "LoadBalancer", "ports": [{"port": 80}]}));
    let report = |old: &Service, ingress: Value| {
        let mut new = written(json!({"type": "LoadBalancer", "ports": [{"port": 1}]}));
        new.status = serde_json::from_value(json!({"loadBalancer": {"ingress": [ingress]}})).expect("status");
        Services.default(&mut new);
        Services.prepare_for_status_update(&mut new, old);
        assert_eq!(new.spec, old.spec);
        (
            texts(&Services.validate_update(&new, old)),
            serde_json::to_value(new).expect("JSON")["status"].clone(),
        )
    };
    let (errors, status) = report(&balanced, json!({"ip": "192.0.2.1"}));
    assert_eq!(errors, none());
    assert_eq!(
        status,
        json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ipMode": "VIP"}]}})
    );
    for (ingress, expected) in [
        (
            json!({"ip": "192.0.2.1", "ipMode": "Far"}),
            r#"status.loadBalancer.ingress[0].ipMode: Unsupported value: "Far": supported values: "Proxy", "VIP""#,
        ),
        (
            json!({"ipMode": "VIP", "hostname": "lb.example"}),
            "status.loadBalancer.ingress[0].ipMode: Forbidden: may not be specified when `ip` is not set",
        ),
        (
            json!({"hostname": "192.0.2.1"}),
            r#"status.loadBalancer.ingress[0].hostname: Invalid value: "192.0.2.1": must be a DNS name, not an IP address"#,
        ),
    ] {
        assert_eq!(report(&balanced, ingress).0, [expected]);
    }
    let plain = stored(json!({"ports": [{"port": 80}]}));
    assert_eq!(
        report(&plain, json!({"ip": "192.0.2.1"})).0,
        ["status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'"],
    );
}
