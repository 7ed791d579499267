//! What hangs below an object: tokens, evictions, ephemeral containers, resizes; and how Jobs and generated names
//! come out of the whole way through the server.

use axum::body::Body;
use http::{Request, StatusCode};
use minik_api::server::Identity;
use serde_json::{Value, json};

use crate::common::{Answer, Server, pod};

const JSON: (&str, &str) = ("content-type", "application/json");

async fn with_account() -> Server {
    let server = Server::start().await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}});
    let made = server.post("/api/v1/namespaces/demo/serviceaccounts", &account).await;
    assert_eq!(made.code, StatusCode::CREATED);
    server
}

async fn request_token(server: &Server, spec: Value) -> Answer {
    let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
    server
        .post("/api/v1/namespaces/demo/serviceaccounts/robot/token", &body)
        .await
}

/// What a bearer of `token` is told about a ConfigMap that is not there.
async fn asked_with(server: &Server, token: &str) -> Answer {
    let request =
        Request::get("/api/v1/namespaces/demo/configmaps/x").header("authorization", format!("Bearer {token}"));
    let request = request.body(Body::empty()).expect("is a request");
    server.send(Identity::anonymous(), request).await
}

fn token_of(answer: &Answer) -> String {
    assert_eq!(
        answer.code,
        StatusCode::CREATED,
        "{}",
        String::from_utf8_lossy(&answer.body)
    );
    answer.json()["status"]["token"].as_str().expect("a token").to_owned()
}

#[tokio::test]
async fn a_token_speaks_for_its_account_as_long_as_that_is_there() {
    let server = with_account().await;
    let answer = request_token(&server, json!({"expirationSeconds": 3600})).await;
    let body = answer.json();
    assert_eq!(body["kind"], "TokenRequest");
    assert_eq!(
        body["spec"]["audiences"],
        json!(["https://kubernetes.default.svc.cluster.local"])
    );
    let token = token_of(&answer);
    let forbidden = asked_with(&server, &token).await;
    assert_eq!(forbidden.code, StatusCode::FORBIDDEN);
    assert_eq!(
        forbidden.message(),
        "configmaps \"x\" is forbidden: User \"system:serviceaccount:demo:robot\" cannot get resource \"configmaps\" in API group \"\" in the namespace \"demo\""
    );
    assert_eq!(asked_with(&server, "nonsense").await.code, StatusCode::UNAUTHORIZED);
    server.delete("/api/v1/namespaces/demo/serviceaccounts/robot").await;
    assert_eq!(asked_with(&server, &token).await.code, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_bound_token_ends_with_its_pod() {
    let server = with_account().await;
    let mut body = pod("p", "");
    body["spec"]["serviceAccountName"] = "robot".into();
    assert_eq!(
        server.post("/api/v1/namespaces/demo/pods", &body).await.code,
        StatusCode::CREATED
    );
    let reference = json!({"apiVersion": "v1", "kind": "Pod", "name": "p"});
    let token = token_of(&request_token(&server, json!({"boundObjectRef": reference})).await);
    assert_eq!(asked_with(&server, &token).await.code, StatusCode::FORBIDDEN);
    server.delete("/api/v1/namespaces/demo/pods/p").await;
    assert_eq!(asked_with(&server, &token).await.code, StatusCode::UNAUTHORIZED);
    let elsewhere = request_token(&server, json!({"boundObjectRef": reference})).await;
    assert_eq!(elsewhere.code, StatusCode::NOT_FOUND);
    let for_others = token_of(&request_token(&server, json!({"audiences": ["vault"]})).await);
    assert_eq!(asked_with(&server, &for_others).await.code, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn durations_have_bounds_and_verifiers_find_the_key() {
    let server = with_account().await;
    for (seconds, detail) in [
        (599_i64, "may not specify a duration less than 10 minutes"),
        ((1 << 32) + 1, "may not specify a duration larger than 2^32 seconds"),
    ] {
        let refused = request_token(&server, json!({"expirationSeconds": seconds})).await;
        assert_eq!(refused.code, StatusCode::UNPROCESSABLE_ENTITY);
        let text = format!(
            "TokenRequest.authentication.k8s.io \"robot\" is invalid: spec.expirationSeconds: Invalid value: {seconds}: {detail}"
        );
        assert_eq!(refused.message(), text);
    }
    let configuration = server.get("/.well-known/openid-configuration").await.json();
    assert_eq!(configuration["issuer"], "https://kubernetes.default.svc.cluster.local");
    let keys = server.get("/openid/v1/jwks").await;
    assert_eq!(keys.headers["content-type"], "application/jwk-set+json");
    assert_eq!(keys.json()["keys"][0]["alg"], "ES256");
}

fn eviction(name: &str, options: Value) -> Value {
    json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}, "deleteOptions": options})
}

#[tokio::test]
async fn an_eviction_deletes_unless_a_precondition_or_a_dry_run_says_otherwise() {
    let server = Server::start().await;
    server.post("/api/v1/namespaces/demo/pods", &pod("p", "")).await;
    let path = "/api/v1/namespaces/demo/pods/p/eviction";
    let other = server.post(path, &eviction("q", json!({}))).await;
    assert_eq!(other.message(), "name in URL does not match name in Eviction object");
    let conflict = server
        .post(path, &eviction("p", json!({"preconditions": {"uid": "u"}})))
        .await;
    assert_eq!(conflict.code, StatusCode::CONFLICT);
    let dry = server.post(path, &eviction("p", json!({"dryRun": ["All"]}))).await;
    assert_eq!(dry.code, StatusCode::CREATED);
    assert_eq!(server.get("/api/v1/namespaces/demo/pods/p").await.code, StatusCode::OK);
    let done = server.post(path, &eviction("p", json!({}))).await;
    assert_eq!(
        (done.code, done.json()["status"].clone()),
        (StatusCode::CREATED, json!("Success"))
    );
    assert_eq!(
        server.get("/api/v1/namespaces/demo/pods/p").await.code,
        StatusCode::NOT_FOUND
    );
    let gone = server.post(path, &eviction("p", json!({}))).await;
    assert_eq!(gone.message(), "pods \"p\" not found");
}

#[tokio::test]
async fn ephemeral_containers_are_only_added() {
    let server = Server::start().await;
    server.post("/api/v1/namespaces/demo/pods", &pod("p", "")).await;
    let path = "/api/v1/namespaces/demo/pods/p/ephemeralcontainers";
    let strategic = [("content-type", "application/strategic-merge-patch+json")];
    let patch = |containers: Value| json!({"spec": {"ephemeralContainers": containers}}).to_string();
    let debugger = json!([{"name": "debugger", "image": "busybox", "targetContainerName": "a"}]);
    let added = server.request("PATCH", path, &strategic, patch(debugger)).await;
    assert_eq!(added.code, StatusCode::OK, "{}", String::from_utf8_lossy(&added.body));
    let stored = server.get("/api/v1/namespaces/demo/pods/p").await.json();
    assert_eq!(stored["spec"]["ephemeralContainers"][0]["imagePullPolicy"], "Always");
    let wrong =
        json!([{"name": "second", "image": "busybox", "targetContainerName": "z", "ports": [{"containerPort": 1}]}]);
    let refused = server.request("PATCH", path, &strategic, patch(wrong)).await;
    let causes = refused.json()["details"]["causes"].clone();
    let texts: Vec<&str> = causes
        .as_array()
        .expect("causes")
        .iter()
        .filter_map(|c| c["message"].as_str())
        .collect();
    assert_eq!(
        texts,
        [
            "Not found: \"z\"",
            "Forbidden: cannot be set for an Ephemeral Container"
        ]
    );
    let mut without = stored.clone();
    without["spec"]["ephemeralContainers"] = json!([]);
    let removed = server.put(path, &without).await;
    assert_eq!(
        removed.message(),
        "Pod \"p\" is invalid: spec.ephemeralContainers: Forbidden: existing ephemeral containers \"debugger\" may not be removed\n"
    );
}

#[tokio::test]
async fn a_resize_keeps_the_class_of_its_pod() {
    let server = Server::start().await;
    let mut body = pod("p", "");
    body["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "100m"}});
    server.post("/api/v1/namespaces/demo/pods", &body).await;
    let path = "/api/v1/namespaces/demo/pods/p/resize";
    let strategic = [("content-type", "application/strategic-merge-patch+json")];
    let patch = |resources: Value| json!({"spec": {"containers": [{"name": "a", "resources": resources}]}}).to_string();
    let more = server
        .request("PATCH", path, &strategic, patch(json!({"requests": {"cpu": "200m"}})))
        .await;
    assert_eq!(more.code, StatusCode::OK, "{}", String::from_utf8_lossy(&more.body));
    assert_eq!(
        more.json()["spec"]["containers"][0]["resources"]["requests"]["cpu"],
        "200m"
    );
    let none = server
        .request("PATCH", path, &strategic, patch(json!({"requests": null})))
        .await;
    assert_eq!(
        none.message(),
        "Pod \"p\" is invalid: spec: Invalid value: \"BestEffort\": Pod QOS Class may not change as a result of resizing"
    );
}

#[tokio::test]
async fn jobs_get_their_labels_after_their_generated_name_and_leave_orphans() {
    let server = Server::start().await;
    let body = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"generateName": "pi-"}, "spec": {
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "pi", "image": "perl"}]}},
    }});
    let made = server.post("/apis/batch/v1/namespaces/demo/jobs", &body).await;
    assert_eq!(
        made.code,
        StatusCode::CREATED,
        "{}",
        String::from_utf8_lossy(&made.body)
    );
    let job = made.json();
    let name = job["metadata"]["name"].as_str().expect("a name");
    assert_eq!(job["spec"]["template"]["metadata"]["labels"]["job-name"], name);
    let deleted = server
        .request(
            "DELETE",
            &format!("/apis/batch/v1/namespaces/demo/jobs/{name}"),
            &[JSON],
            String::new(),
        )
        .await;
    let warning = deleted.headers["warning"].to_str().expect("is text");
    assert!(
        warning.contains("child pods are preserved by default when jobs are deleted"),
        "{warning}"
    );
    assert_eq!(deleted.json()["metadata"]["finalizers"], json!(["orphan"]));
}
