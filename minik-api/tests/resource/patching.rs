//! Patches: the examples of the Kubernetes documents, and laws that hold for all.

use minik_api::resource::Registry;
use minik_api::resource::patch::{json_patch, merge_patch, strategic_patch};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::row;

fn strategic(current: &Value, patch: &Value) -> Value {
    let registry = Registry::standard();
    strategic_patch(
        current,
        patch.to_string().as_bytes(),
        &row(&registry, "Deployment").info,
    )
    .unwrap()
}

fn with_containers(containers: Value) -> Value {
    json!({"spec": {"template": {"spec": {"containers": containers}}}})
}

#[test]
fn lists_merge_by_their_key() {
    let current =
        with_containers(json!([{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}, {"name": "b"}]));
    let cases = [
        (
            json!([{"name": "a", "image": "2"}]),
            json!([{"name": "a", "image": "2", "env": [{"name": "X", "value": "1"}]}, {"name": "b"}]),
        ),
        (
            json!([{"name": "b", "$patch": "delete"}]),
            json!([{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}]),
        ),
        (json!([{"$patch": "replace"}, {"name": "c"}]), json!([{"name": "c"}])),
        (
            json!([{"name": "a", "env": [{"name": "Y", "value": "2"}]}]),
            json!([{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]}, {"name": "b"}]),
        ),
    ];
    for (patch, expected) in cases {
        assert_eq!(
            strategic(&current, &with_containers(patch.clone())),
            with_containers(expected),
            "{patch}"
        );
    }
}

#[test]
fn the_patch_may_set_the_order() {
    let current = with_containers(json!([{"name": "a"}, {"name": "b"}]));
    let patch = json!({"spec": {"template": {"spec": {
        "$setElementOrder/containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}],
        "containers": [{"name": "c"}],
    }}}});
    assert_eq!(
        strategic(&current, &patch),
        with_containers(json!([{"name": "c"}, {"name": "b"}, {"name": "a"}]))
    );
}

#[test]
fn scalars_merge_as_a_set() {
    let current = json!({"metadata": {"finalizers": ["a/b", "c/d"]}});
    let added = strategic(&current, &json!({"metadata": {"finalizers": ["e/f", "a/b"]}}));
    assert_eq!(added, json!({"metadata": {"finalizers": ["a/b", "c/d", "e/f"]}}));
    let removed = strategic(
        &current,
        &json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/b"]}}),
    );
    assert_eq!(removed, json!({"metadata": {"finalizers": ["c/d"]}}));
}

#[test]
fn retained_keys_drop_the_others() {
    let current = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    assert_eq!(
        strategic(&current, &patch),
        json!({"spec": {"strategy": {"type": "Recreate"}}})
    );
}

#[test]
fn impossible_patches_are_refused() {
    let registry = Registry::standard();
    let info = &row(&registry, "Deployment").info;
    let keyless = with_containers(json!([{"image": "2"}])).to_string();
    assert_eq!(
        strategic_patch(&json!({}), keyless.as_bytes(), info)
            .unwrap_err()
            .status_code(),
        500
    );
    assert_eq!(strategic_patch(&json!({}), b"{", info).unwrap_err().status_code(), 400);
    assert_eq!(merge_patch(&json!({}), b"{").unwrap_err().status_code(), 400);
    let absent = br#"[{"op":"remove","path":"/a"}]"#;
    assert_eq!(json_patch(&json!({}), absent).unwrap_err().status_code(), 422);
    assert_eq!(json_patch(&json!({"a": 1}), absent).unwrap(), json!({}));
    assert_eq!(json_patch(&json!({}), b"{}").unwrap_err().status_code(), 400);
}

/// Deployments' metadata and containers: enough to meet maps, merging lists and plain fields.
fn objects() -> impl Strategy<Value = Value> {
    let container = ("[a-d]", "[1-3]").prop_map(|(name, image)| json!({"name": name, "image": image}));
    let containers = proptest::collection::vec(container, 0..4).prop_map(|mut all| {
        all.sort_by_key(|c| c["name"].to_string());
        all.dedup_by_key(|c| c["name"].to_string());
        all
    });
    let labels = proptest::collection::btree_map("[a-c]", "[x-z]", 0..3);
    (labels, containers, 0..3_i32).prop_map(|(labels, containers, replicas)| {
        json!({"metadata": {"labels": labels}, "spec": {"replicas": replicas, "template": {"spec": {"containers": containers}}}})
    })
}

proptest! {
    #[test]
    fn an_empty_patch_changes_nothing(current in objects()) {
        prop_assert_eq!(strategic(&current, &json!({})), current);
    }

    #[test]
    fn a_patch_without_directives_applies_once(current in objects(), patch in objects()) {
        let once = strategic(&current, &patch);
        prop_assert_eq!(strategic(&once, &patch), once);
    }

    #[test]
    fn an_object_patched_with_itself_stays(current in objects()) {
        prop_assert_eq!(strategic(&current, &current), current);
    }

    #[test]
    fn what_the_patch_names_is_there_afterwards(current in objects(), patch in objects()) {
        let after = strategic(&current, &patch);
        let containers = |v: &Value| v.pointer("/spec/template/spec/containers").unwrap().as_array().unwrap().clone();
        for container in containers(&patch) {
            prop_assert!(containers(&after).contains(&container));
        }
        prop_assert_eq!(&after["spec"]["replicas"], &patch["spec"]["replicas"]);
    }
}
