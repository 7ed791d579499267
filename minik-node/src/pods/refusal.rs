//! Which Pods a node does not run, whatever the scheduler thought. Pure. Source: the kubelet's admission
//! (`pkg/kubelet/lifecycle/predicate.go`, `pkg/kubelet/sysctl`).

use k8s_openapi::api::core::v1::PodSpec;

use super::shares;

/// Why a Pod is not run: it fails at once, and an event says so.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Reason of the Pod's status and of the event.
    pub reason: &'static str,
    /// What the event says.
    pub message: String,
}

/// Why a node runs none of the Pod's containers.
#[must_use]
pub fn refusal(spec: &PodSpec) -> Option<Refusal> {
    if spec.os.as_ref().is_some_and(|os| os.name != "linux") {
        return Some(Refusal {
            reason: "PodOSNotSupported",
            message: "Failed to admit pod as the OS field doesn't match node OS".to_owned(),
        });
    }
    let parameter = shares::forbidden_sysctl(spec)?;
    Some(Refusal {
        reason: "SysctlForbidden",
        message: format!("forbidden sysctl: {parameter}"),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_is_for_this_system_and_sets_what_is_its_own() {
        for (spec, expected) in [
            (json!({"containers": []}), None),
            (json!({"containers": [], "os": {"name": "linux"}}), None),
            (
                json!({"containers": [], "os": {"name": "windows"}}),
                Some((
                    "PodOSNotSupported",
                    "Failed to admit pod as the OS field doesn't match node OS",
                )),
            ),
            (
                json!({"containers": [], "securityContext": {"sysctls": [{"name": "vm.swappiness", "value": "1"}]}}),
                Some(("SysctlForbidden", "forbidden sysctl: \"vm.swappiness\" not allowlisted")),
            ),
        ] {
            let spec: PodSpec = serde_json::from_value(spec).unwrap();
            let found = refusal(&spec);
            let found = found.as_ref().map(|found| (found.reason, found.message.as_str()));
            assert_eq!(found, expected, "{spec:?}");
        }
    }
}
