//! RBAC, disruption budgets, priorities and storage classes as 1.36 defaults, refuses, changes and prints
//! them. Field paths and texts follow `pkg/apis/{rbac,policy,scheduling,storage}/validation`.

use minik_api::resource::Registry;
use serde_json::{Value, json};

use crate::{cells, prepared, refusals, replaced, row};

fn named(mut body: Value) -> Value {
    body["metadata"] = json!({"name": "n"});
    body
}

#[test]
fn roles_follow_kubernetes() {
    let rules = |rule: Value| named(json!({"rules": [rule]}));
    let urls = rules(json!({"nonResourceURLs": ["/healthz"], "verbs": ["get"]}));
    assert_eq!(
        refusals("Role", &urls),
        [
            r#"rules[0].nonResourceURLs: Invalid value: ["/healthz"]: namespaced rules cannot apply to non-resource URLs"#
        ]
    );
    assert_eq!(refusals("ClusterRole", &urls), [""; 0]);
    assert_eq!(
        refusals("ClusterRole", &rules(json!({"verbs": []}))),
        [
            "rules[0].verbs: Required value: verbs must contain at least one value",
            "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
            "rules[0].resources: Required value: resource rules must supply at least one resource",
        ]
    );
    let mixed = rules(json!({"nonResourceURLs": ["/"], "resources": ["pods"], "verbs": ["get"]}));
    assert_eq!(
        refusals("ClusterRole", &mixed),
        [
            r#"rules[0].nonResourceURLs: Invalid value: ["/"]: rules cannot apply to both regular resources and non-resource URLs"#
        ]
    );
    let colons = json!({"metadata": {"name": "system:a/b"}, "rules": []});
    assert_eq!(
        refusals("ClusterRole", &colons),
        [r#"metadata.name: Invalid value: "system:a/b": may not contain '/'"#]
    );
    assert_eq!(
        cells("ClusterRole", &named(json!({"rules": []}))),
        ["n", "2026-11-21T02:55:53Z"]
    );
}

#[test]
fn bindings_follow_kubernetes() {
    let binding = |role: Value, subjects: Value| named(json!({"roleRef": role, "subjects": subjects}));
    let view = || json!({"kind": "ClusterRole", "name": "view"});
    let account = json!([{"kind": "ServiceAccount", "name": "a"}]);
    assert_eq!(refusals("RoleBinding", &binding(view(), account.clone())), [""; 0]);
    assert_eq!(
        refusals("ClusterRoleBinding", &binding(view(), account)),
        ["subjects[0].namespace: Required value"]
    );
    let role = json!({"kind": "Role", "name": "", "apiGroup": "apps"});
    assert_eq!(
        refusals(
            "ClusterRoleBinding",
            &binding(role, json!([{"kind": "Team", "name": ""}]))
        ),
        [
            r#"roleRef.apiGroup: Unsupported value: "apps": supported values: "rbac.authorization.k8s.io""#,
            r#"roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole""#,
            "roleRef.name: Required value",
            "subjects[0].name: Required value",
            r#"subjects[0].kind: Unsupported value: "Team": supported values: "ServiceAccount", "User", "Group""#,
        ]
    );
    let registry = Registry::standard();
    let users = json!([{"kind": "User", "name": "jane"}, {"kind": "User", "name": "joe"},
        {"kind": "Group", "name": "dev"}, {"kind": "ServiceAccount", "name": "a", "namespace": "demo"}]);
    let object = prepared(row(&registry, "RoleBinding"), &binding(view(), users.clone()));
    assert_eq!(object["roleRef"]["apiGroup"], "rbac.authorization.k8s.io");
    let groups: Vec<_> = object["subjects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["apiGroup"].clone())
        .collect();
    let rbac = json!("rbac.authorization.k8s.io");
    assert_eq!(groups, [rbac.clone(), rbac.clone(), rbac, Value::Null]);
    assert_eq!(
        cells("RoleBinding", &binding(view(), users.clone())),
        ["n", "ClusterRole/view", "24s", "jane, joe", "dev", "demo/a"]
    );
    let edit = json!({"kind": "ClusterRole", "name": "edit"});
    assert_eq!(
        replaced("RoleBinding", &binding(view(), users.clone()), &binding(edit, users)).1,
        [
            r#"roleRef: Invalid value: {"APIGroup":"rbac.authorization.k8s.io","Kind":"ClusterRole","Name":"edit"}: cannot change roleRef"#
        ]
    );
}

#[test]
fn disruption_budgets_follow_kubernetes() {
    let budget = |spec: Value| named(json!({"spec": spec}));
    assert_eq!(
        refusals("PodDisruptionBudget", &budget(json!({"minAvailable": -1}))),
        ["spec.minAvailable: Invalid value: -1: must be greater than or equal to 0"]
    );
    assert_eq!(
        refusals("PodDisruptionBudget", &budget(json!({"maxUnavailable": "101%"}))),
        [r#"spec.maxUnavailable: Invalid value: "101%": must not be greater than 100%"#]
    );
    assert_eq!(
        refusals(
            "PodDisruptionBudget",
            &budget(json!({"unhealthyPodEvictionPolicy": "Never"}))
        ),
        [
            r#"spec.unhealthyPodEvictionPolicy: Unsupported value: "Never": supported values: "AlwaysAllow", "IfHealthyBudget""#
        ]
    );
    // `policy.PodDisruptionBudgetSpec` has no JSON names, and its fields in this order.
    assert_eq!(
        refusals(
            "PodDisruptionBudget",
            &budget(json!({"minAvailable": 1, "maxUnavailable": 1, "selector": {"matchLabels": {"a": "b"}}})),
        ),
        [concat!(
            r#"spec: Invalid value: {"MinAvailable":1,"Selector":{"matchLabels":{"a":"b"}},"MaxUnavailable":1,"#,
            r#""UnhealthyPodEvictionPolicy":null}: minAvailable and maxUnavailable cannot be both set"#
        )]
    );
    assert_eq!(
        cells("PodDisruptionBudget", &budget(json!({"minAvailable": "50%"}))),
        [json!("n"), json!("50%"), json!("N/A"), json!(0), json!("24s")]
    );
    let registry = Registry::standard();
    let object = prepared(
        row(&registry, "PodDisruptionBudget"),
        &budget(json!({"minAvailable": 1})),
    );
    let zeros = json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0});
    assert_eq!(
        (&object["status"], &object["metadata"]["generation"]),
        (&zeros, &json!(1))
    );
}

#[test]
fn priority_classes_follow_kubernetes() {
    assert_eq!(
        refusals("PriorityClass", &named(json!({"value": 1_000_000_001}))),
        ["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"]
    );
    let system = |name: &str, value: i64| json!({"metadata": {"name": name}, "value": value});
    assert_eq!(
        refusals("PriorityClass", &system("system-node-critical", 2_000_001_000)),
        [""; 0]
    );
    for (name, value, error) in [
        ("system-mine", 1, "system-mine is not a known system priority class"),
        (
            "system-cluster-critical",
            1,
            "value of system-cluster-critical PriorityClass must be 2000000000",
        ),
    ] {
        let expected = format!(
            "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: {error}"
        );
        assert_eq!(refusals("PriorityClass", &system(name, value)), [expected]);
    }
    assert_eq!(
        replaced(
            "PriorityClass",
            &named(json!({"value": 1})),
            &named(json!({"value": 2, "preemptionPolicy": "Never"}))
        )
        .1,
        [
            "value: Forbidden: may not be changed in an update.",
            r#"preemptionPolicy: Invalid value: "Never": field is immutable"#,
        ]
    );
    assert_eq!(
        cells("PriorityClass", &named(json!({"value": 7}))),
        [
            json!("n"),
            json!(7),
            json!(false),
            json!("24s"),
            json!("PreemptLowerPriority")
        ]
    );
}

#[test]
fn storage_classes_follow_kubernetes() {
    let class = |fields: Value| named(fields);
    assert_eq!(
        refusals("StorageClass", &class(json!({}))),
        ["provisioner: Required value"]
    );
    assert_eq!(
        refusals(
            "StorageClass",
            &class(json!({"provisioner": "p", "volumeBindingMode": "Later"}))
        ),
        [r#"volumeBindingMode: Unsupported value: "Later": supported values: "Immediate", "WaitForFirstConsumer""#]
    );
    let old = class(json!({"provisioner": "p"}));
    let new = class(
        json!({"provisioner": "q", "parameters": {"a": "b"}, "reclaimPolicy": "Retain",
        "volumeBindingMode": "WaitForFirstConsumer"}),
    );
    assert_eq!(
        replaced("StorageClass", &old, &new).1,
        [
            "parameters: Forbidden: updates to parameters are forbidden.",
            "provisioner: Forbidden: updates to provisioner are forbidden.",
            "reclaimPolicy: Forbidden: updates to reclaimPolicy are forbidden.",
            r#"volumeBindingMode: Invalid value: "WaitForFirstConsumer": field is immutable"#,
        ]
    );
    let mut marked = old;
    marked["metadata"]["annotations"] = json!({"storageclass.kubernetes.io/is-default-class": "true"});
    assert_eq!(
        cells("StorageClass", &marked),
        [
            json!("n (default)"),
            json!("p"),
            json!("Delete"),
            json!("Immediate"),
            json!(false),
            json!("24s")
        ]
    );
}
