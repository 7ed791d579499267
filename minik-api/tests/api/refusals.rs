//! Refused requests against the bodies with which a kube-apiserver 1.36.2 refuses them
//! (`golden/status-bodies.txt`, one `## name  HTTP code` each).

use minik_api::server::Identity;
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

#[tokio::test]
async fn who_may_not_is_refused_in_kubernetes_words() {
    let server = server().await;
    let ask = |identity: Identity, request: http::request::Builder, body: String| {
        server.send(identity, request.body(body.into()).expect("is a request"))
    };
    let get = || http::Request::get(SERVICES);
    let scheduler = Identity {
        user: "system:kube-scheduler".to_owned(),
        groups: vec!["system:authenticated".to_owned()],
        ..Identity::default()
    };
    let sent = service("x", json!({"ports": [{"port": 80}]})).to_string();
    let post = http::Request::post(SERVICES).header("content-type", "application/json");
    for (name, answer) in [
        ("anonymous", ask(Identity::anonymous(), get(), String::new()).await),
        ("forbidden", ask(scheduler, post, sent).await),
        (
            "unauthorized",
            ask(
                Identity::anonymous(),
                get().header("authorization", "Bearer nope"),
                String::new(),
            )
            .await,
        ),
    ] {
        assert_eq!((answer.code.as_u16(), answer.json()), golden(name), "{name}");
    }
    let group = server.get("/apis/nonesuch.example/v1").await;
    assert_eq!(
        (group.code.as_u16(), group.body),
        (404, b"404 page not found\n".to_vec())
    );
}

#[tokio::test]
async fn external_names_are_refused_or_made_as_kubernetes_does() {
    let server = server().await;
    let with_address = json!({"type": "ExternalName", "externalName": "a.example", "clusterIP": "10.96.0.9"});
    let answer = server.post(SERVICES, &service("e12", with_address)).await;
    assert_eq!((answer.code.as_u16(), answer.json()), golden("externalname-selector"));
}

/// Objects that the recorded server made, but for what no two objects share.
#[tokio::test]
async fn what_is_accepted_is_made_as_kubernetes_makes_it() {
    let server = server().await;
    let external = json!({"type": "ExternalName", "externalName": "a.example", "selector": {"a": "b"}});
    let typo = json!({"ports": [{"port": 80}], "portz": []});
    let headers = [("content-type", "application/json"), ("user-agent", "curl/8.14.1")];
    for (name, sent) in [
        ("externalname-with-selector-ok", service("exn", external)),
        ("unknown-field-warn", service("e10", typo)),
    ] {
        let answer = server.request("POST", SERVICES, &headers, sent.to_string()).await;
        let (code, recorded) = golden(name);
        assert_eq!(answer.code.as_u16(), code, "{name}");
        assert_eq!(shared(answer.json()), shared(recorded), "{name}");
    }
}

fn shared(mut object: Value) -> Value {
    for field in ["uid", "creationTimestamp", "resourceVersion", "namespace"] {
        object["metadata"].as_object_mut().expect("is a map").remove(field);
    }
    object["metadata"]["managedFields"][0]["time"].take();
    for field in ["clusterIP", "clusterIPs"] {
        if let Some(allocated) = object["spec"].get_mut(field) {
            allocated.take();
        }
    }
    object
}

/// Every recorded answer is asked for by a test of this file, but for two lists whose questions were not recorded.
#[test]
fn no_recorded_answer_is_left_out() {
    let names = BODIES.lines().filter_map(|line| line.strip_prefix("## "));
    let names = names.filter_map(|head| head.split("  HTTP ").next());
    let here = include_str!("refusals.rs");
    let asked =
        |name: &&str| here.contains(&format!("{name:?}")) || ["gone-410", "gone-rv", "no-such-group"].contains(name);
    let left: Vec<&str> = names.filter(|name| !asked(name)).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Patches whose outcome is no object of the kind, or that are no patches.
#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
async fn patches_that_do_not_fit_are_refused_in_kubernetes_words() {
    let server = server().await;
    let web = format!("{DEPLOYMENTS}/web");
    let [json_patch, merge, strategic] =
        ["json", "merge", "strategic-merge"].map(|kind| format!("application/{kind}-patch+json"));
    for (media_type, body, code, reason, message) in [
        (
            &strategic,
            r#"{"spec": {"replicas": "x"}}"#,
            422,
            "Invalid",
            " \"\" is invalid: patch: Invalid value: \"map[spec:map[replicas:x]]\": unrecognized type: int32",
        ),
        (
            &strategic,
            r#"{"spec": {"template": 1}}"#,
            422,
            "Invalid",
            " \"\" is invalid: patch: Invalid value: \"map[spec:map[template:1]]\": cannot restore struct from: int64",
        ),
        (
            &strategic,
            r#"[1]"#,
            400,
            "BadRequest",
            "json: cannot unmarshal array into Go value of type map[string]interface {}",
        ),
        (
            &strategic,
            r#"{"spec": {"strategy": {"$retainKeys": ["type"], "rollingUpdate": {}}}}"#,
            400,
            "BadRequest",
            "invalid patch format of retainKeys",
        ),
        (
            &strategic,
            r#"{"spec": {"strategy": {"$patch": "drop"}}}"#,
            500,
            "",
            "unknown patch type: drop in map: map[$patch:drop]",
        ),
        (
            &merge,
            r#"[1]"#,
            400,
            "BadRequest",
            "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}",
        ),
        (
            &merge,
            "{x",
            400,
            "BadRequest",
            "error decoding patch: invalid character 'x' looking for beginning of object key string",
        ),
        (
            &json_patch,
            "{}",
            400,
            "BadRequest",
            "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp",
        ),
        (
            &json_patch,
            r#"[{"op": "remove", "path": "/spec/nope"}]"#,
            422,
            "Invalid",
            "the server rejected our request due to an error in our request",
        ),
        (
            &json_patch,
            r#"[{"op": "test", "path": "/spec/replicas", "value": 9}]"#,
            422,
            "Invalid",
            "the server rejected our request due to an error in our request",
        ),
    ] {
        let answer = server
            .request("PATCH", &web, &[("content-type", media_type)], body.to_owned())
            .await;
        let status = answer.json();
        let found = (
            answer.code.as_u16(),
            status["reason"].as_str().unwrap_or_default(),
            status["message"].as_str(),
        );
        assert_eq!(found, (code, reason, Some(message)), "{body}");
    }
    let typo = r#"{"spec": {"replica": 1}}"#;
    let strict = format!("{web}?fieldValidation=Strict");
    let answer = server
        .request("PATCH", &strict, &[("content-type", &strategic)], typo.to_owned())
        .await;
    let expected = " \"\" is invalid: patch: Invalid value: \"map[spec:map[replica:1]]\": strict decoding error: unknown field \"spec.replica\"";
    assert_eq!((answer.code.as_u16(), answer.message().as_str()), (422, expected));
    let cause = &answer.json()["details"]["causes"][0];
    assert_eq!(
        (&cause["reason"], &cause["field"]),
        (&json!("FieldValueInvalid"), &json!("patch"))
    );
    let warned = server
        .request("PATCH", &web, &[("content-type", &merge)], typo.to_owned())
        .await;
    assert_eq!(
        warned.headers["warning"],
        "299 - \"unknown field \\\"spec.replica\\\"\""
    );
}
