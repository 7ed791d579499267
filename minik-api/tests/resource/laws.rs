//! What holds for every kind: defaults are idempotent, valid examples stay valid, and the registry is
//! consistent with the schema.

use minik_api::resource::{Registry, schema};
use serde_json::json;

use crate::examples::examples;
use crate::{prepared, row};

#[test]
fn valid_examples_are_valid_and_defaults_are_idempotent() {
    let registry = Registry::standard();
    for (name, body) in examples() {
        let kind = row(&registry, name);
        let object = prepared(kind, &body);
        assert_eq!(kind.strategy.validate(&object).unwrap(), [], "{object}");
        let mut again = object.clone();
        kind.strategy.default(&mut again).unwrap();
        assert_eq!(again, object, "{name}");
    }
}

#[test]
fn an_update_that_changes_nothing_is_allowed_and_keeps_the_object() {
    let registry = Registry::standard();
    for (name, body) in examples() {
        let kind = row(&registry, name);
        let old = prepared(kind, &body);
        let mut new = old.clone();
        kind.strategy.default(&mut new).unwrap();
        kind.strategy.prepare_for_update(&mut new, &old).unwrap();
        assert_eq!(new, old, "{name}");
        assert_eq!(kind.strategy.validate_update(&new, &old).unwrap(), [], "{name}");
    }
}

#[test]
fn every_example_prints_a_cell_for_each_column() {
    let registry = Registry::standard();
    for (name, body) in examples() {
        let kind = row(&registry, name);
        let cells = kind
            .strategy
            .row(&prepared(kind, &body), jiff::Timestamp::UNIX_EPOCH)
            .unwrap();
        // 1.36 prints an age for an IPAddress that no column announces.
        let unannounced = usize::from(name == "IPAddress");
        assert_eq!(cells.len(), kind.strategy.columns().len() + unannounced, "{name}");
    }
}

#[test]
fn every_kind_has_an_example_a_schema_and_the_names_of_discovery() {
    let registry = Registry::standard();
    let examples = examples();
    for kind in registry.iter() {
        assert!(
            !kind.info.stored || examples.iter().any(|(name, _)| *name == kind.info.kind),
            "{}",
            kind.info.kind
        );
        assert!(
            schema::standard().named(kind.info.schema).is_some(),
            "{}",
            kind.info.schema
        );
        assert!(schema::standard().is_registered(kind.info.group, kind.info.version, kind.info.kind));
        assert_eq!(kind.info.singular, kind.info.kind.to_lowercase());
    }
}

#[test]
fn openapi_has_every_definition_it_refers_to() {
    let registry = Registry::standard();
    let roots: Vec<&str> = registry.iter().map(|k| k.info.schema).collect();
    let schemas = serde_json::to_value(schema::Definitions::read().components(&roots)).unwrap();
    let text = schemas.to_string();
    for reference in text.split("#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(schemas.get(name).is_some(), "{name}");
    }
    let kind = &schemas["io.k8s.api.core.v1.ServiceSpec"]["properties"]["type"];
    assert_eq!(
        kind["enum"],
        json!(["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"])
    );
    let metadata = &schemas["io.k8s.api.core.v1.Service"]["properties"]["metadata"];
    let reference = "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
    assert_eq!(metadata["allOf"], json!([{"$ref": reference}]));
}

#[test]
fn a_new_pod_has_all_that_1_36_gives_it() {
    let registry = Registry::standard();
    let pod = prepared(
        row(&registry, "Pod"),
        &json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "web", "image": "nginx:1",
            "readinessProbe": {"httpGet": {"path": "/", "port": "http"}}}]}}),
    );
    assert_eq!(pod["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
    assert_eq!(pod["metadata"]["generation"], 1);
    let toleration =
        |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
    assert_eq!(
        pod["spec"],
        json!({
            "containers": [{
                "name": "web", "image": "nginx:1", "resources": {},
                "readinessProbe": {
                    "httpGet": {"path": "/", "port": "http", "scheme": "HTTP"},
                    "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
                },
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                "imagePullPolicy": "IfNotPresent",
            }],
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
            "serviceAccountName": "default", "serviceAccount": "default", "securityContext": {},
            "schedulerName": "default-scheduler", "priority": 0, "enableServiceLinks": true,
            "preemptionPolicy": "PreemptLowerPriority",
            "tolerations": [toleration("node.kubernetes.io/not-ready"), toleration("node.kubernetes.io/unreachable")],
        })
    );
}
