//! What a Job's policies say: about a failed Pod, and about a set of succeeded indexes. Pure.

use k8s_openapi::api::batch::v1::{JobSpec, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::indexes::Indexes;

/// What a failed Pod means.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It counts towards the back-off limit.
    Count,
    /// It does not count.
    Ignore,
    /// Its index has failed.
    FailIndex,
    /// The Job has failed, for this reason.
    FailJob(String),
}

/// What the Job's `podFailurePolicy` says of a failed Pod: the first rule that matches decides.
pub fn verdict(spec: &JobSpec, pod: &Pod) -> Verdict {
    let rules = spec.pod_failure_policy.iter().flat_map(|policy| &policy.rules);
    for (index, rule) in rules.enumerate() {
        let Some(what) = matched(rule, pod) else { continue };
        return match rule.action.as_str() {
            "Ignore" => Verdict::Ignore,
            "FailIndex" => Verdict::FailIndex,
            "FailJob" => Verdict::FailJob(format!("{what} matching FailJob rule at index {index}")),
            _ => Verdict::Count,
        };
    }
    Verdict::Count
}

/// What in the Pod matches the rule, in words.
fn matched(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let name = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
    let status = pod.status.as_ref()?;
    if let Some(requirement) = &rule.on_exit_codes {
        let containers = status.container_statuses.iter().flatten();
        let all = containers.chain(status.init_container_statuses.iter().flatten());
        for container in all.filter(|container| wanted(requirement, &container.name)) {
            let ended = container.state.as_ref().and_then(|state| state.terminated.as_ref());
            let Some(code) = ended.map(|ended| ended.exit_code).filter(|code| *code != 0) else {
                continue;
            };
            if requirement.values.contains(&code) == (requirement.operator == "In") {
                return Some(format!(
                    "Container {} for pod {name} failed with exit code {code}",
                    container.name
                ));
            }
        }
        return None;
    }
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let patterns = rule.on_pod_conditions.iter().flatten();
    let mut found = patterns.filter_map(|pattern| {
        let status = pattern.status.as_deref().unwrap_or("True");
        conditions
            .iter()
            .find(|condition| condition.type_ == pattern.type_ && condition.status == status)
    });
    let condition = found.next()?;
    Some(format!("Pod {name} has condition {}", condition.type_))
}

fn wanted(requirement: &PodFailurePolicyOnExitCodesRequirement, container: &str) -> bool {
    requirement
        .container_name
        .as_deref()
        .is_none_or(|name| name == container)
}

/// The first rule of the Job's `successPolicy` that these indexes fulfil, in words.
pub fn success(spec: &JobSpec, succeeded: &Indexes) -> Option<String> {
    if succeeded.total() == 0 {
        return None;
    }
    let completions = spec.completions.unwrap_or(0);
    let rules = spec.success_policy.iter().flat_map(|policy| &policy.rules);
    let fulfilled = rules.enumerate().find(|(_, rule)| match &rule.succeeded_indexes {
        None => rule.succeeded_count.is_some_and(|count| succeeded.total() >= count),
        Some(text) => {
            let required = Indexes::parse(text, completions);
            let reached = required.common(succeeded).total();
            required.total() > 0 && reached >= rule.succeeded_count.unwrap_or(required.total())
        }
    });
    fulfilled.map(|(index, _)| format!("Matched rules at index {index}"))
}
