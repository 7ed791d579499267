//! HTTP in, HTTP out: routing over the registry, and one concern a file.
//!
//! ```text
//! mod       a request becomes a Call: route, negotiate, authorize, dispatch
//! request   paths, verbs, options        negotiate   media types, bodies      auth     who may do what
//! read      get, list                    watch       changes as a stream      select   selectors
//! list_options                           which options go together
//! create, update, apply, delete          scale, binding, tunnel, review       object   metadata in JSON
//! write                                  what writes want and what came of it
//! state                                  what requests share                   policies   the stored roles, read once
//! respond   documents to bodies          table       what `kubectl get` shows
//! component_status                       how the control plane is              custom_kinds             that there are none
//! escalation                             nobody grants more than they have
//! addresses                              cluster IPs as IPAddress objects      admission  what other objects decide
//! discovery, openapi, health             what the server says about itself
//! ```
//!
//! Nothing here knows a kind by its fields (kinds bring a strategy), opens a port or touches the disk.

mod addresses;
mod admission;
mod apply;
pub mod auth;
mod binding;
mod call;
mod component_status;
mod create;
mod custom_kinds;
mod delete;
mod discovery;
mod document;
mod escalation;
mod eviction;
mod generated_name;
mod health;
mod impersonate;
mod links;
mod list_meta;
mod list_options;
mod negotiate;
mod object;
pub mod openapi;
mod policies;
mod proxy;
mod read;
mod request;
mod respond;
mod review;
mod scale;
mod select;
mod service_account;
pub mod state;
mod table;
mod token;
mod tunnel;
mod update;
mod watch;
mod websocket;
mod write;

use axum::extract::{Request, State as Shared};
use axum::response::Response;
use bytes::Bytes;
use http::{Method, StatusCode, header};
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::identity::Identity;
use crate::resource::Subresource;
use crate::resource::decode::Format;

use call::Call;
use negotiate::Accepted;
use request::{Options, Route, Target, Verb};
use state::{SharedState, State};

/// The whole API over `state`. Who is asking comes as an [`Identity`] extension.
pub fn router(state: SharedState) -> axum::Router {
    axum::Router::new().fallback(answer).with_state(state)
}

async fn answer(Shared(state): Shared<SharedState>, request: Request) -> Response {
    // Refusals are written as objects would be, whatever was wrong with the request.
    let accept = Accepted::parse(request.headers(), None).unwrap_or_else(|_refused| Accepted::json());
    route(state, request)
        .await
        .unwrap_or_else(|error| respond::refusal(accept, &error))
}

async fn route(state: SharedState, request: Request) -> Result<Response, ApiError> {
    let identity = impersonate::impersonate(&state, identify(&state, &request)?, request.headers())?;
    let options = Options::parse(request.uri())?;
    let pretty = options.all("pretty").next().map(|_| options.flag("pretty"));
    match Route::parse(state.registry, request.uri().path())? {
        Route::Path(segments) if segments == custom_kinds::PATH && *request.method() == Method::GET => {
            let accept = Accepted::parse(request.headers(), pretty)?;
            custom_kinds::list(&state, &identity, accept)
        }
        Route::Path(segments) => {
            let method = request.method().as_str().to_lowercase();
            auth::authorize_path(&state, &identity, request.uri().path(), &method)?;
            if !matches!(*request.method(), Method::GET | Method::HEAD) {
                return Err(ApiError::MethodNotAllowed);
            }
            let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
            path(&state, &segments, &options, &request, pretty)
        }
        Route::Resource(target) => {
            let verb = Verb::of(request.method(), &target, &options)?;
            let selected = select::selected_name(&options);
            let wanted = auth::attributes(verb, &target, selected.as_deref());
            auth::authorize(&state, &identity, &target.kind.info, &wanted)?;
            if !serves(&target, verb) {
                return Err(ApiError::MethodNotAllowed);
            }
            let accept = match target.subresource {
                // What a container writes has no representations to choose from.
                Some(
                    Subresource::Log
                    | Subresource::Exec
                    | Subresource::Attach
                    | Subresource::PortForward
                    | Subresource::Proxy,
                ) => Accepted::json(),
                _ => Accepted::parse(request.headers(), pretty)?,
            };
            let headers = request.headers().clone();
            let call = Call {
                state,
                verb,
                target,
                options,
                accept,
                identity,
                headers,
            };
            let deprecation = call.target.kind.info.deprecation;
            let mut response = resource(call, verb, request)
                .await
                .unwrap_or_else(|error| respond::refusal(accept, &error));
            if let Some(text) = deprecation {
                respond::warn(response.headers_mut(), text);
            }
            Ok(response)
        }
    }
}

/// The identity that the listener gave, or that of a bearer token, or nobody. Other credentials are refused:
/// none are issued.
fn identify(state: &State, request: &Request) -> Result<Identity, ApiError> {
    let listener = request.extensions().get::<Identity>();
    if let Some(identity) = listener.filter(|identity| **identity != Identity::anonymous()) {
        return Ok(identity.clone());
    }
    if !request.headers().contains_key(header::AUTHORIZATION) {
        return Ok(Identity::anonymous());
    }
    let credentials = negotiate::text(request.headers(), header::AUTHORIZATION);
    match credentials.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token::authenticate(state, token.trim()),
        _ => Err(ApiError::Unauthorized),
    }
}

/// The body of a subresource whose kind is not that of its object, as JSON.
fn read_value(body: &[u8], format: Format) -> Result<Value, ApiError> {
    let bad = |error: &dyn std::fmt::Display| ApiError::BadRequest(error.to_string());
    match format {
        Format::Json => serde_json::from_slice(body).map_err(|e| bad(&e)),
        Format::Yaml => serde_saphyr::from_slice(body).map_err(|e| bad(&e)),
    }
}

/// Whether discovery lists the verb.
fn serves(target: &Target<'_>, verb: Verb) -> bool {
    let info = &target.kind.info;
    match target.subresource {
        Some(subresource) => discovery::subresource_verbs(subresource).contains(&verb.as_str()),
        None if verb == Verb::Create && info.namespaced => !target.namespace.is_empty(),
        None if verb == Verb::DeleteCollection && info.namespaced && target.namespace.is_empty() => false,
        None => info.verbs.contains(&verb.as_str()),
    }
}

async fn resource(call: Call, verb: Verb, request: Request) -> Result<Response, ApiError> {
    match (call.target.subresource, verb) {
        (None, Verb::Get | Verb::List) if !call.info().stored => {
            return match verb {
                Verb::Get => component_status::get(&call),
                _ => component_status::list(&call),
            };
        }
        (Some(Subresource::Proxy), _) => return proxy::carry(&call, request).await,
        (Some(Subresource::Log), _) => return tunnel::log(&call).await,
        (Some(part @ (Subresource::Exec | Subresource::Attach | Subresource::PortForward)), _) => {
            return tunnel::session(&call, part, request).await;
        }
        (None, Verb::List) => return read::list(&call),
        (None, Verb::Watch) => return watch::watch(call),
        (Some(Subresource::Scale), Verb::Get) => {
            return scale::scale(&call, verb, &Bytes::new(), None).await;
        }
        (_, Verb::Get) => return read::get(&call),
        _ => {}
    }
    let body = negotiate::read_body(request.into_body()).await?;
    // A patch's media type says which kind of patch it is; everything else is an object. A deletion
    // without a body has nothing to be in a format.
    let (body, format) = match verb {
        Verb::Patch => (body, None),
        Verb::Delete | Verb::DeleteCollection if body.is_empty() => (body, Some(Format::Json)),
        _ => {
            let expected = request::expected(&call.target, verb);
            let (body, format) = negotiate::readable(&call.headers, body, &expected)?;
            (body, Some(format))
        }
    };
    match (call.target.subresource, verb, format) {
        (Some(Subresource::Scale), ..) => scale::scale(&call, verb, &body, format).await,
        (Some(Subresource::Binding), _, Some(format)) => binding::bind(&call, &body, format).await,
        (Some(Subresource::Eviction), _, Some(format)) => eviction::evict(&call, &body, format).await,
        (Some(Subresource::Token), _, Some(format)) => token::issue(&call, &body, format),
        (_, Verb::Patch, _) if negotiate::content_type(&call.headers) == apply::MEDIA_TYPE => {
            apply::apply(&call, &body).await
        }
        (_, Verb::Patch, _) => update::patch(&call, &body).await,
        (_, Verb::Update, Some(format)) => update::update(&call, &body, format).await,
        (None, Verb::Create, Some(format)) if call.info().kind == "Binding" => {
            binding::bind(&call, &body, format).await
        }
        (None, Verb::Create, Some(format)) if !call.info().stored => review::review(&call, &body, format),
        (None, Verb::Create, Some(format)) => create::create(&call, &body, format).await,
        (None, Verb::Delete, Some(format)) => delete::delete(&call, &body, format).await,
        (None, Verb::DeleteCollection, Some(format)) => delete::delete_collection(&call, &body, format).await,
        _ => Err(ApiError::MethodNotAllowed),
    }
}

/// Answers a path that is no resource.
fn path(
    state: &State,
    segments: &[&str],
    options: &Options,
    request: &Request,
    pretty: Option<bool>,
) -> Result<Response, ApiError> {
    let registry = state.registry;
    let headers = request.headers();
    match segments {
        [endpoint @ ("healthz" | "livez" | "readyz"), check @ ..] => {
            let check = (!check.is_empty()).then(|| check.join("/"));
            return health::health(state, endpoint, check.as_deref(), options);
        }
        ["openid", "v1", "jwks"] => return key_document(&state.account_tokens.key_set(), "application/jwk-set+json"),
        [".well-known", "openid-configuration"] => {
            let config = &state.config;
            let server = format!("{}:{}", config.advertise_address, config.advertise_port);
            return key_document(&state.account_tokens.configuration(&server), "application/json");
        }
        ["openapi", "v3", root @ ..] if !root.is_empty() => {
            return state.openapi()?.get(&root.join("/"), options, headers);
        }
        ["openapi", "v2"] => return state.openapi()?.v2(headers),
        [kind @ ("api" | "apis")] if discovery::wants_aggregated(headers) => {
            return discovery::aggregated_answer(registry, *kind == "api", headers);
        }
        _ => {}
    }
    let document = match segments {
        [] => root_paths(state),
        ["api"] => discovery::api_versions(&state.config),
        ["apis"] => discovery::group_list(registry),
        ["apis", group] => discovery::group(registry, group)?,
        ["api", version] => discovery::resources(registry, "", version)?,
        ["apis", group, version] => discovery::resources(registry, group, version)?,
        ["version"] => health::version(),
        ["openapi", "v3"] => state.openapi()?.index(),
        _ => return Err(ApiError::NoSuchPath),
    };
    let accept = Accepted::parse(headers, pretty)?;
    respond::finish(accept, StatusCode::OK, serde_json::to_vec(&document)?, &[])
}

/// A document for those who verify our tokens, good for an hour.
fn key_document(document: &Value, media_type: &'static str) -> Result<Response, ApiError> {
    let mut response = Response::new(serde_json::to_vec(document)?.into());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media_type));
    let hour = header::HeaderValue::from_static("public, max-age=3600");
    headers.insert(header::CACHE_CONTROL, hour);
    Ok(response)
}

fn root_paths(state: &State) -> Value {
    let mut paths = vec!["/api".to_owned(), "/api/v1".to_owned(), "/apis".to_owned()];
    for group in discovery::groups(state.registry)
        .into_iter()
        .filter(|group| !group.is_empty())
    {
        paths.push(format!("/apis/{group}"));
        let versions = discovery::versions(state.registry, group);
        paths.extend(versions.into_iter().map(|version| format!("/apis/{group}/{version}")));
    }
    paths.insert(0, "/.well-known/openid-configuration".to_owned());
    paths.extend(
        [
            "/healthz",
            "/livez",
            "/openapi/v2",
            "/openapi/v3",
            "/openid/v1/jwks",
            "/readyz",
            "/version",
        ]
        .map(str::to_owned),
    );
    json!({"paths": paths})
}
