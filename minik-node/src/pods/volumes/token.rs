//! Tokens of a Pod's ServiceAccount: which a Pod needs, asking for them, and when to ask again.
//!
//! Source: `pkg/kubelet/token`: a token is renewed when four fifths of its life have passed, and after a day at the
//! latest. Tokens are kept in memory and in the volume alone.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount, ServiceAccountTokenProjection};
use kube::api::PostParams;
use kube::{Api, Client};

const DEFAULT_SECONDS: i64 = 3600;
const OLDEST: SignedDuration = SignedDuration::from_hours(24);

/// What distinguishes the tokens of one Pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenKey {
    /// Whom it is for; empty for the API server.
    pub audience: String,
    /// Seconds that it is to live.
    pub seconds: i64,
}

impl TokenKey {
    /// The token that a projection wants.
    #[must_use]
    pub fn of(wanted: &ServiceAccountTokenProjection) -> Self {
        Self {
            audience: wanted.audience.clone().unwrap_or_default(),
            seconds: wanted.expiration_seconds.unwrap_or(DEFAULT_SECONDS),
        }
    }

    /// Those that a Pod's volumes want.
    #[must_use]
    pub fn all(pod: &Pod) -> BTreeSet<Self> {
        let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let sources = volumes.filter_map(|volume| volume.projected.as_ref()?.sources.as_ref());
        let tokens = sources
            .flatten()
            .filter_map(|source| source.service_account_token.as_ref());
        tokens.map(Self::of).collect()
    }
}

/// A token that was issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Itself.
    pub text: String,
    /// When another is to take its place.
    pub renew_at: Timestamp,
}

/// When a token that ends at `end` is renewed.
fn renew_at(key: &TokenKey, end: Timestamp) -> Timestamp {
    let life = SignedDuration::from_secs(key.seconds);
    let issued = end.saturating_sub(life).unwrap_or(end);
    let age = (life * 4 / 5).min(OLDEST);
    issued.saturating_add(age).unwrap_or(end)
}

/// Asks for a token that ends with the Pod. The error is the API server's text.
pub async fn request(client: &Client, pod: &Pod, key: &TokenKey) -> Result<Token, String> {
    let metadata = &pod.metadata;
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
    let wanted = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: Some(vec![key.audience.clone()]).filter(|_| !key.audience.is_empty()),
            expiration_seconds: Some(key.seconds),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: metadata.name.clone(),
                uid: metadata.uid.clone(),
            }),
        }),
        ..TokenRequest::default()
    };
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), metadata.namespace.as_deref().unwrap_or_default());
    let account = account
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "default".to_owned());
    let issued = api
        .create_token_request(&account, &PostParams::default(), &wanted)
        .await;
    let issued = issued.map_err(|error| match error {
        kube::Error::Api(status) => status.message,
        error => error.to_string(),
    })?;
    let status = issued.status.unwrap_or_default();
    match (status.token, status.expiration_timestamp) {
        (Some(text), Some(end)) => Ok(Token {
            text,
            renew_at: renew_at(key, end.0),
        }),
        _ => Err("the answer has no token".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_in_its_last_fifth_and_every_day() {
        let end: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for (seconds, expected) in [
            (3600, "2025-12-31T23:48:00Z"),
            (3607, "2025-12-31T23:47:58.6Z"),
            (30 * 86_400, "2025-12-03T00:00:00Z"),
        ] {
            let key = TokenKey {
                audience: String::new(),
                seconds,
            };
            assert_eq!(renew_at(&key, end), expected.parse().unwrap(), "{seconds}");
        }
    }
}
