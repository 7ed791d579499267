//! Objects that are answered and not kept: Bindings at both of their places, and how the components are.

use http::StatusCode;
use serde_json::{Value, json};

use crate::common::{Server, pod};

const PODS: &str = "/api/v1/namespaces/demo/pods";
const BINDINGS: &str = "/api/v1/namespaces/demo/bindings";

fn binding(pod: &str, target: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {"name": pod, "labels": {"zone": "a"}, "annotations": {"by": "hand"}},
        "target": target,
    })
}

#[tokio::test]
async fn a_binding_may_be_posted_to_the_namespace() {
    let server = Server::start().await;
    server.post(PODS, &pod("p", "")).await;
    let dry = server
        .post(&format!("{BINDINGS}?dryRun=All"), &binding("p", json!({"name": "w1"})))
        .await;
    assert_eq!(dry.code, StatusCode::CREATED);
    let bound = server
        .post(BINDINGS, &binding("p", json!({"kind": "Node", "name": "w1"})))
        .await;
    assert_eq!(
        (bound.code, &bound.json()["status"]),
        (StatusCode::CREATED, &json!("Success"))
    );
    let pod = server.get(&format!("{PODS}/p")).await.json();
    assert_eq!(pod["spec"]["nodeName"], "w1");
    assert_eq!(pod["metadata"]["labels"], json!({"app": "web", "zone": "a"}));
    assert_eq!(pod["metadata"]["annotations"], json!({"by": "hand"}));
    assert_eq!(pod["status"]["conditions"][0]["type"], "PodScheduled");
    let gone = server.post(BINDINGS, &binding("q", json!({"name": "w1"}))).await;
    assert_eq!(
        (gone.code, gone.message()),
        (StatusCode::NOT_FOUND, r#"pods "q" not found"#.to_owned())
    );
}

#[tokio::test]
async fn a_binding_that_is_none_is_refused_in_kubernetes_words() {
    let server = Server::start().await;
    let mut gated = pod("gated", "");
    gated["spec"]["schedulingGates"] = json!([{"name": "example.com/wait"}]);
    server.post(PODS, &gated).await;
    let made = server.post(PODS, &pod("p", "")).await.json();
    let other = server
        .post(&format!("{PODS}/p/binding"), &binding("q", json!({"name": "w1"})))
        .await;
    assert_eq!(other.code, StatusCode::BAD_REQUEST);
    assert_eq!(other.message(), "name in URL does not match name in Binding object");
    let nowhere = server.post(BINDINGS, &binding("p", json!({"kind": "Service"}))).await;
    assert_eq!(
        nowhere.message(),
        r#"[target.kind: Unsupported value: "Service": supported values: "Node", "<empty>", target.name: Required value]"#
    );
    let waits = server.post(BINDINGS, &binding("gated", json!({"name": "w1"}))).await;
    assert_eq!(waits.code, StatusCode::CONFLICT);
    assert_eq!(
        waits.message(),
        r#"Operation cannot be fulfilled on pods/binding "gated": pod gated has non-empty .spec.schedulingGates"#
    );
    let mut old = binding("p", json!({"name": "w1"}));
    old["metadata"]["uid"] = "another".into();
    let old = server.post(BINDINGS, &old).await;
    assert_eq!(old.code, StatusCode::CONFLICT);
    let uid = made["metadata"]["uid"].as_str().expect("is text");
    let said = format!("Precondition failed: UID in precondition: another, UID in object meta: {uid}");
    assert!(old.message().contains(&said), "{}", old.message());
}

#[tokio::test]
async fn components_are_healthy_once_the_cluster_is_made() {
    let server = Server::start().await;
    let path = "/api/v1/componentstatuses";
    let condition = |list: &Value, at: usize| list["items"][at]["conditions"][0].clone();
    let before = server.get(path).await.json();
    assert_eq!(condition(&before, 1)["status"], "False", "nothing schedules yet");
    assert_eq!(condition(&before, 2)["message"], "ok");
    server.state.set_ready();
    let list = server.get(path).await;
    assert_eq!(
        list.headers[http::header::WARNING],
        r#"299 - "v1 ComponentStatus is deprecated in v1.19+""#
    );
    let list = list.json();
    assert_eq!(list["kind"], "ComponentStatusList");
    let names: Vec<&Value> = list["items"]
        .as_array()
        .expect("is a list")
        .iter()
        .map(|item| &item["metadata"]["name"])
        .collect();
    assert_eq!(names, ["controller-manager", "scheduler", "etcd-0"]);
    assert_eq!(
        condition(&list, 1),
        json!({"type": "Healthy", "status": "True", "message": "ok"})
    );
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = server
        .request("GET", &format!("{path}/scheduler"), &accept, String::new())
        .await
        .json();
    assert_eq!(table["rows"][0]["cells"], json!(["scheduler", "Healthy", "ok", ""]));
    let selected = server
        .get(&format!("{path}?fieldSelector=metadata.name%3Detcd-0"))
        .await
        .json();
    assert_eq!(selected["items"].as_array().map(Vec::len), Some(1));
    let unknown = server.get(&format!("{path}/nope")).await;
    assert_eq!(unknown.message(), "Component not found: nope");
    let made = server.post(path, &json!({})).await;
    assert_eq!(made.code, StatusCode::METHOD_NOT_ALLOWED);
}
