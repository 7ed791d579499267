//! Discovery: which groups, versions and resources there are, in the aggregated and in the plain form.
//! Read from the registry and from nothing else.

use axum::response::{IntoResponse, Response};
use data_encoding::{BASE64, HEXUPPER};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use sha2::{Digest, Sha256, Sha512};

use crate::config::ApiConfig;
use crate::error::ApiError;
use crate::resource::{KindInfo, Registry, Subresource};

use super::negotiate::text;
use super::request::segment;

/// The media type of aggregated discovery.
pub const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Whether the client takes aggregated discovery.
#[must_use]
pub fn wants_aggregated(headers: &HeaderMap) -> bool {
    text(headers, header::ACCEPT).split(',').any(|range| {
        let has = |parameter: &str| range.split(';').any(|part| part.trim() == parameter);
        has("application/json") && has("g=apidiscovery.k8s.io") && has("v=v2") && has("as=APIGroupDiscoveryList")
    })
}

/// Answers with `/api` (`core`) or `/apis` in the aggregated form, or that the client has it already.
///
/// # Errors
/// None in practice.
pub fn aggregated_answer(registry: &Registry, core: bool, headers: &HeaderMap) -> Result<Response, ApiError> {
    let body = serde_json::to_vec(&aggregated(registry, core))?;
    let etag = format!("\"{}\"", HEXUPPER.encode(&Sha512::digest(&body)));
    let mut response = if text(headers, header::IF_NONE_MATCH) == etag {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let media_type = [(header::CONTENT_TYPE, HeaderValue::from_static(AGGREGATED))];
        (media_type, body).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
    if let Ok(etag) = etag.parse() {
        headers.insert(header::ETAG, etag);
    }
    Ok(response)
}

/// `/api` (`core`) or `/apis` in the aggregated form.
fn aggregated(registry: &Registry, core: bool) -> Value {
    let items: Vec<_> = groups(registry)
        .into_iter()
        .filter(|group| group.is_empty() == core)
        .map(|group| {
            let versions: Vec<_> = versions(registry, group)
                .into_iter()
                .map(|version| {
                    let resources: Vec<_> = kinds(registry, group, version)
                        .into_iter()
                        .map(aggregated_resource)
                        .collect();
                    json!({"version": version, "resources": resources, "freshness": "Current"})
                })
                .collect();
            let metadata = if core { json!({}) } else { json!({"name": group}) };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    })
}

/// `/api` in the plain form.
#[must_use]
pub fn api_versions(config: &ApiConfig) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{
            "clientCIDR": "0.0.0.0/0",
            "serverAddress": format!("{}:{}", config.advertise_address, config.advertise_port),
        }],
    })
}

/// `/apis` in the plain form.
#[must_use]
pub fn group_list(registry: &Registry) -> Value {
    let named = groups(registry).into_iter().filter(|group| !group.is_empty());
    let groups: Vec<_> = named.map(|group| group_fields(registry, group)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/GROUP`.
///
/// # Errors
/// The group is not served.
pub fn group(registry: &Registry, group: &str) -> Result<Value, ApiError> {
    if group.is_empty() || !groups(registry).contains(&group) {
        return Err(ApiError::NoSuchPath);
    }
    let mut object = group_fields(registry, group);
    object["kind"] = "APIGroup".into();
    object["apiVersion"] = "v1".into();
    Ok(object)
}

/// `/api/v1` or `/apis/GROUP/VERSION`.
///
/// # Errors
/// The group and version are not served.
pub fn resources(registry: &Registry, group: &str, version: &str) -> Result<Value, ApiError> {
    let kinds = kinds(registry, group, version);
    if kinds.is_empty() {
        return Err(ApiError::NoSuchPath);
    }
    let resources: Vec<_> = kinds.into_iter().flat_map(plain_resources).collect();
    let mut list = json!({
        "kind": "APIResourceList",
        "groupVersion": group_version(group, version),
        "resources": resources,
    });
    if !group.is_empty() {
        list["apiVersion"] = "v1".into();
    }
    Ok(list)
}

/// Every group, in the registry's order.
#[must_use]
pub fn groups(registry: &Registry) -> Vec<&'static str> {
    distinct(registry.iter().map(|kind| kind.info.group))
}

/// Every version of a group.
#[must_use]
pub fn versions(registry: &Registry, group: &str) -> Vec<&'static str> {
    distinct(
        registry
            .iter()
            .filter(|kind| kind.info.group == group)
            .map(|kind| kind.info.version),
    )
}

/// Every kind of a group's version, by plural.
#[must_use]
pub fn kinds<'r>(registry: &'r Registry, group: &str, version: &str) -> Vec<&'r KindInfo> {
    let mut kinds: Vec<_> = registry
        .iter()
        .map(|kind| &kind.info)
        .filter(|info| info.group == group && info.version == version)
        .collect();
    kinds.sort_by_key(|info| info.plural);
    kinds
}

/// What can be done with a subresource.
#[must_use]
pub fn subresource_verbs(subresource: Subresource) -> &'static [&'static str] {
    match subresource {
        Subresource::Status | Subresource::Scale | Subresource::EphemeralContainers | Subresource::Resize => {
            &["get", "patch", "update"]
        }
        Subresource::Binding | Subresource::Eviction | Subresource::Token => &["create"],
        Subresource::Log => &["get"],
        Subresource::Exec | Subresource::Attach | Subresource::PortForward => &["create", "get"],
        Subresource::Finalize => &["update"],
        Subresource::Proxy => &["create", "delete", "get", "patch", "update"],
    }
}

fn subresource_kind(info: &KindInfo, subresource: Subresource) -> (&'static str, &'static str, &'static str) {
    match subresource {
        Subresource::Scale => ("autoscaling", "v1", "Scale"),
        Subresource::Binding => ("", "", "Binding"),
        Subresource::Exec => ("", "", "PodExecOptions"),
        Subresource::Attach => ("", "", "PodAttachOptions"),
        Subresource::PortForward => ("", "", "PodPortForwardOptions"),
        Subresource::Proxy if info.kind == "Node" => ("", "", "NodeProxyOptions"),
        Subresource::Proxy if info.kind == "Service" => ("", "", "ServiceProxyOptions"),
        Subresource::Proxy => ("", "", "PodProxyOptions"),
        Subresource::Eviction => ("policy", "v1", "Eviction"),
        Subresource::Token => ("authentication.k8s.io", "v1", "TokenRequest"),
        Subresource::Status
        | Subresource::Log
        | Subresource::Finalize
        | Subresource::EphemeralContainers
        | Subresource::Resize => ("", "", info.kind),
    }
}

fn subresources(info: &KindInfo) -> Vec<Subresource> {
    let mut subresources = info.subresources.to_vec();
    subresources.sort_by_key(|subresource| segment(*subresource));
    subresources
}

fn aggregated_resource(info: &KindInfo) -> Value {
    let mut resource = json!({
        "resource": info.plural,
        "responseKind": {"group": "", "version": "", "kind": info.kind},
        "scope": if info.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": info.singular,
        "verbs": info.verbs,
    });
    add_names(&mut resource, info);
    let parts: Vec<_> = subresources(info)
        .into_iter()
        .map(|subresource| {
            let (group, version, kind) = subresource_kind(info, subresource);
            json!({
                "subresource": segment(subresource),
                "responseKind": {"group": group, "version": version, "kind": kind},
                "verbs": subresource_verbs(subresource),
            })
        })
        .collect();
    if !parts.is_empty() {
        resource["subresources"] = parts.into();
    }
    resource
}

fn plain_resources(info: &KindInfo) -> Vec<Value> {
    let mut resource = json!({
        "name": info.plural,
        "singularName": info.singular,
        "namespaced": info.namespaced,
        "kind": info.kind,
        "verbs": info.verbs,
    });
    if info.stored {
        resource["storageVersionHash"] = storage_version_hash(info).into();
    }
    add_names(&mut resource, info);
    let parts = subresources(info).into_iter().map(|subresource| {
        let (group, version, kind) = subresource_kind(info, subresource);
        let mut part = json!({
            "name": format!("{}/{}", info.plural, segment(subresource)),
            "singularName": "",
            "namespaced": info.namespaced,
            "kind": kind,
            "verbs": subresource_verbs(subresource),
        });
        if !group.is_empty() {
            part["group"] = group.into();
            part["version"] = version.into();
        }
        part
    });
    std::iter::once(resource).chain(parts).collect()
}

fn add_names(resource: &mut Value, info: &KindInfo) {
    if !info.short_names.is_empty() {
        resource["shortNames"] = info.short_names.into();
    }
    if !info.categories.is_empty() {
        resource["categories"] = info.categories.into();
    }
}

/// First 8 bytes of SHA-256 over the `GROUP/VERSION/KIND` that is stored, as apiserver's `discovery.StorageVersionHash`.
fn storage_version_hash(info: &KindInfo) -> String {
    let digest = Sha256::digest(format!("{}/{}/{}", info.stored_in(), info.version, info.kind));
    BASE64.encode(&digest[..8])
}

fn group_fields(registry: &Registry, group: &str) -> Value {
    let versions: Vec<_> = versions(registry, group)
        .into_iter()
        .map(|version| json!({"groupVersion": group_version(group, version), "version": version}))
        .collect();
    json!({"name": group, "preferredVersion": versions.first(), "versions": versions})
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

fn distinct(names: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}
