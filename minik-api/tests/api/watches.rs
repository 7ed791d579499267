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

/// The options that apimachinery's ValidateListOptions refuses, and its words.
#[tokio::test]
async fn options_that_contradict_each_other_are_refused_all_at_once() {
    let server = Server::start().await;
    let not_older =
        "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
    let watch_only = "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
    let unsupported = "resourceVersionMatch: Unsupported value: \"Exact\": supported values: \"NotOlderThan\"";
    let alone = "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided";
    let continued = "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided";
    let cases = [
        ("watch=1&sendInitialEvents=false", not_older.to_owned()),
        ("watch=1&resourceVersionMatch=NotOlderThan", watch_only.to_owned()),
        (
            "watch=1&sendInitialEvents=true&resourceVersionMatch=Exact",
            format!("[{not_older}, {unsupported}]"),
        ),
        ("resourceVersionMatch=Exact", alone.to_owned()),
        (
            "resourceVersionMatch=NotOlderThan&continue=x",
            format!("[{alone}, {continued}]"),
        ),
        (
            "resourceVersionMatch=Exact&resourceVersion=0",
            "resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""
                .to_owned(),
        ),
        (
            "resourceVersionMatch=Newest&resourceVersion=1",
            "resourceVersionMatch: Unsupported value: \"Newest\": supported values: \"Exact\", \"NotOlderThan\", \"\""
                .to_owned(),
        ),
        (
            "sendInitialEvents=true",
            "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list".to_owned(),
        ),
    ];
    for (query, wanted) in cases {
        let answer = server.get(&format!("{CONFIG_MAPS}?{query}")).await;
        assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY, "{query}");
        assert_eq!(
            answer.message(),
            format!("ListOptions.meta.k8s.io \"\" is invalid: {wanted}"),
            "{query}"
        );
    }
    let future = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=99999";
    let answer = server.get(&format!("{CONFIG_MAPS}?{future}")).await;
    assert_eq!(answer.code, StatusCode::GATEWAY_TIMEOUT);
    assert!(
        answer
            .message()
            .starts_with("Too large resource version: 99999, current: ")
    );
}

/// The lines that a watch of at most a second gives.
async fn lines(server: &Server, path: &str, accept: &str) -> Vec<Value> {
    let answer = server
        .request(
            "GET",
            &format!("{path}&timeoutSeconds=1"),
            &[("accept", accept)],
            String::new(),
        )
        .await;
    let lines = answer.body.split(|byte| *byte == b'\n');
    lines
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).expect("is JSON"))
        .collect()
}

#[tokio::test]
async fn where_a_watch_starts() {
    let server = Server::start().await;
    server.post(CONFIG_MAPS, &config_map("a")).await;
    let between = server.get(CONFIG_MAPS).await.json()["metadata"]["resourceVersion"]
        .as_str()
        .expect("is text")
        .to_owned();
    server.post(CONFIG_MAPS, &config_map("b")).await;
    let names = async |query: &str| -> Vec<Value> {
        let lines = lines(&server, &format!("{CONFIG_MAPS}?watch=1{query}"), "application/json").await;
        lines
            .iter()
            .map(|line| line["object"]["metadata"]["name"].clone())
            .collect()
    };
    assert_eq!(names("").await, ["a", "b"]);
    assert_eq!(names("&resourceVersion=0").await, ["a", "b"]);
    assert_eq!(names(&format!("&resourceVersion={between}")).await, ["b"]);
    let nothing: [&str; 0] = [];
    assert_eq!(
        names("&sendInitialEvents=false&resourceVersionMatch=NotOlderThan").await,
        nothing
    );
}

/// What 1.36 sends at the end of the initial events: an empty object with structs by value and no name.
#[tokio::test]
async fn bookmarks_are_empty_objects_of_the_kind() {
    let server = Server::start().await;
    let services = "/api/v1/namespaces/demo/services?watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan";
    let seen = lines(&server, services, "application/json").await;
    let revision = server.state.storage.cache().revision().to_string();
    assert_eq!(
        seen,
        [json!({"type": "BOOKMARK", "object": {
            "kind": "Service", "apiVersion": "v1",
            "metadata": {"resourceVersion": revision, "annotations": {"k8s.io/initial-events-end": "true"}},
            "spec": {}, "status": {"loadBalancer": {}},
        }})]
    );
    let partial = lines(
        &server,
        services,
        "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
    )
    .await;
    assert_eq!(partial[0]["object"]["kind"], "PartialObjectMetadata");
    let table = lines(&server, services, "application/json;as=Table;g=meta.k8s.io;v=v1").await;
    assert_eq!(
        (
            &table[0]["object"]["kind"],
            &table[0]["object"]["metadata"]["annotations"]
        ),
        (&json!("Table"), &json!({"k8s.io/initial-events-end": "true"}))
    );
}

/// A client that asked for bookmarks gets one shortly before its time is up.
#[tokio::test(start_paused = true)]
async fn a_watch_ends_with_a_bookmark_two_seconds_before() {
    let server = Server::start().await;
    let answer = server
        .get(&format!(
            "{CONFIG_MAPS}?watch=1&allowWatchBookmarks=true&timeoutSeconds=150"
        ))
        .await;
    let text = String::from_utf8(answer.body).expect("is text");
    // After 60 s, after 120 s, and at 148 s.
    assert_eq!(text.matches("\"type\":\"BOOKMARK\"").count(), 3, "{text}");
}
