//! The endpoint controllers: what stands behind each Service, as Endpoints, as EndpointSlices, and
//! hand-written Endpoints mirrored into slices.
//!
//! Reads Services, Pods, Nodes and their own output from the shared caches. [`model`] says what the
//! facts are, [`subsets`] and [`slices`] how they are spelt; both are pure.

mod apply;
mod mirror;
mod model;
mod slices;
mod subsets;
mod trigger;
mod unseen;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;

use super::cache::{Change, Key};
use super::context::Context;
use super::error::ReconcileError;
use super::owner::controller_reference;
use super::queue::{Queue, drive};
use super::write;
use apply::{apply_slices, service_of};
pub use mirror::{MirroringController, SKIP};
use slices::Frame;
pub use slices::SERVICE_NAME;
use trigger::{TriggerTimes, spell};
use unseen::Unseen;

/// Services worked on at a time, by each controller.
const WORKERS: usize = 8;
/// The value of [`slices::MANAGED_BY`].
const SLICE_MANAGER: &str = "endpointslice-controller.k8s.io";

/// Writes Endpoints of Services with a selector.
pub struct EndpointsController {
    context: Arc<Context>,
    queue: Arc<Queue<Key>>,
    triggers: Mutex<TriggerTimes>,
}

impl EndpointsController {
    /// A controller that learns of changes from now on.
    pub fn new(context: Arc<Context>) -> Self {
        let queue = Arc::new(Queue::default());
        watch_services_and_pods(&context, &queue);
        let own = queue.clone();
        context.endpoints.on_change(move |change| {
            let managed = change
                .latest()
                .filter(|object| object.labels().contains_key(subsets::MANAGED_BY));
            managed.into_iter().for_each(|object| own.add(Key::of(&**object)));
        });
        Self {
            context,
            queue,
            triggers: Mutex::default(),
        }
    }

    /// Works until dropped.
    pub async fn run(&self) {
        self.context.services.synced().await;
        self.context.pods.synced().await;
        self.context.endpoints.synced().await;
        drive(&self.queue, WORKERS, |key| self.reconcile(key)).await;
    }

    async fn reconcile(&self, key: Key) -> Result<(), ReconcileError> {
        let existing = self.context.endpoints.get(&key);
        let Some(service) = self.context.services.get(&key) else {
            self.triggers
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .forget(&key);
            // Endpoints have no owner reference: they go with the Service of their name.
            return match existing {
                Some(endpoints) => write::delete(&self.context.client, &*endpoints).await,
                None => Ok(()),
            };
        };
        if !model::is_selecting(&service) {
            return Ok(());
        }
        let pods = selected(&self.context, &service);
        let last_change = self
            .triggers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next(&service, &pods);
        match subsets::plan(&service, &pods, existing.as_deref(), last_change.map(spell)) {
            None => Ok(()),
            Some(endpoints) if existing.is_some() => write::update(&self.context.client, &endpoints).await.map(drop),
            Some(endpoints) => write::create(&self.context.client, &endpoints).await.map(drop),
        }
    }
}

/// Writes EndpointSlices of Services with a selector.
pub struct EndpointSliceController {
    context: Arc<Context>,
    queue: Arc<Queue<Key>>,
    triggers: Mutex<TriggerTimes>,
    unseen: Arc<Unseen>,
}

impl EndpointSliceController {
    /// A controller that learns of changes from now on.
    pub fn new(context: Arc<Context>) -> Self {
        let queue = Arc::new(Queue::default());
        watch_services_and_pods(&context, &queue);
        let unseen = Arc::<Unseen>::default();
        let (own, expected) = (queue.clone(), unseen.clone());
        context.slices.on_change(move |change| {
            // A slice that was taken from us by its labels is missed like one that was deleted.
            for slice in change.states().filter(|slice| is_managed(slice)) {
                let service = service_of(slice);
                expected.seen(&service, &slice.name_any());
                own.add(service);
            }
        });
        let (own, all) = (queue.clone(), context.clone());
        // A node's zone is shown in every endpoint on it.
        context.nodes.on_change(move |change| {
            let labels = |node: &Option<Arc<Node>>| node.as_ref().map(|node| node.labels().clone());
            if labels(&change.old) != labels(&change.new) {
                all.services
                    .snapshot()
                    .iter()
                    .for_each(|service| own.add(Key::of(&**service)));
            }
        });
        Self {
            context,
            queue,
            triggers: Mutex::default(),
            unseen,
        }
    }

    /// Works until dropped.
    pub async fn run(&self) {
        self.context.services.synced().await;
        self.context.pods.synced().await;
        self.context.nodes.synced().await;
        self.context.slices.synced().await;
        drive(&self.queue, WORKERS, |key| self.reconcile(key)).await;
    }

    async fn reconcile(&self, key: Key) -> Result<(), ReconcileError> {
        // The slices of a Service that is gone go with it: they have an owner reference.
        let Some(service) = self.context.services.get(&key) else {
            self.triggers
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .forget(&key);
            return Ok(());
        };
        if !model::is_selecting(&service) || service.metadata.deletion_timestamp.is_some() || self.unseen.any(&key) {
            return Ok(());
        }
        let pods = selected(&self.context, &service);
        let nodes = self.context.nodes.snapshot();
        let wanted = slices::endpoints(&service, &pods, |name| nodes.get(&Key::new("", name)));
        let cached = self.context.slices.snapshot();
        let own = |slice: &&Arc<EndpointSlice>| {
            is_managed(slice) && service_of(slice) == key && slice.metadata.deletion_timestamp.is_none()
        };
        let existing: Vec<_> = cached.in_namespace(&key.namespace).filter(own).cloned().collect();
        let last_change = self
            .triggers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next(&service, &pods);
        let frame = Frame {
            owner: controller_reference(&*service),
            namespace: key.namespace.clone(),
            labels: slices::labels(&service, SLICE_MANAGER),
            annotations: BTreeMap::new(),
            last_change: last_change.map(spell),
            address_type: "IPv4",
            most: slices::MOST,
            placeholder: true,
        };
        let plan = slices::plan(&frame, wanted, &existing);
        apply_slices(&self.context, &self.unseen, &key, plan).await
    }
}

/// Queues a Service when it, or a Pod that it selects or selected, changes.
fn watch_services_and_pods(context: &Arc<Context>, queue: &Arc<Queue<Key>>) {
    let own = queue.clone();
    context.services.on_change(move |change| {
        change
            .latest()
            .into_iter()
            .for_each(|service| own.add(Key::of(&**service)));
    });
    let (own, all) = (queue.clone(), context.clone());
    context.pods.on_change(move |change| {
        if !matters(change) {
            return;
        }
        let services = all.services.snapshot();
        for pod in change.states() {
            let namespace = pod.namespace().unwrap_or_default();
            let selecting = services
                .in_namespace(&namespace)
                .filter(|service| model::selects(service, pod));
            selecting.for_each(|service| own.add(Key::of(&**service)));
        }
    });
}

fn matters(change: &Change<Pod>) -> bool {
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => model::relevant(old) != model::relevant(new),
        _ => true,
    }
}

fn selected(context: &Context, service: &Service) -> Vec<Arc<Pod>> {
    let namespace = service.namespace().unwrap_or_default();
    model::selected(service, context.pods.snapshot().in_namespace(&namespace))
}

fn is_managed(slice: &EndpointSlice) -> bool {
    slice
        .labels()
        .get(slices::MANAGED_BY)
        .is_some_and(|manager| manager == SLICE_MANAGER)
}
