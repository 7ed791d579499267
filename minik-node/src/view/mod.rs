//! What a node knows of the cluster: one immutable snapshot, published only when every watch has synced.
//!
//! Reads the API through watches that never stop, strips objects down to [`crate::model`] and hands out
//! [`ClusterView`]s on a [`tokio::sync::watch`] channel: `None` until all lists are complete, the newest
//! snapshot from then on, also while the API server is away. Decides nothing and writes nothing.

mod collect;
mod table;
#[cfg(test)]
pub(crate) mod testing;
mod watch;

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::ordmap::DiffItem;
use imbl::{OrdMap, OrdSet};

pub use collect::{Change, Collector};
pub use watch::{Retry, spawn, spawn_for_names, tell};

use crate::model::{Node, ObjectName, Service, Slice};

/// A snapshot of the cluster. Persistent maps: two snapshots share what is equal, and comparing them costs
/// what differs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterView {
    /// Node that looks; `None` where no node does (DNS).
    pub node: Option<String>,
    /// All Services.
    pub services: OrdMap<ObjectName, Arc<Service>>,
    /// EndpointSlices, by the Service they belong to and their own name.
    pub slices: OrdMap<ObjectName, OrdMap<String, Arc<Slice>>>,
    /// All Nodes; empty in a view for names.
    pub nodes: OrdMap<String, Arc<Node>>,
    /// Names of all Namespaces; empty in a node's view.
    pub namespaces: OrdSet<String>,
}

/// Keys that differ between two views.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Services that differ themselves or in their slices.
    pub services: BTreeSet<ObjectName>,
    /// Nodes.
    pub nodes: BTreeSet<String>,
    /// Namespaces that came or went.
    pub namespaces: BTreeSet<String>,
}

impl ClusterView {
    /// Slices of a Service, by name.
    pub fn slices_of(&self, service: &ObjectName) -> impl Iterator<Item = &Arc<Slice>> {
        self.slices.get(service).into_iter().flat_map(OrdMap::values)
    }

    /// The node that looks, when the API has it.
    #[must_use]
    pub fn this_node(&self) -> Option<&Node> {
        self.nodes.get(self.node.as_ref()?).map(Arc::as_ref)
    }

    /// What differs from an earlier view, however many views lie between: a consumer that skipped some
    /// misses nothing.
    #[must_use]
    pub fn changes_since(&self, earlier: &Self) -> Changes {
        let mut services = changed_keys(earlier.services.diff(&self.services));
        services.extend(changed_keys(earlier.slices.diff(&self.slices)));
        Changes {
            services,
            nodes: changed_keys(earlier.nodes.diff(&self.nodes)),
            namespaces: earlier
                .namespaces
                .diff(&self.namespaces)
                .map(|item| match item {
                    imbl::ordset::DiffItem::Add(name) | imbl::ordset::DiffItem::Remove(name) => name.clone(),
                })
                .collect(),
        }
    }
}

fn changed_keys<'a, K: Ord + Clone + 'a, V: 'a>(diff: impl Iterator<Item = DiffItem<'a, 'a, K, V>>) -> BTreeSet<K> {
    diff.map(|item| match item {
        DiffItem::Add(key, _) | DiffItem::Remove(key, _) | DiffItem::Update { new: (key, _), .. } => key.clone(),
    })
    .collect()
}
