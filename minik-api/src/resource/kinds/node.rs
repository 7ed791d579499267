//! Node.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use crate::resource::field::{FieldError, FieldErrors, Shown};
use crate::resource::validation::meta::{self, Scope};
use crate::resource::validation::names;
use crate::resource::{Column, KindInfo, Strategy, Subresource, print};

pub(super) const INFO: KindInfo = KindInfo {
    kind: "Node",
    plural: "nodes",
    singular: "node",
    short_names: &["no"],
    namespaced: false,
    schema: "io.k8s.api.core.v1.Node",
    subresources: &[Subresource::Status, Subresource::Proxy],
    ..super::CORE
};

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE_LABEL: &str = "kubernetes.io/role";
const TAINT_EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

const ADDRESSES: &str = "List of addresses reachable to the node. Queried from cloud provider, if available. More info: https://kubernetes.io/docs/reference/node/node-status/#addresses Note: This field is declared as mergeable, but the merge key is not sufficiently unique, which can cause data corruption when it is merged. Callers should instead use a full-replacement patch. See https://pr.k8s.io/79391 for an example. Consumers should assume that addresses can change during the lifetime of a Node. However, there are some exceptions where this may not be possible, such as Pods that inherit a Node's address in its own status or consumers of the downward API (status.hostIP).";

const COLUMNS: &[Column] = &[
    print::NAME,
    print::text("Status", 0, "The status of the node"),
    print::text("Roles", 0, "The roles of the node"),
    print::AGE,
    print::text("Version", 0, "Kubelet Version reported by the node."),
    print::text("Internal-IP", 1, ADDRESSES),
    print::text("External-IP", 1, ADDRESSES),
    print::text(
        "OS-Image",
        1,
        "OS Image reported by the node from /etc/os-release (e.g. Debian GNU/Linux 7 (wheezy)).",
    ),
    print::text(
        "Kernel-Version",
        1,
        "Kernel Version reported by the node from 'uname -r' (e.g. 3.16.0-0.bpo.4-amd64).",
    ),
    print::text(
        "Container-Runtime",
        1,
        "ContainerRuntime Version reported by the node through runtime remote API (e.g. containerd://1.4.2).",
    ),
];

/// How Nodes behave.
pub(super) struct Nodes;

impl Strategy for Nodes {
    type Object = Node;

    fn default(&self, object: &mut Node) {
        if let Some(status) = object.status.as_mut()
            && status.allocatable.is_none()
        {
            status.allocatable.clone_from(&status.capacity);
        }
    }

    fn prepare_for_update(&self, new: &mut Node, old: &Node) {
        new.status.clone_from(&old.status);
    }

    fn prepare_for_status_update(&self, new: &mut Node, old: &Node) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(&self, object: &Node) -> FieldErrors {
        let mut errors = meta::validate(&object.metadata, Scope::Cluster, names::dns_subdomain);
        errors.extend(spec(object));
        errors
    }

    fn validate_update(&self, new: &Node, old: &Node) -> FieldErrors {
        let mut errors = meta::contents(&new.metadata);
        let ranges = |node: &Node| node.spec.as_ref().and_then(|s| s.pod_cidrs.clone()).unwrap_or_default();
        if !ranges(old).is_empty() && ranges(new) != ranges(old) {
            let detail = "node updates may not change podCIDR except from \"\" to valid";
            errors.push(FieldError::forbidden("spec.podCIDRs", detail));
        }
        errors.extend(spec(new));
        errors
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, node: &Node, now: Timestamp) -> Vec<Value> {
        let info = node.status.as_ref().and_then(|s| s.node_info.as_ref());
        let known = |text: Option<&String>| {
            text.filter(|t| !t.is_empty())
                .cloned()
                .unwrap_or_else(|| "<unknown>".to_owned())
        };
        let mut kernel = known(info.map(|i| &i.kernel_version));
        if let Some(architecture) = info
            .map(|i| &i.architecture)
            .filter(|a| !a.is_empty() && kernel != "<unknown>")
        {
            kernel = format!("{kernel} ({architecture})");
        }
        vec![
            print::name(&node.metadata),
            Value::from(status(node)),
            Value::from(roles(node)),
            print::age(&node.metadata, now),
            Value::from(info.map(|i| i.kubelet_version.clone()).unwrap_or_default()),
            print::or_none(address(node, "InternalIP")),
            print::or_none(address(node, "ExternalIP")),
            Value::from(known(info.map(|i| &i.os_image))),
            Value::from(kernel),
            Value::from(known(info.map(|i| &i.container_runtime_version))),
        ]
    }

    fn selectable_field(&self, node: &Node, label: &str) -> Option<String> {
        let unschedulable = || {
            node.spec
                .as_ref()
                .and_then(|s| s.unschedulable)
                .unwrap_or_default()
                .to_string()
        };
        (label == "spec.unschedulable").then(unschedulable)
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["spec.unschedulable"]
    }
}

fn status(node: &Node) -> String {
    let conditions = node.status.iter().filter_map(|s| s.conditions.as_ref()).flatten();
    let ready = conditions
        .filter(|c| c.type_ == "Ready")
        .map(|c| c.status == "True")
        .next_back();
    let mut words = vec![match ready {
        Some(true) => "Ready",
        Some(false) => "NotReady",
        None => "Unknown",
    }];
    if node.spec.as_ref().and_then(|s| s.unschedulable) == Some(true) {
        words.push("SchedulingDisabled");
    }
    words.join(",")
}

fn roles(node: &Node) -> String {
    let labels = node.metadata.labels.iter().flatten();
    let roles: BTreeSet<&str> = labels
        .filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
            Some(role) => Some(role),
            None if key == ROLE_LABEL => Some(value.as_str()),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    if roles.is_empty() {
        "<none>".to_owned()
    } else {
        roles.into_iter().collect::<Vec<_>>().join(",")
    }
}

fn address<'a>(node: &'a Node, kind: &str) -> Option<&'a str> {
    let addresses = node.status.as_ref()?.addresses.as_deref()?;
    addresses.iter().find(|a| a.type_ == kind).map(|a| a.address.as_str())
}

fn spec(node: &Node) -> FieldErrors {
    let mut errors = Vec::new();
    let Some(spec) = &node.spec else { return errors };
    let mut seen = BTreeSet::new();
    for (index, taint) in spec.taints.iter().flatten().enumerate() {
        let at = format!("spec.taints[{index}]");
        errors.extend(FieldError::each(
            &format!("{at}.key"),
            taint.key.as_str(),
            names::qualified_name(&taint.key),
        ));
        let value = taint.value.as_deref().unwrap_or_default();
        errors.extend(FieldError::each(
            &format!("{at}.value"),
            value,
            names::label_value(value),
        ));
        match taint.effect.as_str() {
            "" => errors.push(FieldError::required(format!("{at}.effect"), "")),
            effect if !TAINT_EFFECTS.contains(&effect) => {
                errors.push(FieldError::not_supported(format!("{at}.effect"), effect, TAINT_EFFECTS));
            }
            _ => {}
        }
        if !seen.insert((&taint.key, &taint.effect)) {
            let shown = Shown::go([
                ("Key", json!(taint.key).into()),
                ("Value", json!(value).into()),
                ("Effect", json!(taint.effect).into()),
                ("TimeAdded", json!(taint.time_added).into()),
            ]);
            errors.push(FieldError {
                detail: "taints must be unique by key and effect pair".to_owned(),
                ..FieldError::duplicate_shown(at, shown)
            });
        }
    }
    for (index, range) in spec.pod_cidrs.iter().flatten().enumerate() {
        if range.parse::<ipnet::IpNet>().is_err() {
            let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            errors.push(FieldError::invalid(
                format!("spec.podCIDRs[{index}]"),
                range.as_str(),
                detail,
            ));
        }
    }
    errors
}
