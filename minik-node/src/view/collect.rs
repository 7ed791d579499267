//! Folds watch events into a [`ClusterView`]: pure, so that tests feed it by hand.

use imbl::OrdMap;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::runtime::watcher::Event;

use super::ClusterView;
use super::table::{Replaced, Table};
use crate::model::{Node, ObjectName, Service, Slice};

/// One event of one watch.
#[derive(Debug)]
pub enum Change {
    /// Of the Services.
    Service(Event<core::Service>),
    /// Of the EndpointSlices.
    Slice(Event<EndpointSlice>),
    /// Of the Nodes.
    Node(Event<core::Node>),
    /// Of the Namespaces.
    Namespace(Event<core::Namespace>),
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
        Self { view: ClusterView { node, ..ClusterView::default() }, ..Self::default() }
    }

    /// The snapshot, once every watch that this view needs has completed its first list.
    #[must_use]
    pub fn view(&self) -> Option<&ClusterView> {
        let theirs = if self.view.node.is_some() { self.nodes.synced() } else { self.namespaces.synced() };
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

    fn take_service(&mut self, event: Event<core::Service>) -> bool {
        let replaced = self.services.take(convert(event, object_name, Service::from_api));
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
    fn take_slice(&mut self, event: Event<EndpointSlice>) -> bool {
        let replaced = self.slices.take(convert(event, object_name, Slice::from_api));
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
                let slices = self.view.slices.entry(new.service.clone()).or_insert_with(OrdMap::new);
                slices.insert(new.name.name.clone(), new.clone());
            }
        }
        !replaced.is_empty()
    }

    fn take_node(&mut self, event: Event<core::Node>) -> bool {
        let replaced = self.nodes.take(convert(event, |node| node.name_any(), Node::from_api));
        for Replaced { old, new } in &replaced {
            match (new, old) {
                (Some(new), _) => drop(self.view.nodes.insert(new.name.clone(), new.clone())),
                (None, Some(old)) => drop(self.view.nodes.remove(&old.name)),
                (None, None) => {}
            }
        }
        !replaced.is_empty()
    }

    fn take_namespace(&mut self, event: Event<core::Namespace>) -> bool {
        let name = |namespace: core::Namespace| namespace.metadata.name;
        let replaced = self.namespaces.take(convert(event, |namespace| namespace.name_any(), name));
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
fn convert<A, K, V>(
    event: Event<A>,
    key: impl Fn(&A) -> K,
    value: impl Fn(A) -> Option<V>,
) -> Event<(K, Option<V>)> {
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
