//! Folds watch events into a [`ClusterView`]: pure, so that tests feed it by hand.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::runtime::watcher::Event;

use super::ClusterView;
use super::table::{Replaced, Table};
use crate::model::{Node, ObjectName, Service, Slice};

/// An event about objects that are stripped down already: the key, and nothing where the object is none of
/// ours.
type Stripped<K, V> = Event<(K, Option<V>)>;

/// One event of one watch.
#[derive(Debug)]
pub enum Change {
    /// Of the Services.
    Service(Stripped<ObjectName, Service>),
    /// Of the EndpointSlices.
    Slice(Stripped<ObjectName, Slice>),
    /// Of the Nodes.
    Node(Stripped<String, Node>),
    /// Of the Namespaces.
    Namespace(Stripped<String, String>),
}

impl Change {
    /// Strips a Service.
    #[must_use]
    pub fn service(event: Event<core::Service>) -> Self {
        Self::Service(strip(event, object_name, Service::from_api))
    }

    /// Strips an EndpointSlice.
    #[must_use]
    pub fn slice(event: Event<EndpointSlice>) -> Self {
        Self::Slice(strip(event, object_name, Slice::from_api))
    }

    /// Strips a Node.
    #[must_use]
    pub fn node(event: Event<core::Node>) -> Self {
        Self::Node(strip(event, ResourceExt::name_any, Node::from_api))
    }

    /// Strips a Namespace to its name.
    #[must_use]
    pub fn namespace(event: Event<core::Namespace>) -> Self {
        Self::Namespace(strip(event, ResourceExt::name_any, |namespace| namespace.metadata.name))
    }
}

/// The view in the making.
#[derive(Debug, Default)]
pub struct Collector {
    view: ClusterView,
    services: Table<ObjectName, Service>,
    slices: Table<ObjectName, Slice>,
    nodes: Table<String, Node>,
    namespaces: Table<String, String>,
}

impl Collector {
    /// Starts a node's view (`Some`), or a view for names (`None`).
    #[must_use]
    pub fn new(node: Option<String>) -> Self {
        Self {
            view: ClusterView {
                node,
                ..ClusterView::default()
            },
            ..Self::default()
        }
    }

    /// The snapshot, once every watch that this view needs has completed its first list.
    #[must_use]
    pub fn view(&self) -> Option<&ClusterView> {
        let theirs = if self.view.node.is_some() {
            self.nodes.synced()
        } else {
            self.namespaces.synced()
        };
        (theirs && self.services.synced() && self.slices.synced()).then_some(&self.view)
    }

    /// Takes in an event; true when the view is not what it was before.
    pub fn take(&mut self, change: Change) -> bool {
        let synced = self.view().is_some();
        let changed = match change {
            Change::Service(event) => self.take_service(event),
            Change::Slice(event) => self.take_slice(event),
            Change::Node(event) => self.take_node(event),
            Change::Namespace(event) => self.take_namespace(event),
        };
        changed || synced != self.view().is_some()
    }

    fn take_service(&mut self, event: Stripped<ObjectName, Service>) -> bool {
        let replaced = self.services.take(event);
        for Replaced { old, new } in &replaced {
            match (new, old) {
                (Some(new), _) => drop(self.view.services.insert(new.name.clone(), new.clone())),
                (None, Some(old)) => drop(self.view.services.remove(&old.name)),
                (None, None) => {}
            }
        }
        !replaced.is_empty()
    }

    /// A slice may change the Service that it belongs to, so its old place is left before the new is taken.
    fn take_slice(&mut self, event: Stripped<ObjectName, Slice>) -> bool {
        let replaced = self.slices.take(event);
        for Replaced { old, new } in &replaced {
            if let Some(old) = old {
                let left = self.view.slices.get_mut(&old.service).map(|slices| {
                    slices.remove(&old.name.name);
                    slices.is_empty()
                });
                if left == Some(true) {
                    self.view.slices.remove(&old.service);
                }
            }
            if let Some(new) = new {
                let slices = self.view.slices.entry(new.service.clone()).or_default();
                slices.insert(new.name.name.clone(), new.clone());
            }
        }
        !replaced.is_empty()
    }

    fn take_node(&mut self, event: Stripped<String, Node>) -> bool {
        let replaced = self.nodes.take(event);
        for Replaced { old, new } in &replaced {
            match (new, old) {
                (Some(new), _) => drop(self.view.nodes.insert(new.name.clone(), new.clone())),
                (None, Some(old)) => drop(self.view.nodes.remove(&old.name)),
                (None, None) => {}
            }
        }
        !replaced.is_empty()
    }

    fn take_namespace(&mut self, event: Stripped<String, String>) -> bool {
        let replaced = self.namespaces.take(event);
        for Replaced { old, new } in &replaced {
            match (new, old) {
                (Some(new), _) => drop(self.view.namespaces.insert(new.as_ref().clone())),
                (None, Some(old)) => drop(self.view.namespaces.remove(old.as_ref())),
                (None, None) => {}
            }
        }
        !replaced.is_empty()
    }
}

fn object_name<K: ResourceExt>(object: &K) -> ObjectName {
    ObjectName::new(object.namespace().unwrap_or_default(), object.name_any())
}

/// Strips the objects of an event down, keeping their keys.
fn strip<A, K, V>(event: Event<A>, key: impl Fn(&A) -> K, value: impl Fn(A) -> Option<V>) -> Event<(K, Option<V>)> {
    let both = |object: A| {
        let key = key(&object);
        (key, value(object))
    };
    match event {
        Event::Apply(object) => Event::Apply(both(object)),
        Event::Delete(object) => Event::Delete(both(object)),
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(both(object)),
        Event::InitDone => Event::InitDone,
    }
}
