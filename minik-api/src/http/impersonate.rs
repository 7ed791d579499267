//! `Impersonate-User` and `Impersonate-Group`: who may ask as somebody else, and is that somebody from then on.
//! What `kubectl --as` sends.

use http::HeaderMap;

use crate::authz::{Attributes, Resource, Target};
use crate::error::{self, ApiError};
use crate::identity::Identity;

use super::auth;
use super::state::State;

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";

/// The identity that a request of `identity` counts as.
///
/// # Errors
/// `identity` may not ask as whom the headers name, or they name groups and nobody who is in them.
pub fn impersonate(state: &State, identity: Identity, headers: &HeaderMap) -> Result<Identity, ApiError> {
    let text = |value: &http::HeaderValue| value.to_str().ok().map(str::to_owned);
    let user = headers.get(USER).and_then(text).unwrap_or_default();
    let mut groups: Vec<String> = headers.get_all(GROUP).iter().filter_map(text).collect();
    if user.is_empty() {
        if groups.is_empty() {
            return Ok(identity);
        }
        let reason = format!("requested {groups:?} without impersonating a user");
        return Err(ApiError::Internal(reason));
    }
    let account = user
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'));
    match account {
        Some((namespace, name)) => check(state, &identity, "serviceaccounts", namespace, name)?,
        None => check(state, &identity, "users", "", &user)?,
    }
    for group in &groups {
        check(state, &identity, "groups", "", group)?;
    }
    if let Some((namespace, _)) = account
        && groups.is_empty()
    {
        groups.push("system:serviceaccounts".to_owned());
        groups.push(format!("system:serviceaccounts:{namespace}"));
    }
    let everyone = match user.as_str() {
        "system:anonymous" => "system:unauthenticated",
        _ => "system:authenticated",
    };
    if !groups.iter().any(|group| group == everyone) {
        groups.push(everyone.to_owned());
    }
    Ok(Identity { user, groups })
}

fn check(
    state: &State,
    identity: &Identity,
    plural: &'static str,
    namespace: &str,
    name: &str,
) -> Result<(), ApiError> {
    let target = Target::Resource(Resource {
        group: "",
        resource: plural,
        subresource: "",
        namespace,
        name,
    });
    let wanted = Attributes {
        verb: "impersonate",
        target,
    };
    auth::authorize(state, identity, error::Resource { group: "", plural }, &wanted)
}
