//! Roles decide, and reviews say what they would decide.

use axum::body::Body;
use http::{Request, StatusCode};
use minik_api::server::Identity;
use serde_json::{Value, json};

use crate::common::{Answer, Server};

const SELF_ACCESS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";

fn account() -> Identity {
    Identity {
        user: "system:serviceaccount:demo:default".to_owned(),
        groups: [
            "system:serviceaccounts",
            "system:serviceaccounts:demo",
            "system:authenticated",
        ]
        .map(str::to_owned)
        .to_vec(),
        ..Identity::default()
    }
}

impl Server {
    async fn send_as(&self, who: &Identity, method: &str, path: &str, body: &Value) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json");
        self.send(
            who.clone(),
            request.body(Body::from(body.to_string())).expect("is a request"),
        )
        .await
    }

    async fn grant(&self) {
        let basic = json!({"metadata": {"name": "basic"}, "rules": [
            {"apiGroups": ["authorization.k8s.io"], "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"], "verbs": ["create"]},
            {"apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"], "verbs": ["create"]},
            {"nonResourceURLs": ["/apis"], "verbs": ["get"]}]});
        let all = json!({"metadata": {"name": "basic"}, "roleRef": {"kind": "ClusterRole", "name": "basic"},
            "subjects": [{"kind": "Group", "name": "system:authenticated"}]});
        let rbac = "/apis/rbac.authorization.k8s.io/v1";
        let role = json!({"metadata": {"name": "reader"},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]});
        let binding = json!({"metadata": {"name": "read"}, "roleRef": {"kind": "Role", "name": "reader"},
            "subjects": [{"kind": "ServiceAccount", "name": "default"}]});
        for (path, object) in [
            (format!("{rbac}/clusterroles"), basic),
            (format!("{rbac}/clusterrolebindings"), all),
            (format!("{rbac}/namespaces/demo/roles"), role),
            (format!("{rbac}/namespaces/demo/rolebindings"), binding),
        ] {
            let answer = self.post(&path, &object).await;
            assert_eq!(answer.code, StatusCode::CREATED, "{}", answer.message());
        }
    }
}

fn asked(verb: &str, resource: &str) -> Value {
    json!({"spec": {"resourceAttributes": {"namespace": "demo", "verb": verb, "resource": resource}}})
}

#[tokio::test]
async fn a_service_account_may_do_what_its_roles_say_and_nothing_else() {
    let server = Server::start().await;
    let pods = "/api/v1/namespaces/demo/pods";
    let refused = server.send_as(&account(), "GET", pods, &Value::Null).await;
    assert_eq!(refused.code, StatusCode::FORBIDDEN);
    assert_eq!(
        refused.message(),
        r#"pods is forbidden: User "system:serviceaccount:demo:default" cannot list resource "pods" in API group "" in the namespace "demo""#
    );
    let path = server.send_as(&account(), "GET", "/apis", &Value::Null).await;
    assert_eq!(
        path.message(),
        r#"forbidden: User "system:serviceaccount:demo:default" cannot get path "/apis""#
    );
    server.grant().await;
    assert_eq!(
        server.send_as(&account(), "GET", pods, &Value::Null).await.code,
        StatusCode::OK
    );
    assert_eq!(
        server.send_as(&account(), "GET", "/apis", &Value::Null).await.code,
        StatusCode::OK
    );
    let other = server
        .send_as(&account(), "GET", "/api/v1/namespaces/default/pods", &Value::Null)
        .await;
    assert_eq!(other.code, StatusCode::FORBIDDEN);
    // A role that goes takes its rights along, and the refusal says what is missing.
    server
        .delete("/apis/rbac.authorization.k8s.io/v1/namespaces/demo/roles/reader")
        .await;
    let gone = server.send_as(&account(), "GET", pods, &Value::Null).await;
    let missing = r#"in the namespace "demo": RBAC: role.rbac.authorization.k8s.io "reader" not found"#;
    assert!(gone.message().ends_with(missing), "{}", gone.message());
}

#[tokio::test]
async fn can_i_is_answered_as_the_request_would_be() {
    let server = Server::start().await;
    server.grant().await;
    let yes = server
        .send_as(&account(), "POST", SELF_ACCESS, &asked("list", "pods"))
        .await;
    assert_eq!(yes.code, StatusCode::CREATED, "{}", yes.message());
    assert_eq!(
        yes.json()["status"],
        json!({"allowed": true, "reason": r#"RBAC: allowed by RoleBinding "read/demo" of Role "reader" to ServiceAccount "default""#})
    );
    let no = server
        .send_as(&account(), "POST", SELF_ACCESS, &asked("delete", "pods"))
        .await;
    assert_eq!(no.json()["status"], json!({"allowed": false}));
    let admin = server.post(SELF_ACCESS, &asked("delete", "nodes")).await.json();
    assert_eq!(admin["status"], json!({"allowed": true}));
    assert_eq!(
        (&admin["kind"], &admin["apiVersion"]),
        (&json!("SelfSubjectAccessReview"), &json!("authorization.k8s.io/v1"))
    );
    let mut other = asked("list", "pods");
    other["spec"]["user"] = account().user.into();
    let review = server
        .post("/apis/authorization.k8s.io/v1/subjectaccessreviews", &other)
        .await
        .json();
    assert_eq!(review["status"]["allowed"], true);
    let local = "/apis/authorization.k8s.io/v1/namespaces/demo/localsubjectaccessreviews";
    assert_eq!(server.post(local, &other).await.json()["status"]["allowed"], true);
    let nothing = server.post(SELF_ACCESS, &json!({"spec": {}})).await;
    assert_eq!(nothing.code, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        nothing
            .message()
            .ends_with("exactly one of nonResourceAttributes or resourceAttributes must be specified")
    );
}

#[tokio::test]
async fn who_am_i_and_what_may_i() {
    let server = Server::start().await;
    server.grant().await;
    let reviews = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let me = server.send_as(&account(), "POST", reviews, &json!({})).await.json();
    assert_eq!(
        me["status"]["userInfo"],
        json!({"username": account().user, "groups": account().groups})
    );
    let rules = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let found = server
        .send_as(&account(), "POST", rules, &json!({"spec": {"namespace": "demo"}}))
        .await
        .json();
    let status = &found["status"];
    assert_eq!(status["incomplete"], false);
    assert_eq!(
        status["nonResourceRules"],
        json!([{"verbs": ["get"], "nonResourceURLs": ["/apis"]}])
    );
    let pods = json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]});
    assert!(
        status["resourceRules"].as_array().expect("is a list").contains(&pods),
        "{status}"
    );
    // Reviews are answered, never kept.
    let list = server.get(SELF_ACCESS).await;
    assert_eq!(list.code, StatusCode::METHOD_NOT_ALLOWED);
    let token = server
        .post(
            "/apis/authentication.k8s.io/v1/tokenreviews",
            &json!({"spec": {"token": "x"}}),
        )
        .await
        .json();
    assert_ne!(token["status"]["authenticated"], true);
}

#[tokio::test]
async fn a_pod_of_a_runtime_class_finds_none() {
    let server = Server::start().await;
    let spec = json!({"runtimeClassName": "gvisor", "containers": [{"name": "a", "image": "nginx"}]});
    let pod = json!({"metadata": {"name": "a"}, "spec": spec});
    let refused = server.post("/api/v1/namespaces/demo/pods", &pod).await;
    assert_eq!(refused.code, StatusCode::FORBIDDEN);
    assert_eq!(
        refused.message(),
        r#"pods "a" is forbidden: pod rejected: RuntimeClass "gvisor" not found"#
    );
}

#[tokio::test]
async fn a_claim_without_a_class_gets_the_default_one() {
    let server = Server::start().await;
    let class = json!({
        "metadata": {"name": "fast", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "example.com/disks",
    });
    let classes = "/apis/storage.k8s.io/v1/storageclasses";
    assert_eq!(server.post(classes, &class).await.code, StatusCode::CREATED);
    let claims = "/api/v1/namespaces/demo/persistentvolumeclaims";
    let annotated = json!({"volume.beta.kubernetes.io/storage-class": "slow"});
    for (name, annotations, expected) in [
        ("plain", json!({}), json!("fast")),
        ("annotated", annotated, json!(null)),
    ] {
        let claim = json!({
            "metadata": {"name": name, "annotations": annotations},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        });
        let made = server.post(claims, &claim).await;
        assert_eq!(made.code, StatusCode::CREATED, "{name}");
        assert_eq!(made.json()["spec"]["storageClassName"], expected, "{name}");
    }
}

#[tokio::test]
async fn a_pods_priority_comes_from_its_class() {
    let server = Server::start().await;
    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    let pods = "/api/v1/namespaces/demo/pods";
    let pod = |name: &str, extra: Value| {
        let mut spec = json!({"containers": [{"name": "a", "image": "nginx"}]});
        spec.as_object_mut()
            .expect("is an object")
            .extend(extra.as_object().expect("is an object").clone());
        json!({"metadata": {"name": name}, "spec": spec})
    };
    let refused = server.post(pods, &pod("a", json!({"priorityClassName": "high"}))).await;
    assert_eq!(refused.code, StatusCode::FORBIDDEN);
    assert_eq!(
        refused.message(),
        r#"pods "a" is forbidden: no PriorityClass with name high was found"#
    );
    let high = json!({"metadata": {"name": "high"}, "value": 1000, "preemptionPolicy": "Never"});
    assert_eq!(server.post(classes, &high).await.code, StatusCode::CREATED);
    let made = server
        .post(pods, &pod("a", json!({"priorityClassName": "high"})))
        .await
        .json();
    assert_eq!(
        (&made["spec"]["priority"], &made["spec"]["preemptionPolicy"]),
        (&json!(1000), &json!("Never"))
    );
    let own = server.post(pods, &pod("b", json!({"priority": 5}))).await;
    assert_eq!(
        own.message(),
        r#"pods "b" is forbidden: the integer value of priority (5) must not be provided in pod spec; priority admission controller computed 0 from the given PriorityClass name"#
    );
    let default = |name: &str| json!({"metadata": {"name": name}, "value": 7, "globalDefault": true});
    assert_eq!(server.post(classes, &default("usual")).await.code, StatusCode::CREATED);
    let made = server.post(pods, &pod("c", json!({}))).await.json();
    assert_eq!(
        (&made["spec"]["priority"], &made["spec"]["priorityClassName"]),
        (&json!(7), &json!("usual"))
    );
    let second = server.post(classes, &default("another")).await;
    assert_eq!(
        second.message(),
        r#"priorityclasses.scheduling.k8s.io "another" is forbidden: PriorityClass usual is already marked as default. Only one default can exist"#
    );
}

#[tokio::test]
async fn who_may_impersonate_asks_as_somebody_else() {
    let server = Server::start().await;
    server.grant().await;
    let pods = "/api/v1/namespaces/demo/pods";
    let as_account = [("impersonate-user", "system:serviceaccount:demo:default")];
    assert_eq!(
        server.request("GET", pods, &as_account, String::new()).await.code,
        StatusCode::OK
    );
    let refused = server.request("GET", "/api/v1/nodes", &as_account, String::new()).await;
    assert_eq!(refused.code, StatusCode::FORBIDDEN);
    let request = Request::get(pods)
        .header("impersonate-user", "jane")
        .body(Body::empty())
        .expect("is a request");
    let refused = server.send(account(), request).await;
    assert_eq!(
        refused.message(),
        r#"users "jane" is forbidden: User "system:serviceaccount:demo:default" cannot impersonate resource "users" in API group "" at the cluster scope"#
    );
}
