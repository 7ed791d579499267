//! POST of a TokenRequest to a ServiceAccount, and the bearer tokens that come back: whom they speak for, as long as
//! the account and the object that a token is bound to are there.

use std::collections::BTreeMap;

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::account_tokens::{Named, Subject, Wanted};
use crate::error::{ApiError, Resource};
use crate::identity::{CREDENTIAL, Identity};
use crate::pki;
use crate::resource::decode::Format;
use crate::resource::field::FieldError;
use crate::resource::validation::time;

use super::call::{Call, now};
use super::document;
use super::object::{self, text};
use super::request::key;
use super::respond;
use super::state::State;

/// Seconds of a token whose client names none.
const DEFAULT_SECONDS: i64 = 3600;
const LEAST_SECONDS: i64 = 600;
const MOST_SECONDS: i64 = 1 << 32;
/// What kubelets ask for since tokens end. Old clients do not read theirs again, so these are good for longer, as
/// `--service-account-extend-token-expiration` has it.
const RENEWED_SECONDS: i64 = 3607;
const EXTENDED_SECONDS: i64 = 365 * 86_400;

/// Issues a token for the ServiceAccount in the path.
///
/// # Errors
/// The request is malformed, or the account or the object that the token is to be bound to is not there.
pub fn issue(call: &Call, body: &Bytes, format: Format) -> Result<Response, ApiError> {
    let request = super::read_value(body, format)?;
    let account = stored(&call.state, "ServiceAccount", &call.target.namespace, &call.target.name)?;
    let seconds = seconds(call, &request)?;
    let tokens = &call.state.account_tokens;
    let mut audiences = object::strings(&request, "/spec/audiences");
    if audiences.is_empty() {
        audiences.push(tokens.issuer().to_owned());
    }
    let now = now().as_second();
    let ours = audiences.iter().all(|audience| audience == tokens.issuer());
    let extended = ours && seconds == RENEWED_SECONDS;
    let mut subject = Subject {
        namespace: call.target.namespace.clone(),
        node: None,
        pod: None,
        secret: None,
        serviceaccount: named(&account),
        warnafter: extended.then_some(now + seconds),
        id: String::new(),
    };
    if let Some(reference) = request.pointer("/spec/boundObjectRef").filter(|r| !r.is_null()) {
        bind(call, reference, &mut subject)?;
    }
    let wanted = Wanted {
        audiences: audiences.clone(),
        now,
        expires: now + if extended { EXTENDED_SECONDS } else { seconds },
        subject,
    };
    let token = tokens
        .sign(wanted)
        .map_err(|error| ApiError::Internal(error.to_string()))?;
    let until = Timestamp::from_second(now + seconds).map_err(|error| ApiError::Internal(error.to_string()))?;
    let mut answer = json!({
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {
            "name": call.target.name,
            "namespace": call.target.namespace,
            "creationTimestamp": super::call::now().to_string(),
        },
        "spec": {"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": null},
        "status": {"token": token, "expirationTimestamp": time::to_seconds(until)},
    });
    if let Some(reference) = request.pointer("/spec/boundObjectRef") {
        answer["spec"]["boundObjectRef"] = reference.clone();
    }
    respond::value(call, StatusCode::CREATED, &answer)
}

fn seconds(call: &Call, request: &Value) -> Result<i64, ApiError> {
    const FIELD: &str = "spec.expirationSeconds";
    let seconds = request.pointer("/spec/expirationSeconds").and_then(Value::as_i64);
    let seconds = seconds.unwrap_or(DEFAULT_SECONDS);
    let detail = match seconds {
        ..LEAST_SECONDS => "may not specify a duration less than 10 minutes",
        s if s > MOST_SECONDS => "may not specify a duration larger than 2^32 seconds",
        _ => return Ok(seconds),
    };
    Err(ApiError::Invalid {
        kind: "TokenRequest".to_owned(),
        group: "authentication.k8s.io".to_owned(),
        name: call.target.name.clone(),
        errors: vec![FieldError::invalid(FIELD, seconds, detail)],
    })
}

/// Binds a token to the object that `reference` names.
fn bind(call: &Call, reference: &Value, subject: &mut Subject) -> Result<(), ApiError> {
    let (kind, name) = (text(reference, "/kind"), text(reference, "/name"));
    let version = text(reference, "/apiVersion");
    let namespace = if kind == "Node" {
        ""
    } else {
        call.target.namespace.as_str()
    };
    if version != "v1" || !matches!(kind, "Pod" | "Node" | "Secret") {
        return Err(ApiError::BadRequest(format!(
            "cannot bind token to object of type {version}, Kind={kind}"
        )));
    }
    let object = stored(&call.state, kind, namespace, name)?;
    let found = named(&object);
    let wanted = text(reference, "/uid");
    if !wanted.is_empty() && wanted != found.uid {
        let plural = match kind {
            "Pod" => "pods",
            "Node" => "nodes",
            _ => "secrets",
        };
        return Err(ApiError::Conflict {
            resource: Resource { group: "", plural },
            name: name.to_owned(),
            reason: format!(
                "the UID in the bound object reference ({wanted}) does not match the UID in record. The object might have been deleted and then recreated"
            ),
        });
    }
    match kind {
        "Pod" => {
            let account = &call.target.name;
            if text(&object, "/spec/serviceAccountName") != account {
                return Err(ApiError::BadRequest(format!(
                    "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
                )));
            }
            let node = text(&object, "/spec/nodeName");
            if !node.is_empty() {
                // A node that is gone is named all the same, without its uid.
                let uid = stored(&call.state, "Node", "", node).map(|node| named(&node).uid);
                subject.node = Some(Named {
                    name: node.to_owned(),
                    uid: uid.unwrap_or_default(),
                });
            }
            subject.pod = Some(found);
        }
        "Node" => subject.node = Some(found),
        _ => subject.secret = Some(found),
    }
    Ok(())
}

/// Who a bearer token speaks for.
///
/// # Errors
/// It is not genuine or out of time, or what it speaks for is gone.
pub fn authenticate(state: &State, token: &str) -> Result<Identity, ApiError> {
    let subject = state.account_tokens.verify(token).map_err(|error| {
        tracing::debug!(error = &error as &dyn std::error::Error, "a bearer token was refused");
        ApiError::Unauthorized
    })?;
    let namespace = subject.namespace.as_str();
    let bound_node = subject.node.as_ref().filter(|_| subject.pod.is_none());
    let objects = [
        ("ServiceAccount", namespace, Some(&subject.serviceaccount)),
        ("Pod", namespace, subject.pod.as_ref()),
        ("Secret", namespace, subject.secret.as_ref()),
        ("Node", "", bound_node),
    ];
    for (kind, namespace, reference) in objects {
        let Some(reference) = reference else { continue };
        let object = stored(state, kind, namespace, &reference.name).map_err(|_gone| ApiError::Unauthorized)?;
        if named(&object).uid != reference.uid {
            return Err(ApiError::Unauthorized);
        }
    }
    let user = subject.user();
    let groups = pki::implied_groups(&user);
    let known = |key: &str, value: &str| (format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
    let mut extra = BTreeMap::from([(CREDENTIAL.to_owned(), vec![format!("JTI={}", subject.id)])]);
    for (kind, named) in [("pod", &subject.pod), ("node", &subject.node)] {
        let Some(named) = named else { continue };
        extra.extend([known(&format!("{kind}-name"), &named.name)]);
        // A node that was gone when the token was made has none.
        extra.extend((!named.uid.is_empty()).then(|| known(&format!("{kind}-uid"), &named.uid)));
    }
    Ok(Identity {
        user,
        groups,
        uid: subject.serviceaccount.uid,
        extra,
    })
}

fn stored(state: &State, kind: &str, namespace: &str, name: &str) -> Result<Value, ApiError> {
    let registered = state.registry.by_kind("", kind).ok_or(ApiError::NoSuchResource)?;
    let entry = state.storage.cache().get(&key(&registered.info, namespace, name));
    let entry = entry.ok_or_else(|| ApiError::not_found(&registered.info, name))?;
    Ok(document::parse(&registered.info, &entry.value)?)
}

fn named(object: &Value) -> Named {
    Named {
        name: text(object, "/metadata/name").to_owned(),
        uid: text(object, "/metadata/uid").to_owned(),
    }
}
