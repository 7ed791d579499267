//! The pvc- and pv-protection controllers: a claim that is being deleted goes when no Pod on a node uses it, a volume when
//! it is not bound. Until then a finalizer, which the API server adds, holds them.

use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::cache::Key;
use super::context::Context;
use super::error::{ReconcileError, is_not_found};
use super::queue::{Queue, drive};

const CLAIM: &str = "kubernetes.io/pvc-protection";
const VOLUME: &str = "kubernetes.io/pv-protection";

/// The controller; its queue holds the keys of claims, and of volumes (without a namespace).
pub struct VolumeProtection {
    context: Arc<Context>,
    /// For volumes.
    volumes: Client,
    queue: Arc<Queue<Key>>,
}

impl VolumeProtection {
    /// A controller that learns of changes from now on: of claims it writes as who `context` is, of volumes as who
    /// `volumes` is.
    pub fn new(context: Arc<Context>, volumes: Client) -> Self {
        let queue = Arc::new(Queue::default());
        let own = queue.clone();
        context.claims.on_change(move |change| {
            change.new.iter().for_each(|claim| own.add(Key::of(&**claim)));
        });
        let own = queue.clone();
        context.volumes.on_change(move |change| {
            change.new.iter().for_each(|volume| own.add(Key::of(&**volume)));
        });
        let own = queue.clone();
        context.pods.on_change(move |change| {
            let gone = change.old.iter().filter(|_| change.new.is_none());
            for pod in gone {
                let namespace = pod.namespace().unwrap_or_default();
                claims_of(pod).for_each(|claim| own.add(Key::new(&namespace, claim)));
            }
        });
        Self {
            context,
            volumes,
            queue,
        }
    }

    /// Works until dropped.
    pub async fn run(&self) {
        self.context.claims.synced().await;
        self.context.volumes.synced().await;
        self.context.pods.synced().await;
        drive(&self.queue, 2, |key| self.reconcile(key)).await;
    }

    async fn reconcile(&self, key: Key) -> Result<(), ReconcileError> {
        if key.namespace.is_empty() {
            let Some(volume) = self.context.volumes.get(&key) else {
                return Ok(());
            };
            let phase = volume.status.as_ref().and_then(|s| s.phase.as_deref());
            let held = phase == Some("Bound");
            return release(Api::all(self.volumes.clone()), &*volume, VOLUME, held).await;
        }
        let Some(claim) = self.context.claims.get(&key) else {
            return Ok(());
        };
        let pods = self.context.pods.snapshot();
        let held = pods.in_namespace(&key.namespace).any(|pod| uses(pod, &key));
        let client = self.context.client.clone();
        release(namespaced(client, &key.namespace), &*claim, CLAIM, held).await
    }
}

fn namespaced<K>(client: Client, namespace: &str) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    Api::namespaced(client, namespace)
}

/// The claims that a Pod mounts, by name.
fn claims_of(pod: &Pod) -> impl Iterator<Item = &str> {
    let volumes = pod.spec.iter().filter_map(|spec| spec.volumes.as_ref()).flatten();
    volumes.filter_map(|volume| Some(volume.persistent_volume_claim.as_ref()?.claim_name.as_str()))
}

/// Whether a Pod of the claim's namespace has a node and uses the claim.
fn uses(pod: &Pod, claim: &Key) -> bool {
    let scheduled = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    scheduled && claims_of(pod).any(|name| name == claim.name)
}

/// Takes `finalizer` from an object that is going and not held.
async fn release<K>(api: Api<K>, object: &K, finalizer: &str, held: bool) -> Result<(), ReconcileError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
{
    let guarded = object.finalizers().iter().any(|f| f == finalizer);
    if held || !guarded || object.meta().deletion_timestamp.is_none() {
        return Ok(());
    }
    let mut freed = object.clone();
    freed.finalizers_mut().retain(|f| f != finalizer);
    match api.replace(&object.name_any(), &PostParams::default(), &freed).await {
        Err(error) if !is_not_found(&error) => Err(ReconcileError::Update {
            what: format!("{} {}", K::kind(&()), object.name_any()),
            source: error,
        }),
        _ => Ok(()),
    }
}
