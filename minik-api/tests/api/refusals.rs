//! Refused requests against the bodies with which a kube-apiserver 1.36.2 refuses them
//! (`golden/status-bodies.txt`, one `## name  HTTP code` each).

use serde_json::{Value, json};

use crate::common::Server;

const BODIES: &str = include_str!("golden/status-bodies.txt");
const SERVICES: &str = "/api/v1/namespaces/demo/services";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/demo/deployments";

/// The code and body recorded under `name`.
fn golden(name: &str) -> (u16, Value) {
    let entry = BODIES.split("\n## ").map(|entry| entry.trim_start_matches("## "));
    let entry = entry
        .into_iter()
        .find(|entry| entry.split("  HTTP ").next() == Some(name))
        .expect("is recorded");
    let (head, body) = entry.split_once('\n').expect("has a body");
    let code = head
        .rsplit(' ')
        .next()
        .expect("ends in the code")
        .parse()
        .expect("is a number");
    (code, serde_json::from_str(body).expect("is JSON"))
}

fn service(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
}

fn deployment(name: &str, selector: Value, labels: Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": selector},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "nginx"}]}},
        },
    })
}

async fn server() -> Server {
    let server = Server::start().await;
    let port = json!([{"port": 80}]);
    let taken = json!([{"port": 80, "nodePort": 30080}]);
    for made in [
        service("web", json!({"ports": port})),
        service("cip", json!({"ports": port, "clusterIP": "10.96.5.5"})),
        service("first", json!({"ports": port, "clusterIP": "10.96.0.1"})),
        service("np", json!({"type": "NodePort", "ports": taken})),
    ] {
        let answer = server.post(SERVICES, &made).await;
        assert_eq!(answer.code.as_u16(), 201, "{}", String::from_utf8_lossy(&answer.body));
    }
    let web = deployment("web", json!({"app": "web"}), json!({"app": "web"}));
    let answer = server.post(DEPLOYMENTS, &web).await;
    assert_eq!(answer.code.as_u16(), 201, "{}", String::from_utf8_lossy(&answer.body));
    server
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
async fn invalid_services_are_refused_in_kubernetes_words() {
    let port = |port: i64| json!({"ports": [{"port": port}]});
    let cases = [
        ("bad-port-0", service("e1", port(0))),
        ("bad-port-70000", service("e2", port(70000))),
        ("no-ports", service("e3", json!({}))),
        (
            "dup-nodeport",
            service(
                "e4",
                json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}),
            ),
        ),
        (
            "nodeport-range",
            service(
                "e5",
                json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]}),
            ),
        ),
        (
            "clusterip-range",
            service("e6", json!({"clusterIP": "192.168.1.1", "ports": [{"port": 80}]})),
        ),
        (
            "clusterip-taken",
            service("e7", json!({"clusterIP": "10.96.0.1", "ports": [{"port": 80}]})),
        ),
        (
            "clusterip-invalid",
            service("e8", json!({"clusterIP": "nope", "ports": [{"port": 80}]})),
        ),
        ("externalname-missing", service("e11", json!({"type": "ExternalName"}))),
        (
            "two-ports-unnamed",
            service("e13", json!({"ports": [{"port": 80}, {"port": 81}]})),
        ),
        (
            "dup-port-names",
            service(
                "e14",
                json!({"ports": [{"name": "a", "port": 80}, {"name": "a", "port": 81}]}),
            ),
        ),
        (
            "bad-protocol",
            service("e15", json!({"ports": [{"port": 80, "protocol": "FOO"}]})),
        ),
        (
            "etp-on-clusterip",
            service(
                "e16",
                json!({"externalTrafficPolicy": "Local", "ports": [{"port": 80}]}),
            ),
        ),
        (
            "affinity-timeout",
            service(
                "e17",
                json!({
                    "ports": [{"port": 80}], "sessionAffinity": "ClientIP",
                    "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 999_999}},
                }),
            ),
        ),
        (
            "bad-type",
            service("e18", json!({"type": "Foo", "ports": [{"port": 80}]})),
        ),
        ("bad-name", service("Bad_Name", port(80))),
        ("already-exists", service("web", port(80))),
    ];
    let server = server().await;
    for (name, sent) in cases {
        let before = server.state.storage.cache().revision();
        let answer = server.post(SERVICES, &sent).await;
        assert_eq!((answer.code.as_u16(), answer.json()), golden(name), "{name}");
        assert_eq!(
            server.state.storage.cache().revision(),
            before,
            "{name} changed something"
        );
    }
}

#[tokio::test]
async fn invalid_objects_of_other_kinds_are_refused_in_kubernetes_words() {
    let server = server().await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "z"}, "spec": {"containers": []}});
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "z"},
        "addressType": "IPv4", "endpoints": [{"addresses": ["300.1.1.1"]}], "ports": [],
    });
    let mismatched = deployment("z", json!({"a": "b"}), json!({"a": "c"}));
    let slices = "/apis/discovery.k8s.io/v1/namespaces/demo/endpointslices";
    for (name, path, sent) in [
        ("pod-no-containers", "/api/v1/namespaces/demo/pods", pod),
        ("bad-endpointslice", slices, slice),
        ("deployment-selector-mismatch", DEPLOYMENTS, mismatched),
    ] {
        let answer = server.post(path, &sent).await;
        assert_eq!((answer.code.as_u16(), answer.json()), golden(name), "{name}");
    }
}

#[tokio::test]
async fn immutable_fields_are_refused_in_kubernetes_words() {
    let server = server().await;
    let merge = [("content-type", "application/merge-patch+json")];
    let address = json!({"spec": {"clusterIP": "10.96.7.7", "clusterIPs": ["10.96.7.7"]}}).to_string();
    let answer = server
        .request("PATCH", &format!("{SERVICES}/cip"), &merge, address)
        .await;
    assert_eq!((answer.code.as_u16(), answer.json()), golden("immutable-clusterip"));
    let labels = json!({"app": "web", "x": "y"});
    let selector = json!({
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}}},
    });
    let answer = server
        .request("PATCH", &format!("{DEPLOYMENTS}/web"), &merge, selector.to_string())
        .await;
    assert_eq!((answer.code.as_u16(), answer.json()), golden("immutable-selector"));
}

#[tokio::test]
async fn bodies_that_do_not_decode_are_refused_in_kubernetes_words() {
    let server = server().await;
    let json_type = [("content-type", "application/json")];
    let strict = format!("{SERVICES}?fieldValidation=Strict");
    let typo = service("e9", json!({"ports": [{"port": 80}], "portz": []})).to_string();
    let wrong = service("e10", json!({"ports": [{"port": "eighty"}]})).to_string();
    for (name, path, body) in [
        ("unknown-field-strict", strict.as_str(), typo.clone()),
        ("wrong-json-type", SERVICES, wrong),
        ("not-json", SERVICES, "{nope".to_owned()),
    ] {
        let answer = server.request("POST", path, &json_type, body).await;
        assert_eq!((answer.code.as_u16(), answer.json()), golden(name), "{name}");
    }
    let warned = server.request("POST", SERVICES, &json_type, typo).await;
    assert_eq!(warned.code.as_u16(), 201);
    assert_eq!(warned.headers["warning"], "299 - \"unknown field \\\"spec.portz\\\"\"");
}

#[tokio::test]
async fn requests_that_go_nowhere_are_refused_in_kubernetes_words() {
    let server = server().await;
    let web = format!("{SERVICES}/web");
    let labels = format!("{SERVICES}?labelSelector=a%3D%3D%3Db");
    let fields = format!("{SERVICES}?fieldSelector=foo%3Dbar");
    let token = format!("{SERVICES}?limit=1&continue=bWVo");
    for (name, path) in [
        ("not-found", &format!("{SERVICES}/nonesuch")),
        ("no-such-resource", &"/api/v1/nonesuch".to_owned()),
        ("bad-labelselector", &labels),
        ("bad-fieldselector", &fields),
        ("old-continue", &token),
    ] {
        let answer = server.get(path).await;
        assert_eq!((answer.code.as_u16(), answer.json()), golden(name), "{name}");
    }
    let port = json!({"ports": [{"port": 80}]});
    let mut stale = service("web", port.clone());
    stale["metadata"]["resourceVersion"] = "1".into();
    let mut elsewhere = service("x", port.clone());
    elsewhere["metadata"]["namespace"] = "other".into();
    let missing = "/api/v1/namespaces/nonesuch/services";
    for (name, answer) in [
        ("rv-conflict", server.put(&web, &stale).await),
        (
            "immutable-name",
            server
                .put(&format!("{SERVICES}/cip"), &service("zz", port.clone()))
                .await,
        ),
        ("ns-mismatch", server.post(SERVICES, &elsewhere).await),
        ("ns-missing", server.post(missing, &service("x", port.clone())).await),
        ("method-not-allowed", server.post(&web, &service("web", port)).await),
        (
            "bad-mediatype",
            server
                .request("POST", SERVICES, &[("content-type", "text/plain")], "x".into())
                .await,
        ),
        (
            "not-acceptable",
            server
                .request("GET", SERVICES, &[("accept", "text/html")], String::new())
                .await,
        ),
    ] {
        assert_eq!((answer.code.as_u16(), answer.json()), golden(name), "{name}");
    }
}
