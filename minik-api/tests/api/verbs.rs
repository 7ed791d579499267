//! The API over the in-process router: verbs and who may use them. Texts are those of Kubernetes 1.36.

use crate::common::{Server, config_map, pod};
use http::{Request, StatusCode};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use minik_api::server::Identity;
use serde_json::json;

const CONFIG_MAPS: &str = "/api/v1/namespaces/demo/configmaps";
const PODS: &str = "/api/v1/namespaces/demo/pods";

#[tokio::test]
async fn an_object_is_made_read_changed_and_deleted() {
    let server = Server::start().await;
    let api: Api<ConfigMap> = Api::namespaced(server.client(), "demo");
    let sent = serde_json::from_value(config_map("c")).expect("is a ConfigMap");
    let made = api.create(&PostParams::default(), &sent).await.expect("is created");
    assert!(made.metadata.uid.is_some() && made.metadata.creation_timestamp.is_some());
    let patch = Patch::Merge(json!({"data": {"a": "c"}}));
    let patched = api
        .patch("c", &PatchParams::default(), &patch)
        .await
        .expect("is patched");
    assert_eq!(patched.data.as_ref().expect("is there")["a"], "c");
    assert_ne!(patched.metadata.resource_version, made.metadata.resource_version);
    assert_eq!(patched.metadata.uid, made.metadata.uid);
    let stale = api
        .replace("c", &PostParams::default(), &made)
        .await
        .expect_err("is refused");
    assert!(stale.to_string().contains("the object has been modified"), "{stale}");
    let same = api
        .replace("c", &PostParams::default(), &patched)
        .await
        .expect("is accepted");
    assert_eq!(
        same.metadata.resource_version, patched.metadata.resource_version,
        "nothing changed"
    );
    let gone = api.delete("c", &DeleteParams::default()).await.expect("is deleted");
    let status = gone.right().expect("is a Status");
    let details = status.details.expect("are given");
    assert_eq!((details.name.as_str(), details.kind.as_str()), ("c", "configmaps"));
    assert!(api.get_opt("c").await.expect("answers").is_none());
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
async fn refusals_are_worded_as_kubernetes_words_them() {
    let server = Server::start().await;
    assert_eq!(
        server.post(CONFIG_MAPS, &config_map("web")).await.code,
        StatusCode::CREATED
    );
    let web = format!("{CONFIG_MAPS}/web");
    let current = server.get(CONFIG_MAPS).await.json()["metadata"]["resourceVersion"].clone();
    let current = current.as_str().unwrap();
    let mut renamed = config_map("zz");
    let mut elsewhere = config_map("x");
    elsewhere["metadata"]["namespace"] = "other".into();
    let mut stale = config_map("web");
    stale["metadata"]["resourceVersion"] = "1".into();
    renamed["metadata"]["name"] = "zz".into();
    let cases = [
        (
            server.get(&format!("{CONFIG_MAPS}/nonesuch")).await,
            404,
            "NotFound",
            "configmaps \"nonesuch\" not found",
        ),
        (
            server.get("/apis/apps/v1/namespaces/demo/deployments/nope").await,
            404,
            "NotFound",
            "deployments.apps \"nope\" not found",
        ),
        (
            server.get("/api/v1/nonesuch").await,
            404,
            "NotFound",
            "the server could not find the requested resource",
        ),
        (
            server.post(CONFIG_MAPS, &config_map("web")).await,
            409,
            "AlreadyExists",
            "configmaps \"web\" already exists",
        ),
        (
            server
                .post("/api/v1/namespaces/nonesuch/configmaps", &config_map("x"))
                .await,
            404,
            "NotFound",
            "namespaces \"nonesuch\" not found",
        ),
        (
            server.post(CONFIG_MAPS, &elsewhere).await,
            400,
            "BadRequest",
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            server.put(&web, &renamed).await,
            400,
            "BadRequest",
            "the name of the object (zz) does not match the name on the URL (web)",
        ),
        (
            server.put(&web, &stale).await,
            409,
            "Conflict",
            "Operation cannot be fulfilled on configmaps \"web\": the object has been modified; please apply your changes to the latest version and try again",
        ),
        (
            server.post(&web, &config_map("web")).await,
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        ),
        (
            server.delete("/api/v1/namespaces").await,
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        ),
        (
            server.get(&format!("{CONFIG_MAPS}?fieldSelector=foo%3Dbar")).await,
            400,
            "BadRequest",
            "field label not supported: foo",
        ),
        (
            server.get(&format!("{CONFIG_MAPS}?continue=bm9wZQ")).await,
            400,
            "BadRequest",
            "invalid continue token: continue key is not valid: invalid character 'n' looking for beginning of value",
        ),
        (
            server.delete("/api/v1/namespaces/default").await,
            403,
            "Forbidden",
            "namespaces \"default\" is forbidden: this namespace may not be deleted",
        ),
        (
            server
                .request("GET", CONFIG_MAPS, &[("accept", "text/html")], String::new())
                .await,
            406,
            "NotAcceptable",
            "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, application/vnd.kubernetes.protobuf, application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch",
        ),
        (
            server
                .request("POST", CONFIG_MAPS, &[("content-type", "text/plain")], "x".into())
                .await,
            415,
            "UnsupportedMediaType",
            "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf",
        ),
        (
            server
                .request(
                    "PATCH",
                    &web,
                    &[("content-type", "application/apply-patch+cbor")],
                    "{}".into(),
                )
                .await,
            415,
            "UnsupportedMediaType",
            "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml",
        ),
        (
            server.request("POST", CONFIG_MAPS, &[], "x".repeat(10_000_000)).await,
            413,
            "RequestEntityTooLarge",
            "Request entity too large: limit is 3145728",
        ),
        (
            server.get(&format!("{CONFIG_MAPS}?resourceVersion=999")).await,
            504,
            "Timeout",
            &format!("Too large resource version: 999, current: {current}"),
        ),
    ];
    for (answer, code, reason, message) in cases {
        assert_eq!(answer.code.as_u16(), code, "{message}");
        let status = answer.json();
        assert_eq!(status["message"], message);
        assert_eq!(status["reason"], reason);
        assert_eq!(status["code"], code);
        assert_eq!(
            (&status["kind"], &status["apiVersion"], &status["status"]),
            (&json!("Status"), &json!("v1"), &json!("Failure"))
        );
    }
    let conflict = server.put(&web, &stale).await.json();
    assert_eq!(conflict["details"], json!({"name": "web", "kind": "configmaps"}));
    let unknown = server.get("/apis/nonesuch.example/v1/things").await;
    assert_eq!(
        (unknown.code, unknown.body.as_slice()),
        (StatusCode::NOT_FOUND, &b"404 page not found\n"[..])
    );
}

#[tokio::test]
async fn only_health_and_version_are_public() {
    let server = Server::start().await;
    let ask = async |identity: Identity, path: &str| {
        let request = Request::get(path)
            .body(axum::body::Body::empty())
            .expect("is a request");
        server.send(identity, request).await
    };
    for path in ["/healthz", "/livez", "/version"] {
        assert_eq!(ask(Identity::anonymous(), path).await.code, StatusCode::OK, "{path}");
    }
    let refused = ask(Identity::anonymous(), "/api/v1/namespaces/demo/services").await;
    assert_eq!(
        refused.json(),
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "services is forbidden: User \"system:anonymous\" cannot list resource \"services\" in API group \"\" in the namespace \"demo\"",
            "reason": "Forbidden", "details": {"kind": "services"}, "code": 403,
        })
    );
    let request = Request::get("/api").header("authorization", "Bearer x");
    let bad = server
        .send(
            Identity::anonymous(),
            request.body(axum::body::Body::empty()).expect("is one"),
        )
        .await;
    assert_eq!(
        bad.json(),
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "Unauthorized", "reason": "Unauthorized", "code": 401,
        })
    );
}

#[tokio::test]
async fn an_agent_reads_what_it_needs_and_touches_only_its_own() {
    let server = Server::start().await;
    server.post(PODS, &pod("mine", "w1")).await;
    server.post(PODS, &pod("other", "w2")).await;
    let ask = async |method: &str, path: &str, body: &str| {
        let media_type = if method == "PATCH" {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", media_type)
            .body(body.to_owned().into());
        server
            .send(Identity::node("w1"), request.expect("is a request"))
            .await
            .code
            .as_u16()
    };
    let status = r#"{"status":{"phase":"Running"}}"#;
    assert_eq!(ask("GET", "/api/v1/services", "").await, 200);
    assert_eq!(ask("PATCH", &format!("{PODS}/mine/status"), status).await, 200);
    assert_eq!(ask("PATCH", &format!("{PODS}/other/status"), status).await, 403);
    assert_eq!(ask("DELETE", &format!("{PODS}/other"), "").await, 403);
    assert_eq!(ask("GET", "/api/v1/namespaces/demo/secrets", "").await, 403);
    assert_eq!(
        ask(
            "GET",
            "/api/v1/namespaces/demo/secrets?fieldSelector=metadata.name%3Dx",
            ""
        )
        .await,
        200
    );
    assert_eq!(ask("PATCH", "/api/v1/nodes/w2/status", status).await, 403);
    let node = |name: &str| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}).to_string();
    assert_eq!(ask("POST", "/api/v1/nodes", &node("w2")).await, 403);
    assert_eq!(ask("POST", "/api/v1/nodes", &node("w1")).await, 201);
}

#[tokio::test]
async fn pages_show_one_moment() {
    let server = Server::start().await;
    let api: Api<ConfigMap> = Api::namespaced(server.client(), "demo");
    for n in 0..5 {
        server.post(CONFIG_MAPS, &config_map(&format!("c{n}"))).await;
    }
    let first = api.list(&ListParams::default().limit(2)).await.expect("lists");
    assert_eq!(first.metadata.remaining_item_count, Some(3));
    server.post(CONFIG_MAPS, &config_map("c3a")).await;
    server.delete(&format!("{CONFIG_MAPS}/c2")).await;
    let mut names: Vec<_> = first.items.into_iter().filter_map(|c| c.metadata.name).collect();
    let mut token = first.metadata.continue_;
    while let Some(next) = token.filter(|token| !token.is_empty()) {
        let page = api
            .list(&ListParams::default().limit(2).continue_token(&next))
            .await
            .expect("goes on");
        assert_eq!(page.metadata.resource_version, first.metadata.resource_version);
        names.extend(page.items.into_iter().filter_map(|c| c.metadata.name));
        token = page.metadata.continue_;
    }
    assert_eq!(names, ["c0", "c1", "c2", "c3", "c4"]);
}

#[tokio::test]
async fn finalizers_hold_an_object_until_they_are_gone() {
    let server = Server::start().await;
    let mut held = config_map("c");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    server.post(CONFIG_MAPS, &held).await;
    let web = format!("{CONFIG_MAPS}/c");
    let marked = server.delete(&web).await;
    assert_eq!(marked.code, StatusCode::OK);
    assert_eq!(marked.json()["kind"], "ConfigMap");
    assert!(marked.json()["metadata"]["deletionTimestamp"].is_string());
    let headers = [("content-type", "application/merge-patch+json")];
    let more = json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}});
    let refused = server.request("PATCH", &web, &headers, more.to_string()).await;
    assert_eq!(
        refused.message(),
        "ConfigMap \"c\" is invalid: metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"example.com/more\"}"
    );
    let released = json!({"metadata": {"finalizers": null}});
    let last = server.request("PATCH", &web, &headers, released.to_string()).await;
    assert_eq!(last.code, StatusCode::OK, "{}", last.message());
    assert_eq!(server.get(&web).await.code, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_namespace_waits_for_its_contents() {
    let server = Server::start().await;
    let demo = "/api/v1/namespaces/demo";
    let marked = server.delete(demo).await.json();
    assert_eq!(marked["status"]["phase"], "Terminating");
    let refused = server.post(CONFIG_MAPS, &config_map("late")).await;
    assert_eq!(
        refused.message(),
        "configmaps \"late\" is forbidden: unable to create new content in namespace demo because it is being terminated"
    );
    assert_eq!(refused.json()["details"]["causes"][0]["reason"], "NamespaceTerminating");
    let mut empty = server.get(demo).await.json();
    empty["spec"]["finalizers"] = json!([]);
    let finalized = server.put(&format!("{demo}/finalize"), &empty).await;
    assert_eq!(finalized.code, StatusCode::OK, "{}", finalized.message());
    assert_eq!(server.get(demo).await.code, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let server = Server::start().await;
    let before = server.state.storage.cache().revision();
    let made = server
        .post(&format!("{CONFIG_MAPS}?dryRun=All"), &config_map("c"))
        .await;
    assert_eq!(made.code, StatusCode::CREATED);
    assert_eq!(server.state.storage.cache().revision(), before);
    let wrong = server
        .post(&format!("{CONFIG_MAPS}?dryRun=some"), &config_map("c"))
        .await;
    assert_eq!(wrong.code, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn generated_names_end_in_five_letters() {
    let server = Server::start().await;
    let mut unnamed = config_map("");
    unnamed["metadata"] = json!({"generateName": "web-"});
    let made = server.post(CONFIG_MAPS, &unnamed).await.json();
    let name = made["metadata"]["name"].as_str().expect("is text");
    let suffix = name.strip_prefix("web-").expect("keeps its base");
    assert_eq!(suffix.len(), 5);
    assert!(
        suffix
            .chars()
            .all(|letter| "bcdfghjklmnpqrstvwxz2456789".contains(letter)),
        "{suffix}"
    );
}

#[tokio::test]
async fn a_collection_is_deleted_by_label() {
    let server = Server::start().await;
    for (name, app) in [("a", "x"), ("b", "x"), ("c", "y")] {
        let mut labelled = config_map(name);
        labelled["metadata"]["labels"] = json!({"app": app});
        server.post(CONFIG_MAPS, &labelled).await;
    }
    let found = server
        .delete(&format!("{CONFIG_MAPS}?labelSelector=app%3Dx"))
        .await
        .json();
    assert_eq!(found["items"].as_array().map(Vec::len), Some(2));
    let left = server.get(CONFIG_MAPS).await.json();
    assert_eq!(left["items"][0]["metadata"]["name"], "c");
    assert_eq!(left["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn tables_and_metadata_come_on_request() {
    let server = Server::start().await;
    server.post(CONFIG_MAPS, &config_map("c")).await;
    let table = [(
        "accept",
        "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
    )];
    let answer = server.request("GET", CONFIG_MAPS, &table, String::new()).await.json();
    assert_eq!(
        (&answer["kind"], &answer["apiVersion"]),
        (&json!("Table"), &json!("meta.k8s.io/v1"))
    );
    assert_eq!(answer["columnDefinitions"][0]["name"], "Name");
    assert_eq!(answer["rows"][0]["cells"][0], "c");
    assert_eq!(answer["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(answer["rows"][0]["object"].get("data"), None);
    let metadata = [(
        "accept",
        "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
    )];
    let answer = server
        .request("GET", CONFIG_MAPS, &metadata, String::new())
        .await
        .json();
    assert_eq!(answer["kind"], "PartialObjectMetadataList");
    assert_eq!(answer["items"][0]["metadata"]["name"], "c");
    let yaml = server
        .request("GET", CONFIG_MAPS, &[("accept", "application/yaml")], String::new())
        .await;
    assert!(String::from_utf8_lossy(&yaml.body).contains("kind: ConfigMapList"));
}
