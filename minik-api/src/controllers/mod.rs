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
mod pod_gc;
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

use crate::identity::Identity;

/// Pause before a task that ended is started again; doubles while it keeps ending.
const FIRST_RESTART: Duration = Duration::from_millis(100);
/// The longest such pause.
const LONGEST_RESTART: Duration = Duration::from_secs(30);
/// A task that ran this long ended for a new reason.
const HEALTHY: Duration = Duration::from_secs(60);

/// Runs all controllers until `shutdown`. A controller that ends or panics is started again. `acting` gives a way to the
/// API server for whoever acts: each controller for itself, as the bootstrap policy of Kubernetes has it.
pub async fn run(acting: &(dyn Fn(Identity) -> Client + Sync), config: ControllerConfig, shutdown: CancellationToken) {
    let client = acting(Identity::controllers());
    let (recorder, events) = recorder::recorder();
    let writer = tokio::spawn(recorder::write(client.clone(), events));
    let context = Context::new(client.clone(), recorder);
    let inventory = Arc::new(Inventory::new(client));
    // Controllers register with the caches before these are fed, so that none misses a change.
    let mut tasks = controllers(&|identity| context.acting(acting(identity)), &inventory, config);
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

/// How a controller comes to its context: as who it acts.
type Acting<'a> = &'a dyn Fn(Identity) -> Arc<Context>;

fn controllers(acting: Acting<'_>, inventory: &Arc<Inventory>, config: ControllerConfig) -> Vec<Task> {
    let mut tasks = of_workloads(acting);
    tasks.extend(of_pods_and_nodes(acting));
    tasks.extend(of_services(acting));
    tasks.extend(of_the_cluster(acting, inventory, config));
    tasks
}

fn of_workloads(acting: Acting<'_>) -> Vec<Task> {
    let named = |name| acting(Identity::controller(name));
    let (deployments, sets) = (named("deployment-controller"), named("replicaset-controller"));
    let (replication, stateful) = (named("replication-controller"), named("statefulset-controller"));
    let (daemons, jobs) = (named("daemon-set-controller"), named("job-controller"));
    let (cron_jobs, ttl) = (named("cronjob-controller"), named("ttl-after-finished-controller"));
    vec![
        controller!("deployment", deployment::DeploymentController::new(deployments)),
        controller!("replicaset", replicaset::ReplicaSetController::new(sets)),
        controller!(
            "replicationcontroller",
            replicaset::ReplicationControllerController::new(replication)
        ),
        controller!("statefulset", statefulset::StatefulSetController::new(stateful)),
        controller!("daemonset", daemonset::DaemonSetController::new(daemons)),
        controller!("job", job::JobController::new(jobs)),
        controller!("cronjob", cronjob::CronJobController::new(cron_jobs)),
        controller!("ttl after finished", job::TtlController::new(ttl)),
    ]
}

fn of_pods_and_nodes(acting: Acting<'_>) -> Vec<Task> {
    let named = |name| acting(Identity::controller(name));
    let (disruption, collector) = (named("disruption-controller"), named("pod-garbage-collector"));
    let scheduler = acting(Identity::scheduler());
    // One controller of Kubernetes is two here.
    let (nodes, taints) = (named("node-controller"), named("node-controller"));
    vec![
        controller!("scheduler", scheduler::Scheduler::new(scheduler)),
        controller!("disruption", disruption::DisruptionController::new(disruption)),
        controller!("node lifecycle", node_lifecycle::NodeLifecycle::new(nodes)),
        controller!("pod garbage collector", pod_gc::PodCollector::new(collector)),
        controller!("taint eviction", taint_eviction::TaintEviction::new(taints)),
    ]
}

fn of_services(acting: Acting<'_>) -> Vec<Task> {
    let named = |name| acting(Identity::controller(name));
    let (endpoints, slices) = (named("endpoint-controller"), named("endpointslice-controller"));
    let mirroring = named("endpointslicemirroring-controller");
    let (ranges, itself) = (named("service-cidrs-controller"), acting(Identity::api_server()));
    vec![
        controller!("endpoints", endpoints::EndpointsController::new(endpoints)),
        controller!("endpointslice", endpoints::EndpointSliceController::new(slices)),
        controller!("endpointslicemirroring", endpoints::MirroringController::new(mirroring)),
        controller!("servicecidrs", service_cidr::ServiceCidrController::new(ranges)),
        controller!("service ip repair", service_ip::ServiceIpRepairController::new(itself)),
    ]
}

fn of_the_cluster(acting: Acting<'_>, inventory: &Arc<Inventory>, config: ControllerConfig) -> Vec<Task> {
    let named = |name| acting(Identity::controller(name));
    let (publisher, accounts) = (named("root-ca-cert-publisher"), named("service-account-controller"));
    let (binder, claims) = (named("persistent-volume-binder"), named("pvc-protection-controller"));
    let volumes = named("pv-protection-controller").client.clone();
    let roles = named("clusterrole-aggregation-controller");
    let (namespaces, garbage) = (named("namespace-controller"), named("generic-garbage-collector"));
    let itself = acting(Identity::api_server());
    vec![
        controller!(
            "root ca certificate publisher",
            root_ca::RootCaPublisher::new(publisher, config.root_ca_pem.clone())
        ),
        controller!(
            "persistent volumes",
            volumes::VolumeController::new(binder, config.volumes_dir.clone())
        ),
        controller!(
            "volume protection",
            volume_protection::VolumeProtection::new(claims, volumes)
        ),
        controller!(
            "serviceaccount",
            service_account::ServiceAccountController::new(accounts)
        ),
        controller!(
            "clusterrole aggregation",
            role_aggregation::RoleAggregationController::new(roles)
        ),
        controller!(
            "namespace",
            namespace::NamespaceController::new(namespaces, inventory.clone())
        ),
        controller!(
            "garbage collector",
            garbage::GarbageCollector::new(garbage, inventory.clone())
        ),
        controller!(
            "kubernetes service",
            bootstrap::KubernetesServiceController::new(itself, config)
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
