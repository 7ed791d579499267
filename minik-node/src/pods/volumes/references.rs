//! The objects that one Pod's volumes name, as they are now.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, select_all};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod, Secret};
use tokio::sync::watch;

use super::claim::{self, ClaimError};
use super::payload::Ingredients;
use crate::pods::objects::{Followed, Objects, Seen};

/// An object that is followed, and what was seen of it.
#[derive(Debug)]
struct Reference<K> {
    newest: watch::Receiver<Seen<K>>,
    _followed: Arc<Followed<K>>,
}

impl<K: Send + Sync + 'static> Reference<K> {
    fn new(followed: Arc<Followed<K>>) -> Self {
        Self {
            newest: followed.subscribe(),
            _followed: followed,
        }
    }

    fn look(&mut self) -> Seen<K> {
        self.newest.borrow_and_update().clone()
    }

    fn changed(&mut self) -> BoxFuture<'_, ()> {
        let changed = async {
            if self.newest.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        changed.boxed()
    }
}

/// Everything that the volumes of a Pod name.
#[derive(Debug, Default)]
pub struct References {
    config_maps: BTreeMap<String, Reference<ConfigMap>>,
    secrets: BTreeMap<String, Reference<Secret>>,
    claims: BTreeMap<String, Reference<PersistentVolumeClaim>>,
    volumes: BTreeMap<String, Reference<PersistentVolume>>,
}

/// What volumes are made of, and the PersistentVolumes that claims stand for, by volume.
pub type Gathered = (Ingredients, BTreeMap<String, Result<Arc<PersistentVolume>, ClaimError>>);

impl References {
    /// Begins to follow all that `pod` names.
    pub fn of(objects: &Objects, pod: &Pod) -> Self {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let mut references = Self::default();
        for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            let sources = volume
                .projected
                .iter()
                .flat_map(|projected| projected.sources.iter().flatten());
            let maps = sources
                .clone()
                .filter_map(|source| Some(&source.config_map.as_ref()?.name));
            let secrets = sources.filter_map(|source| Some(&source.secret.as_ref()?.name));
            let map = volume.config_map.as_ref().map(|source| &source.name);
            let secret = volume.secret.as_ref().and_then(|source| source.secret_name.as_ref());
            for name in maps.chain(map) {
                let follow = || Reference::new(objects.config_map(namespace, name));
                references.config_maps.entry(name.clone()).or_insert_with(follow);
            }
            for name in secrets.chain(secret) {
                let follow = || Reference::new(objects.secret(namespace, name));
                references.secrets.entry(name.clone()).or_insert_with(follow);
            }
            if let Some(name) = claim::name(pod, volume) {
                let claim = Reference::new(objects.claim(namespace, &name));
                references.claims.insert(volume.name.clone(), claim);
            }
        }
        references
    }

    /// All of it; `None` while the API server has not told of everything yet.
    pub fn gather(&mut self, objects: &Objects, pod: &Pod) -> Option<Gathered> {
        let mut ingredients = Ingredients::default();
        for (name, reference) in &mut self.config_maps {
            ingredients.config_maps.insert(name.clone(), reference.look()?);
        }
        for (name, reference) in &mut self.secrets {
            ingredients.secrets.insert(name.clone(), reference.look()?);
        }
        let mut claimed = BTreeMap::new();
        for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            let (Some(name), Some(reference)) = (claim::name(pod, volume), self.claims.get_mut(&volume.name)) else {
                continue;
            };
            let claim = reference.look()?;
            let found = match claim::volume_name(pod, volume, &name, claim.as_deref()) {
                Err(error) => Err(error),
                Ok(persistent) => {
                    let follow = || Reference::new(objects.volume(&persistent));
                    let seen = self.volumes.entry(persistent.clone()).or_insert_with(follow).look()?;
                    let claim = claim.unwrap_or_default();
                    let checked = claim::check(&claim, &persistent, seen.as_deref());
                    checked.and(seen.ok_or(ClaimError::NoVolume(persistent)))
                }
            };
            claimed.insert(volume.name.clone(), found);
        }
        Some((ingredients, claimed))
    }

    /// Waits until one of them has changed. Loses nothing when it is cancelled.
    pub async fn changed(&mut self) {
        let maps = self.config_maps.values_mut().map(Reference::changed);
        let secrets = self.secrets.values_mut().map(Reference::changed);
        let claims = self.claims.values_mut().map(Reference::changed);
        let volumes = self.volumes.values_mut().map(Reference::changed);
        let all: Vec<_> = maps.chain(secrets).chain(claims).chain(volumes).collect();
        if all.is_empty() {
            std::future::pending::<()>().await;
        }
        drop(select_all(all).await);
    }
}
