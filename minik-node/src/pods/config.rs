//! The environment of a container: its variables, in the order in which they may name each other.
//!
//! Source: `makeEnvironmentVariables` of `pkg/kubelet/kubelet_pods.go`; texts of what is missing are the kubelet's.
//! ConfigMaps and Secrets that variables name are read once before each start, as the Pod's node is allowed to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, FileKeySelector, Pod, Secret};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::{Api, Client};

use super::downward::{self, DownwardError, PodFacts};
use super::env_file::EnvFiles;
use super::expand::expand;

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The API server could not be asked.
    #[error("get {kind} {namespace}/{name}")]
    Get {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// Cause.
        #[source]
        source: Box<kube::Error>,
    },
    /// There is no such object.
    #[error("{kind} {name:?} not found")]
    NotFound {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Name.
        name: String,
    },
    /// The object has no such key.
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    NoKey {
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// Key.
        key: String,
    },
    /// A field or resource.
    #[error(transparent)]
    Downward(#[from] Arc<DownwardError>),
    /// A file in a volume that is not there.
    #[error("cannot find the volume {0:?} referenced by FileKeyRef")]
    FileVolume(String),
    /// A file that cannot be read, or that is none of variables; the kubelet does not say why, its log does.
    #[error("couldn't parse env file")]
    EnvFile,
    /// A file that does not say what must be said.
    #[error("environment variable key {key:?} not found in file {path:?}")]
    NoFileKey {
        /// Key.
        key: String,
        /// File, on the node.
        path: PathBuf,
    },
    /// A source that this version does not offer.
    #[error("environment variable {0}: its source is not supported")]
    Source(String),
}

impl From<DownwardError> for ConfigError {
    fn from(error: DownwardError) -> Self {
        Self::Downward(Arc::new(error))
    }
}

/// Texts by key.
type Data = BTreeMap<String, String>;

/// Where and for whom variables are made.
#[derive(Debug)]
pub struct Setting<'a> {
    /// The Pod.
    pub pod: &'a Pod,
    /// The container.
    pub container: &'a Container,
    /// What the Pod object does not tell yet.
    pub facts: PodFacts,
    /// What the node gives to Pods.
    pub allocatable: BTreeMap<String, Quantity>,
}

/// The objects and files that a container's variables name; missing ones are absent.
#[derive(Debug, Default)]
pub struct Sources {
    namespace: String,
    config_maps: BTreeMap<String, Data>,
    secrets: BTreeMap<String, Data>,
    /// Files of the Pod's volumes.
    pub files: EnvFiles,
}

impl Sources {
    /// Reads every object that the container's variables name.
    pub async fn fetch(client: &Client, namespace: &str, container: &Container) -> Result<Self, ConfigError> {
        let (config_maps, secrets) = names(container);
        let mut sources = Self {
            namespace: namespace.to_owned(),
            ..Self::default()
        };
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        for name in config_maps {
            let found = api.get_opt(&name).await;
            // Binary data is for volumes alone.
            if let Some(object) = found.map_err(|source| get_error("configmap", namespace, &name, source))? {
                sources.config_maps.insert(name, object.data.unwrap_or_default());
            }
        }
        let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
        for name in secrets {
            let found = api.get_opt(&name).await;
            if let Some(object) = found.map_err(|source| get_error("secret", namespace, &name, source))? {
                let data = object.data.into_iter().flatten();
                let data = data.map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned()));
                sources.secrets.insert(name, data.collect());
            }
        }
        Ok(sources)
    }

    /// The container's variables: those of Services, over them those of whole objects, over them its own, each of
    /// which may name the ones before it.
    pub fn environment(
        &self,
        setting: &Setting<'_>,
        services: BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, ConfigError> {
        let mut env = services;
        for from in setting.container.env_from.iter().flatten() {
            let data = if let Some(reference) = &from.config_map_ref {
                find("configmap", &self.config_maps, &reference.name, reference.optional)?
            } else if let Some(reference) = &from.secret_ref {
                find("secret", &self.secrets, &reference.name, reference.optional)?
            } else {
                None
            };
            let prefix = from.prefix.as_deref().unwrap_or_default();
            let pairs = data.into_iter().flatten();
            env.extend(pairs.map(|(key, value)| (format!("{prefix}{key}"), value.clone())));
        }
        for variable in setting.container.env.iter().flatten() {
            let written = variable.value.as_deref().unwrap_or_default();
            let value = match &variable.value_from {
                Some(source) if written.is_empty() => self.value(setting, &variable.name, source)?,
                _ => Some(expand(written, |name| env.get(name).cloned())),
            };
            if let Some(value) = value {
                env.insert(variable.name.clone(), value);
            }
        }
        Ok(env)
    }

    fn value(
        &self,
        setting: &Setting<'_>,
        variable: &str,
        source: &EnvVarSource,
    ) -> Result<Option<String>, ConfigError> {
        if let Some(reference) = &source.config_map_key_ref {
            let data = find("configmap", &self.config_maps, &reference.name, reference.optional)?;
            return self.key("ConfigMap", &reference.name, &reference.key, reference.optional, data);
        }
        if let Some(reference) = &source.secret_key_ref {
            let data = find("secret", &self.secrets, &reference.name, reference.optional)?;
            return self.key("Secret", &reference.name, &reference.key, reference.optional, data);
        }
        if let Some(reference) = &source.field_ref {
            let value = downward::variable_field(setting.pod, &reference.field_path, &setting.facts)?;
            return Ok(Some(value));
        }
        if let Some(selector) = &source.resource_field_ref {
            let own = Some(setting.container);
            let value = downward::resource(setting.pod, own, selector, &setting.allocatable)?;
            return Ok(Some(value));
        }
        if let Some(reference) = &source.file_key_ref {
            return self.file_key(reference);
        }
        Err(ConfigError::Source(variable.to_owned()))
    }

    /// A key that is declared empty is as one that is not declared, and a file that is not there is an error even for
    /// what is optional: so the kubelet has it.
    fn file_key(&self, reference: &FileKeySelector) -> Result<Option<String>, ConfigError> {
        let named = (reference.volume_name.clone(), reference.path.clone());
        let missing = || ConfigError::FileVolume(reference.volume_name.clone());
        let file = self.files.get(&named).ok_or_else(missing)?;
        match file.value(&reference.key) {
            Ok(value) if !value.is_empty() => Ok(Some(value)),
            Ok(_) if reference.optional == Some(true) => Ok(None),
            Ok(_) => Err(ConfigError::NoFileKey {
                key: reference.key.clone(),
                path: file.path.clone(),
            }),
            Err(error) => {
                tracing::warn!(%error, "read a file of variables");
                Err(ConfigError::EnvFile)
            }
        }
    }

    fn key(
        &self,
        kind: &'static str,
        name: &str,
        key: &str,
        optional: Option<bool>,
        data: Option<&Data>,
    ) -> Result<Option<String>, ConfigError> {
        match data.and_then(|data| data.get(key)) {
            Some(value) => Ok(Some(value.clone())),
            None if optional == Some(true) => Ok(None),
            None => Err(ConfigError::NoKey {
                kind,
                namespace: self.namespace.clone(),
                name: name.to_owned(),
                key: key.to_owned(),
            }),
        }
    }
}

fn names(container: &Container) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut config_maps, mut secrets) = (BTreeSet::new(), BTreeSet::new());
    for from in container.env_from.iter().flatten() {
        config_maps.extend(from.config_map_ref.iter().map(|reference| reference.name.clone()));
        secrets.extend(from.secret_ref.iter().map(|reference| reference.name.clone()));
    }
    let variables = container.env.iter().flatten();
    for source in variables.filter_map(|variable| variable.value_from.as_ref()) {
        config_maps.extend(source.config_map_key_ref.iter().map(|reference| reference.name.clone()));
        secrets.extend(source.secret_key_ref.iter().map(|reference| reference.name.clone()));
    }
    (config_maps, secrets)
}

fn find<'a>(
    kind: &'static str,
    objects: &'a BTreeMap<String, Data>,
    name: &str,
    optional: Option<bool>,
) -> Result<Option<&'a Data>, ConfigError> {
    match objects.get(name) {
        None if optional != Some(true) => Err(ConfigError::NotFound {
            kind,
            name: name.to_owned(),
        }),
        found => Ok(found),
    }
}

fn get_error(kind: &'static str, namespace: &str, name: &str, source: kube::Error) -> ConfigError {
    ConfigError::Get {
        kind,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        source: Box::new(source),
    }
}

#[cfg(test)]
mod tests;
