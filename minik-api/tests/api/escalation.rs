//! Nobody grants more than they have; and who asks as somebody else is that somebody in all that is known of them.

use axum::body::Body;
use http::{Request, StatusCode};
use minik_api::server::Identity;
use serde_json::{Value, json};

use crate::common::{Answer, Server};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

fn jane() -> Identity {
    Identity {
        user: "jane".to_owned(),
        groups: vec!["system:authenticated".to_owned()],
        ..Identity::default()
    }
}

async fn send_as_jane(server: &Server, method: &str, path: &str, body: &Value) -> Answer {
    let media_type = match method {
        "PATCH" => "application/merge-patch+json",
        _ => "application/json",
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", media_type)
        .body(Body::from(body.to_string()))
        .expect("is a request");
    server.send(jane(), request).await
}

/// A cluster in which jane may write roles and bindings, and read Pods.
async fn cluster() -> Server {
    let server = Server::start().await;
    let rules = json!([
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["*"], "verbs": ["create", "update", "patch", "get"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
    ]);
    server
        .post(
            &format!("{RBAC}/clusterroles"),
            &json!({"metadata": {"name": "author"}, "rules": rules}),
        )
        .await;
    let binding = json!({
        "metadata": {"name": "author"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "author"},
        "subjects": [{"kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io"}],
    });
    let made = server.post(&format!("{RBAC}/clusterrolebindings"), &binding).await;
    assert_eq!(made.code, StatusCode::CREATED);
    server
}

fn role(name: &str, verbs: &[&str]) -> Value {
    json!({"metadata": {"name": name}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": verbs}]})
}

#[tokio::test]
async fn a_role_grants_no_more_than_its_writer_has() {
    let server = cluster().await;
    let roles = format!("{RBAC}/namespaces/demo/roles");
    let made = send_as_jane(&server, "POST", &roles, &role("reader", &["get", "list"])).await;
    assert_eq!(made.code, StatusCode::CREATED);
    let words = "is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\"]}";
    let refused = send_as_jane(&server, "POST", &roles, &role("deleter", &["get", "delete"])).await;
    assert_eq!(refused.code, StatusCode::FORBIDDEN);
    assert_eq!(
        refused.message(),
        format!(
            r#"roles.rbac.authorization.k8s.io "deleter" is forbidden: user "jane" (groups=["system:authenticated"]) {words}"#
        )
    );
    let widened = send_as_jane(
        &server,
        "PATCH",
        &format!("{roles}/reader"),
        &role("reader", &["delete"]),
    )
    .await;
    assert!(widened.message().ends_with(words), "{}", widened.message());
    let applied = server.get(&format!("{roles}/reader")).await.json();
    assert_eq!(applied["rules"][0]["verbs"], json!(["get", "list"]));
    let held = send_as_jane(
        &server,
        "PATCH",
        &format!("{roles}/reader"),
        &json!({"metadata": {"finalizers": ["example.com/x"]}}),
    )
    .await;
    assert_eq!(held.code, StatusCode::OK, "{}", held.message());
    let all = json!({"metadata": {"name": "all"}, "aggregationRule": {"clusterRoleSelectors": [{}]}});
    let refused = send_as_jane(&server, "POST", &format!("{RBAC}/clusterroles"), &all).await;
    assert_eq!(
        refused.message(),
        r#"clusterroles.rbac.authorization.k8s.io "all" is forbidden: must have cluster-admin privileges to use the aggregationRule"#
    );
    grant(&server, "escalate", "roles").await;
    let made = send_as_jane(&server, "POST", &roles, &role("deleter", &["delete"])).await;
    assert_eq!(made.code, StatusCode::CREATED, "{}", made.message());
}

/// Gives jane one more verb on one kind of the group.
async fn grant(server: &Server, verb: &str, plural: &str) {
    let rule = json!([{"op": "add", "path": "/rules/-", "value": {
        "apiGroups": ["rbac.authorization.k8s.io"], "resources": [plural], "verbs": [verb],
    }}]);
    let headers = [("content-type", "application/json-patch+json")];
    let path = format!("{RBAC}/clusterroles/author");
    assert_eq!(
        server.request("PATCH", &path, &headers, rule.to_string()).await.code,
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_binding_grants_no_more_than_its_writer_has() {
    let server = cluster().await;
    let roles = format!("{RBAC}/namespaces/demo/roles");
    server.post(&roles, &role("reader", &["get"])).await;
    server.post(&roles, &role("deleter", &["delete"])).await;
    let bindings = format!("{RBAC}/namespaces/demo/rolebindings");
    let binding = |role: &str| {
        json!({
            "metadata": {"name": role}, "roleRef": {"kind": "Role", "name": role, "apiGroup": "rbac.authorization.k8s.io"},
            "subjects": [{"kind": "User", "name": "joe", "apiGroup": "rbac.authorization.k8s.io"}],
        })
    };
    let made = send_as_jane(&server, "POST", &bindings, &binding("reader")).await;
    assert_eq!(made.code, StatusCode::CREATED, "{}", made.message());
    let refused = send_as_jane(&server, "POST", &bindings, &binding("deleter")).await;
    assert_eq!(refused.code, StatusCode::FORBIDDEN);
    let missing = send_as_jane(&server, "POST", &bindings, &binding("nope")).await;
    assert_eq!(
        (missing.code, missing.message()),
        (
            StatusCode::NOT_FOUND,
            r#"roles.rbac.authorization.k8s.io "nope" not found"#.to_owned()
        )
    );
    grant(&server, "bind", "roles").await;
    let made = send_as_jane(&server, "POST", &bindings, &binding("deleter")).await;
    assert_eq!(made.code, StatusCode::CREATED, "{}", made.message());
}

#[tokio::test]
async fn whoever_is_impersonated_has_what_the_headers_say() {
    let server = cluster().await;
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let headers = [
        ("content-type", "application/json"),
        ("impersonate-user", "joe"),
        ("impersonate-group", "devs"),
        ("impersonate-group", "system:masters"),
        ("impersonate-uid", "7"),
        ("impersonate-extra-scopes", "view"),
        ("impersonate-extra-scopes", "edit"),
        ("impersonate-extra-example.com%2fteam", "blue"),
    ];
    let review = server.request("POST", path, &headers, "{}".to_owned()).await.json();
    assert_eq!(
        review["status"]["userInfo"],
        json!({
            "username": "joe", "groups": ["devs", "system:masters", "system:authenticated"], "uid": "7",
            "extra": {"scopes": ["view", "edit"], "example.com/team": ["blue"]},
        })
    );
    let nobody = server.request("POST", path, &headers[4..5], "{}".to_owned()).await;
    assert_eq!(nobody.code, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(
        nobody.message().contains("without impersonating a user"),
        "{}",
        nobody.message()
    );
    let rule = json!([{"op": "add", "path": "/rules/-", "value": {"apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"]}}]);
    let patch = [("content-type", "application/json-patch+json")];
    server
        .request(
            "PATCH",
            &format!("{RBAC}/clusterroles/author"),
            &patch,
            rule.to_string(),
        )
        .await;
    let request = Request::get("/api/v1/namespaces/demo/pods")
        .header("impersonate-user", "joe")
        .header("impersonate-extra-scopes", "view")
        .body(Body::empty())
        .expect("is a request");
    let refused = server.send(jane(), request).await;
    assert_eq!(
        refused.message(),
        r#"userextras.authentication.k8s.io "view" is forbidden: User "jane" cannot impersonate resource "userextras/scopes" in API group "authentication.k8s.io" at the cluster scope"#
    );
}
