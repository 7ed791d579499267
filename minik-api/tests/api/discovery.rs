//! Discovery against what a kube-apiserver 1.36.2 answers (`golden/`), and the OpenAPI documents against what
//! kubectl looks for in them. Of what Kubernetes answers, the test leaves out what is not served here, no more.

use http::StatusCode;
use minik_api::resource::Registry;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::common::Server;

/// What Kubernetes answers, without the kinds and subresources that the registry does not have.
fn golden(text: &str, registry: &Registry) -> Value {
    let mut expected: Value = serde_json::from_str(text).expect("is JSON");
    let list = |value: &mut Value, name: &str| value.get_mut(name).and_then(Value::as_array_mut).map(std::mem::take);
    let text_of = |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let serves = |group: &str, version: &str, name: &str| {
        let (plural, part) = name
            .split_once('/')
            .map_or((name, None), |(plural, part)| (plural, Some(part)));
        registry.by_plural(group, version, plural).is_some_and(|kind| {
            part.is_none_or(|part| {
                let words = kind.info.subresources.iter().map(|s| format!("{s:?}").to_lowercase());
                words.into_iter().any(|word| word == part)
            })
        })
    };
    if let Some(groups) = list(&mut expected, "items") {
        let mut kept = Vec::new();
        for mut group in groups {
            let name = text_of(&group, "/metadata/name").unwrap_or_default();
            let mut versions = list(&mut group, "versions").expect("has versions");
            for version in &mut versions {
                let number = text_of(version, "/version").expect("is text");
                let mut resources = list(version, "resources").expect("has resources");
                resources.retain(|resource| serves(&name, &number, resource["resource"].as_str().expect("is text")));
                for resource in &mut resources {
                    let plural = text_of(resource, "/resource").expect("is text");
                    if let Some(mut parts) = list(resource, "subresources") {
                        parts.retain(|part| {
                            let part = part["subresource"].as_str().expect("is text");
                            serves(&name, &number, &format!("{plural}/{part}"))
                        });
                        match parts.as_slice() {
                            [] => drop(resource.as_object_mut().expect("is one").remove("subresources")),
                            _ => resource["subresources"] = parts.into(),
                        }
                    }
                }
                version["resources"] = resources.into();
            }
            versions.retain(|version| !version["resources"].as_array().expect("is a list").is_empty());
            if !versions.is_empty() {
                group["versions"] = versions.into();
                kept.push(group);
            }
        }
        expected["items"] = kept.into();
    }
    if let Some(mut resources) = list(&mut expected, "resources") {
        let of = text_of(&expected, "/groupVersion").expect("is text");
        let (group, version) = of.split_once('/').unwrap_or(("", &of));
        resources.retain(|resource| serves(group, version, resource["name"].as_str().expect("is text")));
        expected["resources"] = resources.into();
    }
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

const AGGREGATED: &[(&str, &str)] = &[(
    "accept",
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json",
)];

#[tokio::test]
async fn discovery_is_that_of_kubernetes() {
    let server = Server::start().await;
    let cases = [
        ("/api", AGGREGATED, include_str!("golden/api-aggregated.json")),
        ("/apis", AGGREGATED, include_str!("golden/apis-aggregated.json")),
        ("/api/v1", &[], include_str!("golden/api_v1.json")),
        ("/apis/apps/v1", &[], include_str!("golden/apis_apps_v1.json")),
        ("/apis/batch/v1", &[], include_str!("golden/apis_batch_v1.json")),
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
        (
            "/apis/autoscaling/v2",
            &[],
            include_str!("golden/apis_autoscaling_v2.json"),
        ),
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
        (
            "/apis/events.k8s.io/v1",
            &[],
            include_str!("golden/apis_events.k8s.io_v1.json"),
        ),
        (
            "/apis/networking.k8s.io/v1",
            &[],
            include_str!("golden/apis_networking.k8s.io_v1.json"),
        ),
    ];
    for (path, headers, expected) in cases {
        let expected = golden(expected, server.state.registry);
        if expected["resources"].as_array().is_some_and(Vec::is_empty) {
            continue;
        }
        let answer = server.request("GET", path, headers, String::new()).await;
        let mut found = answer.json();
        sort(&mut found);
        assert_eq!(found, expected, "{path}");
        if !headers.is_empty() {
            let etag = answer.headers["etag"].to_str().expect("is text");
            assert_eq!(answer.headers["vary"], "Accept");
            assert_eq!(answer.headers["cache-control"], "public");
            let again = [headers[0], ("if-none-match", etag)];
            let again = server.request("GET", path, &again, String::new()).await;
            assert_eq!((again.code, again.body.len()), (StatusCode::NOT_MODIFIED, 0));
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

/// Every schema that both publish is the same, descriptions and `x-kubernetes-*` extensions and all. The golden file has
/// the first half of the SHA-256 of each as compact JSON with sorted keys.
#[tokio::test]
async fn schemas_are_those_of_kubernetes() {
    let server = Server::start().await;
    let mut same = 0;
    for root in ["api/v1", "apis/apps/v1", "apis/discovery.k8s.io/v1"] {
        let document = server.get(&format!("/openapi/v3/{root}")).await.json();
        let schemas = document["components"]["schemas"].as_object().expect("are there");
        for line in include_str!("golden/openapi-schemas.txt").lines() {
            let mut words = line.split(' ');
            if words.next() != Some(root) {
                continue;
            }
            let (name, hash) = (words.next().expect("names one"), words.next().expect("has a hash"));
            if let Some(schema) = schemas.get(name) {
                let digest = Sha256::digest(schema.to_string());
                assert_eq!(
                    data_encoding::HEXLOWER.encode(&digest[..16]),
                    hash,
                    "{root} {name}: {schema:#}"
                );
                same += 1;
            }
        }
    }
    assert!(same > 300, "only {same} compared");
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

/// The older document says the same: every definition and path of the newer ones, in its own form.
#[tokio::test]
async fn the_older_document_has_what_the_newer_ones_have() {
    let server = Server::start().await;
    let old = server.get("/openapi/v2").await.json();
    assert_eq!((&old["swagger"], &old["openapi"]), (&Value::from("2.0"), &Value::Null));
    for root in ["api/v1", "apis/apps/v1"] {
        let new = server.get(&format!("/openapi/v3/{root}")).await.json();
        for name in new["components"]["schemas"].as_object().expect("are there").keys() {
            assert!(old["definitions"][name].is_object(), "{name}");
        }
        for path in new["paths"].as_object().expect("are there").keys() {
            assert!(old["paths"][path].is_object(), "{path}");
        }
    }
    for reference in references(&old) {
        let name = reference.strip_prefix("#/definitions/").expect("is local");
        assert!(old["definitions"][name].is_object(), "{name} is missing");
    }
    let service = &old["definitions"]["io.k8s.api.core.v1.Service"];
    assert_eq!(
        service["properties"]["metadata"]["$ref"],
        "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
    );
    let port = &old["definitions"]["io.k8s.api.core.v1.ServiceSpec"]["properties"]["ports"];
    assert_eq!(port["x-kubernetes-patch-merge-key"], "port");
    let create = &old["paths"]["/api/v1/namespaces/{namespace}/services"]["post"];
    let body = create["parameters"]
        .as_array()
        .expect("are there")
        .iter()
        .find(|p| p["in"] == "body");
    assert_eq!(
        body.expect("is there")["schema"]["$ref"],
        "#/definitions/io.k8s.api.core.v1.Service"
    );
    assert_eq!(
        create["responses"]["200"]["schema"]["$ref"],
        "#/definitions/io.k8s.api.core.v1.Service"
    );
    let protobuf = [("accept", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf")];
    let same = server.request("GET", "/openapi/v2", &protobuf, String::new()).await;
    let media_type = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
    assert_eq!(
        (same.code, same.headers["content-type"].to_str().expect("is text")),
        (StatusCode::OK, media_type)
    );
    // Document.swagger, and somewhere in it a definition by its whole name.
    assert!(same.body.starts_with(b"\x0a\x032.0"));
    let name = b"io.k8s.api.core.v1.ServiceSpec";
    assert!(same.body.windows(name.len()).any(|window| window == name));
}
