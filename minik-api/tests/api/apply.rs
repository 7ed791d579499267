//! Server-side apply and managedFields over HTTP: media types, options, subresources, refusals.

use serde_json::{Value, json};

use crate::common::{Answer, Server};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/demo/deployments";
const SERVICES: &str = "/api/v1/namespaces/demo/services";

fn deployment(rest: Value) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a", "image": "nginx"}]}},
        },
    });
    json_patch::merge(&mut object, &rest);
    object
}

async fn apply(server: &Server, path: &str, query: &str, config: &Value) -> Answer {
    let headers = [
        ("content-type", "application/apply-patch+yaml"),
        ("user-agent", "curl/8"),
    ];
    server
        .request("PATCH", &format!("{path}?{query}"), &headers, config.to_string())
        .await
}

async fn send(server: &Server, method: &str, path: &str, body: &Value) -> Answer {
    let kind = if method == "PATCH" {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    let headers = [("content-type", kind), ("user-agent", "kubectl/v1.36.2 (linux/amd64)")];
    server.request(method, path, &headers, body.to_string()).await
}

/// `manager operation subresource` of each entry.
fn managers(object: &Value) -> Vec<String> {
    let entries = object["metadata"]["managedFields"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    let described = entries.iter().map(|e| {
        format!(
            "{} {} {}",
            text(e, "manager"),
            text(e, "operation"),
            text(e, "subresource")
        )
    });
    described.map(|entry| entry.trim_end().to_owned()).collect()
}

fn without_times(object: &Value) -> Value {
    let mut entries = object["metadata"]["managedFields"].clone();
    for entry in entries.as_array_mut().unwrap() {
        entry.as_object_mut().unwrap().remove("time").expect("is timed");
    }
    entries
}

/// Bodies and their owners as a kube-apiserver 1.36.2 recorded them (`golden/status-bodies.txt`).
#[tokio::test]
async fn a_creator_owns_the_fields_that_kubernetes_says_it_owns() {
    let server = Server::start().await;
    let body =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "e10"}, "spec": {"ports": [{"port": 80}]}});
    let headers = [("content-type", "application/json"), ("user-agent", "curl/8.14.1")];
    let made = server.request("POST", SERVICES, &headers, body.to_string()).await;
    let expected = json!([{
        "manager": "curl", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": {
            "f:internalTrafficPolicy": {},
            "f:ports": {".": {}, "k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}, "f:protocol": {}, "f:targetPort": {}}},
            "f:sessionAffinity": {}, "f:type": {},
        }},
    }]);
    assert_eq!(without_times(&made.json()), expected);
}

#[tokio::test]
async fn applying_makes_changes_and_leaves_alone() {
    let server = Server::start().await;
    let web = format!("{DEPLOYMENTS}/web");
    let made = apply(
        &server,
        &web,
        "fieldManager=me",
        &deployment(json!({"spec": {"replicas": 2}})),
    )
    .await;
    assert_eq!(made.code.as_u16(), 201, "{}", made.message());
    assert_eq!(managers(&made.json()), ["me Apply"]);
    let same = apply(
        &server,
        &web,
        "fieldManager=me",
        &deployment(json!({"spec": {"replicas": 2}})),
    )
    .await;
    assert_eq!(
        (same.code.as_u16(), same.json()),
        (200, made.json()),
        "an equal apply writes nothing"
    );
    let dry = apply(
        &server,
        &web,
        "fieldManager=me&dryRun=All",
        &deployment(json!({"spec": {"replicas": 4}})),
    )
    .await;
    assert_eq!(dry.json()["spec"]["replicas"], 4);
    assert_eq!(server.get(&web).await.json()["spec"]["replicas"], 2);
    let dropped = apply(&server, &web, "fieldManager=me", &deployment(json!({}))).await;
    assert_eq!(dropped.json()["spec"]["replicas"], 1, "the default is back");
    let yaml = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, labels: {a: b}}\n";
    let headers = [("content-type", "application/apply-patch+yaml")];
    let other = server
        .request("PATCH", &format!("{web}?fieldManager=other"), &headers, yaml.to_owned())
        .await;
    assert_eq!(managers(&other.json()), ["me Apply", "other Apply"]);
}

/// What is applied is owned as it was said, before Go's types lose the zeros that they leave out.
#[tokio::test]
async fn an_applied_zero_is_owned_though_it_is_not_kept() {
    let server = Server::start().await;
    let web = format!("{DEPLOYMENTS}/web");
    let config = deployment(json!({"spec": {"paused": false, "replicas": 0}}));
    let made = apply(&server, &web, "fieldManager=me", &config).await.json();
    assert_eq!(
        (made["spec"].get("paused"), &made["spec"]["replicas"]),
        (None, &json!(0))
    );
    let owned = &made["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"];
    assert_eq!((&owned["f:paused"], &owned["f:replicas"]), (&json!({}), &json!({})));
    let again = apply(&server, &web, "fieldManager=me", &config).await;
    assert_eq!(
        (again.code.as_u16(), again.json()),
        (200, made),
        "an equal apply writes nothing"
    );

    send(&server, "PATCH", &web, &json!({"spec": {"paused": true}})).await;
    let refused = apply(&server, &web, "fieldManager=me", &config).await;
    assert_eq!(
        (refused.code.as_u16(), refused.message().contains(".spec.paused")),
        (409, true),
        "{}",
        refused.message()
    );
    send(&server, "PATCH", &web, &json!({"spec": {"paused": false}})).await;
    let served = server.get(&web).await.json();
    assert_eq!(served["spec"].get("paused"), None);
    let entries = served["metadata"]["managedFields"].as_array().unwrap().iter();
    let others = entries.filter(|entry| entry["manager"] != "me").collect::<Vec<_>>();
    assert!(
        !json!(others).to_string().contains("f:paused"),
        "who takes a zero back owns nothing: {others:?}"
    );
}

/// The tag of `LocalObjectReference.name` is `json:"name,omitempty"`: an empty one is kept as Go writes it.
#[tokio::test]
async fn a_zero_that_defaulting_writes_is_not_kept() {
    let server = Server::start().await;
    let path = "/api/v1/namespaces/demo/serviceaccounts";
    let body = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"}, "imagePullSecrets": [{}, {"name": ""}]});
    let made = send(&server, "POST", path, &body).await.json();
    assert_eq!(made["imagePullSecrets"], json!([{}, {}]), "{made}");
    let path = format!("{path}/a");
    let changed = send(&server, "PATCH", &path, &json!({"imagePullSecrets": [{"name": ""}]})).await;
    assert_eq!(changed.json()["imagePullSecrets"], json!([{}]), "{}", changed.message());
}

#[tokio::test]
async fn conflicts_and_force() {
    let server = Server::start().await;
    let web = format!("{DEPLOYMENTS}/web");
    send(
        &server,
        "POST",
        DEPLOYMENTS,
        &deployment(json!({"spec": {"replicas": 3}})),
    )
    .await;
    let config =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": 5}});
    let refused = apply(&server, &web, "fieldManager=me", &config).await;
    let expected = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Conflict", "code": 409,
        "message": "Apply failed with 1 conflict: conflict with \"kubectl\" using apps/v1: .spec.replicas",
        "details": {"causes": [{
            "reason": "FieldManagerConflict", "message": "conflict with \"kubectl\" using apps/v1", "field": ".spec.replicas",
        }]},
    });
    assert_eq!((refused.code.as_u16(), refused.json()), (409, expected));
    let forced = apply(&server, &web, "fieldManager=me&force=true", &config).await;
    assert_eq!(forced.json()["spec"]["replicas"], 5);
    assert_eq!(managers(&forced.json()), ["me Apply", "kubectl Update"]);
    let kubectl = &forced.json()["metadata"]["managedFields"][1]["fieldsV1"]["f:spec"];
    assert!(kubectl.get("f:replicas").is_none() && kubectl.get("f:template").is_some());
}

#[tokio::test]
async fn subresources_have_owners_of_their_own() {
    let server = Server::start().await;
    let web = format!("{DEPLOYMENTS}/web");
    send(
        &server,
        "POST",
        DEPLOYMENTS,
        &deployment(json!({"spec": {"replicas": 3}})),
    )
    .await;
    let status = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "status": {"replicas": 2}, "spec": {"replicas": 9}});
    let after = apply(&server, &format!("{web}/status"), "fieldManager=s", &status).await;
    assert_eq!(after.code.as_u16(), 200, "{}", after.message());
    assert_eq!(
        (&after.json()["status"]["replicas"], &after.json()["spec"]["replicas"]),
        (&json!(2), &json!(3))
    );
    assert_eq!(managers(&after.json()), ["s Apply status", "kubectl Update"]);
    let scale = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web", "namespace": "demo"}, "spec": {"replicas": 4}});
    let refused = apply(&server, &format!("{web}/scale"), "fieldManager=h", &scale).await;
    assert_eq!(
        refused.message(),
        "Apply failed with 1 conflict: conflict with \"kubectl\" using apps/v1: .spec.replicas"
    );
    let scaled = apply(&server, &format!("{web}/scale"), "fieldManager=h&force=true", &scale).await;
    assert_eq!(
        (&scaled.json()["kind"], &scaled.json()["spec"]["replicas"]),
        (&json!("Scale"), &json!(4))
    );
    assert_eq!(
        managers(&server.get(&web).await.json()),
        ["h Apply scale", "s Apply status", "kubectl Update"].map(str::to_owned)
    );
    send(
        &server,
        "PATCH",
        &format!("{web}/scale?fieldManager=kubectl"),
        &json!({"spec": {"replicas": 6}}),
    )
    .await;
    let last = server.get(&web).await.json();
    assert_eq!(
        managers(&last),
        ["s Apply status", "kubectl Update", "kubectl Update scale"]
    );
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
async fn requests_that_are_no_apply_are_refused_in_kubernetes_words() {
    let server = Server::start().await;
    let web = format!("{DEPLOYMENTS}/web");
    let config = deployment(json!({}));
    let with = |rest: Value| deployment(rest);
    for (query, sent, code, reason, message) in [
        (
            "",
            config.clone(),
            422,
            "Invalid",
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
        ),
        (
            "fieldManager=me",
            with(json!({"metadata": {"managedFields": [{}]}})),
            400,
            "BadRequest",
            "metadata.managedFields must be nil",
        ),
        (
            "fieldManager=me",
            with(json!({"kind": "ReplicaSet"})),
            400,
            "BadRequest",
            "invalid object type: apps/v1, Kind=ReplicaSet",
        ),
        (
            "fieldManager=me",
            with(json!({"metadata": {"name": "other"}})),
            400,
            "BadRequest",
            "the name of the object (other) does not match the name on the URL (web)",
        ),
        (
            "fieldManager=me",
            with(json!({"metadata": {"namespace": "other"}})),
            400,
            "BadRequest",
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            "fieldManager=me",
            with(json!({"metadata": {"uid": "u"}})),
            409,
            "Conflict",
            "Operation cannot be fulfilled on deployments.apps \"web\": uid mismatch: the provided object specified uid u, and no existing object was found",
        ),
        (
            "fieldManager=me",
            with(json!({"spec": {"replica": 1}})),
            500,
            "",
            "failed to create typed patch object (/web; apps/v1, Kind=Deployment): .spec.replica: field not declared in schema",
        ),
        (
            "fieldManager=me&fieldValidation=Never",
            config.clone(),
            422,
            "Invalid",
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: \"Never\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"",
        ),
    ] {
        let answer = apply(&server, &web, query, &sent).await;
        let body = answer.json();
        let found = (
            answer.code.as_u16(),
            body["reason"].as_str().unwrap_or_default(),
            body["message"].as_str().unwrap(),
        );
        assert_eq!(found, (code, reason, message));
    }
    let merge = send(&server, "PATCH", &format!("{web}?force=true"), &json!({})).await;
    assert_eq!(
        merge.message(),
        "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch"
    );
    let list = server
        .request(
            "PATCH",
            &format!("{web}?fieldManager=me"),
            &[("content-type", "application/apply-patch+yaml")],
            "- a\n".to_owned(),
        )
        .await;
    assert_eq!(
        (list.code.as_u16(), list.message().split(": ").next().unwrap()),
        (400, "error decoding YAML")
    );
}

#[tokio::test]
async fn a_duplicate_key_is_refused_or_warned_of() {
    let server = Server::start().await;
    let path = "/api/v1/namespaces/demo/configmaps/c";
    let body = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  a: one\n  a: two\n";
    let headers = [("content-type", "application/apply-patch+yaml")];
    let send = |validation: &'static str| {
        let path = format!("{path}?fieldManager=me&fieldValidation={validation}");
        let server = &server;
        async move { server.request("PATCH", &path, &headers, body.to_owned()).await }
    };
    let strict = send("Strict").await;
    assert_eq!(strict.code.as_u16(), 400);
    assert!(strict.message() == DUPLICATE, "{}", strict.message());
    let warned = send("Warn").await;
    assert_eq!(
        (warned.code.as_u16(), &warned.json()["data"]["a"]),
        (201, &json!("two"))
    );
    assert_eq!(
        warned.headers["warning"],
        "299 - \"line 6: key \\\"a\\\" already set in map\""
    );
    assert!(!send("Ignore").await.headers.contains_key("warning"));
}

const DUPLICATE: &str = "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  line 6: key \"a\" already set in map";

/// An update says nothing about ownership and keeps it; writing the same again is no change at all.
#[tokio::test]
async fn writes_that_change_nothing_take_no_revision() {
    let server = Server::start().await;
    let web = format!("{DEPLOYMENTS}/web");
    send(&server, "POST", DEPLOYMENTS, &deployment(json!({}))).await;
    let before = server.get(&web).await.json();
    let mut same = before.clone();
    same["metadata"].as_object_mut().unwrap().remove("managedFields");
    assert_eq!(send(&server, "PUT", &web, &same).await.json(), before);
    assert_eq!(
        send(&server, "PATCH", &web, &json!({"metadata": {"managedFields": []}}))
            .await
            .json(),
        before
    );
    let reset = send(&server, "PATCH", &web, &json!({"metadata": {"managedFields": [{}]}}))
        .await
        .json();
    assert_eq!(managers(&reset), Vec::<String>::new());
    // What nobody owned belongs to whoever was there before the first apply.
    let config =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"a": "b"}}});
    let first = apply(&server, &web, "fieldManager=me", &config).await.json();
    assert_eq!(managers(&first), ["me Apply", "before-first-apply Update"]);
}

#[tokio::test]
async fn a_stale_resource_version_is_refused() {
    let server = Server::start().await;
    let web = format!("{DEPLOYMENTS}/web");
    send(&server, "POST", DEPLOYMENTS, &deployment(json!({}))).await;
    let stale = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "resourceVersion": "1", "labels": {"a": "b"}}});
    let refused = apply(&server, &web, "fieldManager=me", &stale).await;
    assert_eq!(refused.code.as_u16(), 409);
    assert_eq!(
        refused.message(),
        "Operation cannot be fulfilled on deployments.apps \"web\": the object has been modified; please apply your changes to the latest version and try again"
    );
}
