//! The kinds, one module each, in the order in which discovery lists them: the core group by name, then
//! the other groups.

mod config_map;
mod controller_revision;
mod cron_job;
mod daemon_set;
mod deployment;
mod endpoint_slice;
mod endpoints;
mod event;
mod job;
mod lease;
mod limit_range;
mod namespace;
mod node;
mod persistent_volume;
mod persistent_volume_claim;
mod pod;
mod pod_template;
mod pod_template_object;
mod replica_set;
mod replication_controller;
mod resource_quota;
mod secret;
mod service;
mod service_account;
mod stateful_set;
mod volume_modes;
mod workload;

use super::{KindInfo, Registered, Strategy};

/// Every served kind.
pub(super) fn all() -> Vec<Registered> {
    vec![
        row(config_map::INFO, config_map::ConfigMaps),
        row(endpoints::INFO, endpoints::EndpointsStrategy),
        row(event::INFO, event::Events),
        row(limit_range::INFO, limit_range::LimitRanges),
        row(namespace::INFO, namespace::Namespaces),
        row(node::INFO, node::Nodes),
        row(persistent_volume::INFO, persistent_volume::PersistentVolumes),
        row(
            persistent_volume_claim::INFO,
            persistent_volume_claim::PersistentVolumeClaims,
        ),
        row(pod::INFO, pod::Pods),
        row(pod_template_object::INFO, pod_template_object::PodTemplates),
        row(
            replication_controller::INFO,
            replication_controller::ReplicationControllers,
        ),
        row(resource_quota::INFO, resource_quota::ResourceQuotas),
        row(secret::INFO, secret::Secrets),
        row(service_account::INFO, service_account::ServiceAccounts),
        row(service::INFO, service::Services),
        row(controller_revision::INFO, controller_revision::ControllerRevisions),
        row(daemon_set::INFO, daemon_set::DaemonSets),
        row(deployment::INFO, deployment::Deployments),
        row(replica_set::INFO, replica_set::ReplicaSets),
        row(stateful_set::INFO, stateful_set::StatefulSets),
        row(cron_job::INFO, cron_job::CronJobs),
        row(job::INFO, job::Jobs),
        row(lease::INFO, lease::Leases),
        row(endpoint_slice::INFO, endpoint_slice::EndpointSlices),
    ]
}

fn row(info: KindInfo, strategy: impl Strategy) -> Registered {
    Registered {
        info,
        strategy: Box::new(strategy),
    }
}

/// What a kind of the core group has in common with the others: no short names, no categories.
const CORE: KindInfo = KindInfo {
    group: "",
    version: "v1",
    kind: "",
    plural: "",
    singular: "",
    short_names: &[],
    categories: &[],
    namespaced: true,
    schema: "",
    subresources: &[],
    deprecation: None,
};
