//! One watched kind, held once and shared by every controller that reads it.
//!
//! A [`Cache`] owns the current objects of a kind as a persistent map, so that a [`Snapshot`] costs
//! one reference count and never changes under its reader. [`feed`] fills it from a list and a watch
//! and tells the registered handlers what became of each object. It never writes to the API and never
//! decides anything.

use std::fmt::Debug;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::StreamExt;
use imbl::OrdMap;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_stream};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

/// The name of an object of a known kind. `namespace` is empty for cluster-scoped kinds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Namespace, or empty.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    /// The key of this namespace and name.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The key of an object.
    pub fn of(object: &impl Resource) -> Self {
        let meta = object.meta();
        Self::new(
            meta.namespace.clone().unwrap_or_default(),
            meta.name.clone().unwrap_or_default(),
        )
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.namespace.as_str() {
            "" => f.write_str(&self.name),
            namespace => write!(f, "{namespace}/{}", self.name),
        }
    }
}

/// All objects of a kind at one moment, ordered by namespace and name.
#[derive(Debug)]
pub struct Snapshot<K>(OrdMap<Key, Arc<K>>);

impl<K> Default for Snapshot<K> {
    fn default() -> Self {
        Self(OrdMap::new())
    }
}

impl<K> Snapshot<K> {
    /// The object with this key.
    pub fn get(&self, key: &Key) -> Option<&Arc<K>> {
        self.0.get(key)
    }

    /// Every object.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<K>> {
        self.0.values()
    }

    /// The objects of one namespace.
    pub fn in_namespace<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Arc<K>> {
        self.0
            .range(Key::new(namespace, "")..)
            .take_while(move |(key, _)| key.namespace == namespace)
            .map(|(_, object)| object)
    }
}

impl<K> FromIterator<Arc<K>> for Snapshot<K>
where
    K: Resource,
{
    fn from_iter<I: IntoIterator<Item = Arc<K>>>(objects: I) -> Self {
        Self(objects.into_iter().map(|object| (Key::of(&*object), object)).collect())
    }
}

/// What became of one object.
#[derive(Debug)]
pub struct Change<K> {
    /// The object as it was, unless it is new.
    pub old: Option<Arc<K>>,
    /// The object as it is, unless it is gone.
    pub new: Option<Arc<K>>,
}

impl<K> Change<K> {
    /// The newest state known: the object as it is, or as it last was.
    pub fn latest(&self) -> Option<&Arc<K>> {
        self.new.as_ref().or(self.old.as_ref())
    }

    /// Both states, older first.
    pub fn states(&self) -> impl Iterator<Item = &Arc<K>> {
        self.old.iter().chain(self.new.iter())
    }
}

type Handler<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;

/// The shared, read-only view of one kind. See the module's documentation.
pub struct Cache<K> {
    objects: RwLock<OrdMap<Key, Arc<K>>>,
    handlers: RwLock<Vec<Handler<K>>>,
    synced: watch::Sender<bool>,
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self {
            objects: RwLock::default(),
            handlers: RwLock::default(),
            synced: watch::Sender::new(false),
        }
    }
}

impl<K: Resource + Clone> Cache<K> {
    /// The objects as they are now.
    pub fn snapshot(&self) -> Snapshot<K> {
        Snapshot(self.objects.read().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// The object with this key.
    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.objects
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key)
            .cloned()
    }

    /// Calls `handler` for every later change, after the change is visible in [`Cache::snapshot`].
    /// Handlers run on the feeding task: they may put keys in a queue and nothing slower.
    pub fn on_change(&self, handler: impl Fn(&Change<K>) + Send + Sync + 'static) {
        self.handlers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Box::new(handler));
    }

    /// Waits for the first complete list.
    pub async fn synced(&self) {
        // The sender lives in `self`, so waiting cannot fail while `self` is borrowed.
        let _ = self.synced.subscribe().wait_for(|synced| *synced).await;
    }

    fn set(&self, object: K) {
        let (key, new) = (Key::of(&object), Arc::new(object));
        let old = self.write(|objects| objects.insert(key, new.clone()));
        self.notify(&Change { old, new: Some(new) });
    }

    fn remove(&self, key: &Key) {
        let old = self.write(|objects| objects.remove(key));
        if old.is_some() {
            self.notify(&Change { old, new: None });
        }
    }

    /// Takes a complete list for the truth, and notifies what differs from what was known.
    fn replace(&self, list: &OrdMap<Key, Arc<K>>) {
        let before = self.write(|objects| std::mem::replace(objects, list.clone()));
        for (key, new) in list {
            let old = before.get(key).cloned();
            let same = |old: &Arc<K>| {
                old.meta().resource_version == new.meta().resource_version && old.meta().uid == new.meta().uid
            };
            if !old.as_ref().is_some_and(same) {
                self.notify(&Change {
                    old,
                    new: Some(new.clone()),
                });
            }
        }
        for (key, old) in before {
            if !list.contains_key(&key) {
                self.notify(&Change {
                    old: Some(old),
                    new: None,
                });
            }
        }
        self.synced.send_replace(true);
    }

    fn write<T>(&self, f: impl FnOnce(&mut OrdMap<Key, Arc<K>>) -> T) -> T {
        f(&mut self.objects.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn notify(&self, change: &Change<K>) {
        for handler in self.handlers.read().unwrap_or_else(PoisonError::into_inner).iter() {
            handler(change);
        }
    }
}

/// Fills `cache` from `api` for as long as it is polled.
pub async fn feed<K>(cache: Arc<Cache<K>>, api: Api<K>)
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    // One page: the lists are small, and a second request would only cost a second scan.
    let config = watcher::Config {
        page_size: None,
        ..watcher::Config::default()
    };
    let mut events = std::pin::pin!(watch_stream(api, config).backoff(WatchBackoff::default()));
    let mut list = OrdMap::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => list = OrdMap::new(),
            Ok(Event::InitApply(object)) => {
                let object = slim(object);
                list.insert(Key::of(&object), Arc::new(object));
            }
            Ok(Event::InitDone) => cache.replace(&std::mem::take(&mut list)),
            Ok(Event::Apply(object)) => cache.set(slim(object)),
            Ok(Event::Delete(object)) => cache.remove(&Key::of(&object)),
            Err(error) => tracing::debug!(%error, "watch interrupted"),
        }
    }
}

/// Nothing here reads who set which field, and that record is often larger than the object.
fn slim<K: Resource>(mut object: K) -> K {
    object.meta_mut().managed_fields = None;
    object
}

/// 10 ms, doubling to 5 s: the server is in this process or on this machine, so an error is most
/// often its restart, which takes milliseconds.
struct WatchBackoff {
    next: Duration,
}

impl WatchBackoff {
    const FIRST: Duration = Duration::from_millis(10);
    const LONGEST: Duration = Duration::from_secs(5);
}

impl Default for WatchBackoff {
    fn default() -> Self {
        Self { next: Self::FIRST }
    }
}

impl Iterator for WatchBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = self.next;
        self.next = (now * 2).min(Self::LONGEST);
        Some(now)
    }
}

impl Backoff for WatchBackoff {
    fn reset(&mut self) {
        self.next = Self::FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use std::sync::Mutex;

    fn object(namespace: &str, name: &str, version: &str) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.namespace = Some(namespace.into());
        object.metadata.name = Some(name.into());
        object.metadata.resource_version = Some(version.into());
        object
    }

    #[test]
    fn a_relist_notifies_only_what_differs() {
        let cache = Cache::<ConfigMap>::default();
        for o in [
            object("a", "kept", "1"),
            object("a", "changed", "2"),
            object("a", "gone", "3"),
        ] {
            cache.set(o);
        }
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        cache.on_change(move |change| {
            let name = change.latest().unwrap().metadata.name.clone().unwrap();
            sink.lock()
                .unwrap()
                .push((name, change.old.is_some(), change.new.is_some()));
        });
        let list = [
            object("a", "kept", "1"),
            object("a", "changed", "9"),
            object("b", "new", "8"),
        ];
        cache.replace(&list.into_iter().map(|o| (Key::of(&o), Arc::new(o))).collect());
        let mut seen = seen.lock().unwrap().clone();
        seen.sort();
        let expected = [("changed", true, true), ("gone", true, false), ("new", false, true)];
        assert_eq!(seen, expected.map(|(n, o, w)| (n.to_string(), o, w)));
        assert!(*cache.synced.borrow());
    }

    #[test]
    fn a_namespace_is_a_range_of_the_snapshot() {
        let snapshot: Snapshot<ConfigMap> = [object("a", "x", "1"), object("ab", "y", "1"), object("b", "z", "1")]
            .into_iter()
            .map(Arc::new)
            .collect();
        let names: Vec<_> = snapshot
            .in_namespace("a")
            .map(|o| o.metadata.name.clone().unwrap())
            .collect();
        assert_eq!(names, ["x"]);
    }
}
