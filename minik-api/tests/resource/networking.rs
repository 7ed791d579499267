//! networking.k8s.io/v1 as 1.36 defaults, refuses, changes and prints it. Field paths and texts follow
//! `pkg/apis/networking/validation`.

use serde_json::{Value, json};

use crate::{cells, prepared, refusals, replaced, row};
use minik_api::resource::Registry;

fn ingress(spec: Value) -> Value {
    json!({"metadata": {"name": "i"}, "spec": spec})
}

/// An Ingress with one rule of one path.
fn path(path: Value) -> Value {
    ingress(json!({"rules": [{"http": {"paths": [path]}}]}))
}

fn backend() -> Value {
    json!({"service": {"name": "web", "port": {"number": 80}}})
}

fn policy(spec: Value) -> Value {
    json!({"metadata": {"name": "p"}, "spec": spec})
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn ingresses_are_refused_as_by_kubernetes() {
    const PATH: &str = "spec.rules[0].http.paths[0]";
    const NAME: &str = "must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
    let cases = [
        (
            ingress(json!({})),
            vec!["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified".to_owned()],
        ),
        (
            ingress(json!({"defaultBackend": {}})),
            vec![r#"spec.defaultBackend: Invalid value: "": resource or service backend is required"#.to_owned()],
        ),
        (
            ingress(json!({"defaultBackend": {"service": {"name": "web"}}})),
            vec!["spec.defaultBackend: Required value: port name or number is required".to_owned()],
        ),
        (
            ingress(json!({"defaultBackend": {"service": {"name": "", "port": {"name": "a", "number": 1}}}})),
            vec![
                "spec.defaultBackend.service.name: Required value".to_owned(),
                r#"spec.defaultBackend: Invalid value: "": cannot set both port name & port number"#.to_owned(),
            ],
        ),
        (
            ingress(
                json!({"defaultBackend": {"service": {"name": "web", "port": {"number": 70000}},
                "resource": {"kind": "Bucket", "name": "b"}}}),
            ),
            vec![r#"spec.defaultBackend: Invalid value: "": cannot set both resource and service backends"#.to_owned()],
        ),
        (
            ingress(json!({"defaultBackend": {"resource": {"kind": "", "name": "a/b"}}})),
            vec![
                "spec.defaultBackend.resource.kind: Required value".to_owned(),
                r#"spec.defaultBackend.resource.name: Invalid value: "a/b": may not contain '/'"#.to_owned(),
            ],
        ),
        (
            path(json!({"path": "/", "backend": backend()})),
            vec![format!("{PATH}.pathType: Required value: pathType must be specified")],
        ),
        (
            path(json!({"path": "a//b/..", "pathType": "Prefix", "backend": backend()})),
            vec![
                format!(r#"{PATH}.path: Invalid value: "a//b/..": must be an absolute path"#),
                format!(r#"{PATH}.path: Invalid value: "a//b/..": must not contain '//'"#),
                format!(r#"{PATH}.path: Invalid value: "a//b/..": cannot end with '/..'"#),
            ],
        ),
        (
            path(json!({"path": "/", "pathType": "Regex", "backend": backend()})),
            vec![format!(
                r#"{PATH}.pathType: Unsupported value: "Regex": supported values: "Exact", "ImplementationSpecific", "Prefix""#
            )],
        ),
        (
            ingress(json!({"rules": [{"host": "10.0.0.1", "http": {"paths": []}}, {"host": "a.*.b"}]})),
            vec![
                r#"spec.rules[0].host: Invalid value: "10.0.0.1": must be a DNS name, not an IP address"#.to_owned(),
                "spec.rules[0].http.paths: Required value".to_owned(),
                format!(r#"spec.rules[1].host: Invalid value: "a.*.b": a wildcard DNS-1123 subdomain {NAME}"#),
            ],
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(refusals("Ingress", &body), expected, "{body}");
    }
    let mut annotated = path(json!({"path": "/", "pathType": "Exact", "backend": backend()}));
    annotated["metadata"]["annotations"] = json!({"kubernetes.io/ingress.class": "a"});
    annotated["spec"]["ingressClassName"] = "b".into();
    let expected = r#"annotations.kubernetes.io/ingress.class: Invalid value: "a": must match `ingressClassName` when both are specified"#;
    assert_eq!(refusals("Ingress", &annotated), [expected]);
    // What was stored with both stays changeable.
    let plain = ingress(json!({"defaultBackend": backend()}));
    assert_eq!(replaced("Ingress", &plain, &annotated).1, [""; 0]);
}

#[test]
fn an_ingress_counts_changes_of_its_spec_and_warns_of_the_old_annotation() {
    let registry = Registry::standard();
    let kind = row(&registry, "Ingress");
    let old = ingress(json!({"defaultBackend": backend()}));
    let mut labelled = old.clone();
    labelled["metadata"]["labels"] = json!({"a": "b"});
    labelled["status"] = json!({"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}});
    let (same, errors) = replaced("Ingress", &old, &labelled);
    assert_eq!(errors, [""; 0]);
    assert_eq!(
        (&same["metadata"]["generation"], &same["status"]),
        (&json!(1), &json!({"loadBalancer": {}}))
    );
    let (changed, _) = replaced(
        "Ingress",
        &old,
        &ingress(json!({"ingressClassName": "a", "defaultBackend": backend()})),
    );
    assert_eq!(changed["metadata"]["generation"], 2);
    let mut object = prepared(kind, &old);
    object["metadata"]["annotations"] = json!({"kubernetes.io/ingress.class": "a"});
    assert_eq!(
        kind.strategy.warnings(&object).unwrap(),
        ["annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead"]
    );
}

#[test]
fn ingresses_are_printed_as_by_kubernetes() {
    let rule = |host: &str| json!({"host": host});
    let tls = ingress(json!({"ingressClassName": "nginx", "rules": [rule("a.example.com")],
        "tls": [{"hosts": ["a.example.com"], "secretName": "t"}]}));
    assert_eq!(
        cells("Ingress", &tls),
        ["demo", "nginx", "a.example.com", "", "80, 443", "24s"].map(|c| json!(if c == "demo" { "i" } else { c }))
    );
    let many = ingress(json!({"rules": [rule("a"), rule("b"), rule("c"), rule("d")]}));
    assert_eq!(
        cells("Ingress", &many),
        ["i", "<none>", "a,b,c + 1 more...", "", "80", "24s"]
    );
    let any = ingress(json!({"defaultBackend": backend()}));
    assert_eq!(cells("Ingress", &any)[2], "*");
    // Rules without a host are counted, not shown.
    for (hosts, shown) in [
        (["a", "b", "c", ""], "a,b,c + 1 more..."),
        (["", "a", "b", "c"], "a,b,c"),
        (["", "a", "", "b"], "a,b"),
    ] {
        assert_eq!(cells("Ingress", &ingress(json!({"rules": hosts.map(rule)})))[2], shown);
    }
}

#[test]
fn ingress_classes_follow_kubernetes() {
    let class = |spec: Value| json!({"metadata": {"name": "c"}, "spec": spec});
    let controller = "example.com/ingress";
    let scoped = |parameters: Value| class(json!({"controller": controller, "parameters": parameters}));
    let cases = [
        (class(json!({})), vec!["spec.controller: Required value"]),
        (
            class(json!({"controller": "nginx"})),
            vec![r#"spec.controller: Invalid value: "nginx": must be a domain-prefixed path (such as "acme.io/foo")"#],
        ),
        (
            scoped(json!({"kind": "", "name": "n", "scope": "Namespace"})),
            vec![
                "spec.parameters.kind: Required value",
                "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'",
            ],
        ),
        (
            scoped(json!({"kind": "K", "name": "n", "namespace": "demo"})),
            vec!["spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'"],
        ),
        (
            scoped(json!({"kind": "K", "name": "n", "scope": "Galaxy"})),
            vec![r#"spec.parameters.scope: Unsupported value: "Galaxy": supported values: "Cluster", "Namespace""#],
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(refusals("IngressClass", &body), expected, "{body}");
    }
    let old = class(json!({"controller": controller}));
    let new = class(json!({"controller": "example.com/other"}));
    assert_eq!(
        replaced("IngressClass", &old, &new).1,
        [r#"spec.controller: Invalid value: "example.com/other": field is immutable"#]
    );
    let body = scoped(json!({"apiGroup": "k8s.example.com", "kind": "K", "name": "n"}));
    assert_eq!(
        cells("IngressClass", &body),
        ["c", controller, "K.k8s.example.com/n", "24s"]
    );
    assert_eq!(cells("IngressClass", &old)[2], "<none>");
}

#[test]
fn network_policies_follow_kubernetes() {
    let ports = |ports: Value| policy(json!({"podSelector": {}, "ingress": [{"ports": ports}]}));
    let from = |from: Value| policy(json!({"podSelector": {}, "ingress": [{"from": from}]}));
    let cases = [
        (
            ports(json!([{"port": "http", "endPort": 90}, {"endPort": 90}, {"port": 90, "endPort": 80}])),
            vec![
                "spec.ingress[0].ports[0].endPort: Invalid value: 90: may not be specified when `port` is non-numeric",
                "spec.ingress[0].ports[1].endPort: Invalid value: 90: may not be specified when `port` is not specified",
                "spec.ingress[0].ports[2].endPort: Invalid value: 80: must be greater than or equal to `port`",
            ],
        ),
        (
            ports(json!([{"port": 0, "protocol": "ICMP"}])),
            vec![
                r#"spec.ingress[0].ports[0].protocol: Unsupported value: "ICMP": supported values: "TCP", "UDP", "SCTP""#,
                "spec.ingress[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            ],
        ),
        (
            from(json!([{}])),
            vec!["spec.ingress[0].from[0]: Required value: must specify a peer"],
        ),
        (
            from(
                json!([{"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8", "11.0.0.0/24"]}}]),
            ),
            vec![
                r#"spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: "10.0.0.0/8": must be a strict subset of `cidr`"#,
                r#"spec.ingress[0].from[0].ipBlock.except[1]: Invalid value: "11.0.0.0/24": must be a strict subset of `cidr`"#,
                "spec.ingress[0].from[0]: Forbidden: may not specify both ipBlock and another peer",
            ],
        ),
        (
            from(json!([{"ipBlock": {"cidr": ""}}])),
            vec!["spec.ingress[0].from[0].ipBlock.cidr: Required value"],
        ),
        (
            policy(json!({"podSelector": {}, "policyTypes": ["Both"]})),
            vec![r#"spec.policyTypes[0]: Unsupported value: "Both": supported values: "Ingress", "Egress""#],
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(refusals("NetworkPolicy", &body), expected, "{body}");
    }
    let registry = Registry::standard();
    let defaulted = |spec: Value| prepared(row(&registry, "NetworkPolicy"), &policy(spec))["spec"].clone();
    assert_eq!(
        defaulted(json!({})),
        json!({"podSelector": {}, "policyTypes": ["Ingress"]})
    );
    assert_eq!(
        defaulted(json!({"egress": [{"ports": [{"port": 1}]}]})),
        json!({"podSelector": {}, "egress": [{"ports": [{"port": 1, "protocol": "TCP"}]}], "policyTypes": ["Ingress", "Egress"]})
    );
    assert_eq!(
        defaulted(json!({"policyTypes": ["Egress"]}))["policyTypes"],
        json!(["Egress"])
    );
    let selecting = policy(json!({"podSelector": {"matchLabels": {"app": "web"}}}));
    assert_eq!(cells("NetworkPolicy", &selecting), ["p", "app=web", "24s"]);
    assert_eq!(cells("NetworkPolicy", &policy(json!({})))[1], "<none>");
}

#[test]
fn service_cidrs_follow_kubernetes() {
    let range = |cidrs: Value| json!({"metadata": {"name": "r"}, "spec": {"cidrs": cidrs}});
    let cases = [
        (
            range(json!([])),
            vec!["spec.cidrs: Required value: at least one CIDR required"],
        ),
        (
            range(json!(["10.0.0.0", "10.0.0.0/33"])),
            vec![
                r#"spec.cidrs[0]: Invalid value: "10.0.0.0": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"#,
                r#"spec.cidrs[1]: Invalid value: "10.0.0.0/33": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"#,
            ],
        ),
        (
            range(json!(["10.0.0.0/24", "10.1.0.0/24"])),
            vec![
                r#"spec.cidrs: Invalid value: ["10.0.0.0/24","10.1.0.0/24"]: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"#,
            ],
        ),
        (range(json!(["10.0.0.0/24", "fd00::/64"])), vec![]),
    ];
    for (body, expected) in cases {
        assert_eq!(refusals("ServiceCIDR", &body), expected, "{body}");
    }
    let old = range(json!(["10.0.0.0/24"]));
    assert_eq!(
        replaced("ServiceCIDR", &old, &range(json!(["10.1.0.0/24"]))).1,
        [r#"spec.cidrs[0]: Invalid value: "10.1.0.0/24": field is immutable"#]
    );
    assert_eq!(
        replaced("ServiceCIDR", &old, &range(json!(["10.0.0.0/24", "fd00::/64"]))).1,
        [""; 0]
    );
    assert_eq!(cells("ServiceCIDR", &old), ["r", "10.0.0.0/24", "24s"]);
}

#[test]
fn ip_addresses_follow_kubernetes() {
    let address = |name: &str, parent: Value| json!({"metadata": {"name": name}, "spec": {"parentRef": parent}});
    let parent = || json!({"resource": "services", "namespace": "bench", "name": "s3957"});
    const IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
    let cases = [
        (
            address("web", parent()),
            vec![format!(r#"metadata.name: Invalid value: "web": {IP}"#)],
        ),
        (
            address("FD00::1", parent()),
            vec![r#"metadata.name: Invalid value: "FD00::1": must be in canonical form ("fd00::1")"#.to_owned()],
        ),
        (
            json!({"metadata": {"name": "10.0.0.1"}, "spec": {}}),
            vec!["spec.parentRef: Required value".to_owned()],
        ),
        (
            address("10.0.0.1", json!({"resource": "services"})),
            vec!["spec.parentRef.name: Required value".to_owned()],
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(refusals("IPAddress", &body), expected, "{body}");
    }
    let other = json!({"resource": "services", "namespace": "bench", "name": "other"});
    assert_eq!(
        replaced("IPAddress", &address("10.0.0.1", parent()), &address("10.0.0.1", other)).1,
        [
            r#"spec.parentRef: Invalid value: {"Group":"","Resource":"services","Namespace":"bench","Name":"other"}: field is immutable"#
        ]
    );
    assert_eq!(
        cells("IPAddress", &address("10.100.0.146", parent())),
        ["10.100.0.146", "services/bench/s3957", "24s"]
    );
    let gateway = json!({"group": "gateway.networking.k8s.io", "resource": "Gateways", "name": "g"});
    assert_eq!(
        cells("IPAddress", &address("10.0.0.1", gateway))[1],
        "gateways.gateway.networking.k8s.io/g"
    );
}
