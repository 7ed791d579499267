//! ConfigMaps and Secrets that a Pod names, and the environment that is made of them.
//!
//! Fetched once before each container start, as the Pod's node is allowed to. Texts of what is missing are the
//! kubelet's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, Pod, PodSpec, Secret};
use kube::{Api, Client};

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
    /// A field that the downward API does not offer here.
    #[error("fieldPath {0} is not supported")]
    Field(String),
    /// A source that this version does not offer.
    #[error("environment variable {0}: its source is not supported")]
    Source(String),
}

/// Data by key.
pub type Data = BTreeMap<String, Vec<u8>>;

/// The objects that a Pod names; missing ones are absent.
#[derive(Debug, Default)]
pub struct Sources {
    namespace: String,
    config_maps: BTreeMap<String, Data>,
    secrets: BTreeMap<String, Data>,
}

impl Sources {
    /// Reads every object that the Pod's variables and volumes name.
    pub async fn fetch(client: &Client, namespace: &str, spec: &PodSpec) -> Result<Self, ConfigError> {
        let (config_maps, secrets) = names(spec);
        let mut sources = Self {
            namespace: namespace.to_owned(),
            ..Self::default()
        };
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        for name in config_maps {
            if let Some(object) = api
                .get_opt(&name)
                .await
                .map_err(|source| get_error("configmap", namespace, &name, source))?
            {
                let text = object
                    .data
                    .into_iter()
                    .flatten()
                    .map(|(key, value)| (key, value.into_bytes()));
                let binary = object
                    .binary_data
                    .into_iter()
                    .flatten()
                    .map(|(key, value)| (key, value.0));
                sources.config_maps.insert(name, text.chain(binary).collect());
            }
        }
        let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
        for name in secrets {
            if let Some(object) = api
                .get_opt(&name)
                .await
                .map_err(|source| get_error("secret", namespace, &name, source))?
            {
                sources.secrets.insert(
                    name,
                    object
                        .data
                        .into_iter()
                        .flatten()
                        .map(|(key, value)| (key, value.0))
                        .collect(),
                );
            }
        }
        Ok(sources)
    }

    /// A ConfigMap's data; `None` when it may be missing and is.
    pub fn config_map(&self, name: &str, optional: Option<bool>) -> Result<Option<&Data>, ConfigError> {
        find("configmap", &self.config_maps, name, optional)
    }

    /// A Secret's data; `None` when it may be missing and is.
    pub fn secret(&self, name: &str, optional: Option<bool>) -> Result<Option<&Data>, ConfigError> {
        find("secret", &self.secrets, name, optional)
    }

    /// The variables that a container declares, on top of `base` (image and Services), in order.
    pub fn environment(
        &self,
        pod: &Pod,
        container: &Container,
        base: BTreeMap<String, String>,
        facts: &PodFacts,
    ) -> Result<BTreeMap<String, String>, ConfigError> {
        let mut env = base;
        for from in container.env_from.iter().flatten() {
            let data = if let Some(reference) = &from.config_map_ref {
                self.config_map(&reference.name, reference.optional)?
            } else if let Some(reference) = &from.secret_ref {
                self.secret(&reference.name, reference.optional)?
            } else {
                None
            };
            let prefix = from.prefix.as_deref().unwrap_or_default();
            env.extend(
                data.into_iter()
                    .flatten()
                    .map(|(key, value)| (format!("{prefix}{key}"), text(value))),
            );
        }
        for variable in container.env.iter().flatten() {
            let value = match &variable.value_from {
                Some(source) => self.value(pod, &variable.name, source, facts)?,
                None => Some(expand(variable.value.as_deref().unwrap_or_default(), |name| {
                    env.get(name).cloned()
                })),
            };
            if let Some(value) = value {
                env.insert(variable.name.clone(), value);
            }
        }
        Ok(env)
    }

    fn value(
        &self,
        pod: &Pod,
        variable: &str,
        source: &EnvVarSource,
        facts: &PodFacts,
    ) -> Result<Option<String>, ConfigError> {
        if let Some(reference) = &source.config_map_key_ref {
            let data = self.config_map(&reference.name, reference.optional)?;
            return self.key("ConfigMap", &reference.name, &reference.key, reference.optional, data);
        }
        if let Some(reference) = &source.secret_key_ref {
            let data = self.secret(&reference.name, reference.optional)?;
            return self.key("Secret", &reference.name, &reference.key, reference.optional, data);
        }
        match &source.field_ref {
            Some(reference) => field(pod, &reference.field_path, facts).map(Some),
            None => Err(ConfigError::Source(variable.to_owned())),
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
            Some(value) => Ok(Some(text(value))),
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

/// What the downward API tells that is not in the Pod object yet.
#[derive(Debug, Clone)]
pub struct PodFacts {
    /// Name of the node.
    pub node: String,
    /// Address of the node.
    pub host_ip: Ipv4Addr,
    /// Address of the Pod.
    pub pod_ip: Ipv4Addr,
}

fn field(pod: &Pod, path: &str, facts: &PodFacts) -> Result<String, ConfigError> {
    let metadata = &pod.metadata;
    let value = match path {
        "metadata.name" => metadata.name.clone(),
        "metadata.namespace" => metadata.namespace.clone(),
        "metadata.uid" => metadata.uid.clone(),
        "spec.nodeName" => Some(facts.node.clone()),
        "spec.serviceAccountName" => pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone()),
        "status.podIP" | "status.podIPs" => Some(facts.pod_ip.to_string()),
        "status.hostIP" | "status.hostIPs" => Some(facts.host_ip.to_string()),
        _ => {
            let mapped = |prefix: &str, map: &Option<BTreeMap<String, String>>| {
                let key = path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']")?;
                Some(map.as_ref().and_then(|map| map.get(key).cloned()).unwrap_or_default())
            };
            let found = mapped("metadata.labels", &metadata.labels)
                .or_else(|| mapped("metadata.annotations", &metadata.annotations));
            return found.ok_or_else(|| ConfigError::Field(path.to_owned()));
        }
    };
    Ok(value.unwrap_or_default())
}

fn names(spec: &PodSpec) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut config_maps, mut secrets) = (BTreeSet::new(), BTreeSet::new());
    for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
        for from in container.env_from.iter().flatten() {
            config_maps.extend(from.config_map_ref.iter().map(|reference| reference.name.clone()));
            secrets.extend(from.secret_ref.iter().map(|reference| reference.name.clone()));
        }
        for source in container
            .env
            .iter()
            .flatten()
            .filter_map(|variable| variable.value_from.as_ref())
        {
            config_maps.extend(source.config_map_key_ref.iter().map(|reference| reference.name.clone()));
            secrets.extend(source.secret_key_ref.iter().map(|reference| reference.name.clone()));
        }
    }
    for volume in spec.volumes.iter().flatten() {
        config_maps.extend(volume.config_map.iter().map(|source| source.name.clone()));
        secrets.extend(volume.secret.iter().filter_map(|source| source.secret_name.clone()));
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

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}
