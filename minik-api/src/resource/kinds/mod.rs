//! The kinds, one module each, in the order in which discovery lists them: the core group by name, then
//! the other groups.

mod binding;
mod component_status;
mod config_map;
mod controller_revision;
mod cron_job;
mod daemon_set;
mod deployment;
mod endpoint_slice;
mod endpoints;
mod event;
mod event_v1;
mod ingress;
mod ingress_class;
mod ip_address;
mod job;
mod lease;
mod limit_range;
mod namespace;
mod network_policy;
mod node;
mod persistent_volume;
mod persistent_volume_claim;
mod pod;
mod pod_disruption_budget;
mod pod_template;
mod pod_template_object;
mod priority_class;
mod rbac;
mod replica_set;
mod replicated;
mod replication_controller;
mod resource_quota;
mod review;
mod secret;
mod service;
mod service_account;
mod service_cidr;
mod stateful_set;
mod storage_class;
mod volume_modes;
mod volume_sources;
mod workload;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::ReplicationController;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::kind_info::EVERY_VERB;
use super::{KindInfo, Registered, Strategy};

/// Every served kind.
pub(super) fn all() -> Vec<Registered> {
    let mut kinds = vec![
        row(binding::INFO, binding::Bindings),
        row(component_status::INFO, component_status::ComponentStatuses),
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
            replicated::ReplicatedKind::<ReplicationController>::STRATEGY,
        ),
        row(resource_quota::INFO, resource_quota::ResourceQuotas),
        row(secret::INFO, secret::Secrets),
        row(service_account::INFO, service_account::ServiceAccounts),
        row(service::INFO, service::Services),
        row(controller_revision::INFO, controller_revision::ControllerRevisions),
        row(daemon_set::INFO, daemon_set::DaemonSets),
        row(deployment::INFO, deployment::Deployments),
        row(replica_set::INFO, replicated::ReplicatedKind::<ReplicaSet>::STRATEGY),
        row(stateful_set::INFO, stateful_set::StatefulSets),
        row(cron_job::INFO, cron_job::CronJobs),
        row(job::INFO, job::Jobs),
        row(lease::INFO, lease::Leases),
        row(endpoint_slice::INFO, endpoint_slice::EndpointSlices),
        row(event_v1::INFO, event_v1::EventsV1),
        row(ingress_class::INFO, ingress_class::IngressClasses),
        row(ingress::INFO, ingress::Ingresses),
        row(ip_address::INFO, ip_address::IpAddresses),
        row(network_policy::INFO, network_policy::NetworkPolicies),
        row(service_cidr::INFO, service_cidr::ServiceCidrs),
        row(pod_disruption_budget::INFO, pod_disruption_budget::PodDisruptionBudgets),
        row(
            rbac::binding::CLUSTER_INFO,
            rbac::binding::Bindings::<ClusterRoleBinding>::STRATEGY,
        ),
        row(rbac::role::CLUSTER_INFO, rbac::role::ClusterRoles),
        row(rbac::binding::INFO, rbac::binding::Bindings::<RoleBinding>::STRATEGY),
        row(rbac::role::INFO, rbac::role::Roles),
        row(priority_class::INFO, priority_class::PriorityClasses),
        row(storage_class::INFO, storage_class::StorageClasses),
    ];
    kinds.extend(review::all());
    kinds
}

/// The generation after an update of an object whose spec stayed the `same`, or did not.
fn next_generation(old: &ObjectMeta, same: bool) -> Option<i64> {
    let generation = old.generation.unwrap_or_default();
    Some(if same { generation } else { generation + 1 })
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
    verbs: EVERY_VERB,
    stored: true,
    view: None,
    deprecation: None,
};
