//! POST of a review: who is asking, whether somebody may do something, what somebody may do. Answered from the
//! authorizer that decides about every request; nothing is stored.

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, NonResourceRule, ResourceAttributes, ResourceRule, SubjectRulesReviewStatus,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::authz::{self, Attributes, Decision, Resource, Target};
use crate::error::ApiError;
use crate::identity::Identity;
use crate::resource::decode::{Format, decode};

use super::auth;
use super::call::Call;
use super::object::{self, text};
use super::{respond, token};

/// Answers the review in `body` with itself and its status.
///
/// # Errors
/// The body does not decode, or asks for nothing that can be answered.
pub fn review(call: &Call, body: &Bytes, format: Format) -> Result<Response, ApiError> {
    let info = call.info();
    let decoded = decode(body, format, info, call.write_options(false)?.validation)?;
    let mut review = decoded.object;
    if info.namespaced && text(&review, "/metadata/namespace").is_empty() {
        object::metadata(&mut review).insert("namespace".to_owned(), call.target.namespace.as_str().into());
    }
    let errors = call.kind().strategy.validate(&review)?;
    if !errors.is_empty() {
        return Err(ApiError::invalid(info, text(&review, "/metadata/name"), errors));
    }
    let spec = review.get("spec").cloned().unwrap_or_default();
    let status = match info.kind {
        "SelfSubjectReview" => json!({"userInfo": user_info(&call.identity)}),
        "TokenReview" => token(call, &spec),
        "SelfSubjectRulesReview" => rules(call, text(&spec, "/namespace"))?,
        "SelfSubjectAccessReview" => access(call, &call.identity, &spec)?,
        _ => access(call, &subject(&spec), &spec)?,
    };
    object::map(&mut review).insert("status".to_owned(), status);
    let info = call.target.kind.info;
    info.stamp(&mut review);
    respond::finish(
        call.accept,
        StatusCode::CREATED,
        serde_json::to_vec(&review)?,
        &decoded.warnings,
    )
}

fn user_info(identity: &Identity) -> Value {
    let mut info = json!({"username": identity.user, "groups": identity.groups});
    if !identity.uid.is_empty() {
        info["uid"] = identity.uid.as_str().into();
    }
    if !identity.extra.is_empty() {
        info["extra"] = json!(identity.extra);
    }
    info
}

/// Whom a token speaks for, if it is one of ours and for an audience that is asked for (ours, when none is).
fn token(call: &Call, spec: &Value) -> Value {
    let issuer = call.state.account_tokens.issuer();
    let asked = object::strings(spec, "/audiences");
    let addressed = asked.is_empty() || asked.iter().any(|audience| audience == issuer);
    match token::authenticate(&call.state, text(spec, "/token")) {
        Ok(identity) if addressed => {
            json!({"authenticated": true, "user": user_info(&identity), "audiences": [issuer]})
        }
        _ => json!({"user": {}, "error": "[invalid bearer token]"}),
    }
}

/// Who a review asks about.
fn subject(spec: &Value) -> Identity {
    Identity {
        user: text(spec, "/user").to_owned(),
        groups: object::strings(spec, "/groups"),
        ..Identity::default()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    resource_attributes: Option<ResourceAttributes>,
    non_resource_attributes: Option<NonResourceAttributes>,
}

fn access(call: &Call, who: &Identity, spec: &Value) -> Result<Value, ApiError> {
    let asked = Asked::deserialize(spec)?;
    let given = |text: &Option<String>| text.clone().unwrap_or_default();
    let policy = auth::policy(&call.state)?;
    let decision = match (asked.resource_attributes, asked.non_resource_attributes) {
        (Some(asked), _) => {
            let (group, resource, subresource) =
                (given(&asked.group), given(&asked.resource), given(&asked.subresource));
            let (namespace, name, verb) = (given(&asked.namespace), given(&asked.name), given(&asked.verb));
            let target = Target::Resource(Resource {
                group: &group,
                resource: &resource,
                subresource: &subresource,
                namespace: &namespace,
                name: &name,
            });
            authz::authorize(who, &Attributes { verb: &verb, target }, &policy)
        }
        (None, asked) => {
            let asked = asked.unwrap_or_default();
            let (path, verb) = (given(&asked.path), given(&asked.verb));
            let target = Target::Path(&path);
            authz::authorize(who, &Attributes { verb: &verb, target }, &policy)
        }
    };
    let Decision { allowed, reason } = decision;
    let mut status = json!({"allowed": allowed});
    if !reason.is_empty() {
        status["reason"] = reason.into();
    }
    Ok(status)
}

fn rules(call: &Call, namespace: &str) -> Result<Value, ApiError> {
    if namespace.is_empty() {
        return Err(ApiError::BadRequest("no namespace on request".to_owned()));
    }
    let everything = || vec!["*".to_owned()];
    let mut status = SubjectRulesReviewStatus::default();
    if authz::is_master(&call.identity) {
        status.resource_rules.push(ResourceRule {
            verbs: everything(),
            api_groups: Some(everything()),
            resources: Some(everything()),
            resource_names: None,
        });
        status.non_resource_rules.push(NonResourceRule {
            verbs: everything(),
            non_resource_urls: Some(everything()),
        });
    }
    let found = auth::policy(&call.state)?.rules(&call.identity, namespace);
    for rule in found.rules {
        if rule.non_resource_urls.as_ref().is_some_and(|urls| !urls.is_empty()) {
            status.non_resource_rules.push(NonResourceRule {
                verbs: rule.verbs,
                non_resource_urls: rule.non_resource_urls,
            });
        } else {
            status.resource_rules.push(ResourceRule {
                verbs: rule.verbs,
                api_groups: rule.api_groups,
                resources: rule.resources,
                resource_names: rule.resource_names,
            });
        }
    }
    // What an agent may do beyond its roles is decided object by object and cannot be listed.
    let node = authz::node_name(&call.identity).map(|_| "node authorizer does not support user rule resolution");
    let problems: Vec<String> = node.map(str::to_owned).into_iter().chain(found.problems).collect();
    status.incomplete = !problems.is_empty();
    status.evaluation_error = (!problems.is_empty()).then(|| problems.join(", "));
    Ok(serde_json::to_value(status)?)
}
