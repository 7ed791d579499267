//! What is told of containers: their status beside its states, and why one has no log.

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::pods::{Node, get, pod, running};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("told::an_unknown_image_is_reported", unknown_image),
        trial("told::what_a_container_was_given", given),
        trial("told::who_waits_for_init_containers_says_so", initializing),
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
    assert!(message.contains("there are: busybox"), "{message}");
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
