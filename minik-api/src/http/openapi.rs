//! `/openapi/v3`: one document a group and version, with a path for everything the registry serves and
//! the schemas that those paths lead to. Built when first asked for and kept compressed, as `/openapi/v2` is.

mod gnostic;
mod v2;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::sync::OnceLock;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use data_encoding::HEXUPPER;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::value::to_raw_value;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha512};

use crate::error::ApiError;
use crate::resource::schema::{Components, Definitions};
use crate::resource::{KindInfo, Registry, Subresource};

use super::discovery::{groups, kinds, subresource_verbs, versions};
use super::negotiate::text;
use super::request::{Options, segment};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const SCALE: &str = "io.k8s.api.autoscaling.v1.Scale";
const EVICTION: &str = "io.k8s.api.policy.v1.Eviction";
const TOKEN_REQUEST: &str = "io.k8s.api.authentication.v1.TokenRequest";
const BINDING: &str = "io.k8s.api.core.v1.Binding";

const JSON: &str = "application/json";
/// `/openapi/v2` as protobuf, under its name and the one that older clients know.
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
const V2_PROTOBUF_OLD: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// Every document.
pub struct Documents {
    /// By their paths below `/openapi/v3/`.
    v3: BTreeMap<String, Document>,
    v2: OnceLock<Document>,
    v2_protobuf: OnceLock<Document>,
}

struct Document {
    compressed: Bytes,
    hash: String,
    media_type: &'static str,
}

/// A document before it is text.
#[derive(Serialize)]
struct Whole<'d> {
    openapi: &'static str,
    info: Value,
    paths: Map<String, Value>,
    components: Schemas<'d>,
}

#[derive(Serialize)]
struct Schemas<'d> {
    schemas: Components<'d>,
}

impl<'d> Whole<'d> {
    fn of(paths: Map<String, Value>, schemas: Components<'d>) -> Self {
        Self {
            openapi: "3.0.0",
            info: json!({"title": "Kubernetes", "version": "1.36"}),
            paths,
            components: Schemas { schemas },
        }
    }
}

impl Document {
    fn pack(document: &impl Serialize) -> Result<Self, std::io::Error> {
        Self::pack_as(JSON, &serde_json::to_vec(document)?)
    }

    fn pack_as(media_type: &'static str, document: &[u8]) -> Result<Self, std::io::Error> {
        let hash = HEXUPPER.encode(&Sha512::digest(document));
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(document)?;
        let compressed = encoder.finish()?.into();
        Ok(Self {
            compressed,
            hash,
            media_type,
        })
    }

    fn unpack(&self) -> Result<Vec<u8>, std::io::Error> {
        let mut plain = Vec::new();
        GzDecoder::new(&*self.compressed).read_to_end(&mut plain)?;
        Ok(plain)
    }

    /// The document, or that the client has it already.
    fn answer(&self, headers: &HeaderMap) -> Result<Response, ApiError> {
        let etag = format!("\"{}\"", self.hash);
        let mut response = if text(headers, header::IF_NONE_MATCH) == etag {
            StatusCode::NOT_MODIFIED.into_response()
        } else if text(headers, header::ACCEPT_ENCODING).contains("gzip") {
            let encoding = [(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"))];
            (encoding, self.compressed.clone()).into_response()
        } else {
            let plain = self.unpack().map_err(|error| ApiError::Internal(error.to_string()))?;
            plain.into_response()
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.media_type));
        headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding, Accept"));
        if let Ok(etag) = etag.parse() {
            headers.insert(header::ETAG, etag);
        }
        Ok(response)
    }
}

impl Documents {
    /// Builds the documents of everything in `registry`.
    ///
    /// # Errors
    /// A document can't be written or compressed, which in memory it can.
    pub fn build(registry: &Registry) -> Result<Self, std::io::Error> {
        let mut documents = BTreeMap::new();
        let definitions = Definitions::read();
        let all = group_document(&definitions, "apis", "get available API versions", "APIGroupList");
        documents.insert("apis".to_owned(), Document::pack(&all)?);
        for group in groups(registry) {
            if !group.is_empty() {
                let path = format!("apis/{group}");
                let about = group_document(&definitions, &path, "get information of a group", "APIGroup");
                documents.insert(path, Document::pack(&about)?);
            }
            for version in versions(registry, group) {
                let root = root(group, version);
                let document = document(&definitions, registry, group, version, &root)?;
                documents.insert(root, Document::pack(&document)?);
            }
        }
        Ok(Self {
            v3: documents,
            v2: OnceLock::new(),
            v2_protobuf: OnceLock::new(),
        })
    }

    /// `/openapi/v3`: where each document is.
    #[must_use]
    pub fn index(&self) -> Value {
        let paths: Map<String, Value> = self
            .v3
            .iter()
            .map(|(root, document)| {
                let url = format!("/openapi/v3/{root}?hash={}", document.hash);
                (root.clone(), json!({"serverRelativeURL": url}))
            })
            .collect();
        json!({"paths": paths})
    }

    /// `/openapi/v3/ROOT`.
    ///
    /// # Errors
    /// There is no such group and version.
    pub fn get(&self, root: &str, options: &Options, headers: &HeaderMap) -> Result<Response, ApiError> {
        let document = self.v3.get(root).ok_or(ApiError::NoSuchPath)?;
        let mut response = document.answer(headers)?;
        if options.get("hash").is_some_and(|hash| hash == document.hash) {
            let forever = HeaderValue::from_static("public, immutable, max-age=31536000");
            response.headers_mut().insert(header::CACHE_CONTROL, forever);
        }
        Ok(response)
    }

    /// `/openapi/v2`.
    ///
    /// # Errors
    /// A kept document is damaged.
    pub fn v2(&self, headers: &HeaderMap) -> Result<Response, ApiError> {
        let accepted = text(headers, header::ACCEPT);
        let first = accepted.split([',', ';']).next().unwrap_or_default().trim();
        let protobuf = matches!(first, V2_PROTOBUF | V2_PROTOBUF_OLD);
        let kept = if protobuf { &self.v2_protobuf } else { &self.v2 };
        if let Some(document) = kept.get() {
            return document.answer(headers);
        }
        let internal = |error: std::io::Error| ApiError::Internal(error.to_string());
        let mut documents = Vec::with_capacity(self.v3.len());
        for document in self.v3.values() {
            documents.push(serde_json::from_slice(&document.unpack().map_err(internal)?)?);
        }
        let document = v2::document(documents.into_iter());
        let packed = if protobuf {
            Document::pack_as(V2_PROTOBUF, &gnostic::document(&document))
        } else {
            Document::pack(&document)
        };
        let packed = packed.map_err(internal)?;
        kept.get_or_init(|| packed).answer(headers)
    }
}

fn root(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("api/{version}")
    } else {
        format!("apis/{group}/{version}")
    }
}

fn document<'d>(
    definitions: &'d Definitions,
    registry: &Registry,
    group: &str,
    version: &str,
    root: &str,
) -> Result<Whole<'d>, serde_json::Error> {
    let mut paths = Map::new();
    let lists: Vec<String> = kinds(registry, group, version)
        .iter()
        .filter(|info| info.verbs.contains(&"list"))
        .map(|info| format!("{}List", info.schema))
        .collect();
    let meta: Vec<String> = ["DeleteOptions", "Patch", "Status", "WatchEvent"]
        .map(|name| format!("{META}.{name}"))
        .into();
    let mut roots: Vec<&str> = lists.iter().chain(&meta).map(String::as_str).collect();
    for info in kinds(registry, group, version) {
        add_paths(&mut paths, info, root);
        roots.push(info.schema);
        roots.extend(info.subresources.iter().filter_map(|subresource| match subresource {
            Subresource::Scale => Some(SCALE),
            Subresource::Binding => Some(BINDING),
            Subresource::Eviction => Some(EVICTION),
            Subresource::Token => Some(TOKEN_REQUEST),
            _ => None,
        }));
    }
    let list = "APIResourceList";
    paths.insert(
        format!("/{root}/"),
        json!({"get": discovery_operation("get available resources", list)}),
    );
    let list = format!("{META}.{list}");
    roots.push(&list);
    let mut schemas = definitions.components(&roots);
    for shared in ["DeleteOptions", "WatchEvent"] {
        let name = format!("{META}.{shared}");
        if let (Some(entry), Some(mut definition)) = (schemas.get_mut(name.as_str()), definitions.get(&name)) {
            definition["x-kubernetes-group-version-kind"] = shared_kind(group, version, shared);
            *entry = Cow::Owned(to_raw_value(&definition)?);
        }
    }
    Ok(Whole::of(paths, schemas))
}

/// The document of a path above the versions: `apis`, `apis/GROUP`.
fn group_document<'d>(definitions: &'d Definitions, path: &str, description: &str, kind: &str) -> Whole<'d> {
    let paths = Map::from_iter([(
        format!("/{path}/"),
        json!({"get": discovery_operation(description, kind)}),
    )]);
    Whole::of(paths, definitions.components(&[&format!("{META}.{kind}")]))
}

fn discovery_operation(description: &str, kind: &str) -> Value {
    let answer = json!({"description": "OK", "content": content(&format!("{META}.{kind}"))});
    json!({"description": description, "responses": {"200": answer, "401": {"description": "Unauthorized"}}})
}

/// Kinds that every group has are published as the core group's and the document's own.
fn shared_kind(group: &str, version: &str, kind: &str) -> Value {
    let mut groups = vec![json!({"group": "", "version": "v1", "kind": kind})];
    if !group.is_empty() {
        groups.push(json!({"group": group, "version": version, "kind": kind}));
    }
    groups.into()
}

/// A body of this schema in every representation.
fn content(schema: &str) -> Value {
    let schema = json!({"schema": {"$ref": format!("#/components/schemas/{schema}")}});
    json!({
        "application/json": schema, "application/vnd.kubernetes.protobuf": schema, "application/yaml": schema,
    })
}

fn add_paths(paths: &mut Map<String, Value>, info: &KindInfo, root: &str) {
    if !info.stored {
        return add_paths_of_answers(paths, info, root);
    }
    let list = format!("{}List", info.schema);
    let base = if info.namespaced {
        paths.insert(
            format!("/{root}/{}", info.plural),
            json!({"get": operation(info, "list", &list, info.kind)}),
        );
        format!("/{root}/namespaces/{{namespace}}/{}", info.plural)
    } else {
        format!("/{root}/{}", info.plural)
    };
    let mut collection = json!({
        "get": operation(info, "list", &list, info.kind),
        "post": operation(info, "post", info.schema, info.kind),
        "parameters": parameters(info, false),
    });
    if info.verbs.contains(&"deletecollection") {
        collection["delete"] = operation(info, "deletecollection", &format!("{META}.Status"), info.kind);
    }
    paths.insert(base.clone(), collection);
    let item = json!({
        "get": operation(info, "get", info.schema, info.kind),
        "put": operation(info, "put", info.schema, info.kind),
        "patch": operation(info, "patch", info.schema, info.kind),
        "delete": operation(info, "delete", &format!("{META}.Status"), info.kind),
        "parameters": parameters(info, true),
    });
    let item_path = format!("{base}/{{name}}");
    for subresource in info.subresources {
        let (schema, kind) = match subresource {
            Subresource::Scale => (SCALE, "Scale"),
            Subresource::Binding => (BINDING, "Binding"),
            Subresource::Eviction => (EVICTION, "Eviction"),
            Subresource::Token => (TOKEN_REQUEST, "TokenRequest"),
            Subresource::Exec => ("", "PodExecOptions"),
            Subresource::Attach => ("", "PodAttachOptions"),
            Subresource::PortForward => ("", "PodPortForwardOptions"),
            Subresource::Proxy if info.kind == "Node" => ("", "NodeProxyOptions"),
            Subresource::Proxy if info.kind == "Service" => ("", "ServiceProxyOptions"),
            Subresource::Proxy => ("", "PodProxyOptions"),
            Subresource::Log => ("", info.kind),
            _ => (info.schema, info.kind),
        };
        let mut path = json!({"parameters": parameters(info, true)});
        for verb in subresource_verbs(*subresource) {
            let (method, action) = match (*verb, *subresource) {
                (_, Subresource::Exec | Subresource::Attach | Subresource::PortForward) => {
                    (if *verb == "get" { "get" } else { "post" }, "connect")
                }
                ("create", Subresource::Proxy) => ("post", "connect"),
                ("update", Subresource::Proxy) => ("put", "connect"),
                (same, Subresource::Proxy) => (same, "connect"),
                ("create", _) => ("post", "post"),
                ("update", _) => ("put", "put"),
                (same, _) => (same, same),
            };
            path[method] = operation(info, action, schema, kind);
        }
        paths.insert(format!("{item_path}/{}", segment(*subresource)), path);
    }
    paths.insert(item_path, item);
}

/// The paths of a kind whose objects are answered and not kept.
fn add_paths_of_answers(paths: &mut Map<String, Value>, info: &KindInfo, root: &str) {
    let scope = if info.namespaced { "namespaces/{namespace}/" } else { "" };
    let collection = format!("/{root}/{scope}{}", info.plural);
    if info.verbs.contains(&"list") {
        let list = operation(info, "list", &format!("{}List", info.schema), info.kind);
        paths.insert(collection.clone(), json!({"get": list}));
        let get = operation(info, "get", info.schema, info.kind);
        let one = json!({"get": get, "parameters": parameters(info, true)});
        paths.insert(format!("{collection}/{{name}}"), one);
    } else {
        let post = operation(info, "post", info.schema, info.kind);
        paths.insert(collection, json!({"post": post, "parameters": parameters(info, false)}));
    }
}

/// One operation. `schema` is what it answers with (and, where it writes, what it is sent); empty for
/// plain text.
fn operation(info: &KindInfo, action: &str, schema: &str, kind: &str) -> Value {
    let (group, version) = match kind {
        "Scale" => ("autoscaling", "v1"),
        "Eviction" => ("policy", "v1"),
        "TokenRequest" => ("authentication.k8s.io", "v1"),
        _ => (info.group, info.version),
    };
    let answer = if schema.is_empty() {
        json!({"description": "OK", "content": {"text/plain": {"schema": {"type": "string"}}}})
    } else {
        json!({"description": "OK", "content": content(schema)})
    };
    let mut operation = json!({
        "responses": {"200": answer, "401": {"description": "Unauthorized"}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
    });
    let patch = json!({"schema": {"$ref": format!("#/components/schemas/{META}.Patch")}});
    let body = match action {
        "post" | "put" => content(schema),
        "patch" => json!({
            "application/json-patch+json": patch,
            "application/merge-patch+json": patch,
            "application/strategic-merge-patch+json": patch,
        }),
        "delete" | "deletecollection" => content(&format!("{META}.DeleteOptions")),
        _ => return operation,
    };
    operation["requestBody"] = json!({"content": body});
    let names: &[&str] = match action {
        "delete" | "deletecollection" => &["dryRun", "gracePeriodSeconds", "propagationPolicy"],
        _ => &["dryRun", "fieldManager", "fieldValidation"],
    };
    let parameters: Vec<_> = names
        .iter()
        .map(|name| {
            let kind = if *name == "gracePeriodSeconds" {
                "integer"
            } else {
                "string"
            };
            json!({"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": true}})
        })
        .collect();
    operation["parameters"] = parameters.into();
    operation
}

fn parameters(info: &KindInfo, named: bool) -> Value {
    let in_path = |name: &str| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "uniqueItems": true}});
    let name = named.then(|| in_path("name"));
    let namespace = info.namespaced.then(|| in_path("namespace"));
    name.into_iter().chain(namespace).collect()
}
