//! What holds for every kind: defaults are idempotent, valid examples stay valid, and the registry is
//! consistent with the schema.

use minik_api::resource::{Registry, schema};
use serde_json::{Value, json};

use crate::{prepared, row};

#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn examples() -> Vec<(&'static str, Value)> {
    let pod = json!({"containers": [{
        "name": "web", "image": "nginx", "ports": [{"containerPort": 80}],
        "readinessProbe": {"httpGet": {"port": 80}}, "resources": {"limits": {"cpu": "0.5", "memory": "64Mi"}},
    }], "volumes": [{"name": "tmp"}]});
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": pod});
    let workload = json!({"selector": {"matchLabels": {"app": "web"}}, "template": template});
    let finite = {
        let mut template = template.clone();
        template["spec"]["restartPolicy"] = "OnFailure".into();
        template
    };
    let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let named = |rest: Value| {
        let mut body = json!({"metadata": {"name": "a"}});
        body.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        body
    };
    vec![
        ("ConfigMap", named(json!({"data": {"nginx.conf": "x"}}))),
        ("Secret", named(json!({"stringData": {"token": "x"}}))),
        ("ServiceAccount", named(json!({}))),
        ("Namespace", named(json!({}))),
        (
            "Node",
            named(json!({"spec": {"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24"]}})),
        ),
        (
            "Lease",
            named(json!({"spec": {"holderIdentity": "a", "leaseDurationSeconds": 40}})),
        ),
        (
            "Event",
            named(json!({"involvedObject": {"kind": "Pod", "name": "p", "namespace": "demo"}})),
        ),
        (
            "Endpoints",
            named(json!({"subsets": [{"addresses": [{"ip": "10.244.0.2"}], "ports": [{"port": 80}]}]})),
        ),
        (
            "EndpointSlice",
            named(
                json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.244.0.2"]}], "ports": [{"port": 80}]}),
            ),
        ),
        ("Pod", named(json!({"spec": pod}))),
        ("Deployment", named(json!({"spec": workload}))),
        ("ReplicaSet", named(json!({"spec": workload}))),
        ("ReplicationController", named(json!({"spec": {"template": template}}))),
        ("PodTemplate", named(json!({"template": template}))),
        ("StatefulSet", named(json!({"spec": workload}))),
        ("DaemonSet", named(json!({"spec": workload}))),
        (
            "ControllerRevision",
            named(json!({"data": {"spec": {}}, "revision": 1})),
        ),
        ("PersistentVolumeClaim", named(json!({"spec": claim}))),
        (
            "PersistentVolume",
            named(json!({"spec": {
                "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/tmp"},
            }})),
        ),
        (
            "LimitRange",
            named(json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "1"}, "min": {"cpu": "100m"}}]}})),
        ),
        (
            "ResourceQuota",
            named(json!({"spec": {"hard": {"pods": "2", "limits.cpu": "4"}}})),
        ),
        (
            "Job",
            json!({
                "metadata": {"name": "a", "uid": "6d0d1a4e-0000-0000-0000-000000000000"},
                "spec": {"template": finite},
            }),
        ),
        (
            "CronJob",
            named(json!({"spec": {"schedule": "*/5 * * * *", "jobTemplate": {"spec": {"template": finite}}}})),
        ),
        (
            "Service",
            named(json!({"spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}})),
        ),
        (
            "Service",
            named(json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}})),
        ),
        (
            "Service",
            named(json!({"spec": {"clusterIP": "None", "ports": [{"port": 80}]}})),
        ),
        (
            "Service",
            named(json!({"spec": {"type": "ExternalName", "externalName": "www.qq.com"}})),
        ),
        (
            "Ingress",
            named(
                json!({"spec": {"ingressClassName": "nginx", "rules": [{"host": "a.example.com", "http": {"paths": [
                {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}},
            ]}}], "tls": [{"hosts": ["a.example.com"], "secretName": "t"}]}}),
            ),
        ),
        (
            "IngressClass",
            named(json!({"spec": {"controller": "example.com/ingress", "parameters": {"kind": "K", "name": "n"}}})),
        ),
        (
            "NetworkPolicy",
            named(json!({"spec": {"podSelector": {}, "ingress": [{"ports": [{"port": 80}]}], "egress": [{}]}})),
        ),
        ("ServiceCIDR", named(json!({"spec": {"cidrs": ["10.96.0.0/12"]}}))),
        (
            "IPAddress",
            json!({"metadata": {"name": "10.96.0.1"},
                "spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "kubernetes"}}}),
        ),
        (
            "PodDisruptionBudget",
            named(json!({"spec": {"minAvailable": "50%", "selector": {"matchLabels": {"a": "b"}}}})),
        ),
        (
            "Role",
            named(json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]})),
        ),
        (
            "ClusterRole",
            named(json!({"rules": [{"nonResourceURLs": ["/healthz"], "verbs": ["get"]}]})),
        ),
        (
            "RoleBinding",
            named(json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "jane"}]})),
        ),
        (
            "ClusterRoleBinding",
            named(json!({"roleRef": {"kind": "ClusterRole", "name": "view"},
                "subjects": [{"kind": "ServiceAccount", "name": "a", "namespace": "demo"}]})),
        ),
        ("PriorityClass", named(json!({"value": 1000}))),
        ("StorageClass", named(json!({"provisioner": "example.com/disk"}))),
        (
            "Service",
            named(json!({"spec": {"type": "LoadBalancer", "sessionAffinity": "ClientIP", "ports": [{"port": 80}]}})),
        ),
    ]
}

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
    let schemas = schema::openapi_components(&roots);
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
