//! Decisions over small policies, as `kubectl auth can-i` would see them.

use serde_json::json;

use super::*;

fn policy() -> Policy {
    fn from<K: serde::de::DeserializeOwned>(value: serde_json::Value) -> K {
        serde_json::from_value(value).unwrap()
    }
    Policy::new(
        vec![from(
            json!({"metadata": {"name": "reader", "namespace": "demo"}, "rules": [
                {"apiGroups": [""], "resources": ["pods", "*/log"], "verbs": ["get", "list"]},
                {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["one"], "verbs": ["get"]},
            ]}),
        )],
        vec![
            from(json!({"metadata": {"name": "all"}, "rules": [
                {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]})),
            from(json!({"metadata": {"name": "paths"}, "rules": [
                {"nonResourceURLs": ["/version", "/apis/*"], "verbs": ["get"]}]})),
        ],
        vec![
            from(
                json!({"metadata": {"name": "read", "namespace": "demo"}, "roleRef": {"kind": "Role", "name": "reader"},
                "subjects": [{"kind": "User", "name": "jane"}, {"kind": "ServiceAccount", "name": "default"}]}),
            ),
            from(
                json!({"metadata": {"name": "own", "namespace": "dev"}, "roleRef": {"kind": "ClusterRole", "name": "all"},
                "subjects": [{"kind": "Group", "name": "devs"}]}),
            ),
            from(
                json!({"metadata": {"name": "lost", "namespace": "dev"}, "roleRef": {"kind": "Role", "name": "gone"},
                "subjects": [{"kind": "User", "name": "jane"}]}),
            ),
        ],
        vec![from(
            json!({"metadata": {"name": "look"}, "roleRef": {"kind": "ClusterRole", "name": "paths"},
            "subjects": [{"kind": "Group", "name": "system:authenticated"}]}),
        )],
    )
}

fn who(user: &str, groups: &[&str]) -> Identity {
    Identity {
        user: user.to_owned(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        ..Identity::default()
    }
}

fn on<'a>(verb: &'a str, resource: &'a str, namespace: &'a str, name: &'a str) -> Attributes<'a> {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    Attributes {
        verb,
        target: Target::Resource(Resource {
            group: "",
            resource,
            subresource,
            namespace,
            name,
        }),
    }
}

#[test]
fn the_rules_of_every_binding_that_names_the_asker_add_up() {
    let jane = who("jane", &["system:authenticated"]);
    let account = who("system:serviceaccount:demo:default", &["system:serviceaccounts"]);
    let dev = who("joe", &["devs"]);
    let cases = [
        (&jane, on("list", "pods", "demo", ""), true),
        (&jane, on("list", "pods", "dev", ""), false),
        (&jane, on("list", "pods", "", ""), false),
        (&jane, on("delete", "pods", "demo", "a"), false),
        (&jane, on("get", "pods/log", "demo", "a"), true),
        (&jane, on("get", "pods/exec", "demo", "a"), false),
        (&jane, on("get", "secrets", "demo", "one"), true),
        (&jane, on("get", "secrets", "demo", "two"), false),
        (&jane, on("list", "secrets", "demo", ""), false),
        (&account, on("get", "pods", "demo", "a"), true),
        (
            &who("system:serviceaccount:dev:default", &[]),
            on("get", "pods", "demo", "a"),
            false,
        ),
        (&dev, on("delete", "secrets", "dev", "x"), true),
        (&dev, on("delete", "secrets", "demo", "x"), false),
        (&who("root", &["system:masters"]), on("delete", "nodes", "", "x"), true),
        (
            &who("system:node:w1", &["system:nodes"]),
            on("update", "nodes/status", "", "w1"),
            true,
        ),
        (
            &who("system:node:w1", &["system:nodes"]),
            on("update", "nodes/status", "", "w2"),
            false,
        ),
        // The name alone makes nobody an agent.
        (&who("system:node:w1", &[]), on("get", "pods", "demo", "a"), false),
    ];
    for (identity, wanted, expected) in cases {
        assert_eq!(
            authorize(identity, &wanted, &policy()).allowed,
            expected,
            "{identity:?} {wanted:?}"
        );
    }
}

#[test]
fn paths_are_allowed_by_whole_or_by_prefix() {
    let jane = who("jane", &["system:authenticated"]);
    for (verb, path, expected) in [
        ("get", "/version", true),
        ("get", "/apis/apps/v1", true),
        ("get", "/apis", false),
        ("post", "/version", false),
        ("get", "/metrics", false),
    ] {
        let target = Target::Path(path);
        assert_eq!(
            authorize(&jane, &Attributes { verb, target }, &policy()).allowed,
            expected,
            "{verb} {path}"
        );
    }
}

#[test]
fn reasons_are_in_the_words_of_kubernetes() {
    let jane = who("jane", &[]);
    let reason = |identity: &Identity, wanted: Attributes<'_>| authorize(identity, &wanted, &policy()).reason;
    assert_eq!(
        reason(&jane, on("list", "pods", "demo", "")),
        r#"RBAC: allowed by RoleBinding "read/demo" of Role "reader" to User "jane""#
    );
    assert_eq!(
        reason(&jane, on("list", "pods", "dev", "")),
        r#"RBAC: role.rbac.authorization.k8s.io "gone" not found"#
    );
    assert_eq!(reason(&jane, on("list", "nodes", "", "")), "");
    let path = Attributes {
        verb: "get",
        target: Target::Path("/version"),
    };
    assert_eq!(
        reason(&who("x", &["system:authenticated"]), path),
        r#"RBAC: allowed by ClusterRoleBinding "look" of ClusterRole "paths" to Group "system:authenticated""#
    );
}
