//! Whether a container that ended is to run again: the Pod's policy, the container's own, and its rules (KEP-5307).

use k8s_openapi::api::core::v1::{Container, ContainerRestartRule, PodSpec};

use super::{Knowledge, is_sidecar};

/// Whether a container that ended with `code` is to run again.
#[must_use]
pub fn after(spec: &PodSpec, container: &Container, code: i32) -> bool {
    if let Some(policy) = &container.restart_policy {
        let mut rules = container.restart_policy_rules.iter().flatten();
        let restart = rules.find(|rule| matches(rule, code));
        return restart.is_some_and(|rule| rule.action == "Restart") || follows(policy, code);
    }
    follows(spec.restart_policy.as_deref().unwrap_or("Always"), code)
}

fn follows(policy: &str, code: i32) -> bool {
    match policy {
        "Never" => false,
        "OnFailure" => code != 0,
        _ => true,
    }
}

fn matches(rule: &ContainerRestartRule, code: i32) -> bool {
    let Some(codes) = &rule.exit_codes else { return false };
    let listed = codes.values.iter().flatten().any(|value| *value == code);
    match codes.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        _ => false,
    }
}

/// Whether a container of the Pod proper has ended for good.
#[must_use]
pub fn is_over(spec: &PodSpec, container: &Container, knowledge: &Knowledge) -> bool {
    let ended = knowledge
        .last(&container.name)
        .and_then(|attempt| attempt.ended.as_ref());
    ended.is_some_and(|ended| !after(spec, container, ended.exit.code))
}

/// Whether an init container failed that must not be tried again.
#[must_use]
pub fn init_failed(spec: &PodSpec, knowledge: &Knowledge) -> bool {
    let mut once = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| !is_sidecar(container));
    once.any(|container| {
        let attempt = knowledge.current(&container.name);
        let code = attempt.and_then(|attempt| Some(attempt.ended.as_ref()?.exit.code));
        code.is_some_and(|code| code != 0 && !after(spec, container, code))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_containers_own_policy_and_rules_come_before_the_pods() {
        let rules = json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]);
        let spec: PodSpec = serde_json::from_value(json!({"restartPolicy": "Never", "containers": []})).unwrap();
        for (container, code, expected) in [
            (json!({"name": "c"}), 1, false),
            (json!({"name": "c", "restartPolicy": "Always"}), 0, true),
            (json!({"name": "c", "restartPolicy": "OnFailure"}), 0, false),
            (json!({"name": "c", "restartPolicy": "OnFailure"}), 1, true),
            (
                json!({"name": "c", "restartPolicy": "Never", "restartPolicyRules": rules}),
                42,
                true,
            ),
            (
                json!({"name": "c", "restartPolicy": "Never", "restartPolicyRules": rules}),
                1,
                false,
            ),
        ] {
            let container: Container = serde_json::from_value(container).unwrap();
            assert_eq!(after(&spec, &container, code), expected, "{container:?} {code}");
        }
    }

    #[test]
    fn not_in_means_every_other_code() {
        let rule = json!({"action": "Restart", "exitCodes": {"operator": "NotIn", "values": [1, 2]}});
        let rule: ContainerRestartRule = serde_json::from_value(rule).unwrap();
        assert!(matches(&rule, 3) && !matches(&rule, 2));
    }
}
