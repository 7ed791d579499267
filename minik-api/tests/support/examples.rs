//! One small valid body, at least, of every stored kind: what laws are tried on and random objects begin with.
//! Shared by several test programs and by the fuzz targets, which include it by path.

use serde_json::{Value, json};

/// Kind names with a small valid body each, without version and kind; some kinds have several.
#[expect(clippy::too_many_lines, reason = "a table of cases")]
pub fn examples() -> Vec<(&'static str, Value)> {
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
        for (field, value) in rest.as_object().into_iter().flatten() {
            body[field] = value.clone();
        }
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

/// Examples of kinds that show another group's objects, by group.
pub fn views() -> Vec<(&'static str, Value)> {
    vec![(
        "events.k8s.io",
        json!({
            "metadata": {"name": "a"}, "eventTime": "2026-01-02T03:04:05.123456Z", "type": "Normal", "action": "Binding",
            "reason": "Scheduled", "reportingController": "example.com/scheduler", "reportingInstance": "a",
            "regarding": {"kind": "Pod", "name": "p", "namespace": "demo"},
        }),
    )]
}
