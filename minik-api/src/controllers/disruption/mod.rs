//! The disruption controller: keeps in each PodDisruptionBudget's status how many of its Pods may be evicted, which is what
//! the eviction subresource and the scheduler's preemption go by.
//!
//! Reads budgets, Pods, ReplicaSets and Deployments from the shared caches, and the scale of other controllers from the API;
//! [`decide`] counts.

mod decide;

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Api, ResourceExt};

use super::cache::Key;
use super::context::Context;
use super::error::{ReconcileError, found};
use super::owner::controller_of;
use super::queue::{Queue, drive};
use super::recorder::{Note, Recorder, Severity};
use super::write;
use decide::{Expectation, expectation, failed, selects, status};

/// Budgets worked on at a time.
const WORKERS: usize = 4;

/// The controller; see the module's documentation.
pub struct DisruptionController {
    context: Arc<Context>,
    recorder: Recorder,
    queue: Arc<Queue<Key>>,
}

/// Why the Pods that should be there cannot be counted.
enum Uncounted {
    /// The budget is told.
    NoController(String),
    /// The queue tries again.
    Failed(ReconcileError),
}

impl DisruptionController {
    /// A controller that learns of changes from now on.
    pub fn new(context: Arc<Context>) -> Self {
        let queue: Arc<Queue<Key>> = Arc::default();
        let own = queue.clone();
        context.budgets.on_change(move |change| {
            change.new.iter().for_each(|budget| own.add(Key::of(&**budget)));
        });
        let (own, all) = (queue.clone(), context.clone());
        context.pods.on_change(move |change| {
            let budgets = all.budgets.snapshot();
            for pod in change.states() {
                let namespace = pod.namespace().unwrap_or_default();
                let selecting = budgets.in_namespace(&namespace).filter(|budget| selects(budget, pod));
                selecting.for_each(|budget| own.add(Key::of(&**budget)));
            }
        });
        let (own, all) = (queue.clone(), context.clone());
        let rescaled = move |namespace: Option<String>| {
            let budgets = all.budgets.snapshot();
            let here = budgets.in_namespace(namespace.as_deref().unwrap_or_default());
            here.for_each(|budget| own.add(Key::of(&**budget)));
        };
        let deployments = rescaled.clone();
        context.replica_sets.on_change(move |change| {
            let scale = |set: &Option<Arc<k8s_openapi::api::apps::v1::ReplicaSet>>| {
                set.as_ref().and_then(|set| set.spec.as_ref()?.replicas)
            };
            if scale(&change.old) != scale(&change.new) {
                rescaled(change.latest().and_then(|set| set.namespace()));
            }
        });
        context.deployments.on_change(move |change| {
            let scale = |deployment: &Option<Arc<k8s_openapi::api::apps::v1::Deployment>>| {
                deployment
                    .as_ref()
                    .and_then(|deployment| deployment.spec.as_ref()?.replicas)
            };
            if scale(&change.old) != scale(&change.new) {
                deployments(change.latest().and_then(|deployment| deployment.namespace()));
            }
        });
        Self {
            recorder: context.recorder.component("controllermanager", None),
            context,
            queue,
        }
    }

    /// Works until dropped.
    pub async fn run(&self) {
        self.context.budgets.synced().await;
        self.context.pods.synced().await;
        self.context.replica_sets.synced().await;
        self.context.deployments.synced().await;
        drive(&self.queue, WORKERS, |key| self.reconcile(key)).await;
    }

    async fn reconcile(&self, key: Key) -> Result<(), ReconcileError> {
        let Some(budget) = self.context.budgets.get(&key) else {
            return Ok(());
        };
        let now = Timestamp::now();
        let all = self.context.pods.snapshot();
        let pods: Vec<_> = all
            .in_namespace(&key.namespace)
            .filter(|pod| selects(&budget, pod))
            .cloned()
            .collect();
        if pods.is_empty() {
            self.tell(&budget, Severity::Normal, "NoPods", "No matching pods found".to_owned());
        }
        let expected = match expectation(&budget) {
            Expectation::Pods => Ok(i32::try_from(pods.len()).unwrap_or(i32::MAX)),
            Expectation::Scale => self.scale(&budget, &pods).await,
        };
        match expected {
            Ok(expected) => {
                let (wanted, recheck) = status(&budget, &pods, expected, now);
                if let Some(after) = recheck {
                    self.queue.add_after(key, after);
                }
                self.write(&budget, wanted).await
            }
            Err(Uncounted::Failed(error)) => Err(error),
            Err(Uncounted::NoController(why)) => {
                let message = format!("Failed to calculate the number of expected pods: {why}");
                self.tell(&budget, Severity::Warning, "CalculateExpectedPodCountFailed", message);
                self.write(&budget, failed(&budget, &why, now)).await
            }
        }
    }

    /// The replicas that the controllers of these Pods want.
    async fn scale(&self, budget: &PodDisruptionBudget, pods: &[Arc<Pod>]) -> Result<i32, Uncounted> {
        let mut seen = BTreeSet::new();
        let mut sum = 0;
        for pod in pods {
            let Some(owner) = controller_of(&pod.metadata) else {
                let message = "Pods selected by this PodDisruptionBudget were found to be unmanaged. As a result, the \
                               status of the PDB cannot be calculated correctly, which may result in undefined behavior. \
                               To account for these pods please set \".spec.minAvailable\" field of the PDB to an \
                               integer value.";
                self.tell(budget, Severity::Warning, "UnmanagedPods", message.to_owned());
                continue;
            };
            let namespace = pod.namespace().unwrap_or_default();
            let scale = self.scale_of(&namespace, owner).await.map_err(Uncounted::Failed)?;
            let Some((uid, replicas)) = scale else {
                let why = format!("found no controllers for pod {:?}", pod.name_any());
                return Err(Uncounted::NoController(why));
            };
            if seen.insert(uid) {
                sum += replicas;
            }
        }
        Ok(sum)
    }

    /// Who decides how many Pods an owner keeps, by uid, and how many these are.
    async fn scale_of(&self, namespace: &str, owner: &OwnerReference) -> Result<Option<(String, i32)>, ReconcileError> {
        let client = self.context.client.clone();
        match owner.kind.as_str() {
            "ReplicaSet" => Ok(self.of_replica_set(namespace, owner)),
            "StatefulSet" => live(Api::<StatefulSet>::namespaced(client, namespace), owner).await,
            "ReplicationController" => live(Api::<ReplicationController>::namespaced(client, namespace), owner).await,
            _ => Ok(None),
        }
    }

    fn of_replica_set(&self, namespace: &str, owner: &OwnerReference) -> Option<(String, i32)> {
        let set = self.context.replica_sets.get(&Key::new(namespace, &owner.name))?;
        let above = controller_of(&set.metadata).filter(|above| above.kind == "Deployment");
        let deployment = above.and_then(|above| self.context.deployments.get(&Key::new(namespace, &above.name)));
        match deployment {
            Some(deployment) => Some((deployment.uid()?, deployment.spec.as_ref()?.replicas.unwrap_or(1))),
            None => Some((set.uid()?, set.spec.as_ref()?.replicas.unwrap_or(1))),
        }
    }

    async fn write(
        &self,
        budget: &PodDisruptionBudget,
        wanted: PodDisruptionBudgetStatus,
    ) -> Result<(), ReconcileError> {
        if budget.status.as_ref() == Some(&wanted) {
            return Ok(());
        }
        let mut counted = budget.clone();
        counted.status = Some(wanted);
        write::update_status(&self.context.client, &counted).await.map(drop)
    }

    fn tell(&self, budget: &PodDisruptionBudget, severity: Severity, reason: &'static str, message: String) {
        let note = Note {
            severity,
            reason,
            message,
        };
        self.recorder.record(budget, note, Timestamp::now());
    }
}

/// What `/scale` of the owner says.
async fn live<K>(api: Api<K>, owner: &OwnerReference) -> Result<Option<(String, i32)>, ReconcileError>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let scale = found(api.get_scale(&owner.name).await).map_err(|source| ReconcileError::Read {
        what: format!("the scale of {} {}", owner.kind, owner.name),
        source,
    })?;
    Ok(scale
        .and_then(|scale| scale.spec?.replicas)
        .map(|replicas| (owner.uid.clone(), replicas)))
}
