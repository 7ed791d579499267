//! What 1.36's admission plugins add to a new Pod: ServiceAccount, Priority, DefaultTolerationSeconds.
//! The token volume is left out: Pods of this cluster get no API credentials unless they mount a Secret.

use k8s_openapi::api::core::v1::{PodSpec, Toleration};

/// How long a Pod stays on a node that is not ready or out of reach, in seconds.
const TOLERATION_SECONDS: i64 = 300;

/// Admits a new Pod.
pub(super) fn admit(spec: &mut PodSpec) {
    let account = spec
        .service_account_name
        .get_or_insert_with(|| "default".to_owned())
        .clone();
    spec.service_account = Some(account);
    spec.priority.get_or_insert_default();
    spec.preemption_policy
        .get_or_insert_with(|| "PreemptLowerPriority".to_owned());
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerations = spec.tolerations.get_or_insert_default();
        if !tolerations.iter().any(|given| tolerates(given, key)) {
            tolerations.push(Toleration {
                key: Some(key.to_owned()),
                operator: Some("Exists".to_owned()),
                effect: Some("NoExecute".to_owned()),
                toleration_seconds: Some(TOLERATION_SECONDS),
                value: None,
            });
        }
    }
}

/// Whether a toleration already says something about evictions for this taint.
fn tolerates(toleration: &Toleration, key: &str) -> bool {
    let empty_or =
        |text: Option<&str>, wanted: &str| matches!(text.unwrap_or_default(), t if t.is_empty() || t == wanted);
    empty_or(toleration.key.as_deref(), key) && empty_or(toleration.effect.as_deref(), "NoExecute")
}
