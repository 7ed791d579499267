//! What must exist before the API server may call itself ready: the system namespaces, roles and priority classes,
//! the range of cluster IPs, Service `kubernetes` and what it points to, cluster DNS, and the proxy's configuration.
//!
//! Idempotent: creates what is missing, leaves alone what people may have edited, and corrects only
//! what would be wrong otherwise — where the API server is, and how DNS logs in to it.

mod config;
mod objects;
mod policy;

use std::fmt::Debug;
use std::sync::Arc;

use futures::future::try_join_all;
use futures::try_join;
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use kube::api::PostParams;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::cache::Key;
use super::context::Context;
use super::error::{ReconcileError, is_already_exists};
use super::queue::{Queue, drive};
use super::write;

pub use config::ControllerConfig;
pub use objects::NAMESPACES;

/// Why the first objects of a cluster could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// An object does not serialise.
    #[error("cannot describe the system objects")]
    Describe(#[source] serde_json::Error),
    /// The roles of every cluster do not read.
    #[error("cannot read the bootstrap roles")]
    Policy(#[source] serde_saphyr::Error),
    /// The server refused one.
    #[error("cannot write a system object")]
    Write(#[source] ReconcileError),
}

/// Makes the first objects of a cluster; see the module's documentation.
///
/// # Errors
/// The first refusal of the server. Calling again goes on where this stopped.
pub async fn bootstrap(client: &Client, config: &ControllerConfig) -> Result<(), BootstrapError> {
    let namespaces = NAMESPACES.map(objects::namespace);
    try_join_all(namespaces.iter().map(|namespace| ensure_cluster(client, namespace))).await?;
    let policy = policy::bootstrap().map_err(BootstrapError::Policy)?;
    let (classes, storage_class) = (objects::priority_classes(), objects::storage_class());
    // Its addresses are those of the first Services.
    let range = objects::service_cidr(config);
    // At once, since what is written at once is made durable at once.
    try_join!(
        try_join_all(policy.roles.iter().map(|role| ensure_cluster(client, role))),
        try_join_all(policy.bindings.iter().map(|binding| ensure_cluster(client, binding))),
        try_join_all(classes.iter().map(|class| ensure_cluster(client, class))),
        ensure_cluster(client, &storage_class),
        ensure_cluster(client, &range),
    )?;
    ensure_kubernetes(client, config).await?;
    ensure_system(client, config).await
}

/// Creates an object of the cluster unless it is there.
async fn ensure_cluster<K>(client: &Client, object: &K) -> Result<(), BootstrapError>
where
    K: Resource<DynamicType = (), Scope = ClusterResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
{
    let api: Api<K> = Api::all(client.clone());
    match api.create(&PostParams::default(), object).await {
        Err(error) if !is_already_exists(&error) => {
            let what = write::what(object);
            Err(BootstrapError::Write(ReconcileError::Create { what, source: error }))
        }
        _ => Ok(()),
    }
}

async fn ensure_kubernetes(client: &Client, config: &ControllerConfig) -> Result<(), BootstrapError> {
    let describe = BootstrapError::Describe;
    ensure(
        client,
        &objects::kubernetes_service(config).map_err(describe)?,
        |_, _| false,
    )
    .await?;
    let endpoints = objects::kubernetes_endpoints(config).map_err(describe)?;
    ensure(client, &endpoints, |live, wanted| {
        let stale = live.subsets != wanted.subsets;
        live.subsets.clone_from(&wanted.subsets);
        stale
    })
    .await?;
    let slice = objects::kubernetes_slice(config).map_err(describe)?;
    ensure(client, &slice, |live, wanted| {
        let stale = live.endpoints != wanted.endpoints || live.ports != wanted.ports;
        live.endpoints.clone_from(&wanted.endpoints);
        live.ports.clone_from(&wanted.ports);
        stale
    })
    .await
}

async fn ensure_system(client: &Client, config: &ControllerConfig) -> Result<(), BootstrapError> {
    let describe = BootstrapError::Describe;
    ensure(client, &objects::dns_secret(config), |live, wanted| {
        let stale = live.data != wanted.data;
        live.data.clone_from(&wanted.data);
        stale
    })
    .await?;
    ensure(client, &objects::proxy_config(config), |_, _| false).await?;
    ensure(client, &objects::dns_account(), |_, _| false).await?;
    ensure(client, &objects::dns_service(config).map_err(describe)?, |_, _| false).await?;
    ensure(client, &objects::dns_deployment(config).map_err(describe)?, |_, _| {
        false
    })
    .await
}

/// Creates `wanted`, or lets `correct` edit what is there and says whether it did. Asks before it creates:
/// a Service whose address is taken is refused for that, whether or not it is the Service itself that has it.
async fn ensure<K>(client: &Client, wanted: &K, correct: impl Fn(&mut K, &K) -> bool) -> Result<(), BootstrapError>
where
    K: write::Kind + Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    let api: Api<K> = Api::namespaced(client.clone(), &wanted.namespace().unwrap_or_default());
    let live = api.get_opt(&wanted.name_any()).await.map_err(|source| {
        BootstrapError::Write(ReconcileError::Read {
            what: write::what(wanted),
            source,
        })
    })?;
    let written = match live {
        None => write::create(client, wanted).await.map(drop),
        Some(mut live) => match correct(&mut live, wanted) {
            true => write::update(client, &live).await.map(drop),
            false => Ok(()),
        },
    };
    match written {
        Err(ReconcileError::Create { source, .. }) if is_already_exists(&source) => Ok(()),
        other => other.map_err(BootstrapError::Write),
    }
}

/// Brings Service `kubernetes` and what it points to back when somebody deletes or bends them, as
/// the API server of Kubernetes does.
pub struct KubernetesServiceController {
    context: Arc<Context>,
    config: ControllerConfig,
    queue: Arc<Queue<Key>>,
}

impl KubernetesServiceController {
    /// A controller that learns of changes from now on.
    pub fn new(context: Arc<Context>, config: ControllerConfig) -> Self {
        let queue = Arc::new(Queue::default());
        fn is_ours(object: &impl ResourceExt) -> bool {
            object.name_any() == "kubernetes" && object.namespace().as_deref() == Some("default")
        }
        let ours = Key::new("default", "kubernetes");
        let (own, key) = (queue.clone(), ours.clone());
        context.services.on_change(move |change| {
            if change.new.is_none() && change.old.as_ref().is_some_and(|object| is_ours(&**object)) {
                own.add(key.clone());
            }
        });
        let (own, key) = (queue.clone(), ours.clone());
        context.endpoints.on_change(move |change| {
            if change.old.as_ref().is_some_and(|object| is_ours(&**object)) {
                own.add(key.clone());
            }
        });
        let own = queue.clone();
        context.slices.on_change(move |change| {
            if change.old.as_ref().is_some_and(|object| is_ours(&**object)) {
                own.add(ours.clone());
            }
        });
        Self { context, config, queue }
    }

    /// Works until dropped.
    pub async fn run(&self) {
        drive(&self.queue, 1, |_| self.restore()).await;
    }

    async fn restore(&self) -> Result<(), ReconcileError> {
        match ensure_kubernetes(&self.context.client, &self.config).await {
            Ok(()) => Ok(()),
            Err(BootstrapError::Write(error)) => Err(error),
            Err(BootstrapError::Describe(source)) => Err(ReconcileError::Serialise {
                what: "Service default/kubernetes".into(),
                source,
            }),
            // Roles are no part of this.
            Err(BootstrapError::Policy(_)) => Ok(()),
        }
    }
}
