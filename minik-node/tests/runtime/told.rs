//! What is told of containers and to them: their status beside its states, why one has no log, what they are started
//! with, what hooks ask.

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::pods::{Node, get, pod, running};
use crate::{trial, trial_in_node};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("told::an_unknown_image_is_reported", unknown_image),
        trial("told::what_a_container_was_given", given),
        trial("told::who_waits_for_init_containers_says_so", initializing),
        trial("told::command_variables_and_names_are_as_written", words),
        trial_in_node("told::hooks_sleep_and_ask", hooks),
    ]
}

async fn unknown_image() {
    let mut node = Node::new();
    node.api.put(pod(
        "db",
        json!({"containers": [{"name": "main", "image": "mysql:5.7"}]}),
    ));
    let waiting = |pod: &Value| pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "ErrImagePull";
    let db = node.api.until("db", waiting).await;
    assert_eq!(db["status"]["phase"], "Pending");
    let message = db["status"]["containerStatuses"][0]["state"]["waiting"]["message"]
        .as_str()
        .unwrap();
    assert!(message.contains("there are: agnhost, busybox, "), "{message}");
    assert_eq!(
        get(&node.registry, "/containerLogs/default/db/main").await,
        (
            400,
            "container \"main\" in pod \"db\" is waiting to start: image can't be pulled".to_owned()
        )
    );
    let waiting =
        |pod: &Value| pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "ImagePullBackOff";
    let db = node.api.until("db", waiting).await;
    let message = db["status"]["containerStatuses"][0]["state"]["waiting"]["message"]
        .as_str()
        .unwrap();
    assert!(
        message.starts_with("Back-off pulling image \"mysql:5.7\": ErrImagePull: "),
        "{message}"
    );
    assert_eq!(
        get(&node.registry, "/containerLogs/default/db/main").await.1,
        "container \"main\" in pod \"db\" is waiting to start: trying and failing to pull image"
    );
    for event in [
        "Pulling: Pulling image \"mysql:5.7\"",
        "Failed: Failed to pull image \"mysql:5.7\": ",
        "Failed: Error: ErrImagePull",
        "BackOff: Back-off pulling image \"mysql:5.7\"",
        "Failed: Error: ImagePullBackOff",
    ] {
        node.api.until_event(event).await;
    }
    node.finish("db").await;
}

/// Fields and values of the kubelet 1.36 (`convertToAPIContainerStatuses`); the groups are those of the process.
async fn given() {
    let mut node = Node::new();
    node.api.put(pod(
        "given",
        json!({
            "securityContext": {"runAsUser": 1000, "runAsGroup": 3000, "fsGroup": 2000, "supplementalGroups": [4000]},
            "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [{
                "name": "main", "image": "busybox", "command": ["sh", "-c", "cat /proc/1/status; sleep infinity"],
                "resources": {"limits": {"memory": "64Mi"}, "requests": {"cpu": "125m", "memory": "32Mi"}},
                "volumeMounts": [
                    {"name": "v", "mountPath": "/a"},
                    {"name": "v", "mountPath": "/b", "readOnly": true},
                    {"name": "v", "mountPath": "/c", "readOnly": true, "recursiveReadOnly": "IfPossible"},
                ],
            }, {"name": "plain", "image": "pause"}],
        }),
    ));
    let given = node.api.until("given", running).await;
    let statuses = &given["status"]["containerStatuses"];
    assert_eq!(
        statuses[0]["resources"],
        json!({"limits": {"memory": "64Mi"}, "requests": {"cpu": "125m", "memory": "32Mi"}})
    );
    assert_eq!(
        statuses[0]["allocatedResources"],
        json!({"cpu": "125m", "memory": "32Mi"})
    );
    assert_eq!(
        statuses[0]["user"],
        json!({"linux": {"uid": 1000, "gid": 3000, "supplementalGroups": [2000, 3000, 4000]}})
    );
    assert_eq!(
        statuses[0]["volumeMounts"],
        json!([
            {"name": "v", "mountPath": "/a"},
            {"name": "v", "mountPath": "/b", "readOnly": true, "recursiveReadOnly": "Disabled"},
            {"name": "v", "mountPath": "/c", "readOnly": true, "recursiveReadOnly": "Enabled"},
        ])
    );
    assert_eq!(statuses[1]["resources"], json!({}));
    assert_eq!(statuses[1].get("allocatedResources"), None);
    let (_, log) = get(&node.registry, "/containerLogs/default/given/main").await;
    let groups = log.lines().find_map(|line| line.strip_prefix("Groups:"));
    assert_eq!(groups.map(str::trim), Some("2000 3000 4000"), "{log}");
    node.finish("given").await;
}

async fn initializing() {
    let mut node = Node::new();
    node.api.put(pod(
        "slow",
        json!({
            "initContainers": [{"name": "first", "image": "busybox", "command": ["sleep", "infinity"]}],
            "containers": [{"name": "main", "image": "busybox"}],
        }),
    ));
    let begun = |pod: &Value| pod["status"]["initContainerStatuses"][0]["state"]["running"].is_object();
    node.api.until("slow", begun).await;
    assert_eq!(
        get(&node.registry, "/containerLogs/default/slow/main").await,
        (
            400,
            "container \"main\" in pod \"slow\" is waiting to start: PodInitializing".to_owned()
        )
    );
    node.finish("slow").await;
}

const MAP: &str = "/api/v1/namespaces/default/configmaps/settings";
const SECRET: &str = "/api/v1/namespaces/default/secrets/keys";

/// A container's command, directory and variables, and the Pod's own names: the fields' words in the Pod API.
async fn words() {
    let mut node = Node::new();
    node.api.add(
        MAP,
        json!({"metadata": {"name": "settings"}, "data": {"color": "red", "shape": "round"}}),
    );
    node.api.add(
        SECRET,
        json!({"metadata": {"name": "keys"}, "data": {"password": "c2VjcmV0"}}),
    );
    let script = "pwd; env | sort | grep ^T_; echo $0 $1; cat /etc/resolv.conf; sed -n '/HostAliases/,$p' /etc/hosts";
    node.api.put(pod(
        "words",
        json!({
            "dnsPolicy": "None",
            "dnsConfig": {"nameservers": ["192.0.2.1"], "searches": ["ns1.svc.cluster-domain.example"],
                "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]},
            "hostAliases": [{"ip": "127.0.0.1", "hostnames": ["foo.local", "bar.local"]}],
            "containers": [{
                "name": "main", "image": "busybox", "workingDir": "/usr/bin",
                "command": ["sh", "-c", format!("{script}; exec sleep 1000"), "$(T_COLOR)"],
                "args": ["$$(T_COLOR)"],
                "envFrom": [
                    {"prefix": "T_all_", "configMapRef": {"name": "settings"}},
                    {"configMapRef": {"name": "absent", "optional": true}},
                ],
                "env": [
                    {"name": "T_COLOR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "color"}}},
                    {"name": "T_GONE", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "no", "optional": true}}},
                    {"name": "T_KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "password"}}},
                    {"name": "T_NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                    {"name": "T_REF", "value": "$(T_COLOR) $(T_LATER) $$(T_COLOR)"},
                    {"name": "T_LATER", "value": "late"},
                ],
            }],
        }),
    ));
    node.api.until("words", running).await;
    let expected = "/usr/bin
T_COLOR=red
T_KEY=secret
T_LATER=late
T_NODE=worker1
T_REF=red $(T_LATER) $(T_COLOR)
T_all_color=red
T_all_shape=round
red $(T_COLOR)
search ns1.svc.cluster-domain.example
nameserver 192.0.2.1
options ndots:2 edns0
# Entries added by HostAliases.
127.0.0.1\tfoo.local\tbar.local
";
    let path = "/containerLogs/default/words/main";
    let started = std::time::Instant::now();
    let mut log = String::new();
    while log != expected && started.elapsed().as_secs() < 10 {
        log = get(&node.registry, path).await.1;
        tokio::task::yield_now().await;
    }
    assert_eq!(log, expected);
    node.finish("words").await;
}

/// Hooks that sleep, and hooks that ask over HTTP, the Pod or a host and port of their own.
async fn hooks(mut node: Node) {
    let get_page = |path: &str| json!({"httpGet": {"path": path, "port": "web", "httpHeaders": [{"name": "X-Hook", "value": "yes"}]}});
    let hooked = json!({
        "name": "hooked", "image": "busybox", "command": ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"],
        "ports": [{"name": "web", "containerPort": 8080}],
        "lifecycle": {"postStart": get_page("/began"), "preStop": get_page("/ends")},
    });
    let answer = r#"while read line && [ ${#line} -gt 1 ]; do echo "$line" > /proc/1/fd/1; done; printf 'HTTP/1.0 200 OK\r\n\r\n'"#;
    let server = ["nc", "-ll", "-p", "8080", "-e", "sh", "-c", answer];
    // Containers begin one after another, and end all at once: the one that answers is the longest to go.
    let answers = json!({
        "name": "answers", "image": "busybox", "command": server,
        "lifecycle": {"preStop": {"sleep": {"seconds": 2}}},
    });
    node.api.put(pod(
        "web",
        json!({"terminationGracePeriodSeconds": 4, "containers": [answers, hooked]}),
    ));
    let both =
        |pod: &Value| (0..2).all(|index| pod["status"]["containerStatuses"][index]["state"]["running"].is_object());
    node.api.until("web", both).await;
    let (registry, log) = (node.registry.clone(), "/containerLogs/default/web/answers?follow=true");
    let follower = tokio::spawn(async move { get(&registry, log).await.1 });
    let began = std::time::Instant::now();
    node.api.delete("web", 4);
    node.api.until("web", Value::is_null).await;
    let took = began.elapsed().as_secs_f64();
    // The sleep, and then a shell that is the first process and has no answer to the signal: the rest of the grace period.
    assert!((4.0..8.0).contains(&took), "{took}");
    let log = follower.await.unwrap();
    let log = log.to_lowercase();
    let asked: Vec<&str> = log
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("get ") || line.starts_with("x-hook"))
        .collect();
    assert_eq!(
        asked,
        [
            "get /began http/1.1",
            "x-hook: yes",
            "get /ends http/1.1",
            "x-hook: yes"
        ],
        "{log}"
    );
    node.finish_gone().await;
}
