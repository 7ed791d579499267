//! What is wrong with new Services, in Kubernetes' words.

use serde_json::{Value, json};

use super::*;

fn assert_refused(spec: Value, expected: &[&str]) {
    let shown = spec.to_string();
    assert_eq!(texts(&Services.validate(&created(spec))), expected, "{shown}");
}

const PORT: &str = "must be between 1 and 65535, inclusive";

#[test]
fn ports_have_numbers_names_and_protocols() {
    for (ports, expected) in [
        (
            json!([{"port": 0}]),
            vec![
                format!("spec.ports[0].port: Invalid value: 0: {PORT}"),
                format!("spec.ports[0].targetPort: Invalid value: 0: {PORT}"),
            ],
        ),
        (
            json!([{"port": 70000}]),
            vec![
                format!("spec.ports[0].port: Invalid value: 70000: {PORT}"),
                format!("spec.ports[0].targetPort: Invalid value: 70000: {PORT}"),
            ],
        ),
        (
            json!([{"port": 80, "protocol": "FOO"}]),
            vec![
                r#"spec.ports[0].protocol: Unsupported value: "FOO": supported values: "SCTP", "TCP", "UDP""#
                    .to_owned(),
            ],
        ),
        (
            json!([{"port": 80}, {"port": 81}]),
            vec![
                "spec.ports[0].name: Required value".to_owned(),
                "spec.ports[1].name: Required value".to_owned(),
            ],
        ),
        (
            json!([{"port": 80, "name": "a"}, {"port": 81, "name": "a"}]),
            vec![r#"spec.ports[1].name: Duplicate value: "a""#.to_owned()],
        ),
        (
            json!([{"port": 80, "targetPort": "8080"}]),
            vec![
                r#"spec.ports[0].targetPort: Invalid value: "8080": must contain at least one letter (a-z)"#.to_owned(),
            ],
        ),
        (
            json!([{"port": 80, "nodePort": 30080}]),
            vec!["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'".to_owned()],
        ),
        (json!([]), vec!["spec.ports: Required value".to_owned()]),
    ] {
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        assert_refused(json!({"ports": ports}), &expected);
    }
}

#[test]
fn a_port_number_occurs_once_a_protocol() {
    assert_refused(
        json!({"ports": [{"port": 80}, {"port": 80}]}),
        &[
            "spec.ports[0].name: Required value",
            "spec.ports[1].name: Required value",
            r#"spec.ports[1]: Duplicate value: {"Name":"","Protocol":"TCP","AppProtocol":null,"Port":80,"TargetPort":0,"NodePort":0}"#,
        ],
    );
    assert_refused(
        json!({"type": "NodePort", "ports": [
            {"name": "a", "port": 80, "nodePort": 30080},
            {"name": "b", "port": 81, "nodePort": 30080},
            {"name": "c", "port": 81, "nodePort": 30080, "protocol": "UDP"},
        ]}),
        &["spec.ports[1].nodePort: Duplicate value: 30080"],
    );
}

#[test]
fn closed_sets_list_what_is_in_them() {
    for (field, value, supported) in [
        (
            "type",
            "Foo",
            r#""ClusterIP", "ExternalName", "LoadBalancer", "NodePort""#,
        ),
        ("sessionAffinity", "Cookie", r#""ClientIP", "None""#),
        ("internalTrafficPolicy", "Near", r#""Cluster", "Local""#),
        (
            "ipFamilyPolicy",
            "Both",
            r#""PreferDualStack", "RequireDualStack", "SingleStack""#,
        ),
        (
            "trafficDistribution",
            "Far",
            r#""PreferClose", "PreferSameNode", "PreferSameZone""#,
        ),
    ] {
        let mut spec = json!({"ports": [{"port": 80}]});
        spec[field] = json!(value);
        assert_refused(
            spec,
            &[&format!(
                "spec.{field}: Unsupported value: {value:?}: supported values: {supported}"
            )],
        );
    }
    assert_refused(
        json!({"type": "NodePort", "externalTrafficPolicy": "Far", "ports": [{"port": 80}]}),
        &[r#"spec.externalTrafficPolicy: Unsupported value: "Far": supported values: "Cluster", "Local""#],
    );
}

#[test]
fn fields_fit_the_type() {
    for (spec, expected) in [
        (
            json!({"externalTrafficPolicy": "Local"}),
            r#"spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services"#,
        ),
        (
            json!({"healthCheckNodePort": 30100}),
            "spec.healthCheckNodePort: Invalid value: 30100: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
        ),
        (
            json!({"type": "NodePort", "clusterIP": "None"}),
            r#"spec.clusterIPs[0]: Invalid value: "None": may not be set to 'None' for NodePort services"#,
        ),
        (
            json!({"type": "LoadBalancer", "clusterIP": "None"}),
            r#"spec.clusterIPs[0]: Invalid value: "None": may not be set to 'None' for LoadBalancer services"#,
        ),
        (
            json!({"allocateLoadBalancerNodePorts": false}),
            "spec.allocateLoadBalancerNodePorts: Forbidden: may only be used when `type` is 'LoadBalancer'",
        ),
        (
            json!({"loadBalancerClass": "a.example/b"}),
            "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
        ),
        (
            json!({"loadBalancerSourceRanges": ["192.0.2.0/24"]}),
            "spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
        ),
        (
            json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 999_999}}}),
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 999999: must be greater than 0 and less than 86400",
        ),
        (json!({"type": "ExternalName"}), "spec.externalName: Required value"),
        (
            json!({"type": "ExternalName", "externalName": "a.example", "clusterIP": "10.96.0.9"}),
            "spec.clusterIPs: Forbidden: may not be set for ExternalName services",
        ),
        (
            json!({"type": "ExternalName", "externalName": "a.example.", "ipFamilies": ["IPv4"]}),
            "spec.ipFamilies: Forbidden: may not be set for ExternalName services",
        ),
    ] {
        let mut spec = spec;
        spec["ports"] = json!([{"port": 80}]);
        assert_refused(spec, &[expected]);
    }
}

#[test]
fn addresses_and_ranges_are_strict() {
    for (field, value, expected) in [
        (
            "externalIPs",
            json!(["127.0.0.1"]),
            r#"spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)"#,
        ),
        (
            "externalIPs",
            json!(["192.0.2.1", "nope"]),
            r#"spec.externalIPs[1]: Invalid value: "nope": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#,
        ),
        (
            "externalIPs",
            json!(["192.0.2.010"]),
            r#"spec.externalIPs[0]: Invalid value: "192.0.2.010": must not have leading 0s"#,
        ),
        (
            "externalIPs",
            json!(["::ffff:192.0.2.1"]),
            r#"spec.externalIPs[0]: Invalid value: "::ffff:192.0.2.1": must not be an IPv4-mapped IPv6 address"#,
        ),
        (
            "loadBalancerSourceRanges",
            json!([" 192.0.2.0/24 ", "192.0.2.1"]),
            r#"spec.LoadBalancerSourceRanges[1]: Invalid value: "192.0.2.1": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"#,
        ),
        (
            "loadBalancerSourceRanges",
            json!(["192.0.2.1/24"]),
            r#"spec.LoadBalancerSourceRanges[0]: Invalid value: "192.0.2.1/24": must not have bits set beyond the prefix length"#,
        ),
        (
            "loadBalancerSourceRanges",
            json!(["192.0.2.0/024"]),
            r#"spec.LoadBalancerSourceRanges[0]: Invalid value: "192.0.2.0/024": must not have leading 0s in IP or prefix length"#,
        ),
    ] {
        let mut spec = json!({"type": "LoadBalancer", "ports": [{"port": 80}]});
        spec[field] = value;
        assert_refused(spec, &[expected]);
    }
}

#[test]
fn cluster_ips_and_families_agree_and_are_of_one_stack() {
    for (spec, expected) in [
        (
            json!({"clusterIP": "nope"}),
            r#"spec.clusterIPs[0]: Invalid value: "nope": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#,
        ),
        (
            json!({"clusterIP": "10.96.0.010"}),
            r#"spec.clusterIPs[0]: Invalid value: "10.96.0.010": must not have leading 0s"#,
        ),
        (
            json!({"clusterIP": "fd00::1"}),
            r#"spec.clusterIPs[0]: Invalid value: ["fd00::1"]: IPv6 is not configured on this cluster"#,
        ),
        (
            json!({"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.8"]}),
            r#"spec.clusterIPs: Invalid value: ["10.96.0.8"]: first value must match `clusterIP`"#,
        ),
        (
            json!({"clusterIPs": ["10.96.0.8"]}),
            r#"spec.clusterIPs: Invalid value: ["10.96.0.8"]: must be empty when `clusterIP` is not specified"#,
        ),
        (
            json!({"clusterIP": "10.96.0.9", "ipFamilies": ["IPv6"]}),
            r#"spec.clusterIPs[0]: Invalid value: "10.96.0.9": expected an IPv6 value as indicated by `ipFamilies[0]`"#,
        ),
        (
            json!({"ipFamilyPolicy": "RequireDualStack"}),
            r#"spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services"#,
        ),
        (
            json!({"ipFamilies": ["IPv6"]}),
            r#"spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster"#,
        ),
        (
            json!({"ipFamilies": ["IPv5"]}),
            r#"spec.ipFamilies[0]: Unsupported value: "IPv5": supported values: "IPv4", "IPv6""#,
        ),
        (
            json!({"ipFamilies": ["IPv4", "IPv4"]}),
            r#"spec.ipFamilies[1]: Duplicate value: "IPv4""#,
        ),
    ] {
        // Alone, although the port is bad as well.
        let mut spec = spec;
        spec["ports"] = json!([{"port": 0}]);
        assert_refused(spec, &[expected]);
    }
}

#[test]
fn names_are_rfc_1123_labels() {
    let spec = || json!({"ports": [{"port": 80}]});
    let label = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
    let errors = Services.validate(&prepared(named("Bad_Name", spec())));
    assert_eq!(
        texts(&errors),
        [format!(r#"metadata.name: Invalid value: "Bad_Name": {label}"#)]
    );
    assert_eq!(texts(&Services.validate(&prepared(named("1st", spec())))), [""; 0]);
}

#[test]
fn annotations_that_stand_for_fields_are_checked_too() {
    let mut service = written(json!({"ports": [{"port": 80}]}));
    service.metadata.annotations = Some(
        [
            (
                "service.beta.kubernetes.io/load-balancer-source-ranges",
                "192.0.2.0/24, nope",
            ),
            ("service.kubernetes.io/topology-aware-hints", "auto"),
            ("service.kubernetes.io/topology-mode", "Disabled"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into(),
    );
    let service = prepared(service);
    let ranges = "metadata.annotations[service.beta.kubernetes.io/load-balancer-source-ranges]";
    let expected = [
        r#"metadata.annotations[service.kubernetes.io/topology-mode]: Invalid value: "Disabled": must match annotations[service.kubernetes.io/topology-aware-hints] when both are specified"#.to_owned(),
        format!("{ranges}: Forbidden: may only be used when `type` is 'LoadBalancer'"),
        format!(r#"{ranges}: Invalid value: "nope": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"#),
    ];
    assert_eq!(texts(&Services.validate(&service)), expected);
    let hint = "annotation service.kubernetes.io/topology-aware-hints is deprecated, please use service.kubernetes.io/topology-mode instead";
    assert_eq!(Services.warnings(&service), [hint]);
}
