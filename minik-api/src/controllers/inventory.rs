//! Every object of every kind that can be deleted, as far as garbage collection and namespace
//! deletion need it: name, uid, owners, finalizers. Fed by one watch a kind; the kinds come from the
//! server's own discovery.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use futures::future::join_all;
use kube::api::DynamicObject;
use kube::core::PartialObjectMeta;
use kube::discovery::{ApiCapabilities, ApiResource, Discovery, Scope};
use kube::{Api, Client};
use tokio::sync::OnceCell;

use super::cache::{Cache, Change, Key, feed};
use super::error::ReconcileError;

/// The metadata of an object of any kind.
pub type Meta = PartialObjectMeta<DynamicObject>;

/// A kind that can be listed, watched and deleted.
pub struct Kind {
    /// Its names.
    pub resource: ApiResource,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// The metadata of its objects.
    pub objects: Arc<Cache<Meta>>,
}

impl Kind {
    /// The kind's endpoint, in one namespace or (with an empty one) for the whole cluster.
    pub fn api(&self, client: &Client, namespace: &str) -> Api<Meta> {
        match self.namespaced && !namespace.is_empty() {
            true => Api::namespaced_with(client.clone(), namespace, &self.resource),
            false => Api::all_with(client.clone(), &self.resource),
        }
    }

    /// The endpoint of one object.
    pub fn api_of(&self, client: &Client, key: &Key) -> Api<Meta> {
        self.api(client, &key.namespace)
    }

    /// "pods" or "deployments.apps", as messages name kinds.
    pub fn qualified(&self) -> String {
        match self.resource.group.as_str() {
            "" => self.resource.plural.clone(),
            group => format!("{}.{group}", self.resource.plural),
        }
    }
}

impl Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.qualified())
    }
}

type Handler = Arc<dyn Fn(usize, &Change<Meta>) + Send + Sync>;

/// See the module's documentation.
pub struct Inventory {
    client: Client,
    handlers: std::sync::Mutex<Vec<Handler>>,
    kinds: OnceCell<Vec<Kind>>,
}

impl Inventory {
    /// An inventory that [`Inventory::run`] fills.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            handlers: std::sync::Mutex::default(),
            kinds: OnceCell::new(),
        }
    }

    /// Calls `handler` with the index of the kind for every change; to be registered before `run`.
    pub fn on_change(&self, handler: impl Fn(usize, &Change<Meta>) + Send + Sync + 'static) {
        self.handlers
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .push(Arc::new(handler));
    }

    /// All kinds, once discovered.
    ///
    /// # Errors
    /// The server's discovery cannot be read.
    pub async fn kinds(&self) -> Result<&[Kind], ReconcileError> {
        self.kinds.get_or_try_init(|| self.discover()).await.map(Vec::as_slice)
    }

    /// Waits until every kind has been listed.
    ///
    /// # Errors
    /// The server's discovery cannot be read.
    pub async fn synced(&self) -> Result<&[Kind], ReconcileError> {
        let kinds = self.kinds().await?;
        join_all(kinds.iter().map(|kind| kind.objects.synced())).await;
        Ok(kinds)
    }

    /// Feeds every kind's cache for as long as it is polled; ends when discovery fails.
    pub async fn run(&self) {
        match self.kinds().await {
            Ok(kinds) => {
                join_all(
                    kinds
                        .iter()
                        .map(|kind| feed(kind.objects.clone(), kind.api(&self.client, ""))),
                )
                .await;
            }
            Err(error) => tracing::warn!(error = %error.chain(), "no inventory; will retry"),
        }
    }

    async fn discover(&self) -> Result<Vec<Kind>, ReconcileError> {
        let discovery = Discovery::new(self.client.clone())
            .run()
            .await
            .map_err(ReconcileError::Discover)?;
        let mut seen = BTreeSet::new();
        let mut kinds = Vec::new();
        for group in discovery.groups_alphabetical() {
            for (resource, capabilities) in group.recommended_resources() {
                // Events under both their groups are the same objects.
                let twin = resource.group == "events.k8s.io";
                if !twin
                    && is_collectable(&capabilities)
                    && seen.insert((resource.group.clone(), resource.plural.clone()))
                {
                    kinds.push(self.kind(kinds.len(), resource, &capabilities));
                }
            }
        }
        Ok(kinds)
    }

    fn kind(&self, index: usize, resource: ApiResource, capabilities: &ApiCapabilities) -> Kind {
        let objects = Arc::<Cache<Meta>>::default();
        for handler in self
            .handlers
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .iter()
            .cloned()
        {
            objects.on_change(move |change| handler(index, change));
        }
        Kind {
            resource,
            namespaced: capabilities.scope == Scope::Namespaced,
            objects,
        }
    }
}

fn is_collectable(capabilities: &ApiCapabilities) -> bool {
    ["list", "watch", "delete"]
        .iter()
        .all(|verb| capabilities.supports_operation(verb))
}
