//! What all controllers share: the client, one cache for each kind that any of them reads, and the
//! recorder. Holds no decisions.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController,
    Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::cache::{Cache, feed};
use super::recorder::Recorder;

/// See the module's documentation. A copy shares the caches.
#[derive(Clone)]
pub struct Context {
    /// The way to the API server, as who the controller acts.
    pub client: Client,
    /// Where events go.
    pub recorder: Recorder,
    /// Namespaces.
    pub namespaces: Arc<Cache<Namespace>>,
    /// Nodes.
    pub nodes: Arc<Cache<Node>>,
    /// Leases.
    pub leases: Arc<Cache<Lease>>,
    /// Pods.
    pub pods: Arc<Cache<Pod>>,
    /// Services.
    pub services: Arc<Cache<Service>>,
    /// Endpoints.
    pub endpoints: Arc<Cache<Endpoints>>,
    /// EndpointSlices.
    pub slices: Arc<Cache<EndpointSlice>>,
    /// ServiceAccounts.
    pub service_accounts: Arc<Cache<ServiceAccount>>,
    /// ClusterRoles.
    pub cluster_roles: Arc<Cache<ClusterRole>>,
    /// ServiceCIDRs.
    pub service_cidrs: Arc<Cache<ServiceCIDR>>,
    /// IPAddresses.
    pub ip_addresses: Arc<Cache<IPAddress>>,
    /// ConfigMaps.
    pub config_maps: Arc<Cache<ConfigMap>>,
    /// PersistentVolumeClaims.
    pub claims: Arc<Cache<PersistentVolumeClaim>>,
    /// PersistentVolumes.
    pub volumes: Arc<Cache<PersistentVolume>>,
    /// StorageClasses.
    pub storage_classes: Arc<Cache<StorageClass>>,
    /// PodDisruptionBudgets.
    pub budgets: Arc<Cache<PodDisruptionBudget>>,
    /// ReplicaSets.
    pub replica_sets: Arc<Cache<ReplicaSet>>,
    /// Deployments.
    pub deployments: Arc<Cache<Deployment>>,
    /// ReplicationControllers.
    pub replication_controllers: Arc<Cache<ReplicationController>>,
    /// StatefulSets.
    pub stateful_sets: Arc<Cache<StatefulSet>>,
    /// DaemonSets.
    pub daemon_sets: Arc<Cache<DaemonSet>>,
    /// ControllerRevisions.
    pub revisions: Arc<Cache<ControllerRevision>>,
    /// Jobs.
    pub jobs: Arc<Cache<Job>>,
    /// CronJobs.
    pub cron_jobs: Arc<Cache<CronJob>>,
}

/// Makes a task's future, as often as the task must be started.
pub type MakeTask = Box<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// A task of the control plane, and what to call it in the log.
pub type Task = (&'static str, MakeTask);

/// A task from a future-making closure.
pub fn task<F, Fut>(name: &'static str, make: F) -> Task
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    (name, Box::new(move || Box::pin(make())))
}

impl Context {
    /// Empty caches; [`Context::feeds`] fills them.
    pub fn new(client: Client, recorder: Recorder) -> Self {
        Self {
            client,
            recorder,
            namespaces: Arc::default(),
            nodes: Arc::default(),
            leases: Arc::default(),
            pods: Arc::default(),
            services: Arc::default(),
            endpoints: Arc::default(),
            slices: Arc::default(),
            service_accounts: Arc::default(),
            cluster_roles: Arc::default(),
            service_cidrs: Arc::default(),
            ip_addresses: Arc::default(),
            config_maps: Arc::default(),
            claims: Arc::default(),
            volumes: Arc::default(),
            storage_classes: Arc::default(),
            budgets: Arc::default(),
            replica_sets: Arc::default(),
            deployments: Arc::default(),
            replication_controllers: Arc::default(),
            stateful_sets: Arc::default(),
            daemon_sets: Arc::default(),
            revisions: Arc::default(),
            jobs: Arc::default(),
            cron_jobs: Arc::default(),
        }
    }

    /// The same for a controller that acts as somebody else.
    pub fn acting(&self, client: Client) -> Arc<Self> {
        Arc::new(Self { client, ..self.clone() })
    }

    /// The tasks that fill the caches.
    pub fn feeds(&self) -> Vec<Task> {
        vec![
            self.feed("watch namespaces", &self.namespaces),
            self.feed("watch nodes", &self.nodes),
            self.feed("watch leases", &self.leases),
            self.feed("watch pods", &self.pods),
            self.feed("watch services", &self.services),
            self.feed("watch endpoints", &self.endpoints),
            self.feed("watch endpointslices", &self.slices),
            self.feed("watch serviceaccounts", &self.service_accounts),
            self.feed("watch clusterroles", &self.cluster_roles),
            self.feed("watch servicecidrs", &self.service_cidrs),
            self.feed("watch ipaddresses", &self.ip_addresses),
            self.feed("watch configmaps", &self.config_maps),
            self.feed("watch persistentvolumeclaims", &self.claims),
            self.feed("watch persistentvolumes", &self.volumes),
            self.feed("watch storageclasses", &self.storage_classes),
            self.feed("watch poddisruptionbudgets", &self.budgets),
            self.feed("watch replicasets", &self.replica_sets),
            self.feed("watch deployments", &self.deployments),
            self.feed("watch replicationcontrollers", &self.replication_controllers),
            self.feed("watch statefulsets", &self.stateful_sets),
            self.feed("watch daemonsets", &self.daemon_sets),
            self.feed("watch controllerrevisions", &self.revisions),
            self.feed("watch jobs", &self.jobs),
            self.feed("watch cronjobs", &self.cron_jobs),
        ]
    }

    fn feed<K>(&self, name: &'static str, cache: &Arc<Cache<K>>) -> Task
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let (client, cache) = (self.client.clone(), cache.clone());
        task(name, move || feed(cache.clone(), Api::all(client.clone())))
    }
}
