//! Field ownership: the form of Kubernetes' own managedFields, and what KEP-555 promises of an apply.

use std::collections::BTreeSet;

use jiff::Timestamp;
use minik_api::resource::Registry;
use minik_api::resource::managed::{
    Applied, ApplyError, Element, FieldSet, Managers, Operation, Writer, apply, same_but_times, update,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{prepared, row};

const RECORDED: &str = include_str!("golden/managed-fields.json");

/// An object and its managedFields, as they are between two writes.
#[derive(Debug, Clone, Default)]
struct Stored {
    object: Option<Value>,
    managed: Value,
}

impl Stored {
    fn apply(&mut self, manager: &str, config: &Value, force: bool) -> Result<(), ApplyError> {
        let registry = Registry::standard();
        let writer = writer(&registry, manager);
        let Applied { object, managed_fields } = apply(&writer, self.object.as_ref(), &self.managed, config, force)?;
        *self = Self {
            object: Some(object),
            managed: managed_fields,
        };
        Ok(())
    }

    fn update(&mut self, manager: &str, object: Value) {
        let registry = Registry::standard();
        let writer = writer(&registry, manager);
        self.managed = update(&writer, self.object.as_ref(), &object, &self.managed, &Value::Null);
        self.object = Some(object);
    }

    fn object(&self) -> &Value {
        self.object.as_ref().unwrap()
    }

    /// The fields of one manager in FieldsV1.
    fn fields(&self, manager: &str) -> Value {
        let managers = Managers::decode(&self.managed).unwrap();
        let owned = managers.0.iter().find(|(m, _)| m.name == manager);
        owned.map_or(Value::Null, |(_, owned)| owned.fields.to_json())
    }
}

fn writer<'a>(registry: &'a Registry, name: &'a str) -> Writer<'a> {
    Writer {
        info: &row(registry, "Deployment").info,
        name,
        subresource: "",
        now: Timestamp::from_second(1_800_000_000).unwrap(),
    }
}

fn deployment(rest: Value) -> Value {
    let mut object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}});
    json_patch::merge(&mut object, &rest);
    object
}

fn containers(containers: Value) -> Value {
    json!({"spec": {"template": {"spec": {"containers": containers}}}})
}

fn fields_of(object: &Value) -> &Value {
    object.pointer("/spec/template/spec/containers").unwrap()
}

#[test]
fn kubernetes_own_managed_fields_are_read_and_written_alike() {
    let recorded: Vec<Value> = serde_json::from_str(RECORDED).unwrap();
    assert!(recorded.len() > 10);
    for entry in recorded {
        let managed = &entry["managedFields"];
        let managers = Managers::decode(managed).unwrap();
        assert_eq!(managers.encode(), *managed, "{}", entry["object"]);
    }
}

#[test]
fn malformed_entries_are_refused() {
    let entry = |fields: Value| json!([{"manager": "a", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": fields}]);
    for malformed in [
        json!({}),
        json!([{"manager": "a", "operation": "Take", "fieldsType": "FieldsV1"}]),
        json!([{"manager": "a", "operation": "Update", "fieldsType": "FieldsV2"}]),
        entry(json!([])),
        entry(json!({"x:name": {}})),
        entry(json!({"k:{}": {}})),
        entry(json!({"i:one": {}})),
        entry(json!({"é": {}})),
        entry(json!({"f:a": 1})),
    ] {
        assert!(Managers::decode(&malformed).is_err(), "{malformed}");
    }
    let unsorted = entry(json!({"f:ports": {"k:{\"protocol\": \"TCP\", \"port\": 80}": {}}}));
    let sorted = entry(json!({"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {}}}));
    assert_eq!(Managers::decode(&unsorted).unwrap().encode(), sorted);
}

/// What a creating kubectl came to own of a Service, as recorded with the object that it made.
#[test]
fn a_creator_owns_what_it_sent_and_what_that_defaults_to() {
    let registry = Registry::standard();
    let services = row(&registry, "Service");
    let body = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "ns1", "labels": {"app": "ns1"}},
        "spec": {
            "type": "NodePort", "selector": {"app": "ns1"},
            "ports": [{"name": "80-8080", "port": 80, "targetPort": 8080, "nodePort": 30080, "protocol": "TCP"}],
        },
    });
    let mut object = crate::decode_strictly(services, &body).unwrap().object;
    services.strategy.default(&mut object).unwrap();
    let writer = Writer {
        info: &services.info,
        ..writer(&registry, "kubectl-create")
    };
    let managed = update(&writer, None, &object, &Value::Null, &Value::Null);
    let recorded: Vec<Value> = serde_json::from_str(RECORDED).unwrap();
    let expected = recorded.iter().find(|entry| entry["object"] == "services/ns1").unwrap();
    assert!(same_but_times(&managed, &expected["managedFields"]), "{managed:#}");
}

#[test]
fn an_applier_owns_what_it_says_and_no_containers() {
    let mut stored = Stored::default();
    let config = deployment(json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {"spec": {"containers": [
            {"name": "web", "ports": [{"containerPort": 8080, "name": "http"}]},
        ]}}},
    }));
    stored.apply("kubectl", &config, false).unwrap();
    let expected = json!({
        "f:metadata": {"f:labels": {"f:app": {}}},
        "f:spec": {"f:selector": {}, "f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {
            ".": {}, "f:name": {},
            "f:ports": {"k:{\"containerPort\":8080,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}, "f:name": {}}},
        }}}}},
    });
    assert_eq!(stored.fields("kubectl"), expected);
}

#[test]
fn what_an_applier_says_no_more_goes_unless_others_own_it() {
    let mut stored = Stored::default();
    let with = |labels: Value| deployment(json!({"metadata": {"labels": labels}, "spec": {"replicas": 1}}));
    stored.apply("a", &with(json!({"x": "1", "y": "1"})), false).unwrap();
    stored.apply("b", &with(json!({"y": "1"})), false).unwrap();
    let mut edited = stored.object().clone();
    edited["metadata"]["labels"]["z"] = "1".into();
    stored.update("c", edited);
    stored.apply("a", &with(json!({})), false).unwrap();
    assert_eq!(stored.object()["metadata"]["labels"], json!({"y": "1", "z": "1"}));
    stored
        .apply("b", &deployment(json!({"spec": {"replicas": 1}})), false)
        .unwrap();
    assert_eq!(stored.object()["metadata"]["labels"], json!({"z": "1"}));
}

#[test]
fn a_list_element_goes_with_its_only_applier_and_keeps_its_place_otherwise() {
    let mut stored = Stored::default();
    let config = |names: &[&str]| deployment(containers(names.iter().map(|name| json!({"name": name})).collect()));
    let names = |stored: &Stored| -> Vec<String> {
        let list = fields_of(stored.object()).as_array().unwrap().clone();
        list.iter().map(|c| c["name"].as_str().unwrap().to_owned()).collect()
    };
    stored.apply("a", &config(&["one", "two"]), false).unwrap();
    stored.apply("b", &config(&["three"]), false).unwrap();
    assert_eq!(names(&stored), ["one", "two", "three"]);
    stored.apply("a", &config(&["two", "one"]), false).unwrap();
    assert_eq!(names(&stored), ["two", "three", "one"]);
    stored.apply("a", &config(&["one"]), false).unwrap();
    assert_eq!(names(&stored), ["three", "one"]);
}

#[test]
fn conflicts_are_told_in_kubernetes_words() {
    let mut stored = Stored::default();
    stored.update(
        "kubectl-client-side-apply",
        deployment(json!({"spec": {"replicas": 3, "paused": true}})),
    );
    let config = |replicas: i64| deployment(json!({"spec": {"replicas": replicas}}));
    let refused = stored.apply("me", &config(5), false).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using apps/v1: .spec.replicas"
    );
    // The same value is shared, not fought for.
    stored.apply("me", &config(3), false).unwrap();
    let both = deployment(json!({"spec": {"replicas": 5, "paused": false}}));
    let refused = stored.apply("other", &both, false).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "Apply failed with 3 conflicts: conflicts with \"me\":\n- .spec.replicas\nconflicts with \
         \"kubectl-client-side-apply\" using apps/v1:\n- .spec.paused\n- .spec.replicas"
    );
    stored.apply("other", &both, true).unwrap();
    assert_eq!(stored.fields("me"), Value::Null);
    assert_eq!(stored.fields("kubectl-client-side-apply"), Value::Null);
}

#[test]
fn what_does_not_fit_the_schema_is_told_in_kubernetes_words() {
    let cases = [
        (
            json!({"spec": {"replica": 1}}),
            ".spec.replica: field not declared in schema",
        ),
        (
            json!({"spec": {"replicas": "1"}}),
            ".spec.replicas: expected numeric (int or float), got string",
        ),
        (
            containers(json!([{"name": "a"}, {"name": "a"}])),
            ".spec.template.spec.containers: duplicate entries for key [name=\"a\"]",
        ),
    ];
    for (wrong, problem) in cases {
        let mut stored = Stored::default();
        let refused = stored.apply("me", &deployment(wrong), false).expect_err(problem);
        let expected = format!("failed to create typed patch object (/web; apps/v1, Kind=Deployment): {problem}");
        assert_eq!(refused.to_string(), expected);
    }
    let owners = deployment(json!({"metadata": {"managedFields": []}}));
    let refused = Stored::default().apply("me", &owners, false).unwrap_err();
    assert_eq!(refused.to_string(), "metadata.managedFields must be nil");
}

#[test]
fn the_oldest_of_many_updaters_are_put_together() {
    let mut stored = Stored::default();
    for n in 0..12 {
        let mut object = stored.object.clone().unwrap_or_else(|| deployment(json!({})));
        object["metadata"]["labels"][format!("l{n}")] = "x".into();
        let registry = Registry::standard();
        let name = format!("m{n:02}");
        let mut writer = writer(&registry, &name);
        writer.now = Timestamp::from_second(1_800_000_000 + n).unwrap();
        stored.managed = update(&writer, stored.object.as_ref(), &object, &stored.managed, &Value::Null);
        stored.object = Some(object);
    }
    let managers = Managers::decode(&stored.managed).unwrap();
    assert_eq!(managers.0.len(), 10);
    let ancient = stored.fields("ancient-changes");
    let labels: BTreeSet<&String> = ancient["f:metadata"]["f:labels"].as_object().unwrap().keys().collect();
    assert_eq!(labels.into_iter().collect::<Vec<_>>(), [".", "f:l0", "f:l1", "f:l2"]);
    assert!(managers.0.keys().all(|manager| manager.operation == Operation::Update));
}

/// Sent managedFields: nothing is taken as not understood, one empty entry forgets all owners.
#[test]
fn a_client_may_set_or_forget_the_owners_but_not_lose_them_by_accident() {
    let mut stored = Stored::default();
    stored.update("a", deployment(json!({"spec": {"replicas": 3}})));
    let registry = Registry::standard();
    let writer = writer(&registry, "b");
    let object = stored.object().clone();
    let after = |sent: Value| update(&writer, Some(&object), &object, &stored.managed, &sent);
    assert_eq!(after(json!([])), stored.managed);
    assert_eq!(after(json!("nonsense")), stored.managed);
    assert_eq!(after(json!([{}])), Value::Null);
    let mut renamed = stored.managed.clone();
    renamed[0]["manager"] = "c".into();
    assert_eq!(after(renamed.clone()), renamed);
}

#[test]
fn kubectl_takes_over_what_it_applied_from_the_clients_side() {
    let registry = Registry::standard();
    let applied = deployment(json!({"spec": {"replicas": 1, "paused": true}}));
    let mut object = applied.clone();
    object["metadata"]["annotations"] =
        json!({"kubectl.kubernetes.io/last-applied-configuration": applied.to_string()});
    object["spec"]["replicas"] = 2.into();
    let managed = update(
        &writer(&registry, "kubectl-client-side-apply"),
        None,
        &object,
        &Value::Null,
        &Value::Null,
    );
    let stored = Stored {
        object: Some(object),
        managed,
    };
    // `paused` is as it was applied; `replicas` was changed since and is not kubectl's to take.
    let config = |replicas: i64| deployment(json!({"spec": {"replicas": replicas, "paused": false}}));
    let refused = stored
        .clone()
        .apply("kubectl", &config(5), false)
        .unwrap_err()
        .to_string();
    assert!(refused.ends_with(": .spec.replicas"), "{refused}");
    let mut taken = stored.clone();
    taken.apply("kubectl", &config(2), false).unwrap();
    let annotation = &taken.object()["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"];
    assert_eq!(annotation.as_str().unwrap(), format!("{}\n", config(2)));
    let mut stored = stored;
    assert!(stored.apply("other", &config(2), false).is_err());
}

/// Parts of a Deployment with every kind of list and map in them. `only` keeps the names apart of those of
/// other configurations.
fn configs(only: &'static str) -> impl Strategy<Value = Value> {
    let name = move |letter: char| format!("{only}{letter}");
    let labels = proptest::collection::btree_map("[a-c]", "[x-y]", 0..3);
    let names = proptest::collection::btree_set("[a-c]", 0..3);
    let ports = proptest::collection::btree_map(80..83_i64, "[x-y]", 0..3);
    let finalizers = proptest::collection::btree_set("[a-c]", 0..3);
    (labels, names, ports, finalizers).prop_map(move |(labels, names, ports, finalizers)| {
        let first = |text: &String| name(text.chars().next().unwrap());
        let labels: Value = labels.iter().map(|(key, value)| (first(key), json!(value))).collect();
        let ports: Value = ports
            .iter()
            .map(|(port, name)| json!({"containerPort": port, "name": name}))
            .collect();
        let containers = names.iter().map(|name| json!({"name": first(name), "ports": ports}));
        let finalizers: Value = finalizers.iter().map(|f| json!(format!("x.io/{}", first(f)))).collect();
        deployment(json!({
            "metadata": {"labels": labels, "finalizers": finalizers},
            "spec": {"template": {"spec": {"containers": containers.collect::<Value>()}}},
        }))
    })
}

/// An object without the order of its lists and without empty parts, which no owner tells apart.
fn unordered(value: &Value) -> Value {
    match value {
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(unordered).collect();
            items.sort_by_key(Value::to_string);
            items.into()
        }
        Value::Object(fields) => {
            let kept = fields.iter().map(|(name, value)| (name.clone(), unordered(value)));
            let empty = |value: &Value| matches!(value, Value::Null) || *value == json!({}) || *value == json!([]);
            kept.filter(|(_, value)| !empty(value))
                .collect::<serde_json::Map<_, _>>()
                .into()
        }
        other => other.clone(),
    }
}

fn field_sets() -> impl Strategy<Value = FieldSet> {
    let element = prop_oneof![
        "[a-c]".prop_map(|name| Element::field(&name)),
        (80..82_i64).prop_map(|port| Element::key(json!({"port": port}).as_object().unwrap().clone())),
        "[a-b]".prop_map(|text| Element::value(&json!(text))),
    ];
    let path = proptest::collection::vec(element, 1..4);
    proptest::collection::vec(path, 0..6).prop_map(|paths| {
        let mut set = FieldSet::default();
        paths.iter().for_each(|path| set.insert_path(path));
        set
    })
}

proptest! {
    #[test]
    fn fields_v1_is_read_as_it_was_written(set in field_sets()) {
        prop_assert_eq!(FieldSet::from_json(&set.to_json()).unwrap(), set);
    }

    #[test]
    fn sets_obey_the_laws_of_sets(a in field_sets(), b in field_sets()) {
        prop_assert_eq!(a.union(&b), b.union(&a));
        prop_assert_eq!(a.intersection(&b), b.intersection(&a));
        prop_assert_eq!(&a.difference(&b).union(&a.intersection(&b)), &a);
        prop_assert!(a.difference(&a).is_empty());
        prop_assert!(a.without(&b).difference(&a).is_empty());
        prop_assert_eq!(a.paths().len(), a.union(&a).paths().len());
    }

    #[test]
    fn to_apply_twice_is_to_apply_once(config in configs("a"), other in configs("b")) {
        let mut stored = Stored::default();
        stored.apply("a", &config, false).unwrap();
        stored.apply("b", &other, false).unwrap();
        let once = stored.clone();
        stored.apply("a", &config, false).unwrap();
        prop_assert_eq!(stored.object(), once.object());
        prop_assert!(same_but_times(&stored.managed, &once.managed));
    }

    #[test]
    fn who_says_different_things_may_come_in_any_order(a in configs("a"), b in configs("b")) {
        let (mut first, mut second) = (Stored::default(), Stored::default());
        first.apply("a", &a, false).unwrap();
        first.apply("b", &b, false).unwrap();
        second.apply("b", &b, false).unwrap();
        second.apply("a", &a, false).unwrap();
        prop_assert_eq!(unordered(first.object()), unordered(second.object()));
        prop_assert!(same_but_times(&first.managed, &second.managed));
    }

    /// After a's second word, the object is as if a had said only that, and what b said is all there.
    #[test]
    fn what_was_said_before_leaves_no_trace(a in configs("a"), again in configs("a"), b in configs("b")) {
        let (mut stored, mut fresh) = (Stored::default(), Stored::default());
        stored.apply("a", &a, false).unwrap();
        stored.apply("b", &b, false).unwrap();
        stored.apply("a", &again, false).unwrap();
        fresh.apply("b", &b, false).unwrap();
        fresh.apply("a", &again, false).unwrap();
        prop_assert_eq!(unordered(stored.object()), unordered(fresh.object()));
        prop_assert!(same_but_times(&stored.managed, &fresh.managed));
    }

    #[test]
    fn who_forces_owns(a in configs("a"), b in configs("a")) {
        let mut stored = Stored::default();
        stored.apply("a", &a, false).unwrap();
        stored.apply("b", &b, true).unwrap();
        let mut alone = Stored::default();
        alone.apply("b", &b, false).unwrap();
        prop_assert_eq!(stored.fields("b"), alone.fields("b"));
        // What is forced is there as it was said.
        let mut again = stored.clone();
        again.apply("b", &b, false).unwrap();
        prop_assert_eq!(again.object(), stored.object());
    }

    #[test]
    fn an_update_that_changes_nothing_changes_no_owner(config in configs("a")) {
        let registry = Registry::standard();
        let mut stored = Stored::default();
        stored.apply("a", &config, false).unwrap();
        let object = stored.object().clone();
        let managed = update(&writer(&registry, "b"), Some(&object), &object, &stored.managed, &Value::Null);
        prop_assert_eq!(managed, stored.managed);
    }
}

/// A Pod of a controller owns no default of a mutable kind twice: the recorded Pod's own fields.
#[test]
fn a_pods_creator_owns_what_the_recorded_one_does() {
    let registry = Registry::standard();
    let pods = row(&registry, "Pod");
    let uid = "d5195a62-2f3b-468c-bc7a-dd441ec2265d";
    let body = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "generateName": "dd-86db8fdfd8-", "labels": {"app": "dd", "pod-template-hash": "86db8fdfd8"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "dd-86db8fdfd8", "uid": uid,
                "controller": true, "blockOwnerDeletion": true}],
        },
        "spec": {"containers": [{"name": "x", "image": "x"}]},
    });
    let mut object = crate::decode_strictly(pods, &body).unwrap().object;
    pods.strategy.default(&mut object).unwrap();
    let writer = Writer {
        info: &pods.info,
        ..writer(&registry, "kube-controller-manager")
    };
    let managed = update(&writer, None, &object, &Value::Null, &Value::Null);
    let recorded: Vec<Value> = serde_json::from_str(RECORDED).unwrap();
    let expected = recorded
        .iter()
        .find(|entry| entry["object"] == "pods/dd-86db8fdfd8-ttw7b")
        .unwrap();
    assert!(same_but_times(&managed, &expected["managedFields"]), "{managed:#}");
    assert_ne!(prepared(pods, &body), object, "admission adds what nobody owns");
}
