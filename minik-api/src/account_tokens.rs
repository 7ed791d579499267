//! Tokens of ServiceAccounts (KEP-1205): signed JWTs that name an account and, if wanted, the object they end with.
//!
//! Owns the signing key and the claims. Says whether a token is genuine, in time and meant for this API server; whether
//! the account and the object still are is for `http` to look up. ES256; nothing here reads the clock or storage.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls_pki_types::PrivatePkcs8KeyDer;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Bytes of each coordinate of a P-256 point, which follow a byte that says that both are there.
const COORDINATE: usize = 32;

/// What can go wrong with keys and tokens.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The key could not be made, or is damaged.
    #[error("reading or making the key of service account tokens")]
    Key(#[source] rcgen::Error),
    /// A token could not be signed.
    #[error("signing a token")]
    Sign(#[source] jsonwebtoken::errors::Error),
    /// A token is not genuine, not valid now, or not meant for us.
    #[error("a token that is not accepted")]
    Refused(#[source] jsonwebtoken::errors::Error),
}

/// The private key as PKCS#8 PEM. Its text is never shown.
#[derive(Clone)]
pub struct AccountKey(String);

impl AccountKey {
    /// A new key.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn generate() -> Result<Self, TokenError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(TokenError::Key)?;
        Ok(Self(key.serialize_pem()))
    }

    /// A key that was stored.
    #[must_use]
    pub fn from_pem(pem: String) -> Self {
        Self(pem)
    }

    /// The text to store.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccountKey")
    }
}

/// An object by name and uid, as claims name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Name.
    pub name: String,
    /// Uid; a new object of the same name has another.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// What a token says about the cluster's objects: the claim `kubernetes.io`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Namespace of the account.
    pub namespace: String,
    /// The node that the Pod runs on, or that the token is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Named>,
    /// The Pod that the token ends with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Named>,
    /// The Secret that the token ends with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Named>,
    /// The account.
    pub serviceaccount: Named,
    /// When the token should have been renewed, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<i64>,
    /// The token's own number, once it is verified.
    #[serde(skip)]
    pub id: String,
}

impl Subject {
    /// `system:serviceaccount:NAMESPACE:NAME`.
    #[must_use]
    pub fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.serviceaccount.name)
    }
}

/// All claims, in seconds since 1970.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Claims {
    aud: Vec<String>,
    exp: i64,
    iat: i64,
    iss: String,
    jti: String,
    #[serde(rename = "kubernetes.io")]
    subject: Subject,
    nbf: i64,
    sub: String,
}

/// A token to be signed.
pub struct Wanted {
    /// Who may accept it.
    pub audiences: Vec<String>,
    /// From when on, in seconds since 1970.
    pub now: i64,
    /// Until when.
    pub expires: i64,
    /// What it says.
    pub subject: Subject,
}

/// Signs and verifies.
pub struct AccountTokens {
    issuer: String,
    key_id: String,
    point: Vec<u8>,
    signing: EncodingKey,
    verifying: DecodingKey,
}

impl AccountTokens {
    /// Tokens of the cluster with this DNS domain, signed with `key`.
    ///
    /// # Errors
    /// The key is damaged.
    pub fn new(key: &AccountKey, cluster_domain: &str) -> Result<Self, TokenError> {
        let pair = KeyPair::from_pem(&key.0).map_err(TokenError::Key)?;
        let der: PrivatePkcs8KeyDer<'_> = pair.serialized_der().into();
        let point = pair.der_bytes().to_vec();
        Ok(Self {
            issuer: format!("https://kubernetes.default.svc.{cluster_domain}"),
            // As kube-apiserver names its keys.
            key_id: BASE64URL_NOPAD.encode(&Sha256::digest(pair.subject_public_key_info())),
            signing: EncodingKey::from_ec_der(der.secret_pkcs8_der()),
            verifying: DecodingKey::from_ec_der(&point),
            point,
        })
    }

    /// Who signs, and who accepts tokens without an audience of their own: this API server.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Signs a token.
    ///
    /// # Errors
    /// The key does not sign, which a key that was read does.
    pub fn sign(&self, wanted: Wanted) -> Result<String, TokenError> {
        let header = Header {
            typ: None,
            kid: Some(self.key_id.clone()),
            ..Header::new(Algorithm::ES256)
        };
        let claims = Claims {
            aud: wanted.audiences,
            exp: wanted.expires,
            iat: wanted.now,
            iss: self.issuer.clone(),
            jti: uuid::Uuid::new_v4().to_string(),
            sub: wanted.subject.user(),
            subject: wanted.subject,
            nbf: wanted.now,
        };
        jsonwebtoken::encode(&header, &claims, &self.signing).map_err(TokenError::Sign)
    }

    /// What a genuine token for this API server says.
    ///
    /// # Errors
    /// It is none, or not valid now.
    pub fn verify(&self, token: &str) -> Result<Subject, TokenError> {
        let mut rules = Validation::new(Algorithm::ES256);
        rules.validate_nbf = true;
        rules.set_audience(&[&self.issuer]);
        rules.set_issuer(&[&self.issuer]);
        rules.set_required_spec_claims(&["exp", "aud", "iss"]);
        jsonwebtoken::decode::<Claims>(token, &self.verifying, &rules)
            .map(|data| Subject {
                id: data.claims.jti,
                ..data.claims.subject
            })
            .map_err(TokenError::Refused)
    }

    /// `/.well-known/openid-configuration`: where others find what verifies our tokens.
    #[must_use]
    pub fn configuration(&self, server: &str) -> Value {
        json!({
            "issuer": self.issuer,
            "jwks_uri": format!("https://{server}/openid/v1/jwks"),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    /// `/openid/v1/jwks`: the public key.
    #[must_use]
    pub fn key_set(&self) -> Value {
        let coordinate = |n: usize| {
            let bytes = self.point.get(1 + n * COORDINATE..1 + (n + 1) * COORDINATE);
            BASE64URL_NOPAD.encode(bytes.unwrap_or_default())
        };
        json!({"keys": [{
            "use": "sig", "kty": "EC", "kid": self.key_id, "crv": "P-256", "alg": "ES256",
            "x": coordinate(0), "y": coordinate(1),
        }]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(expires_in: i64, audience: &str) -> Wanted {
        let now = jiff::Timestamp::now().as_second();
        let named = |name: &str| Named {
            name: name.to_owned(),
            uid: format!("uid-of-{name}"),
        };
        Wanted {
            audiences: vec![audience.to_owned()],
            now: now - 600,
            expires: now + expires_in,
            subject: Subject {
                namespace: "demo".to_owned(),
                node: None,
                pod: Some(named("p")),
                secret: None,
                serviceaccount: named("default"),
                warnafter: None,
                id: String::new(),
            },
        }
    }

    #[test]
    fn only_our_own_tokens_are_accepted_and_only_in_time() {
        let ours = AccountTokens::new(&AccountKey::generate().expect("a key"), "cluster.local").expect("is read");
        let theirs = AccountTokens::new(&AccountKey::generate().expect("a key"), "cluster.local").expect("is read");
        let issuer = ours.issuer().to_owned();
        let token = ours.sign(wanted(600, &issuer)).expect("signs");
        assert_eq!(
            ours.verify(&token).expect("is ours").user(),
            "system:serviceaccount:demo:default"
        );
        assert!(theirs.verify(&token).is_err());
        assert!(ours.verify(&ours.sign(wanted(600, "vault")).expect("signs")).is_err());
        assert!(ours.verify(&ours.sign(wanted(-120, &issuer)).expect("signs")).is_err());
        assert!(ours.verify("a.b.c").is_err());
    }
}
