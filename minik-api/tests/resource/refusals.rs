//! Bodies that 1.36 refuses with 422, and the causes it gives.

use minik_api::resource::Registry;
use serde_json::{Value, json};

use crate::{causes, prepared, row};

fn service(name: &str, spec: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": spec})
}

fn deployment(selector: &str, label: &str) -> Value {
    json!({"metadata": {"name": "z"}, "spec": {
        "selector": {"matchLabels": {"a": selector}},
        "template": {
            "metadata": {"labels": {"a": label}},
            "spec": {"containers": [{"name": "c", "image": "nginx"}]},
        },
    }})
}

type Case = (&'static str, Value, Vec<(&'static str, &'static str)>);

const LABEL: &str = "Invalid value: \"Bad_Name\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const ZERO: &str = "Invalid value: 0: must be between 1 and 65535, inclusive";
const HIGH: &str = "Invalid value: 70000: must be between 1 and 65535, inclusive";

#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn service_cases() -> Vec<Case> {
    let port = json!([{"port": 80}]);
    vec![
        (
            "Service",
            service("Bad_Name", json!({"ports": port})),
            vec![("metadata.name", LABEL)],
        ),
        (
            "Service",
            service("e1", json!({"ports": [{"port": 0}]})),
            vec![("spec.ports[0].port", ZERO), ("spec.ports[0].targetPort", ZERO)],
        ),
        (
            "Service",
            service("e2", json!({"ports": [{"port": 70000}]})),
            vec![("spec.ports[0].port", HIGH), ("spec.ports[0].targetPort", HIGH)],
        ),
        (
            "Service",
            service("e3", json!({})),
            vec![("spec.ports", "Required value")],
        ),
        (
            "Service",
            service("e8", json!({"clusterIP": "nope", "ports": port})),
            vec![(
                "spec.clusterIPs[0]",
                "Invalid value: \"nope\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            )],
        ),
        (
            "Service",
            service("e11", json!({"type": "ExternalName"})),
            vec![("spec.externalName", "Required value")],
        ),
        (
            "Service",
            service(
                "e12",
                json!({"type": "ExternalName", "externalName": "a.b", "clusterIP": "10.96.0.9"}),
            ),
            vec![("spec.clusterIPs", "Forbidden: may not be set for ExternalName services")],
        ),
        (
            "Service",
            service("e13", json!({"ports": [{"port": 80}, {"port": 81}]})),
            vec![
                ("spec.ports[0].name", "Required value"),
                ("spec.ports[1].name", "Required value"),
            ],
        ),
        (
            "Service",
            service("dupl", json!({"ports": [{"port": 80}, {"port": 80}]})),
            vec![
                ("spec.ports[0].name", "Required value"),
                ("spec.ports[1].name", "Required value"),
                (
                    "spec.ports[1]",
                    r#"Duplicate value: {"Name":"","Protocol":"TCP","AppProtocol":null,"Port":80,"TargetPort":0,"NodePort":0}"#,
                ),
            ],
        ),
        (
            "Service",
            service(
                "e14",
                json!({"ports": [{"name": "a", "port": 80}, {"name": "a", "port": 81}]}),
            ),
            vec![("spec.ports[1].name", "Duplicate value: \"a\"")],
        ),
        (
            "Service",
            service("e15", json!({"ports": [{"port": 80, "protocol": "FOO"}]})),
            vec![(
                "spec.ports[0].protocol",
                "Unsupported value: \"FOO\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            )],
        ),
        (
            "Service",
            service("e16", json!({"externalTrafficPolicy": "Local", "ports": port})),
            vec![(
                "spec.externalTrafficPolicy",
                "Invalid value: \"Local\": may only be set for externally-accessible services",
            )],
        ),
        (
            "Service",
            service(
                "e17",
                json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 999_999}}, "ports": port}),
            ),
            vec![(
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
                "Invalid value: 999999: must be greater than 0 and less than 86400",
            )],
        ),
        (
            "Service",
            service("e18", json!({"type": "Foo", "ports": port})),
            vec![(
                "spec.type",
                "Unsupported value: \"Foo\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
            )],
        ),
    ]
}

fn other_cases() -> Vec<Case> {
    vec![
        (
            "Pod",
            json!({"metadata": {"name": "z"}, "spec": {}}),
            vec![("spec.containers", "Required value")],
        ),
        (
            "Deployment",
            deployment("b", "c"),
            vec![(
                "spec.template.metadata.labels",
                "Invalid value: {\"a\":\"c\"}: `selector` does not match template `labels`",
            )],
        ),
        (
            "EndpointSlice",
            json!({"metadata": {"name": "z"}, "addressType": "IPv4", "endpoints": [{"addresses": ["300.1.1.1"]}]}),
            vec![(
                "endpoints[0].addresses[0]",
                "Invalid value: \"300.1.1.1\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            )],
        ),
        (
            "EndpointSlice",
            json!({"metadata": {"name": "z"}, "addressType": "FQDN", "endpoints": [{
                "addresses": ["web.example.com.", "web"],
                "hints": {"forZones": [{"name": "a"}, {"name": "a"}], "forNodes": [{"name": "-n"}]},
            }]}),
            vec![
                (
                    "endpoints[0].addresses[1]",
                    "Invalid value: \"web\": should be a domain with at least two segments separated by dots",
                ),
                ("endpoints[0].hints.forZones[1].name", "Duplicate value: \"a\""),
                (
                    "endpoints[0].hints.forNodes[0].name",
                    "Invalid value: \"-n\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
                ),
            ],
        ),
        (
            "EndpointSlice",
            json!({"metadata": {"name": "z"}, "addressType": "IPv4", "endpoints": [{
                "addresses": ["10.9.8.7"],
                "hints": {"forZones": [{"name": "1"}, {"name": "2"}, {"name": "3"}, {"name": "4"}, {"name": "5"}, {"name": "6"}, {"name": "7"}, {"name": "8"}, {"name": "9"}]},
            }]}),
            vec![("endpoints[0].hints.forZones", "Too many: 9: must have at most 8 items")],
        ),
    ]
}

#[test]
fn new_objects_are_refused_for_the_reasons_of_1_36() {
    let registry = Registry::standard();
    for (name, body, expected) in service_cases().into_iter().chain(other_cases()) {
        let kind = row(&registry, name);
        let errors = kind.strategy.validate(&prepared(kind, &body)).unwrap();
        let expected: Vec<(String, String)> = expected
            .into_iter()
            .map(|(field, text)| (field.to_owned(), text.to_owned()))
            .collect();
        assert_eq!(causes(&errors), expected, "{body}");
    }
}

fn update(name: &str, old: &Value, change: impl FnOnce(&mut Value)) -> Vec<(String, String)> {
    let registry = Registry::standard();
    let strategy = &row(&registry, name).strategy;
    let mut new = old.clone();
    change(&mut new);
    strategy.default(&mut new).unwrap();
    strategy.prepare_for_update(&mut new, old).unwrap();
    causes(&strategy.validate_update(&new, old).unwrap())
}

#[test]
fn a_cluster_ip_may_not_change() {
    let registry = Registry::standard();
    let body = service("cip", json!({"clusterIP": "10.96.7.6", "ports": [{"port": 80}]}));
    let old = prepared(row(&registry, "Service"), &body);
    let found = update("Service", &old, |new| new["spec"]["clusterIP"] = "10.96.7.7".into());
    let text = "Invalid value: [\"10.96.7.7\"]: may not change once set";
    assert_eq!(found, [("spec.clusterIPs[0]".to_owned(), text.to_owned())]);
}

#[test]
fn a_deployments_selector_may_not_change() {
    let registry = Registry::standard();
    let mut body = deployment("web", "web");
    body["spec"]["selector"]["matchLabels"] = json!({"app": "web"});
    body["spec"]["template"]["metadata"]["labels"] = json!({"app": "web", "x": "y"});
    let old = prepared(row(&registry, "Deployment"), &body);
    let found = update("Deployment", &old, |new| {
        new["spec"]["selector"]["matchLabels"] = json!({"app": "web", "x": "y"});
    });
    let text = "Invalid value: {\"matchLabels\":{\"app\":\"web\",\"x\":\"y\"}}: field is immutable";
    assert_eq!(found, [("spec.selector".to_owned(), text.to_owned())]);
}

#[test]
fn a_pod_may_change_its_image_but_not_its_ports() {
    let registry = Registry::standard();
    let body = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "nginx:1"}]}});
    let old = prepared(row(&registry, "Pod"), &body);
    let image = |new: &mut Value| new["spec"]["containers"][0]["image"] = "nginx:2".into();
    assert_eq!(update("Pod", &old, image), []);
    let port = |new: &mut Value| new["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80}]);
    let found = update("Pod", &old, port);
    assert_eq!(found.len(), 1);
    assert!(
        found[0].0 == "spec"
            && found[0]
                .1
                .starts_with("Forbidden: pod updates may not change fields other than")
    );
}

#[test]
fn warnings_are_those_of_1_36() {
    let registry = Registry::standard();
    let endpoints = row(&registry, "Endpoints");
    let text = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice";
    assert_eq!(endpoints.info.deprecation, Some(text));
    let services = row(&registry, "Service");
    let spec = json!({"externalIPs": ["192.168.241.130"], "ports": [{"port": 80}]});
    let object = prepared(services, &service("s", spec));
    let text = "spec.externalIPs is deprecated and may no longer be implemented in some clusters";
    assert_eq!(services.strategy.warnings(&object).unwrap(), [text]);
}
