//! The files of a volume that is made of objects: configMap, secret, downwardAPI, projected. Pure.
//!
//! Source: `MakePayload` and `CollectData` of `pkg/volume/{configmap,secret,downwardapi,projected}`; so are the texts.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, ProjectedVolumeSource, Secret, ServiceAccountTokenProjection,
    Volume,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::atomic_writer::{File, Payload};
use super::token::{Token, TokenKey};
use crate::pods::downward::{self, DownwardError};

const DEFAULT_MODE: i32 = 0o644;
/// Of a token that one user or one group alone is to read.
const PRIVATE_MODE: u32 = 0o600;

/// Why a volume has no files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// There is no such object.
    #[error("{kind} {name:?} not found")]
    NotFound {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Name.
        name: String,
    },
    /// `items` names a key that a ConfigMap lacks.
    #[error("configmap references non-existent config key: {0}")]
    ConfigKey(String),
    /// `items` names a key that a Secret lacks.
    #[error("references non-existent secret key: {0}")]
    SecretKey(String),
    /// A field or resource.
    #[error(transparent)]
    Downward(#[from] std::sync::Arc<DownwardError>),
    /// A path that would lead out of the volume.
    #[error("invalid path: {0:?} leads out of the volume")]
    Path(String),
    /// No token was issued.
    #[error("failed to fetch token: {0}")]
    Token(String),
    /// A kind of source whose feature is off in a cluster of this version.
    #[error("{0} projection is not enabled on this node")]
    Disabled(&'static str),
    /// Several sources failed.
    #[error("[{}]", texts(.0))]
    Several(Vec<PayloadError>),
}

fn texts(errors: &[PayloadError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What volumes are made of.
#[derive(Debug, Default)]
pub struct Ingredients {
    /// By name; `None` for one that is not there.
    pub config_maps: BTreeMap<String, Option<std::sync::Arc<ConfigMap>>>,
    /// By name; `None` for one that is not there.
    pub secrets: BTreeMap<String, Option<std::sync::Arc<Secret>>>,
    /// Tokens, or why there is none.
    pub tokens: BTreeMap<TokenKey, Result<Token, String>>,
    /// What the node gives to Pods.
    pub allocatable: BTreeMap<String, Quantity>,
}

/// The files of `volume`; `None` for a volume of another kind.
pub fn payload(volume: &Volume, pod: &Pod, with: &Ingredients) -> Option<Result<Payload, PayloadError>> {
    if let Some(source) = &volume.config_map {
        let mode = source.default_mode;
        return Some(with.config_map(&source.name, source.items.as_deref(), mode, source.optional));
    }
    if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or_default();
        return Some(with.secret(name, source.items.as_deref(), source.default_mode, source.optional));
    }
    if let Some(source) = &volume.downward_api {
        return Some(with.downward(pod, source.items.iter().flatten(), source.default_mode));
    }
    volume.projected.as_ref().map(|source| with.projected(source, pod))
}

type Made = Result<Payload, PayloadError>;

impl Ingredients {
    fn config_map(&self, name: &str, items: Option<&[KeyToPath]>, mode: Option<i32>, optional: Option<bool>) -> Made {
        let optional = optional == Some(true);
        let object = found("configmap", self.config_maps.get(name), name, optional)?;
        let mut data: BTreeMap<&str, &[u8]> = BTreeMap::new();
        if let Some(object) = object {
            let text = object.data.iter().flatten();
            data.extend(text.map(|(key, value)| (key.as_str(), value.as_bytes())));
            let binary = object.binary_data.iter().flatten();
            data.extend(binary.map(|(key, value)| (key.as_str(), value.0.as_slice())));
        }
        select(&data, items, mode, optional, PayloadError::ConfigKey)
    }

    fn secret(&self, name: &str, items: Option<&[KeyToPath]>, mode: Option<i32>, optional: Option<bool>) -> Made {
        let optional = optional == Some(true);
        let object = found("secret", self.secrets.get(name), name, optional)?;
        let data = object.into_iter().flat_map(|object| object.data.iter().flatten());
        let data = data.map(|(key, value)| (key.as_str(), value.0.as_slice())).collect();
        select(&data, items, mode, optional, PayloadError::SecretKey)
    }

    fn downward<'a>(
        &self,
        pod: &Pod,
        items: impl IntoIterator<Item = &'a DownwardAPIVolumeFile>,
        default_mode: Option<i32>,
    ) -> Made {
        let (mut payload, mut errors) = (Payload::new(), Vec::new());
        for item in items {
            let value = match (&item.field_ref, &item.resource_field_ref) {
                (Some(field), _) => downward::field(pod, &field.field_path),
                (None, Some(selector)) => downward::resource(pod, None, selector, &self.allocatable),
                (None, None) => continue,
            };
            let mode = item.mode.or(default_mode);
            match value.map_err(|error| PayloadError::Downward(error.into())) {
                Ok(value) => put(&mut payload, &item.path, value.as_bytes(), mode)?,
                Err(error) => errors.push(error),
            }
        }
        together(payload, errors)
    }

    fn projected(&self, volume: &ProjectedVolumeSource, pod: &Pod) -> Made {
        let mode = volume.default_mode;
        let (mut payload, mut errors) = (Payload::new(), Vec::new());
        for source in volume.sources.iter().flatten() {
            let made = if let Some(map) = &source.config_map {
                self.config_map(&map.name, map.items.as_deref(), mode, map.optional)
            } else if let Some(secret) = &source.secret {
                self.secret(&secret.name, secret.items.as_deref(), mode, secret.optional)
            } else if let Some(downward) = &source.downward_api {
                self.downward(pod, downward.items.iter().flatten(), mode)
            } else if let Some(token) = &source.service_account_token {
                self.token(token, pod, mode)
            } else if source.cluster_trust_bundle.is_some() {
                Err(PayloadError::Disabled("ClusterTrustBundle"))
            } else {
                Err(PayloadError::Disabled("PodCertificate"))
            };
            match made {
                Ok(files) => payload.extend(files),
                Err(error) => errors.push(error),
            }
        }
        together(payload, errors)
    }

    fn token(&self, wanted: &ServiceAccountTokenProjection, pod: &Pod, default_mode: Option<i32>) -> Made {
        let token = match self.tokens.get(&TokenKey::of(wanted)) {
            Some(Ok(token)) => token,
            Some(Err(error)) => return Err(PayloadError::Token(error.clone())),
            None => return Err(PayloadError::Token("it was not asked for".to_owned())),
        };
        let mut payload = Payload::new();
        put(&mut payload, &wanted.path, token.text.as_bytes(), default_mode)?;
        let user = only_user(pod);
        let group = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.security_context.as_ref()?.fs_group);
        for file in payload.values_mut() {
            file.user = user;
            if user.is_some() || group.is_some() {
                file.mode = PRIVATE_MODE;
            }
        }
        Ok(payload)
    }
}

/// The user that all containers run as, when the Pod says so of each and it is the same.
fn only_user(pod: &Pod) -> Option<u32> {
    let spec = pod.spec.as_ref()?;
    let shared = spec.security_context.as_ref().and_then(|context| context.run_as_user);
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let mut users = containers.map(|container| {
        let own = container
            .security_context
            .as_ref()
            .and_then(|context| context.run_as_user);
        own.or(shared)
    });
    let first = users.next()??;
    users
        .all(|user| user == Some(first))
        .then(|| u32::try_from(first).ok())?
}

fn found<'a, K>(
    kind: &'static str,
    known: Option<&'a Option<std::sync::Arc<K>>>,
    name: &str,
    optional: bool,
) -> Result<Option<&'a K>, PayloadError> {
    match known.and_then(Option::as_deref) {
        None if !optional => Err(PayloadError::NotFound {
            kind,
            name: name.to_owned(),
        }),
        object => Ok(object),
    }
}

fn select(
    data: &BTreeMap<&str, &[u8]>,
    items: Option<&[KeyToPath]>,
    default_mode: Option<i32>,
    optional: bool,
    missing: fn(String) -> PayloadError,
) -> Made {
    let mut payload = Payload::new();
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        for (key, value) in data {
            put(&mut payload, key, value, default_mode)?;
        }
        return Ok(payload);
    };
    for item in items {
        match data.get(item.key.as_str()) {
            Some(value) => put(&mut payload, &item.path, value, item.mode.or(default_mode))?,
            None if optional => {}
            None => return Err(missing(item.key.clone())),
        }
    }
    Ok(payload)
}

fn put(payload: &mut Payload, path: &str, data: &[u8], mode: Option<i32>) -> Result<(), PayloadError> {
    let file = File {
        data: data.to_vec(),
        mode: u32::try_from(mode.unwrap_or(DEFAULT_MODE)).unwrap_or_default() & 0o777,
        user: None,
    };
    payload.insert(inside(path)?, file);
    Ok(())
}

/// A path in a volume, without detours; one that would lead out is refused.
fn inside(path: &str) -> Result<PathBuf, PayloadError> {
    let outside = || PayloadError::Path(path.to_owned());
    let mut clean = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            Component::RootDir | Component::ParentDir | Component::Prefix(_) => return Err(outside()),
        }
    }
    // Names that begin so are the writer's own.
    if clean.as_os_str().is_empty() || path.starts_with("..") {
        return Err(outside());
    }
    Ok(clean)
}

fn together(payload: Payload, mut errors: Vec<PayloadError>) -> Made {
    match errors.pop() {
        None => Ok(payload),
        Some(only) if errors.is_empty() => Err(only),
        Some(last) => {
            errors.push(last);
            Err(PayloadError::Several(errors))
        }
    }
}

#[cfg(test)]
mod tests;
