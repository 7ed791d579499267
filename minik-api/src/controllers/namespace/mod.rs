//! The namespace controller: empties a namespace that is being deleted, Pods first, and then lets it go.
//!
//! Lists live what is there, kind by kind as discovery names them; woken by the inventory when
//! something in a terminating namespace goes.

mod conditions;

use std::sync::Arc;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceStatus};
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};

use super::cache::Key;
use super::context::Context;
use super::error::{ReconcileError, is_conflict, is_not_found, server_message};
use super::inventory::{Inventory, Kind, Meta};
use super::queue::{Queue, drive};
use conditions::{Findings, conditions};

/// The finalizer in `spec.finalizers` that this controller answers for.
const FINALIZER: &str = "kubernetes";
/// Deletions in flight at a time, within one kind.
const BATCH: usize = 32;

/// The controller; see the module's documentation.
pub struct NamespaceController {
    context: Arc<Context>,
    inventory: Arc<Inventory>,
    queue: Arc<Queue<Key>>,
}

impl NamespaceController {
    /// A controller that learns of changes from now on.
    pub fn new(context: Arc<Context>, inventory: Arc<Inventory>) -> Self {
        let queue = Arc::new(Queue::default());
        let own = queue.clone();
        context.namespaces.on_change(move |change| {
            let going = change
                .new
                .as_ref()
                .filter(|namespace| namespace.metadata.deletion_timestamp.is_some());
            going.into_iter().for_each(|namespace| own.add(Key::of(&**namespace)));
        });
        let (own, all) = (queue.clone(), context.clone());
        inventory.on_change(move |_, change| {
            let Some(object) = change.latest() else { return };
            let key = Key::new("", object.namespace().unwrap_or_default());
            if all
                .namespaces
                .get(&key)
                .is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some())
            {
                own.add(key);
            }
        });
        Self {
            context,
            inventory,
            queue,
        }
    }

    /// Works until dropped, or until the kinds cannot be discovered.
    pub async fn run(&self) {
        self.context.namespaces.synced().await;
        match self.inventory.kinds().await {
            Ok(kinds) => drive(&self.queue, 4, |key| self.reconcile(kinds, key)).await,
            Err(error) => tracing::warn!(error = %error.chain(), "namespace deletion waits; will retry"),
        }
    }

    async fn reconcile(&self, kinds: &[Kind], key: Key) -> Result<(), ReconcileError> {
        let Some(namespace) = self.context.namespaces.get(&key) else {
            return Ok(());
        };
        let finalizers = namespace
            .spec
            .as_ref()
            .and_then(|spec| spec.finalizers.clone())
            .unwrap_or_default();
        if namespace.metadata.deletion_timestamp.is_none() || !finalizers.iter().any(|f| f == FINALIZER) {
            return Ok(());
        }
        let found = self.empty(kinds, &key.name).await?;
        if found.is_empty() {
            return self.finalize(&namespace, finalizers).await;
        }
        self.report(&namespace, &found).await
    }

    /// Deletes what is there and says what is left. While Pods are, nothing else goes: they may need
    /// it to end well.
    async fn empty(&self, kinds: &[Kind], namespace: &str) -> Result<Findings, ReconcileError> {
        let mut found = Findings::default();
        let is_pods = |kind: &&Kind| kind.resource.plural == "pods" && kind.resource.group.is_empty();
        let namespaced = || kinds.iter().filter(|kind| kind.namespaced);
        for kind in namespaced().filter(is_pods) {
            self.empty_kind(kind, namespace, &mut found).await?;
        }
        if found.is_empty() {
            for kind in namespaced().filter(|kind| !is_pods(kind)) {
                self.empty_kind(kind, namespace, &mut found).await?;
            }
        }
        Ok(found)
    }

    async fn empty_kind(&self, kind: &Kind, namespace: &str, found: &mut Findings) -> Result<(), ReconcileError> {
        let going = self.list(kind, namespace).await?;
        if going.is_empty() {
            return Ok(());
        }
        let api = kind.api(&self.context.client, namespace);
        let fresh: Vec<&Meta> = going
            .iter()
            .filter(|object| object.metadata.deletion_timestamp.is_none())
            .collect();
        for batch in fresh.chunks(BATCH) {
            let deletions = batch.iter().map(|object| {
                let preconditions = Preconditions {
                    uid: object.uid(),
                    resource_version: None,
                };
                let (api, name) = (&api, object.name_any());
                async move {
                    api.delete(&name, &DeleteParams::background().preconditions(preconditions))
                        .await
                }
            });
            let refused = join_all(deletions).await.into_iter().filter_map(Result::err);
            let refused = refused.filter(|error| !is_not_found(error) && !is_conflict(error));
            found.failures.extend(refused.map(|error| server_message(&error)));
        }
        let left = self.list(kind, namespace).await?;
        if !left.is_empty() {
            found
                .remaining
                .insert(format!("{}.{}", kind.resource.plural, kind.resource.group), left.len());
        }
        for finalizer in left.iter().flat_map(|object| object.finalizers()) {
            *found.finalizers.entry(finalizer.clone()).or_default() += 1;
        }
        Ok(())
    }

    async fn list(&self, kind: &Kind, namespace: &str) -> Result<Vec<Meta>, ReconcileError> {
        let list = kind
            .api(&self.context.client, namespace)
            .list(&ListParams::default())
            .await;
        let list = list.map_err(|source| ReconcileError::Read {
            what: kind.qualified(),
            source,
        })?;
        Ok(list.items)
    }

    async fn finalize(&self, namespace: &Namespace, finalizers: Vec<String>) -> Result<(), ReconcileError> {
        let mut namespace = namespace.clone();
        let left = finalizers
            .into_iter()
            .filter(|finalizer| finalizer != FINALIZER)
            .collect();
        namespace.spec.get_or_insert_default().finalizers = Some(left);
        let api: Api<Namespace> = Api::all(self.context.client.clone());
        let name = namespace.name_any();
        match api
            .replace_subresource("finalize", &name, &PostParams::default(), &namespace)
            .await
        {
            Err(error) if is_not_found(&error) => Ok(()),
            Err(source) => Err(ReconcileError::Update {
                what: format!("Namespace {name}"),
                source,
            }),
            Ok(_) => Ok(()),
        }
    }

    async fn report(&self, namespace: &Namespace, found: &Findings) -> Result<(), ReconcileError> {
        let old = namespace
            .status
            .as_ref()
            .and_then(|status| status.conditions.clone())
            .unwrap_or_default();
        let wanted = conditions(&old, found, Timestamp::now());
        if old == wanted {
            return Ok(());
        }
        let mut namespace = namespace.clone();
        namespace.status.get_or_insert_with(NamespaceStatus::default).conditions = Some(wanted);
        let api: Api<Namespace> = Api::all(self.context.client.clone());
        let name = namespace.name_any();
        let result = api.replace_status(&name, &PostParams::default(), &namespace).await;
        result.map(drop).map_err(|source| ReconcileError::UpdateStatus {
            what: format!("Namespace {name}"),
            source,
        })
    }
}
