//! `Impersonate-User`, `-Group`, `-Uid` and `-Extra-KEY`: who may ask as somebody else, and is that somebody from then on.
//! What `kubectl --as`, `--as-group` and `--as-uid` send.

use std::collections::BTreeMap;

use http::HeaderMap;
use percent_encoding::percent_decode_str;

use crate::authz::{Attributes, Resource, Target};
use crate::error::{self, ApiError};
use crate::identity::Identity;

use super::auth;
use super::state::State;

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
/// The group of what tells users apart, besides their names.
const AUTHENTICATION: &str = "authentication.k8s.io";

/// Whom the headers name.
#[derive(Debug, Default)]
struct Wanted {
    user: String,
    groups: Vec<String>,
    uid: String,
    extra: BTreeMap<String, Vec<String>>,
}

impl Wanted {
    fn read(headers: &HeaderMap) -> Self {
        let text = |value: &http::HeaderValue| value.to_str().ok().map(str::to_owned);
        let one = |name: &str| headers.get(name).and_then(text).unwrap_or_default();
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in headers {
            let Some(key) = name.as_str().strip_prefix(EXTRA) else {
                continue;
            };
            // A key that cannot be unescaped is taken as it stands.
            let key = percent_decode_str(key)
                .decode_utf8()
                .map_or(key.to_owned(), |key| key.into_owned());
            extra.entry(key).or_default().extend(text(value));
        }
        Self {
            user: one(USER),
            groups: headers.get_all(GROUP).iter().filter_map(text).collect(),
            uid: one(UID),
            extra,
        }
    }
}

/// The identity that a request of `identity` counts as.
///
/// # Errors
/// `identity` may not ask as whom the headers name, or they name what a user has and no user.
pub fn impersonate(state: &State, identity: Identity, headers: &HeaderMap) -> Result<Identity, ApiError> {
    let Wanted {
        user,
        mut groups,
        uid,
        extra,
    } = Wanted::read(headers);
    if user.is_empty() {
        if groups.is_empty() && uid.is_empty() && extra.is_empty() {
            return Ok(identity);
        }
        let mut asked = groups;
        asked.extend(extra.into_values().flatten());
        asked.extend((!uid.is_empty()).then_some(uid));
        let reason = format!("requested {asked:?} without impersonating a user");
        return Err(ApiError::Internal(reason));
    }
    let account = user
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'));
    let may = |group, resource: &'static str, subresource: &str, namespace: &str, name: &str| {
        let target = Resource {
            group,
            resource,
            subresource,
            namespace,
            name,
        };
        check(
            state,
            &identity,
            error::Resource {
                group,
                plural: resource,
            },
            target,
        )
    };
    match account {
        Some((namespace, name)) => may("", "serviceaccounts", "", namespace, name)?,
        None => may("", "users", "", "", &user)?,
    }
    for group in &groups {
        may("", "groups", "", "", group)?;
    }
    for (key, values) in &extra {
        for value in values {
            may(AUTHENTICATION, "userextras", key, "", value)?;
        }
    }
    if !uid.is_empty() {
        may(AUTHENTICATION, "uids", "", "", &uid)?;
    }
    implied(&user, account.map(|(namespace, _)| namespace), &mut groups);
    Ok(Identity {
        user,
        groups,
        uid,
        extra,
    })
}

/// Adds the groups that somebody is in without being put there.
fn implied(user: &str, namespace: Option<&str>, groups: &mut Vec<String>) {
    if let Some(namespace) = namespace.filter(|_| groups.is_empty()) {
        groups.push("system:serviceaccounts".to_owned());
        groups.push(format!("system:serviceaccounts:{namespace}"));
    }
    let everyone = match user {
        "system:anonymous" => "system:unauthenticated",
        _ => "system:authenticated",
    };
    if !groups.iter().any(|group| group == everyone) {
        groups.push(everyone.to_owned());
    }
}

fn check(state: &State, identity: &Identity, about: error::Resource, target: Resource<'_>) -> Result<(), ApiError> {
    let wanted = Attributes {
        verb: "impersonate",
        target: Target::Resource(target),
    };
    auth::authorize(state, identity, about, &wanted)
}
