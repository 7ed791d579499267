//! Discovery against what a kube-apiserver 1.36.2 answers (`golden/`), of which the kinds and subresources that
//! are not served here are left out, and the OpenAPI documents against what kubectl looks for in them.

use http::StatusCode;
use minik_api::resource::Registry;
use serde_json::Value;

use crate::common::Server;

/// The golden document without what is not served.
fn golden(registry: &Registry, group: &str, text: &str) -> Value {
    let mut expected: Value = serde_json::from_str(text).expect("is JSON");
    if let Some(groups) = expected.get_mut("items").and_then(Value::as_array_mut) {
        for item in &mut *groups {
            let group = item
                .pointer("/metadata/name")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            for version in item["versions"].as_array_mut().expect("has versions") {
                keep_served(registry, &group, version);
            }
            let versions = item["versions"].as_array_mut().expect("has versions");
            versions.retain(|version| version["resources"].as_array().is_some_and(|all| !all.is_empty()));
        }
        groups.retain(|item| item["versions"].as_array().is_some_and(|all| !all.is_empty()));
    } else {
        let resources = expected["resources"].as_array_mut().expect("has resources");
        resources.retain(|resource| {
            let name = resource["name"].as_str().unwrap_or_default();
            let (plural, part) = name.split_once('/').unwrap_or((name, ""));
            serves(registry, group, plural, part)
        });
    }
    sort(&mut expected);
    expected
}

/// Cuts one version of aggregated discovery down.
fn keep_served(registry: &Registry, group: &str, version: &mut Value) {
    // Of a group with several versions, only those of the registry.
    let known = registry
        .iter()
        .any(|kind| kind.info.group == group && version["version"] == kind.info.version);
    let resources = version["resources"].as_array_mut().expect("has resources");
    resources
        .retain(|resource| known && serves(registry, group, resource["resource"].as_str().unwrap_or_default(), ""));
    for resource in resources {
        let plural = resource["resource"].as_str().unwrap_or_default().to_owned();
        if let Some(parts) = resource.get_mut("subresources").and_then(Value::as_array_mut) {
            parts.retain(|part| {
                serves(
                    registry,
                    group,
                    &plural,
                    part["subresource"].as_str().unwrap_or_default(),
                )
            });
            if parts.is_empty() {
                resource.as_object_mut().expect("is an object").remove("subresources");
            }
        }
    }
}

fn serves(registry: &Registry, group: &str, plural: &str, part: &str) -> bool {
    let kind = registry
        .iter()
        .find(|kind| kind.info.group == group && kind.info.plural == plural);
    kind.is_some_and(|kind| {
        // `Debug` spells a subresource as its path does, but for the case.
        let parts = kind
            .info
            .subresources
            .iter()
            .map(|known| format!("{known:?}").to_lowercase());
        part.is_empty() || parts.into_iter().any(|known| known == part)
    })
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
        (
            "/apis/networking.k8s.io/v1",
            &[],
            include_str!("golden/apis_networking.k8s.io_v1.json"),
        ),
        (
            "/apis/events.k8s.io/v1",
            &[],
            include_str!("golden/apis_events.k8s.io_v1.json"),
        ),
        (
            "/apis/authentication.k8s.io/v1",
            &[],
            include_str!("golden/apis_authentication.k8s.io_v1.json"),
        ),
        (
            "/apis/authorization.k8s.io/v1",
            &[],
            include_str!("golden/apis_authorization.k8s.io_v1.json"),
        ),
    ];
    for (path, headers, expected) in cases {
        let answer = server.request("GET", path, headers, String::new()).await;
        let mut found = answer.json();
        sort(&mut found);
        let group = path
            .split('/')
            .nth(2)
            .filter(|_| path.starts_with("/apis/"))
            .unwrap_or_default();
        assert_eq!(found, golden(server.state.registry, group, expected), "{path}");
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
        assert!(!patches.is_empty() || !info.stored, "{}", info.kind);
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
