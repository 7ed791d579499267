//! Objects that Pods of this node name: one watch of exactly that object, shared by all Pods that name it, ended
//! with the last of them. As the kubelet's watch-based ConfigMap and Secret managers.
//!
//! Owns the watches. Never lists a collection, never writes. An API server that is away leaves what was seen last.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Secret};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::view::Retry;

/// What is known of an object: nothing yet, that it is not there, or what it is.
pub type Seen<K> = Option<Option<Arc<K>>>;

/// An object that is watched for as long as somebody holds this.
#[derive(Debug)]
pub struct Followed<K> {
    seen: watch::Receiver<Seen<K>>,
    _watch: AbortOnDropHandle<()>,
}

impl<K> Followed<K> {
    /// The newest, and whatever comes.
    pub fn subscribe(&self) -> watch::Receiver<Seen<K>> {
        self.seen.clone()
    }
}

type Shelf<K> = Mutex<BTreeMap<(String, String), Weak<Followed<K>>>>;

/// All objects that are watched for the Pods of a node.
pub struct Objects {
    client: Client,
    config_maps: Shelf<ConfigMap>,
    secrets: Shelf<Secret>,
    claims: Shelf<PersistentVolumeClaim>,
    volumes: Shelf<PersistentVolume>,
}

impl Objects {
    /// Watches nothing yet.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self {
            client,
            config_maps: Shelf::default(),
            secrets: Shelf::default(),
            claims: Shelf::default(),
            volumes: Shelf::default(),
        }
    }

    /// A ConfigMap.
    pub fn config_map(&self, namespace: &str, name: &str) -> Arc<Followed<ConfigMap>> {
        let api = || Api::namespaced(self.client.clone(), namespace);
        follow(&self.config_maps, namespace, name, api)
    }

    /// A Secret.
    pub fn secret(&self, namespace: &str, name: &str) -> Arc<Followed<Secret>> {
        let api = || Api::namespaced(self.client.clone(), namespace);
        follow(&self.secrets, namespace, name, api)
    }

    /// A claim.
    pub fn claim(&self, namespace: &str, name: &str) -> Arc<Followed<PersistentVolumeClaim>> {
        let api = || Api::namespaced(self.client.clone(), namespace);
        follow(&self.claims, namespace, name, api)
    }

    /// A volume of the cluster.
    pub fn volume(&self, name: &str) -> Arc<Followed<PersistentVolume>> {
        follow(&self.volumes, "", name, || Api::all(self.client.clone()))
    }
}

fn follow<K>(shelf: &Shelf<K>, namespace: &str, name: &str, api: impl FnOnce() -> Api<K>) -> Arc<Followed<K>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
    shelf.retain(|_, followed| followed.strong_count() > 0);
    let key = (namespace.to_owned(), name.to_owned());
    if let Some(followed) = shelf.get(&key).and_then(Weak::upgrade) {
        return followed;
    }
    let (sender, seen) = watch::channel(None);
    let followed = Arc::new(Followed {
        seen,
        _watch: AbortOnDropHandle::new(tokio::spawn(report(api(), name.to_owned(), sender))),
    });
    shelf.insert(key, Arc::downgrade(&followed));
    followed
}

async fn report<K>(api: Api<K>, name: String, sender: watch::Sender<Seen<K>>)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let mut stream = watcher::watch_object(api, &name).backoff(Retry::default()).boxed();
    while let Some(event) = stream.next().await {
        match event {
            Ok(object) => drop(sender.send_replace(Some(object.map(Arc::new)))),
            Err(error) => {
                tracing::warn!(kind = %K::kind(&()), name, error = &error as &dyn std::error::Error, "watch failed");
            }
        }
    }
}
