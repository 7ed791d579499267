//! Selectors and strategies of kinds that make Pods: none, an empty one, one that is none; shown as Kubernetes' own types.
//! Texts are those of Kubernetes' `pkg/apis/apps/validation`.

use serde_json::{Value, json};

use crate::refusals;

fn workload(selector: Value, more: Value) -> Value {
    let mut spec = json!({
        "selector": selector,
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a", "image": "nginx"}]}},
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"metadata": {"name": "w"}, "spec": spec})
}

#[test]
fn no_selector_an_empty_one_and_one_that_is_none() {
    let mismatch =
        r#"spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`"#;
    let required = "spec.selector: Required value";
    let empty = |kind: &str| format!("spec.selector: Invalid value: {{}}: empty selector is invalid for {kind}");
    let kinds = [
        ("Deployment", "deployment", "invalid label selector"),
        ("ReplicaSet", "deployment", "invalid label selector"),
        ("StatefulSet", "statefulset", ""),
    ];
    let broken = json!({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "a", "operator": "Near"}]});
    let problem = r#"spec.selector.matchExpressions[0].operator: Invalid value: "Near": not a valid selector operator"#;
    let shown = r#"{"matchLabels":{"app":"web"},"matchExpressions":[{"key":"a","operator":"Near"}]}"#;
    for (kind, called, unreadable) in kinds {
        assert_eq!(
            refusals(kind, &workload(Value::Null, json!({}))),
            [required, mismatch],
            "{kind}"
        );
        assert_eq!(
            refusals(kind, &workload(json!({}), json!({}))),
            [empty(called)],
            "{kind}"
        );
        assert_eq!(
            refusals(kind, &workload(json!({"matchLabels": {}}), json!({}))),
            [empty(called)],
            "{kind}"
        );
        let colon = if unreadable.is_empty() { "" } else { ": " };
        assert_eq!(
            refusals(kind, &workload(broken.clone(), json!({}))),
            [
                problem.to_owned(),
                format!("spec.selector: Invalid value: {shown}{colon}{unreadable}")
            ],
            "{kind}"
        );
    }
    assert_eq!(refusals("DaemonSet", &workload(Value::Null, json!({}))), [mismatch]);
    assert_eq!(
        refusals("DaemonSet", &workload(json!({}), json!({}))),
        [empty("daemonset")]
    );
    assert_eq!(refusals("DaemonSet", &workload(broken, json!({}))), [problem]);
}

#[test]
fn strategies_are_shown_whole() {
    let selector = json!({"matchLabels": {"app": "web"}});
    let with = |more: Value| workload(selector.clone(), more);
    let cases = [
        (
            "Deployment",
            with(json!({"strategy": {"type": "Slow"}})),
            r#"spec.strategy: Unsupported value: {"Type":"Slow","RollingUpdate":null}: supported values: "Recreate", "RollingUpdate""#,
        ),
        (
            "DaemonSet",
            with(json!({"updateStrategy": {"type": "Slow", "rollingUpdate": {"maxUnavailable": "10%"}}})),
            r#"spec.updateStrategy: Unsupported value: {"Type":"Slow","RollingUpdate":{"MaxUnavailable":"10%","MaxSurge":0}}: supported values: "RollingUpdate", "OnDelete""#,
        ),
        (
            "StatefulSet",
            with(json!({"updateStrategy": {"type": "Slow"}})),
            r#"spec.updateStrategy: Invalid value: {"Type":"Slow","RollingUpdate":null}: must be 'RollingUpdate' or 'OnDelete'"#,
        ),
        (
            "StatefulSet",
            with(json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": {"partition": 2}}})),
            r#"spec.updateStrategy.rollingUpdate: Invalid value: {"Partition":2,"MaxUnavailable":null}: only allowed for updateStrategy 'RollingUpdate'"#,
        ),
        (
            "StatefulSet",
            with(json!({"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Sell"}})),
            r#"spec.persistentVolumeClaimRetentionPolicy.whenScaled: Unsupported value: "Sell": supported values: "Retain", "Delete""#,
        ),
    ];
    for (kind, body, expected) in cases {
        assert_eq!(refusals(kind, &body), [expected], "{kind}");
    }
}
