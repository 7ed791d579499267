//! Pod.

mod admission;
mod label_keys;
mod parts;
mod printer;
mod qos;
mod update;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodSpec, PodStatus};
use serde_json::Value;

use super::pod_template;
use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::validation::meta::{self, Scope};
use crate::resource::validation::names;
use crate::resource::{Column, KindInfo, Strategy, Subresource};

pub(super) const INFO: KindInfo = KindInfo {
    kind: "Pod",
    plural: "pods",
    singular: "pod",
    short_names: &["po"],
    categories: &["all"],
    schema: "io.k8s.api.core.v1.Pod",
    subresources: &[
        Subresource::Attach,
        Subresource::Binding,
        Subresource::EphemeralContainers,
        Subresource::Eviction,
        Subresource::Exec,
        Subresource::Log,
        Subresource::PortForward,
        Subresource::Proxy,
        Subresource::Resize,
        Subresource::Status,
    ],
    ..super::CORE
};

const SELECTABLE: &[&str] = &[
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.podIPs",
    "status.nominatedNodeName",
];

/// How Pods behave.
pub(super) struct Pods;

impl Strategy for Pods {
    type Object = Pod;

    fn default(&self, pod: &mut Pod) {
        let spec = pod.spec.get_or_insert_default();
        pod_template::default_spec(spec);
        pod_template::host_ports(spec);
        qos::default_requests(spec);
        spec.enable_service_links.get_or_insert(true);
    }

    fn prepare_for_create(&self, pod: &mut Pod) {
        let spec = pod.spec.get_or_insert_default();
        admission::admit(spec);
        label_keys::merge(pod.metadata.labels.as_ref().unwrap_or(&BTreeMap::new()), spec);
        pod.status = Some(PodStatus {
            phase: Some("Pending".to_owned()),
            qos_class: Some(qos::class(spec).to_owned()),
            conditions: gated(spec).map(|condition| vec![condition]),
            ..PodStatus::default()
        });
        pod.metadata.generation = Some(1);
    }

    fn prepare_for_update(&self, new: &mut Pod, old: &Pod) {
        new.status.clone_from(&old.status);
        let generation = old.metadata.generation.unwrap_or(1);
        new.metadata.generation = Some(if new.spec == old.spec {
            generation
        } else {
            generation + 1
        });
    }

    fn prepare_for_status_update(&self, new: &mut Pod, old: &Pod) {
        new.spec.clone_from(&old.spec);
        new.metadata
            .deletion_timestamp
            .clone_from(&old.metadata.deletion_timestamp);
        new.metadata.owner_references.clone_from(&old.metadata.owner_references);
        new.metadata.generation = old.metadata.generation;
        if let (Some(status), Some(before)) = (&mut new.status, &old.status) {
            status.qos_class.clone_from(&before.qos_class);
        }
    }

    fn validate(&self, pod: &Pod) -> FieldErrors {
        let mut errors = meta::validate(&pod.metadata, Scope::Namespaced, names::dns_subdomain);
        errors.extend(pod.spec.iter().flat_map(new_spec));
        errors
    }

    fn validate_update(&self, new: &Pod, old: &Pod) -> FieldErrors {
        let mut errors = meta::contents(&new.metadata);
        if let (Some(new), Some(old)) = (&new.spec, &old.spec) {
            errors.extend(update::validate(new, old));
        }
        errors
    }

    fn validate_spec_part(&self, new: &Pod, old: &Pod) -> FieldErrors {
        let mut errors = meta::contents(&new.metadata);
        if let (Some(new), Some(old)) = (&new.spec, &old.spec) {
            errors.extend(parts::validate(new, old));
        }
        errors
    }

    fn columns(&self) -> &'static [Column] {
        printer::COLUMNS
    }

    fn row(&self, pod: &Pod, now: Timestamp) -> Vec<Value> {
        printer::row(pod, now)
    }

    fn selectable_field(&self, pod: &Pod, label: &str) -> Option<String> {
        let spec = pod.spec.as_ref();
        let status = pod.status.as_ref();
        let value = match label {
            "spec.nodeName" => spec.and_then(|s| s.node_name.clone()),
            "spec.restartPolicy" => spec.and_then(|s| s.restart_policy.clone()),
            "spec.schedulerName" => spec.and_then(|s| s.scheduler_name.clone()),
            "spec.serviceAccountName" => spec.and_then(|s| s.service_account_name.clone()),
            "spec.hostNetwork" => Some(spec.and_then(|s| s.host_network).unwrap_or_default().to_string()),
            "status.phase" => status.and_then(|s| s.phase.clone()),
            "status.podIP" | "status.podIPs" => status.and_then(|s| s.pod_ip.clone()),
            "status.nominatedNodeName" => status.and_then(|s| s.nominated_node_name.clone()),
            _ => return None,
        };
        Some(value.unwrap_or_default())
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        SELECTABLE
    }
}

fn new_spec(spec: &PodSpec) -> FieldErrors {
    let mut errors = pod_template::validate_spec("spec", spec);
    errors.extend(pod_template::validate_images("spec", spec));
    if spec.ephemeral_containers.as_ref().is_some_and(|all| !all.is_empty()) {
        let field = "spec.ephemeralContainers";
        errors.push(FieldError::forbidden(field, "cannot be set on create"));
    }
    let named = spec.node_name.as_ref().is_some_and(|name| !name.is_empty());
    if named && spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()) {
        let detail = "cannot be set until all schedulingGates have been cleared";
        errors.push(FieldError::forbidden("spec.nodeName", detail));
    }
    errors
}

/// The condition of a Pod that gates hold back.
fn gated(spec: &PodSpec) -> Option<PodCondition> {
    let gates = spec.scheduling_gates.as_ref().filter(|gates| !gates.is_empty());
    gates.map(|_| PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "False".to_owned(),
        reason: Some("SchedulingGated".to_owned()),
        message: Some("Scheduling is blocked due to non-empty scheduling gates".to_owned()),
        ..PodCondition::default()
    })
}
