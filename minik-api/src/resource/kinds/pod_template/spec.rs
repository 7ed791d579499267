//! Validation of a Pod spec and of a Pod template, in the order of 1.36.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{HostAlias, PodSpec, PodTemplateSpec, Toleration};
use serde_json::json;

use super::{affinity, containers, env_files, os, security, volumes};
use crate::resource::field::{FieldError, FieldErrors, Shown};
use crate::resource::validation::{ip, labels, meta, names, resources};

const RESTART_POLICIES: &[&str] = &["Always", "OnFailure", "Never"];
const DNS_POLICIES: &[&str] = &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];
const PREEMPTION_POLICIES: &[&str] = &["PreemptLowerPriority", "Never"];
const MOST_NAMESERVERS: usize = 3;
const MOST_SEARCH_PATHS: usize = 32;
const MOST_SEARCH_CHARACTERS: usize = 2048;

/// Checks a workload's template: labels, annotations and spec.
pub(in super::super) fn template(field: &str, template: &PodTemplateSpec) -> FieldErrors {
    let mut errors = Vec::new();
    let metadata = template.metadata.as_ref();
    if let Some(map) = metadata.and_then(|m| m.labels.as_ref()) {
        errors.extend(labels::map(&format!("{field}.labels"), map));
    }
    if let Some(map) = metadata.and_then(|m| m.annotations.as_ref()) {
        errors.extend(meta::annotations(&format!("{field}.annotations"), map));
    }
    let empty = PodSpec::default();
    errors.extend(validate(
        &format!("{field}.spec"),
        template.spec.as_ref().unwrap_or(&empty),
    ));
    if template.spec.as_ref().is_some_and(|s| s.ephemeral_containers.is_some()) {
        let detail = "ephemeral containers not allowed in pod template";
        errors.push(FieldError::forbidden(
            format!("{field}.spec.ephemeralContainers"),
            detail,
        ));
    }
    errors
}

/// Checks a Pod spec whose defaults are filled in.
pub(in super::super) fn validate(field: &str, spec: &PodSpec) -> FieldErrors {
    let given = spec.volumes.as_deref().unwrap_or_default();
    let (mut errors, volumes) = volumes::validate(&format!("{field}.volumes"), given);
    errors.extend(containers::validate(field, spec, volumes));
    errors.extend(env_files::volumes(field, spec));
    errors.extend(containers::host_network(field, spec));
    let restart = spec.restart_policy.as_deref().unwrap_or_default();
    errors.extend(FieldError::one_of(
        &format!("{field}.restartPolicy"),
        restart,
        RESTART_POLICIES,
    ));
    let dns = spec.dns_policy.as_deref().unwrap_or_default();
    errors.extend(FieldError::one_of(&format!("{field}.dnsPolicy"), dns, DNS_POLICIES));
    if let Some(selector) = &spec.node_selector {
        errors.extend(labels::map(&format!("{field}.nodeSelector"), selector));
    }
    errors.extend(security::of_pod(&format!("{field}.securityContext"), spec));
    if let Some(wanted) = &spec.affinity {
        errors.extend(affinity::validate(&format!("{field}.affinity"), wanted));
    }
    errors.extend(dns_config(field, spec));
    errors.extend(gates(field, spec));
    let spread = spec.topology_spread_constraints.as_deref().unwrap_or_default();
    errors.extend(affinity::spread(&format!("{field}.topologySpreadConstraints"), spread));
    errors.extend(security::host_users(field, spec));
    let subdomain_names = [
        ("serviceAccountName", &spec.service_account_name),
        ("nodeName", &spec.node_name),
    ];
    for (child, name) in subdomain_names {
        if let Some(name) = name {
            errors.extend(FieldError::each(
                &format!("{field}.{child}"),
                name.as_str(),
                names::dns_subdomain(name),
            ));
        }
    }
    if let Some(seconds) = spec
        .active_deadline_seconds
        .filter(|s| !(1..=i64::from(i32::MAX)).contains(s))
    {
        let detail = "must be between 1 and 2147483647, inclusive";
        errors.push(FieldError::invalid(
            format!("{field}.activeDeadlineSeconds"),
            seconds,
            detail,
        ));
    }
    for (child, name) in [("hostname", &spec.hostname), ("subdomain", &spec.subdomain)] {
        if let Some(name) = name {
            errors.extend(FieldError::each(
                &format!("{field}.{child}"),
                name.as_str(),
                names::dns_label(name),
            ));
        }
    }
    errors.extend(placement(field, spec));
    errors
}

/// What a Pod puts up with, what it comes before, and what it is to run on.
fn placement(field: &str, spec: &PodSpec) -> FieldErrors {
    let mut errors = Vec::new();
    for (index, given) in spec.tolerations.iter().flatten().enumerate() {
        errors.extend(toleration(&format!("{field}.tolerations[{index}]"), given));
    }
    for (index, alias) in spec.host_aliases.iter().flatten().enumerate() {
        errors.extend(host_alias(&format!("{field}.hostAliases[{index}]"), alias));
    }
    if let Some(name) = &spec.priority_class_name {
        let at = format!("{field}.priorityClassName");
        errors.extend(FieldError::each(&at, name.as_str(), names::dns_subdomain(name)));
    }
    if let Some(name) = &spec.runtime_class_name {
        let at = format!("{field}.runtimeClassName");
        errors.extend(FieldError::each(&at, name.as_str(), names::dns_subdomain(name)));
    }
    if let Some(policy) = spec.preemption_policy.as_deref() {
        let at = format!("{field}.preemptionPolicy");
        errors.extend(FieldError::one_of(&at, policy, PREEMPTION_POLICIES));
    }
    for (name, amount) in spec.overhead.iter().flatten() {
        let at = format!("{field}.overhead.limits[{name}]");
        errors.extend(resources::container_name(&at, name));
        errors.extend(resources::amount(&at, name, amount));
    }
    errors.extend(os::validate(field, spec));
    errors
}

/// What must be true before a Pod is ready, and before it is scheduled.
fn gates(field: &str, spec: &PodSpec) -> FieldErrors {
    let mut errors = Vec::new();
    for (index, gate) in spec.readiness_gates.iter().flatten().enumerate() {
        let at = format!("{field}.readinessGates[{index}].conditionType");
        let kind = gate.condition_type.as_str();
        errors.extend(FieldError::each(&at, kind, names::qualified_name(kind)));
    }
    let mut taken = BTreeSet::new();
    for (index, gate) in spec.scheduling_gates.iter().flatten().enumerate() {
        let at = format!("{field}.schedulingGates[{index}]");
        errors.extend(FieldError::each(
            &at,
            gate.name.as_str(),
            names::qualified_name(&gate.name),
        ));
        if !taken.insert(&gate.name) {
            errors.push(FieldError::duplicate(at, gate.name.as_str()));
        }
    }
    errors
}

fn dns_config(field: &str, spec: &PodSpec) -> FieldErrors {
    let at = format!("{field}.dnsConfig");
    let mut errors = Vec::new();
    let servers = spec
        .dns_config
        .as_ref()
        .and_then(|c| c.nameservers.as_deref())
        .unwrap_or_default();
    if spec.dns_policy.as_deref() == Some("None") {
        if spec.dns_config.is_none() {
            let detail = "must provide `dnsConfig` when `dnsPolicy` is None";
            return vec![FieldError::required(at, detail)];
        }
        if servers.is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            return vec![FieldError::required(format!("{at}.nameservers"), detail)];
        }
    }
    let Some(config) = &spec.dns_config else { return errors };
    if servers.len() > MOST_NAMESERVERS {
        let detail = format!("must not have more than {MOST_NAMESERVERS} nameservers");
        errors.push(FieldError::invalid(
            format!("{at}.nameservers"),
            servers.to_vec(),
            detail,
        ));
    }
    for (index, server) in servers.iter().enumerate() {
        errors.extend(ip::valid(&format!("{at}.nameservers[{index}]"), server));
    }
    let searches = config.searches.as_deref().unwrap_or_default();
    if searches.len() > MOST_SEARCH_PATHS {
        let detail = format!("must not have more than {MOST_SEARCH_PATHS} search paths");
        errors.push(FieldError::invalid(format!("{at}.searches"), searches.to_vec(), detail));
    }
    if searches.join(" ").len() > MOST_SEARCH_CHARACTERS {
        let detail = format!(
            "must not have more than {MOST_SEARCH_CHARACTERS} characters (including spaces) in the search list"
        );
        errors.push(FieldError::invalid(format!("{at}.searches"), searches.to_vec(), detail));
    }
    for (index, search) in searches.iter().enumerate() {
        let name = search.strip_suffix('.').unwrap_or(search).replace('_', "-");
        if search != "." {
            let at = format!("{at}.searches[{index}]");
            errors.extend(FieldError::each(&at, search.as_str(), names::dns_subdomain(&name)));
        }
    }
    for (index, option) in config.options.iter().flatten().enumerate() {
        if option.name.as_deref().unwrap_or_default().is_empty() {
            errors.push(FieldError::required(
                format!("{at}.options[{index}]"),
                "must not be empty",
            ));
        }
    }
    errors
}

/// Checks what a Pod puts up with.
pub(in super::super) fn toleration(field: &str, toleration: &Toleration) -> FieldErrors {
    let mut errors = Vec::new();
    let key = toleration.key.as_deref().unwrap_or_default();
    let operator = toleration.operator.as_deref().unwrap_or_default();
    let value = toleration.value.as_deref().unwrap_or_default();
    let effect = toleration.effect.as_deref().unwrap_or_default();
    if !key.is_empty() {
        errors.extend(FieldError::each(
            &format!("{field}.key"),
            key,
            names::qualified_name(key),
        ));
    } else if operator != "Exists" {
        let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        errors.push(FieldError::invalid(format!("{field}.operator"), operator, detail));
    }
    if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
        let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        errors.push(FieldError::invalid(format!("{field}.effect"), effect, detail));
    }
    match operator {
        "" | "Equal" => {
            let problems = names::label_value(value).join(";");
            let wrong = !problems.is_empty();
            errors.extend(wrong.then(|| FieldError::invalid(format!("{field}.operator"), value, problems)));
        }
        "Exists" if !value.is_empty() => {
            let detail = "value must be empty when `operator` is 'Exists'";
            let shown = Shown::go([
                ("Key", json!(key).into()),
                ("Operator", json!(operator).into()),
                ("Value", json!(value).into()),
                ("Effect", json!(effect).into()),
                ("TolerationSeconds", json!(toleration.toleration_seconds).into()),
            ]);
            errors.push(FieldError::invalid_shown(format!("{field}.operator"), shown, detail));
        }
        "Exists" => {}
        _ => errors.push(FieldError::not_supported(
            format!("{field}.operator"),
            operator,
            &["Equal", "Exists"],
        )),
    }
    if !effect.is_empty() && !EFFECTS.contains(&effect) {
        errors.push(FieldError::not_supported(format!("{field}.effect"), effect, EFFECTS));
    }
    errors
}

fn host_alias(field: &str, alias: &HostAlias) -> FieldErrors {
    let mut errors = ip::valid(&format!("{field}.ip"), &alias.ip);
    for (index, name) in alias.hostnames.iter().flatten().enumerate() {
        let at = format!("{field}.hostnames[{index}]");
        errors.extend(FieldError::each(&at, name.as_str(), names::dns_subdomain(name)));
    }
    errors
}

/// The labels of a template, empty when it has none.
pub(in super::super) fn labels_of(template: Option<&PodTemplateSpec>) -> BTreeMap<String, String> {
    template
        .and_then(|t| t.metadata.as_ref())
        .and_then(|m| m.labels.clone())
        .unwrap_or_default()
}
