//! Kubernetes protobuf over HTTP: what may be sent and asked for, and that it means the same as JSON.

use http::StatusCode;
use minik_api::resource::protobuf::{Expected, from_json, to_json};
use minik_api::server::Identity;
use serde_json::{Value, json};

use crate::common::{Answer, Server, config_map, pod};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// What client-go's typed clients take.
const TYPED: &str = "application/vnd.kubernetes.protobuf,application/json";
const CONFIG_MAPS: &str = "/api/v1/namespaces/demo/configmaps";
const PODS: &str = "/api/v1/namespaces/demo/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/demo/deployments";

fn decoded(body: &[u8]) -> Value {
    let nothing = Expected {
        api_version: String::new(),
        kind: "",
    };
    serde_json::from_slice(&to_json(body, &nothing).expect("decodes")).expect("is JSON")
}

async fn send(server: &Server, method: &str, path: &str, media_type: &str, body: Vec<u8>) -> Answer {
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", media_type)
        .body(body.into())
        .expect("is a request");
    server.send(Identity::admin(), request).await
}

async fn get_as(server: &Server, path: &str, accept: &str) -> Answer {
    server.request("GET", path, &[("accept", accept)], String::new()).await
}

/// The answer in protobuf, which must say what the one in JSON says.
async fn both(server: &Server, path: &str) -> (StatusCode, Value) {
    let answer = get_as(server, path, TYPED).await;
    assert_eq!(answer.headers["content-type"], PROTOBUF, "{path}");
    let object = decoded(&answer.body);
    (answer.code, object)
}

#[tokio::test]
async fn objects_lists_and_refusals_are_written_as_the_client_prefers() {
    let server = Server::start().await;
    for name in ["a", "b"] {
        server.post(CONFIG_MAPS, &config_map(name)).await;
    }
    server.post(PODS, &pod("p", "w1")).await;
    let paths = [
        format!("{CONFIG_MAPS}/a"),
        format!("{CONFIG_MAPS}/none"),
        format!("{PODS}/p"),
        CONFIG_MAPS.to_owned(),
        "/api/v1/nothing".to_owned(),
        "/apis".to_owned(),
        "/apis/apps".to_owned(),
        "/apis/apps/v1".to_owned(),
    ];
    for path in paths {
        let json = server.get(&path).await;
        let (code, object) = both(&server, &path).await;
        assert_eq!(code, json.code, "{path}");
        let mut wanted = json.json();
        // A list's items have no kind of their own, and empty fields of the wire no place in JSON.
        if wanted["items"].is_array() {
            wanted["metadata"] = json!({"resourceVersion": wanted["metadata"]["resourceVersion"]});
        }
        assert_eq!(object, wanted, "{path}");
    }
    let partial = format!("{PROTOBUF};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
    let list = decoded(&get_as(&server, CONFIG_MAPS, &partial).await.body);
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["items"][1]["metadata"]["name"], "b");
    let table = get_as(
        &server,
        CONFIG_MAPS,
        &format!("{PROTOBUF};as=Table;g=meta.k8s.io;v=v1,application/json"),
    )
    .await;
    assert_eq!(table.headers["content-type"], "application/json");
    assert_eq!(table.json()["kind"], "ConfigMapList");
}

#[tokio::test]
async fn a_watch_is_framed_in_protobuf() {
    let server = Server::start().await;
    server.post(CONFIG_MAPS, &config_map("a")).await;
    let options =
        "watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=1";
    let answer = get_as(&server, &format!("{CONFIG_MAPS}?{options}"), TYPED).await;
    assert_eq!(answer.headers["content-type"], format!("{PROTOBUF};stream=watch"));
    let mut rest = answer.body.as_slice();
    let mut seen = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (frame, next) = after.split_at(u32::from_be_bytes(*length) as usize);
        // WatchEvent{type = 1, object = 2{raw = 1}}: short lengths but for the object's.
        assert_eq!(frame[0], 0x0a);
        let kind = String::from_utf8_lossy(&frame[2..2 + usize::from(frame[1])]).into_owned();
        let start = frame
            .windows(4)
            .position(|bytes| bytes == b"k8s\0")
            .expect("holds a body");
        seen.push((kind, decoded(&frame[start..])));
        rest = next;
    }
    assert_eq!(seen.len(), 2);
    assert_eq!(
        (seen[0].0.as_str(), &seen[0].1["metadata"]["name"]),
        ("ADDED", &json!("a"))
    );
    assert_eq!(seen[0].1["data"], json!({"a": "b"}));
    assert_eq!(seen[1].0, "BOOKMARK");
    assert_eq!(
        seen[1].1["metadata"]["annotations"],
        json!({"k8s.io/initial-events-end": "true"})
    );
}

#[tokio::test]
async fn options_come_in_protobuf_too() {
    let server = Server::start().await;
    server.post(CONFIG_MAPS, &config_map("a")).await;
    let path = format!("{CONFIG_MAPS}/a");
    let options = |fields: Value| {
        let mut options = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
        options
            .as_object_mut()
            .expect("is one")
            .extend(fields.as_object().expect("is one").clone());
        from_json(&options).expect("encodes")
    };
    let dry = send(&server, "DELETE", &path, PROTOBUF, options(json!({"dryRun": ["All"]}))).await;
    assert_eq!(dry.code, StatusCode::OK);
    let other = send(
        &server,
        "DELETE",
        &path,
        PROTOBUF,
        options(json!({"preconditions": {"uid": "x"}})),
    )
    .await;
    assert_eq!(other.code, StatusCode::CONFLICT);
    assert_eq!(server.get(&path).await.code, StatusCode::OK);
    let gone = send(
        &server,
        "DELETE",
        &path,
        PROTOBUF,
        options(json!({"propagationPolicy": "Background"})),
    )
    .await;
    assert_eq!(gone.code, StatusCode::OK);
    assert_eq!(server.get(&path).await.code, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn scales_and_bindings_come_in_protobuf_too() {
    let server = Server::start().await;
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "nginx"}]}}},
    });
    let made = send(
        &server,
        "POST",
        DEPLOYMENTS,
        PROTOBUF,
        from_json(&deployment).expect("encodes"),
    )
    .await;
    assert_eq!(made.code, StatusCode::CREATED);
    let scale = format!("{DEPLOYMENTS}/d/scale");
    let (_, mut wanted) = both(&server, &scale).await;
    assert_eq!(
        (&wanted["kind"], &wanted["spec"]),
        (&json!("Scale"), &json!({"replicas": 3}))
    );
    wanted["spec"]["replicas"] = 0.into();
    let scaled = send(&server, "PUT", &scale, PROTOBUF, from_json(&wanted).expect("encodes")).await;
    assert_eq!(scaled.code, StatusCode::OK);
    assert_eq!(
        server.get(&format!("{DEPLOYMENTS}/d")).await.json()["spec"]["replicas"],
        0
    );

    server.post(PODS, &pod("p", "")).await;
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "w1"}});
    let bound = send(
        &server,
        "POST",
        &format!("{PODS}/p/binding"),
        PROTOBUF,
        from_json(&binding).expect("encodes"),
    )
    .await;
    assert_eq!(bound.code, StatusCode::CREATED);
    assert_eq!(server.get(&format!("{PODS}/p")).await.json()["spec"]["nodeName"], "w1");
}

#[tokio::test]
async fn what_is_no_object_of_the_path_is_refused_as_in_json() {
    let server = Server::start().await;
    let encoded = |object: &Value| from_json(object).expect("encodes");
    let cases = [
        (
            encoded(&pod("p", "")),
            "Pod in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Pod) to (core.ConfigMap): unknown conversion",
        ),
        (
            b"k8s\0\x0a\x0a\x0a\x02v1\x12\x04Nope\x12\0".to_vec(),
            "Nope in version \"v1\" cannot be handled as a ConfigMap: no kind \"Nope\" is registered for version \"v1\" in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
        ),
        (
            b"{\"kind\":\"ConfigMap\"}".to_vec(),
            "the object provided is unrecognized (must be of type ConfigMap): provided data does not appear to be a protobuf message, expected prefix [107 56 115 0] ({\"kind\":\"ConfigMap\"})",
        ),
    ];
    for (body, message) in cases {
        let answer = send(&server, "POST", CONFIG_MAPS, PROTOBUF, body).await;
        assert_eq!(
            (answer.code, answer.message().as_str()),
            (StatusCode::BAD_REQUEST, message)
        );
    }
    let invalid = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "Not_A_Name"}});
    let as_json = server.post(CONFIG_MAPS, &invalid).await;
    let as_protobuf = send(&server, "POST", CONFIG_MAPS, PROTOBUF, encoded(&invalid)).await;
    assert_eq!(as_json.code, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(as_protobuf.json(), as_json.json());
    for media_type in ["application/cbor", "application/x-yaml"] {
        let answer = send(&server, "POST", CONFIG_MAPS, media_type, b"x".to_vec()).await;
        assert_eq!(answer.code, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert_eq!(
            answer.message(),
            "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf"
        );
    }
}
