//! Discovery against what a kube-apiserver 1.36.2 answers, cut down to the kinds and subresources that are
//! served here (`golden/`), and the OpenAPI documents against what kubectl looks for in them.

use http::StatusCode;
use serde_json::Value;

use crate::common::Server;

fn golden(text: &str) -> Value {
    let mut expected: Value = serde_json::from_str(text).expect("is JSON");
    sort(&mut expected);
    expected
}

/// Lists of groups and of verbs are sets.
fn sort(value: &mut Value) {
    match value {
        Value::Array(items) => {
            items.iter_mut().for_each(sort);
            items.sort_by_key(|item| {
                let name = item.pointer("/metadata/name").or_else(|| item.get("name"));
                name.or_else(|| item.get("resource")).unwrap_or(item).to_string()
            });
        }
        Value::Object(fields) => fields.values_mut().for_each(sort),
        _ => {}
    }
}

#[tokio::test]
async fn discovery_is_that_of_kubernetes() {
    let server = Server::start().await;
    let aggregated = [(
        "accept",
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json",
    )];
    let cases = [
        ("/api", &aggregated[..], include_str!("golden/api-aggregated.json")),
        ("/apis", &aggregated[..], include_str!("golden/apis-aggregated.json")),
        ("/api/v1", &[], include_str!("golden/api_v1.json")),
        ("/apis/apps/v1", &[], include_str!("golden/apis_apps_v1.json")),
        ("/apis/batch/v1", &[], include_str!("golden/apis_batch_v1.json")),
        (
            "/apis/coordination.k8s.io/v1",
            &[],
            include_str!("golden/apis_coordination.k8s.io_v1.json"),
        ),
        (
            "/apis/discovery.k8s.io/v1",
            &[],
            include_str!("golden/apis_discovery.k8s.io_v1.json"),
        ),
    ];
    for (path, headers, expected) in cases {
        let answer = server.request("GET", path, headers, String::new()).await;
        let mut found = answer.json();
        sort(&mut found);
        assert_eq!(found, golden(expected), "{path}");
        if !headers.is_empty() {
            let media_type = answer.headers["content-type"].to_str().expect("is text");
            assert_eq!(
                media_type,
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
            );
        }
    }
}

/// kubectl 1.37 validates and explains only kinds for which it finds these.
#[tokio::test]
async fn every_served_kind_can_be_validated_and_explained() {
    let server = Server::start().await;
    let index = server.get("/openapi/v3").await.json();
    for kind in server.state.registry.iter() {
        let info = kind.info;
        let root = match info.group {
            "" => format!("api/{}", info.version),
            group => format!("apis/{group}/{}", info.version),
        };
        let url = index["paths"][&root]["serverRelativeURL"]
            .as_str()
            .expect("is in the index");
        let answer = server.get(url).await;
        assert!(
            answer.headers["cache-control"]
                .to_str()
                .expect("is text")
                .contains("immutable")
        );
        let document = answer.json();
        let wanted = serde_json::json!({"group": info.group, "version": info.version, "kind": info.kind});
        let paths = document["paths"].as_object().expect("are there");
        let patches: Vec<_> = paths
            .values()
            .filter_map(|path| path.get("patch"))
            .filter(|patch| patch["x-kubernetes-group-version-kind"] == wanted)
            .collect();
        assert!(!patches.is_empty(), "{}", info.kind);
        for patch in patches {
            let parameters = patch["parameters"].as_array().expect("are there");
            assert!(
                parameters
                    .iter()
                    .any(|p| p["name"] == "fieldValidation" && p["in"] == "query")
            );
        }
        let schema = &document["components"]["schemas"][info.schema];
        assert!(schema["properties"]["metadata"].is_object(), "{}", info.schema);
        for reference in references(&document) {
            let name = reference.strip_prefix("#/components/schemas/").expect("is local");
            assert!(document["components"]["schemas"][name].is_object(), "{name} is missing");
        }
    }
}

fn references(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(fields) => {
            let own = fields.get("$ref").and_then(Value::as_str);
            own.into_iter().chain(fields.values().flat_map(references)).collect()
        }
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn documents_are_compressed_for_those_who_take_it() {
    let server = Server::start().await;
    let plain = server.get("/openapi/v3/apis/apps/v1").await;
    let packed = server
        .request(
            "GET",
            "/openapi/v3/apis/apps/v1",
            &[("accept-encoding", "gzip")],
            String::new(),
        )
        .await;
    assert_eq!(packed.headers["content-encoding"], "gzip");
    assert!(packed.body.len() < plain.body.len() / 2);
    let etag = plain.headers["etag"].to_str().expect("is text");
    let again = server
        .request(
            "GET",
            "/openapi/v3/apis/apps/v1",
            &[("if-none-match", etag)],
            String::new(),
        )
        .await;
    assert_eq!(again.code, StatusCode::NOT_MODIFIED);
}
