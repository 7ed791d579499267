//! Who owns whom, and what follows from it. Pure.
//!
//! Objects are known by uid, so that a namesake of a deleted owner is never taken for it. The rules
//! are those of Kubernetes' garbage collector: background, foreground and orphan deletion.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::controllers::cache::Key;

/// Finalizer of an object that waits for its blocking dependents to go.
pub const FOREGROUND: &str = "foregroundDeletion";
/// Finalizer of an object whose dependents must be let go first.
pub const ORPHAN: &str = "orphan";

/// One object.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Index of its kind in the inventory.
    pub kind: usize,
    /// Its name.
    pub key: Key,
    /// Its owners.
    pub owners: Vec<OwnerReference>,
    /// Its finalizers.
    pub finalizers: Vec<String>,
    /// Whether it has been asked to go.
    pub deleting: bool,
}

impl Node {
    /// The node of an object.
    pub fn new(kind: usize, meta: &ObjectMeta) -> Self {
        Self {
            kind,
            key: Key::new(
                meta.namespace.clone().unwrap_or_default(),
                meta.name.clone().unwrap_or_default(),
            ),
            owners: meta.owner_references.clone().unwrap_or_default(),
            finalizers: meta.finalizers.clone().unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
        }
    }

    fn waits_for(&self, finalizer: &str) -> bool {
        self.deleting && self.finalizers.iter().any(|f| f == finalizer)
    }
}

/// How dependents of a deleted object are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// They go after it.
    Background,
    /// It goes after them.
    Foreground,
    /// They stay.
    Orphan,
}

/// What to do about one object.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Leave it.
    Nothing,
    /// Ask the server whether these owners, which the graph does not know, exist.
    Verify(Vec<OwnerReference>),
    /// Drop these owners from its owner references.
    DropOwners(BTreeSet<String>),
    /// Delete it.
    Delete(Policy),
    /// Take this finalizer off it.
    RemoveFinalizer(&'static str),
    /// Drop it from the owner references of these objects, then look again.
    Release(Vec<String>),
}

/// All objects, and which of them name which owners.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: BTreeMap<String, Node>,
    dependents: BTreeMap<String, BTreeSet<String>>,
    /// Owners that the server does not have. A uid never comes back, so this never turns false.
    absent: BTreeSet<String>,
}

impl Graph {
    /// The object with this uid.
    pub fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// Takes in an object's present state; returns the uids to look at.
    pub fn upsert(&mut self, uid: &str, node: Node) -> Vec<String> {
        let before = self.nodes.get(uid);
        if before == Some(&node) {
            return Vec::new();
        }
        let former = before.map(|before| before.owners.clone()).unwrap_or_default();
        for owner in &former {
            self.unlink(&owner.uid, uid);
        }
        for owner in &node.owners {
            self.dependents
                .entry(owner.uid.clone())
                .or_default()
                .insert(uid.to_string());
        }
        let mut look = vec![uid.to_string()];
        if node.deleting {
            look.extend(self.dependents_of(uid).map(Into::into));
        }
        look.extend(self.waiting(&former));
        self.nodes.insert(uid.to_string(), node);
        look
    }

    /// Forgets an object that is gone; returns the uids to look at.
    pub fn remove(&mut self, uid: &str) -> Vec<String> {
        let Some(node) = self.nodes.remove(uid) else {
            return Vec::new();
        };
        for owner in &node.owners {
            self.unlink(&owner.uid, uid);
        }
        let dependents: Vec<String> = self.dependents_of(uid).map(Into::into).collect();
        if !dependents.is_empty() {
            self.absent.insert(uid.to_string());
        }
        dependents.into_iter().chain(self.waiting(&node.owners)).collect()
    }

    /// The server says that this owner does not exist.
    pub fn note_absent(&mut self, owner: &str) {
        self.absent.insert(owner.to_string());
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.dependents.remove(owner);
                self.absent.remove(owner);
            }
        }
    }

    fn dependents_of(&self, owner: &str) -> impl Iterator<Item = &str> {
        self.dependents.get(owner).into_iter().flatten().map(String::as_str)
    }

    /// Those of `owners` that wait for something about their dependents.
    fn waiting(&self, owners: &[OwnerReference]) -> Vec<String> {
        let waits = |uid: &&String| {
            self.nodes
                .get(*uid)
                .is_some_and(|node| node.waits_for(FOREGROUND) || node.waits_for(ORPHAN))
        };
        owners.iter().map(|owner| &owner.uid).filter(waits).cloned().collect()
    }

    fn references(&self, dependent: &str, owner: &str) -> Option<&OwnerReference> {
        self.nodes
            .get(dependent)?
            .owners
            .iter()
            .find(|reference| reference.uid == owner)
    }

    /// Decides about one object.
    pub fn decide(&self, uid: &str) -> Action {
        let Some(node) = self.nodes.get(uid) else {
            return Action::Nothing;
        };
        if node.waits_for(ORPHAN) {
            let dependents: Vec<String> = self.dependents_of(uid).map(Into::into).collect();
            return if dependents.is_empty() {
                Action::RemoveFinalizer(ORPHAN)
            } else {
                Action::Release(dependents)
            };
        }
        if node.waits_for(FOREGROUND) {
            let blocks = |dependent: &&str| {
                self.references(dependent, uid)
                    .is_some_and(|owner| owner.block_owner_deletion == Some(true))
            };
            let blocked = self.dependents_of(uid).any(|dependent| blocks(&dependent));
            return if blocked {
                Action::Nothing
            } else {
                Action::RemoveFinalizer(FOREGROUND)
            };
        }
        if node.deleting || node.owners.is_empty() {
            return Action::Nothing;
        }
        self.decide_by_owners(uid, node)
    }

    fn decide_by_owners(&self, uid: &str, node: &Node) -> Action {
        let (mut solid, mut lost, mut waiting, mut unknown) = (0, BTreeSet::new(), BTreeSet::new(), Vec::new());
        for owner in &node.owners {
            match self.nodes.get(&owner.uid) {
                Some(found) if found.waits_for(FOREGROUND) && owner.block_owner_deletion == Some(true) => {
                    waiting.insert(owner.uid.clone());
                }
                Some(_) => solid += 1,
                None if self.absent.contains(&owner.uid) => {
                    lost.insert(owner.uid.clone());
                }
                None => unknown.push(owner.clone()),
            }
        }
        if !unknown.is_empty() {
            return Action::Verify(unknown);
        }
        let has_dependents = self.dependents_of(uid).next().is_some();
        match (solid, waiting.is_empty()) {
            (1.., true) if lost.is_empty() => Action::Nothing,
            (1.., _) => Action::DropOwners(lost.union(&waiting).cloned().collect()),
            (_, false) if has_dependents => Action::Delete(Policy::Foreground),
            _ if node.finalizers.iter().any(|f| f == ORPHAN) => Action::Delete(Policy::Orphan),
            _ if node.finalizers.iter().any(|f| f == FOREGROUND) => Action::Delete(Policy::Foreground),
            _ => Action::Delete(Policy::Background),
        }
    }
}

#[cfg(test)]
#[path = "graph_tests.rs"]
mod tests;
