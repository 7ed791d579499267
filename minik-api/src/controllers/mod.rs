//! The control plane's controllers: what turns a Deployment into bound Pods, Pods into endpoints, and
//! a deletion into everything else's.
//!
//! ```text
//! cache      one watch a kind, shared; immutable snapshots      queue      which keys want attention
//!     └──────────────── controller: decide(snapshot) → plan → write ──────────────┘
//! ```
//!
//! Each controller is a pure decision over snapshots and a thin loop that carries it out through the
//! API, as any client would: nothing here reaches into storage. All are level-triggered, act only
//! once the caches they read have synced, and protect themselves from acting twice on a cache that
//! lags behind their own writes (resourceVersions on updates, uids on deletions, expectations on
//! creations). [`run`] supervises them; [`bootstrap`](fn@bootstrap) makes the first objects.

mod bootstrap;
mod cache;
mod context;
mod controller_ref;
mod cronjob;
mod daemonset;
mod deployment;
mod disruption;
mod endpoints;
mod error;
mod expectations;
mod garbage;
mod hash;
mod history;
mod inventory;
mod job;
mod latest;
mod namespace;
mod node_lifecycle;
mod owner;
mod pod;
mod pod_control;
mod pod_rank;
mod queue;
mod recorder;
mod replicaset;
mod role_aggregation;
mod root_ca;
mod scheduler;
mod service_account;
mod service_cidr;
mod service_ip;
mod share;
mod statefulset;
mod taint_eviction;
mod volume_protection;
mod volumes;
mod write;

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use kube::Client;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use bootstrap::{BootstrapError, ControllerConfig, NAMESPACES, bootstrap};
pub use error::ReconcileError;

/// The scheduler's decisions without the loop around them, for those who measure them.
pub mod scheduling {
    pub use super::cache::{Key, Snapshot};
    pub use super::scheduler::{Decision, Roster, Volumes};
}

use context::{Context, MakeTask, Task, task};
use inventory::Inventory;

/// Pause before a task that ended is started again; doubles while it keeps ending.
const FIRST_RESTART: Duration = Duration::from_millis(100);
/// The longest such pause.
const LONGEST_RESTART: Duration = Duration::from_secs(30);
/// A task that ran this long ended for a new reason.
const HEALTHY: Duration = Duration::from_secs(60);

/// Runs all controllers until `shutdown`. A controller that ends or panics is started again.
pub async fn run(client: Client, config: ControllerConfig, shutdown: CancellationToken) {
    let (recorder, events) = recorder::recorder();
    let writer = tokio::spawn(recorder::write(client.clone(), events));
    let context = Arc::new(Context::new(client.clone(), recorder));
    let inventory = Arc::new(Inventory::new(client));
    // Controllers register with the caches before these are fed, so that none misses a change.
    let mut tasks = controllers(&context, &inventory, config);
    tasks.extend(context.feeds());
    tasks.push(task("watch all kinds", move || {
        let inventory = inventory.clone();
        async move { inventory.run().await }
    }));
    join_all(
        tasks
            .into_iter()
            .map(|(name, make)| supervise(name, make, shutdown.clone())),
    )
    .await;
    writer.abort();
}

/// Makes a task of a controller that `run`s.
macro_rules! controller {
    ($name:literal, $controller:expr) => {{
        let controller = Arc::new($controller);
        task($name, move || {
            let controller = controller.clone();
            async move { controller.run().await }
        })
    }};
}

fn controllers(context: &Arc<Context>, inventory: &Arc<Inventory>, config: ControllerConfig) -> Vec<Task> {
    let shared = || context.clone();
    vec![
        controller!("deployment", deployment::DeploymentController::new(shared())),
        controller!("replicaset", replicaset::ReplicaSetController::new(shared())),
        controller!(
            "replicationcontroller",
            replicaset::ReplicationControllerController::new(shared())
        ),
        controller!("statefulset", statefulset::StatefulSetController::new(shared())),
        controller!("daemonset", daemonset::DaemonSetController::new(shared())),
        controller!("job", job::JobController::new(shared())),
        controller!("cronjob", cronjob::CronJobController::new(shared())),
        controller!("ttl after finished", job::TtlController::new(shared())),
        controller!("scheduler", scheduler::Scheduler::new(shared())),
        controller!("disruption", disruption::DisruptionController::new(shared())),
        controller!("node lifecycle", node_lifecycle::NodeLifecycle::new(shared())),
        controller!("taint eviction", taint_eviction::TaintEviction::new(shared())),
        controller!("endpoints", endpoints::EndpointsController::new(shared())),
        controller!("endpointslice", endpoints::EndpointSliceController::new(shared())),
        controller!("endpointslicemirroring", endpoints::MirroringController::new(shared())),
        controller!(
            "root ca certificate publisher",
            root_ca::RootCaPublisher::new(shared(), config.root_ca_pem.clone())
        ),
        controller!(
            "persistent volumes",
            volumes::VolumeController::new(shared(), config.volumes_dir.clone())
        ),
        controller!("volume protection", volume_protection::VolumeProtection::new(shared())),
        controller!(
            "serviceaccount",
            service_account::ServiceAccountController::new(shared())
        ),
        controller!(
            "clusterrole aggregation",
            role_aggregation::RoleAggregationController::new(shared())
        ),
        controller!("servicecidrs", service_cidr::ServiceCidrController::new(shared())),
        controller!(
            "service ip repair",
            service_ip::ServiceIpRepairController::new(shared())
        ),
        controller!(
            "namespace",
            namespace::NamespaceController::new(shared(), inventory.clone())
        ),
        controller!(
            "garbage collector",
            garbage::GarbageCollector::new(shared(), inventory.clone())
        ),
        controller!(
            "kubernetes service",
            bootstrap::KubernetesServiceController::new(shared(), config)
        ),
    ]
}

/// Keeps one task running until `shutdown`.
async fn supervise(name: &'static str, make: MakeTask, shutdown: CancellationToken) {
    let mut pause = FIRST_RESTART;
    loop {
        let started = Instant::now();
        let mut running = tokio::spawn(make());
        let ended = tokio::select! {
            () = shutdown.cancelled() => {
                running.abort();
                return;
            }
            ended = &mut running => ended,
        };
        match ended {
            Ok(()) => tracing::warn!(task = name, "ended; starting it again"),
            Err(error) => tracing::error!(task = name, %error, "failed; starting it again"),
        }
        pause = if started.elapsed() >= HEALTHY {
            FIRST_RESTART
        } else {
            pause
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(LONGEST_RESTART);
    }
}
