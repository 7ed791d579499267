//! The garbage collector: deletes what has lost its owners, in the way its owners were deleted.
//!
//! Reads the inventory of all objects' metadata, decides in [`graph`], and before it takes an owner
//! for lost that it has never seen, asks the server.

mod graph;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use serde_json::json;

use super::cache::Key;
use super::context::Context;
use super::error::{ReconcileError, found, is_not_found};
use super::inventory::{Inventory, Kind, Meta};
use super::queue::{Queue, drive};
use graph::{Action, Graph, Node, Policy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

/// Objects worked on at a time.
const WORKERS: usize = 16;

/// The collector; its queue holds uids.
pub struct GarbageCollector {
    context: Arc<Context>,
    inventory: Arc<Inventory>,
    graph: Arc<Mutex<Graph>>,
    queue: Arc<Queue<String>>,
}

impl GarbageCollector {
    /// A collector that learns of changes from now on.
    pub fn new(context: Arc<Context>, inventory: Arc<Inventory>) -> Self {
        let (graph, queue) = (Arc::<Mutex<Graph>>::default(), Arc::new(Queue::default()));
        let (all, look) = (graph.clone(), queue.clone());
        inventory.on_change(move |kind, change| {
            let mut graph = lock(&all);
            let mut uids = Vec::new();
            if let Some(old) = change
                .old
                .as_ref()
                .filter(|old| change.new.as_ref().is_none_or(|new| new.uid() != old.uid()))
            {
                uids.extend(graph.remove(&old.uid().unwrap_or_default()));
            }
            if let Some(new) = &change.new {
                uids.extend(graph.upsert(&new.uid().unwrap_or_default(), Node::new(kind, &new.metadata)));
            }
            uids.into_iter().for_each(|uid| look.add(uid));
        });
        Self {
            context,
            inventory,
            graph,
            queue,
        }
    }

    /// Works until dropped, or until the kinds cannot be discovered.
    pub async fn run(&self) {
        match self.inventory.synced().await {
            Ok(kinds) => drive(&self.queue, WORKERS, |uid| self.collect(kinds, uid)).await,
            Err(error) => tracing::warn!(error = %error.chain(), "garbage collection waits; will retry"),
        }
    }

    async fn collect(&self, kinds: &[Kind], uid: String) -> Result<(), ReconcileError> {
        let (node, action) = {
            let graph = lock(&self.graph);
            let Some(node) = graph.get(&uid).cloned() else {
                return Ok(());
            };
            (node, graph.decide(&uid))
        };
        let Some(kind) = kinds.get(node.kind) else {
            return Ok(());
        };
        match action {
            Action::Nothing => Ok(()),
            Action::Verify(owners) => self.verify(kinds, &uid, &node, owners).await,
            Action::DropOwners(gone) => self.edit(kind, &node.key, &uid, |meta| drop_owners(meta, &gone)).await,
            Action::Delete(policy) => self.delete(kind, &node.key, &uid, policy).await,
            Action::RemoveFinalizer(name) => {
                let without = |meta: &Meta| {
                    let left: Vec<_> = meta.finalizers().iter().filter(|f| *f != name).collect();
                    (left.len() < meta.finalizers().len()).then(|| json!({"finalizers": left}))
                };
                self.edit(kind, &node.key, &uid, without).await
            }
            Action::Release(dependents) => self.release(kinds, &uid, dependents).await,
        }
    }

    /// Asks the server for owners that the graph does not know, and looks again.
    async fn verify(
        &self,
        kinds: &[Kind],
        uid: &str,
        node: &Node,
        owners: Vec<OwnerReference>,
    ) -> Result<(), ReconcileError> {
        let mut settled = true;
        for owner in owners {
            let Some(kind) = kinds.iter().find(|kind| names(kind, &owner)) else {
                tracing::debug!(owner = %owner.name, kind = %owner.kind, "an owner of a kind that is not served");
                settled = false;
                continue;
            };
            let key = Key::new(
                if kind.namespaced {
                    node.key.namespace.as_str()
                } else {
                    ""
                },
                &owner.name,
            );
            let live = found(kind.api_of(&self.context.client, &key).get(&owner.name).await).map_err(|source| {
                ReconcileError::Read {
                    what: format!("{} {key}", owner.kind),
                    source,
                }
            })?;
            if live.is_some_and(|live| live.uid().as_deref() == Some(&owner.uid)) {
                // It exists; the inventory will show it, and whatever becomes of it.
                settled = false;
            } else {
                lock(&self.graph).note_absent(&owner.uid);
            }
        }
        if settled {
            self.queue.add(uid.to_string());
        }
        Ok(())
    }

    async fn release(&self, kinds: &[Kind], owner: &str, dependents: Vec<String>) -> Result<(), ReconcileError> {
        let gone = BTreeSet::from([owner.to_string()]);
        for uid in dependents {
            let node = lock(&self.graph).get(&uid).cloned();
            if let Some((node, kind)) = node.and_then(|node| Some((node.clone(), kinds.get(node.kind)?))) {
                self.edit(kind, &node.key, &uid, |meta| drop_owners(meta, &gone))
                    .await?;
            }
        }
        Ok(())
    }

    async fn delete(&self, kind: &Kind, key: &Key, uid: &str, policy: Policy) -> Result<(), ReconcileError> {
        let params = DeleteParams {
            propagation_policy: Some(match policy {
                Policy::Background => PropagationPolicy::Background,
                Policy::Foreground => PropagationPolicy::Foreground,
                Policy::Orphan => PropagationPolicy::Orphan,
            }),
            preconditions: Some(Preconditions {
                uid: Some(uid.into()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match kind.api_of(&self.context.client, key).delete(&key.name, &params).await {
            // Gone already, or a namesake with another uid.
            Err(error) if is_not_found(&error) || super::error::is_conflict(&error) => Ok(()),
            Err(source) => Err(ReconcileError::Delete {
                what: format!("{} {key}", kind.resource.kind),
                source,
            }),
            Ok(_) => Ok(()),
        }
    }

    /// Reads an object's metadata, and writes the change that `make` finds necessary over it.
    async fn edit(
        &self,
        kind: &Kind,
        key: &Key,
        uid: &str,
        make: impl Fn(&Meta) -> Option<serde_json::Value>,
    ) -> Result<(), ReconcileError> {
        let what = || format!("{} {key}", kind.resource.kind);
        let api = kind.api_of(&self.context.client, key);
        let live = found(api.get(&key.name).await).map_err(|source| ReconcileError::Read { what: what(), source })?;
        let Some(live) = live.filter(|live| live.uid().as_deref() == Some(uid)) else {
            return Ok(());
        };
        let Some(mut metadata) = make(&live) else { return Ok(()) };
        metadata["resourceVersion"] = json!(live.resource_version());
        metadata["uid"] = json!(uid);
        let patch = Patch::Merge(json!({"metadata": metadata}));
        match api.patch(&key.name, &PatchParams::default(), &patch).await {
            Err(error) if is_not_found(&error) => Ok(()),
            Err(source) => Err(ReconcileError::Update { what: what(), source }),
            Ok(_) => Ok(()),
        }
    }
}

fn drop_owners(meta: &Meta, gone: &BTreeSet<String>) -> Option<serde_json::Value> {
    let left: Vec<_> = meta
        .owner_references()
        .iter()
        .filter(|owner| !gone.contains(&owner.uid))
        .collect();
    (left.len() < meta.owner_references().len()).then(|| json!({"ownerReferences": left}))
}

fn names(kind: &Kind, owner: &OwnerReference) -> bool {
    let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
    kind.resource.kind == owner.kind && kind.resource.group == group
}

fn lock(graph: &Mutex<Graph>) -> MutexGuard<'_, Graph> {
    graph.lock().unwrap_or_else(PoisonError::into_inner)
}
