//! Rows as 1.36 prints them.

use minik_api::resource::Registry;
use serde_json::{Value, json};

use crate::row;

const NOW: &str = "2026-11-21T02:56:17Z";

fn cells(kind: &str, mut object: Value) -> Vec<Value> {
    let registry = Registry::standard();
    object["metadata"]["creationTimestamp"] = "2026-11-21T02:55:53Z".into();
    row(&registry, kind)
        .strategy
        .row(&object, NOW.parse().unwrap())
        .unwrap()
}

fn pod(status: Value) -> Value {
    json!({
        "metadata": {"name": "p"},
        "spec": {"nodeName": "node1", "containers": [{"name": "web"}]},
        "status": status,
    })
}

fn container(state: Value, ready: bool, restarts: i32) -> Value {
    json!({"name": "web", "image": "nginx", "imageID": "", "ready": ready, "restartCount": restarts, "state": state,
        "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-11-21T02:56:12Z"}}})
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn pods_say_what_their_containers_do() {
    let waiting = |reason: &str| json!({"waiting": {"reason": reason}});
    let running = json!({"running": {"startedAt": "2026-11-21T02:55:55Z"}});
    let of = |phase: &str, state: Value, ready, restarts| {
        pod(json!({"phase": phase, "containerStatuses": [container(state, ready, restarts)]}))
    };
    let deleted = {
        let mut pod = of("Running", running.clone(), true, 0);
        pod["metadata"]["deletionTimestamp"] = NOW.into();
        pod
    };
    let initializing = {
        let state = json!({"waiting": {"reason": "PodInitializing"}});
        let mut pod = pod(json!({"phase": "Pending", "initContainerStatuses": [container(state, false, 0)]}));
        pod["spec"]["initContainers"] = json!([{"name": "web"}, {"name": "second"}]);
        pod
    };
    let cases = [
        (pod(json!({"phase": "Pending"})), "0/1", "Pending", "0"),
        (
            of("Pending", waiting("ContainerCreating"), false, 0),
            "0/1",
            "ContainerCreating",
            "0",
        ),
        (
            of("Pending", waiting("ErrImagePull"), false, 0),
            "0/1",
            "ErrImagePull",
            "0",
        ),
        (of("Running", running.clone(), true, 0), "1/1", "Running", "0"),
        (of("Running", running, true, 1), "1/1", "Running", "1 (5s ago)"),
        (
            of("Running", waiting("CrashLoopBackOff"), false, 3),
            "0/1",
            "CrashLoopBackOff",
            "3 (5s ago)",
        ),
        (
            of(
                "Succeeded",
                json!({"terminated": {"exitCode": 0, "reason": "Completed"}}),
                false,
                0,
            ),
            "0/1",
            "Completed",
            "0",
        ),
        (
            of(
                "Failed",
                json!({"terminated": {"exitCode": 137, "signal": 9}}),
                false,
                0,
            ),
            "0/1",
            "Signal:9",
            "0",
        ),
        (
            of("Failed", json!({"terminated": {"exitCode": 2}}), false, 0),
            "0/1",
            "ExitCode:2",
            "0",
        ),
        (deleted, "1/1", "Terminating", "0"),
        (initializing, "0/1", "Init:0/2", "0"),
    ];
    for (pod, ready, status, restarts) in cases {
        let expected = json!([
            "p", ready, status, restarts, "24s", "<none>", "node1", "<none>", "<none>"
        ]);
        assert_eq!(Value::from(cells("Pod", pod)), expected);
    }
}

#[test]
fn services_show_their_ports_and_addresses() {
    let service = |spec: Value, status: Value| json!({"metadata": {"name": "s"}, "spec": spec, "status": status});
    let port = |node_port: Option<i32>| json!([{"port": 80, "protocol": "TCP", "nodePort": node_port}]);
    let selector = json!({"app": "nginx"});
    let ingress = json!({"loadBalancer": {"ingress": [{"ip": "192.168.126.40"}]}});
    let cases = [
        (
            service(
                json!({"type": "NodePort", "clusterIPs": ["10.98.220.25"], "ports": port(Some(30080)), "selector": selector}),
                json!({}),
            ),
            json!([
                "s",
                "NodePort",
                "10.98.220.25",
                "<none>",
                "80:30080/TCP",
                "24s",
                "app=nginx"
            ]),
        ),
        (
            service(json!({"type": "ExternalName", "externalName": "www.qq.com"}), json!({})),
            json!(["s", "ExternalName", "<none>", "www.qq.com", "<none>", "24s", "<none>"]),
        ),
        (
            service(
                json!({"type": "ClusterIP", "clusterIPs": ["None"], "ports": port(None), "externalIPs": ["192.168.241.130"]}),
                json!({}),
            ),
            json!(["s", "ClusterIP", "None", "192.168.241.130", "80/TCP", "24s", "<none>"]),
        ),
        (
            service(
                json!({"type": "LoadBalancer", "clusterIPs": ["10.103.199.116"], "ports": port(Some(30436))}),
                ingress,
            ),
            json!([
                "s",
                "LoadBalancer",
                "10.103.199.116",
                "192.168.126.40",
                "80:30436/TCP",
                "24s",
                "<none>"
            ]),
        ),
        (
            service(
                json!({"type": "LoadBalancer", "clusterIPs": ["10.103.199.116"], "ports": port(Some(30436))}),
                json!({}),
            ),
            json!([
                "s",
                "LoadBalancer",
                "10.103.199.116",
                "<pending>",
                "80:30436/TCP",
                "24s",
                "<none>"
            ]),
        ),
    ];
    for (object, expected) in cases {
        assert_eq!(Value::from(cells("Service", object)), expected);
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn workloads_nodes_and_endpoints_print_as_in_1_36() {
    let template = json!({"spec": {"containers": [{"name": "web", "image": "nginx:2"}]}});
    let spec = json!({"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template});
    let status = json!({"replicas": 3, "readyReplicas": 2, "updatedReplicas": 1, "availableReplicas": 2});
    let cases = [
        (
            "Deployment",
            json!({"metadata": {"name": "web"}, "spec": spec, "status": status}),
            json!(["web", "2/2", 1, 2, "24s", "web", "nginx:2", "app=web"]),
        ),
        (
            "ReplicaSet",
            json!({"metadata": {"name": "web"}, "spec": spec, "status": status}),
            json!(["web", 2, 3, 2, "24s", "web", "nginx:2", "app=web"]),
        ),
        (
            "Node",
            json!({"metadata": {"name": "node1"}, "status": {
                "conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [{"type": "InternalIP", "address": "10.200.0.2"}],
                "nodeInfo": {"kubeletVersion": "v1.36.2", "osImage": "Debian GNU/Linux 12 (bookworm)",
                    "kernelVersion": "6.18", "architecture": "amd64", "containerRuntimeVersion": "none://0"}}}),
            json!([
                "node1",
                "Ready",
                "<none>",
                "24s",
                "v1.36.2",
                "10.200.0.2",
                "<none>",
                "Debian GNU/Linux 12 (bookworm)",
                "6.18 (amd64)",
                "none://0"
            ]),
        ),
        (
            "Endpoints",
            json!({"metadata": {"name": "web"}, "subsets": [{"addresses": [{"ip": "10.128.0.6"}, {"ip": "10.128.0.7"}], "ports": [{"port": 8080}]}]}),
            json!(["web", "10.128.0.6:8080,10.128.0.7:8080", "24s"]),
        ),
        (
            "Endpoints",
            json!({"metadata": {"name": "ns1"}}),
            json!(["ns1", "<none>", "24s"]),
        ),
        (
            "EndpointSlice",
            json!({"metadata": {"name": "web-x"}, "addressType": "IPv4", "endpoints": [{"addresses": ["10.128.0.6"]}], "ports": [{"port": 8080}]}),
            json!(["web-x", "IPv4", "8080", "10.128.0.6", "24s"]),
        ),
        (
            "EndpointSlice",
            json!({"metadata": {"name": "x"}, "addressType": "IPv4"}),
            json!(["x", "IPv4", "<unset>", "<unset>", "24s"]),
        ),
        (
            "Namespace",
            json!({"metadata": {"name": "a"}, "status": {"phase": "Active"}}),
            json!(["a", "Active", "24s"]),
        ),
        (
            "ServiceAccount",
            json!({"metadata": {"name": "default"}}),
            json!(["default", "24s"]),
        ),
        (
            "ConfigMap",
            json!({"metadata": {"name": "c"}, "data": {"a": "b"}}),
            json!(["c", 1, "24s"]),
        ),
    ];
    for (kind, object, expected) in cases {
        assert_eq!(Value::from(cells(kind, object)), expected, "{kind}");
    }
}
