//! Watches over the in-process router: selections, initial events, forgotten revisions.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use http::StatusCode;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, WatchEvent, WatchParams};
use serde_json::{Value, json};

use crate::common::{Server, config_map, pod};

const CONFIG_MAPS: &str = "/api/v1/namespaces/demo/configmaps";
const PODS: &str = "/api/v1/namespaces/demo/pods";

#[tokio::test]
async fn a_watch_follows_a_selection() {
    let server = Server::start().await;
    let api: Api<Pod> = Api::namespaced(server.client(), "demo");
    let params = WatchParams::default().fields("spec.nodeName=w1");
    let start = server.get(PODS).await.json()["metadata"]["resourceVersion"]
        .as_str()
        .expect("is text")
        .to_owned();
    let mut events = api.watch(&params, &start).await.expect("starts").boxed();
    server.post(PODS, &pod("p", "")).await;
    server.post(PODS, &pod("q", "w1")).await;
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "w1"}});
    let bound = server.post(&format!("{PODS}/p/binding"), &binding).await;
    assert_eq!(
        (bound.code, &bound.json()["status"]),
        (StatusCode::CREATED, &json!("Success"))
    );
    let again = server.post(&format!("{PODS}/p/binding"), &binding).await;
    assert_eq!(
        again.message(),
        "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"w1\""
    );
    server
        .request("DELETE", &format!("{PODS}/q?gracePeriodSeconds=0"), &[], String::new())
        .await;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let next = tokio::time::timeout(Duration::from_secs(5), events.try_next()).await;
        seen.push(
            match next.expect("comes in time").expect("is an event").expect("goes on") {
                WatchEvent::Added(p) => format!("ADDED {}", p.metadata.name.expect("is named")),
                WatchEvent::Modified(p) => format!("MODIFIED {}", p.metadata.name.expect("is named")),
                WatchEvent::Deleted(p) => format!("DELETED {}", p.metadata.name.expect("is named")),
                other => panic!("{other:?}"),
            },
        );
    }
    assert_eq!(seen, ["ADDED q", "ADDED p", "DELETED q"]);
}

#[tokio::test]
async fn a_watch_list_says_where_the_beginning_ends() {
    let server = Server::start().await;
    server.post(CONFIG_MAPS, &config_map("c")).await;
    let options =
        "watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=1";
    let answer = server.get(&format!("{CONFIG_MAPS}?{options}")).await;
    let lines: Vec<Value> = answer
        .body
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).expect("is JSON"))
        .collect();
    assert_eq!(lines[0]["type"], "ADDED");
    assert_eq!(lines[0]["object"]["kind"], "ConfigMap");
    assert_eq!(lines[1]["type"], "BOOKMARK");
    assert_eq!(
        lines[1]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    assert_eq!(lines.len(), 2);
    let wrong = server
        .get(&format!("{CONFIG_MAPS}?watch=1&sendInitialEvents=true"))
        .await;
    assert_eq!(
        wrong.message(),
        "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
    );
}

#[tokio::test]
async fn a_watch_from_a_forgotten_revision_is_told() {
    let server = Server::start().await;
    for n in 0..5000 {
        let made = server.post(CONFIG_MAPS, &config_map(&format!("c{n}"))).await;
        assert_eq!(made.code, StatusCode::CREATED);
    }
    let line = server.get(&format!("{CONFIG_MAPS}?watch=1&resourceVersion=1")).await;
    let event = line.json();
    assert_eq!((line.code, &event["type"]), (StatusCode::OK, &json!("ERROR")));
    assert_eq!(
        (&event["object"]["code"], &event["object"]["reason"]),
        (&json!(410), &json!("Expired"))
    );
    let message = event["object"]["message"].as_str().expect("is text");
    assert!(message.starts_with("too old resource version: 1 ("), "{message}");
}
