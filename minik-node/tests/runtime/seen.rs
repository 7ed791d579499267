//! What a container sees, on a real kernel: volumes and their updates, variables, names, privileges.
//!
//! A container reports by its log: what a script prints is compared with what Kubernetes promises of the fields.

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::pods::{Node, get, pod, running};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "seen::objects_change_in_the_volume_and_not_under_a_sub_path",
            live_update,
        ),
        trial(
            "seen::a_missing_object_holds_the_pod_back_and_its_coming_lets_it_go",
            missing,
        ),
        trial(
            "seen::a_projected_volume_has_token_certificate_and_namespace",
            projected,
        ),
        trial("seen::labels_and_annotations_follow_the_pod", downward),
        trial("seen::variables_come_from_files_that_came_before", env_files),
        trial("seen::a_claim_leads_to_its_volume", claim),
        trial("seen::memory_is_bounded_and_shared", memory),
        trial("seen::paths_of_the_node_are_checked", host_path),
        trial("seen::the_groups_of_the_pod_own_its_volumes", ownership),
        trial("seen::last_words_are_remembered", last_words),
        trial("seen::a_container_is_as_restricted_as_it_says", privileges),
        trial("seen::containers_may_share_their_processes", shared_processes),
        trial("seen::namespaces_are_the_pods_or_the_nodes", node_namespaces),
    ]
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A Pod of one container that runs `script` and stays.
fn scripted(name: &str, script: &str, volumes: Value, mounts: Value) -> Value {
    let command = json!(["sh", "-c", format!("{script}\nexec sleep 1000")]);
    let container = json!({"name": "main", "image": "busybox", "command": command, "volumeMounts": mounts});
    pod(name, json!({"volumes": volumes, "containers": [container]}))
}

/// The first `lines` lines of the log.
async fn says(node: &Node, name: &str, lines: usize) -> Vec<String> {
    let path = format!("/containerLogs/default/{name}/main");
    let waiting = async {
        loop {
            let (status, log) = get(&node.registry, &path).await;
            let seen: Vec<String> = log.lines().map(str::to_owned).collect();
            if status == 200 && seen.len() >= lines {
                return seen;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(std::time::Duration::from_secs(20), waiting).await;
    match waited {
        Ok(seen) => seen,
        Err(_) => panic!(
            "{name} says only {:?}\n{:#?}",
            get(&node.registry, &path).await,
            node.api.events()
        ),
    }
}

async fn live_update() {
    let mut node = Node::new();
    let settings = |color: &str| json!({"metadata": {"name": "settings"}, "data": {"color": color, "shape": color}});
    node.api.add(&format!("{MAPS}/settings"), settings("red"));
    // A file under a subPath keeps what it was; the volume's own is followed.
    let script = "cat /conf/color; echo; cat /one; echo; ls -A /conf | grep -v '\\.\\.2'
        while [ \"$(cat /conf/color)\" = red ]; do usleep 5000; done
        cat /conf/color /conf/shape; echo; cat /one; echo; ls /conf | wc -l";
    let web = scripted(
        "web",
        script,
        json!([{"name": "conf", "configMap": {"name": "settings"}}]),
        json!([{"name": "conf", "mountPath": "/conf"}, {"name": "conf", "mountPath": "/one", "subPath": "color"}]),
    );
    node.api.put(web);
    assert_eq!(says(&node, "web", 5).await, ["red", "red", "..data", "color", "shape"]);
    node.api.add(&format!("{MAPS}/settings"), settings("blue"));
    assert_eq!(says(&node, "web", 8).await[5..], ["blueblue", "red", "2"]);
    node.finish("web").await;
}

async fn missing() {
    let mut node = Node::new();
    let volumes = json!([{"name": "conf", "configMap": {"name": "settings"}}]);
    let web = scripted(
        "web",
        "cat /conf/color; echo",
        volumes,
        json!([{"name": "conf", "mountPath": "/conf"}]),
    );
    node.api.put(web);
    node.api
        .until_event("FailedMount: MountVolume.SetUp failed for volume \"conf\" : configmap \"settings\" not found")
        .await;
    let creating =
        |pod: &Value| pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "ContainerCreating";
    let held = node.api.until("web", creating).await;
    assert_eq!(held["status"]["phase"], "Pending");
    assert_eq!(held["status"]["podIP"], Value::Null, "volumes come before the sandbox");
    node.api.add(
        &format!("{MAPS}/settings"),
        json!({"metadata": {"name": "settings"}, "data": {"color": "red"}}),
    );
    assert_eq!(says(&node, "web", 1).await, ["red"]);
    node.finish("web").await;
}

async fn projected() {
    let mut node = Node::new();
    let ca = json!({"metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": "CA\n"}});
    node.api.add(&format!("{MAPS}/kube-root-ca.crt"), ca);
    // As the ServiceAccount admission writes it.
    let volume = json!({"name": "kube-api-access-x7k2p", "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}});
    let path = "/var/run/secrets/kubernetes.io/serviceaccount";
    let script = format!("cd {path}; for f in *; do echo $f $(cat $f) $(stat -L -c %a $f); done; touch x 2>&1");
    let mounts = json!([{"name": "kube-api-access-x7k2p", "mountPath": path, "readOnly": true}]);
    node.api.put(scripted("web", &script, json!([volume]), mounts));
    assert_eq!(
        says(&node, "web", 4).await,
        [
            "ca.crt CA 644",
            "namespace default 644",
            "token token-1 644",
            "touch: x: Read-only file system"
        ]
    );
    let requests = node.api.token_requests();
    let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": "uid-web"});
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0]["spec"]["boundObjectRef"], bound);
    assert_eq!(requests[0]["spec"]["expirationSeconds"], 3607);
    node.finish("web").await;
}

async fn downward() {
    let mut node = Node::new();
    let volume = json!({"name": "info", "downwardAPI": {"items": [
        {"path": "annotations", "fieldRef": {"fieldPath": "metadata.annotations"}},
        {"path": "limit", "resourceFieldRef": {"containerName": "main", "resource": "limits.cpu", "divisor": "1m"}},
    ]}});
    let script = "cat /info/annotations; echo; cat /info/limit; echo
        while grep -q one /info/annotations; do usleep 5000; done; cat /info/annotations; echo";
    let mut web = scripted(
        "web",
        script,
        json!([volume]),
        json!([{"name": "info", "mountPath": "/info"}]),
    );
    web["metadata"]["annotations"] = json!({"version": "one"});
    web["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "250m"}});
    node.api.put(web);
    assert_eq!(says(&node, "web", 2).await, ["version=\"one\"", "250"]);
    node.api.annotate("web", "version", "two");
    assert_eq!(says(&node, "web", 3).await[2..], ["version=\"two\""]);
    node.finish("web").await;
}

async fn claim() {
    let mut node = Node::new();
    let dir = node.dir.path().join("pv");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("kept"), "from before\n").unwrap();
    let claim = |phase: &str| json!({"metadata": {"name": "data", "namespace": "default", "uid": "claim-1"}, "spec": {"volumeName": "pv-1"}, "status": {"phase": phase}});
    let path = "/api/v1/namespaces/default/persistentvolumeclaims/data";
    node.api.add(path, claim("Pending"));
    let volume = json!({"name": "store", "persistentVolumeClaim": {"claimName": "data"}});
    let script = "echo new > /store/new; cat /store/kept";
    node.api.put(scripted(
        "web",
        script,
        json!([volume]),
        json!([{"name": "store", "mountPath": "/store"}]),
    ));
    node.api
        .until_event("FailedMount: Unable to attach or mount volumes: unmounted volumes=[store], unattached volumes=[], failed to process volumes=[store]: error processing PVC default/data: PVC is not bound")
        .await;
    let spec = json!({"hostPath": {"path": dir}, "claimRef": {"uid": "claim-1"}, "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]});
    node.api.add(
        "/api/v1/persistentvolumes/pv-1",
        json!({"metadata": {"name": "pv-1"}, "spec": spec}),
    );
    node.api.add(path, claim("Bound"));
    assert_eq!(says(&node, "web", 1).await, ["from before"]);
    node.finish("web").await;
    assert_eq!(
        std::fs::read_to_string(dir.join("new")).unwrap(),
        "new\n",
        "the volume outlives the Pod"
    );
}

async fn memory() {
    let mut node = Node::new();
    let volume = json!({"name": "fast", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}});
    let write = json!({"name": "write", "image": "busybox", "command": ["sh", "-c", "echo shared > /fast/sub/file"],
        "volumeMounts": [{"name": "fast", "mountPath": "/fast"}, {"name": "fast", "mountPath": "/made", "subPath": "sub"}]});
    let script = "cat /sub/file; df -k /sub | tail -1 | awk '{print $2}'; dd if=/dev/zero of=/sub/big bs=1k count=2048 2>&1 | grep -o 'No space.*'; exec sleep 1000";
    let read = json!({"name": "main", "image": "busybox", "command": ["sh", "-c", script],
        "volumeMounts": [{"name": "fast", "mountPath": "/sub", "subPath": "sub"}]});
    node.api.put(pod(
        "web",
        json!({"volumes": [volume], "initContainers": [write], "containers": [read]}),
    ));
    assert_eq!(
        says(&node, "web", 3).await,
        ["shared", "1024", "No space left on device"]
    );
    node.finish("web").await;
}

async fn host_path() {
    let mut node = Node::new();
    let dir = node.dir.path().join("host");
    std::fs::create_dir(&dir).unwrap();
    let volumes = json!([
        {"name": "made", "hostPath": {"path": dir.join("made"), "type": "DirectoryOrCreate"}},
        {"name": "all", "hostPath": {"path": dir, "type": "Directory"}},
    ]);
    let script = "echo x > /made/file; cat /all/made/file; echo y 2>&1 > /all/made/file; echo $POD; ls /logs";
    let mounts = json!([
        {"name": "made", "mountPath": "/made"},
        {"name": "all", "mountPath": "/all", "readOnly": true, "recursiveReadOnly": "Enabled"},
        {"name": "all", "mountPath": "/logs", "subPathExpr": "logs-$(POD)"},
    ]);
    let mut web = scripted("web", script, volumes, mounts);
    web["spec"]["containers"][0]["env"] =
        json!([{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]);
    std::fs::create_dir(dir.join("logs-web")).unwrap();
    std::fs::write(dir.join("logs-web/today"), "").unwrap();
    node.api.put(web);
    let seen = says(&node, "web", 4).await;
    assert_eq!(seen[0], "x");
    assert!(seen[1].contains("Read-only file system"), "{seen:?}");
    assert_eq!(seen[2..], ["web", "today"]);
    let file = dir.join("made/file");
    let wrong = json!([{"name": "d", "hostPath": {"path": file, "type": "Directory"}}]);
    node.api
        .put(scripted("wrong", "", wrong, json!([{"name": "d", "mountPath": "/d"}])));
    let text = format!(
        "FailedMount: MountVolume.SetUp failed for volume \"d\" : hostPath type check failed: {} is not a directory",
        file.display()
    );
    node.api.until_event(&text).await;
    node.api.delete("wrong", 0);
    node.api.until("wrong", Value::is_null).await;
    node.finish("web").await;
}

async fn ownership() {
    let mut node = Node::new();
    node.api.add(
        "/api/v1/namespaces/default/secrets/login",
        json!({"metadata": {"name": "login"}, "data": {"password": "cw=="}}),
    );
    let volumes = json!([
        {"name": "disk", "emptyDir": {}},
        {"name": "memory", "emptyDir": {"medium": "Memory"}},
        {"name": "secret", "secret": {"secretName": "login", "defaultMode": 0o400}},
    ]);
    let mounts = json!([
        {"name": "disk", "mountPath": "/disk"},
        {"name": "memory", "mountPath": "/memory"},
        {"name": "secret", "mountPath": "/secret"},
    ]);
    let script = "id -u; id -g; id -G; stat -c '%g %a' /disk /memory; stat -L -c '%g %a' /secret/password; cat /secret/password; echo; touch /disk/f; stat -c '%u %g' /disk/f";
    let mut web = scripted("web", script, volumes, mounts);
    web["spec"]["securityContext"] =
        json!({"runAsUser": 1000, "runAsGroup": 3000, "fsGroup": 2000, "supplementalGroups": [4000]});
    node.api.put(web);
    assert_eq!(
        says(&node, "web", 8).await,
        [
            "1000",
            "3000",
            "3000 2000 4000",
            "2000 2777",
            "2000 2777",
            "2000 440",
            "s",
            "1000 2000"
        ]
    );
    node.finish("web").await;
}

async fn last_words() {
    let mut node = Node::new();
    let failing = |name: &str, script: &str, policy: &str| {
        let container = json!({"name": "main", "image": "busybox", "command": ["sh", "-c", script],
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": policy});
        pod(name, json!({"restartPolicy": "Never", "containers": [container]}))
    };
    for (name, script, policy, expected) in [
        ("told", "echo -n bye > /dev/termination-log", "File", json!("bye")),
        ("silent", "echo log; exit 1", "File", Value::Null),
        ("logged", "echo log; exit 1", "FallbackToLogsOnError", json!("log\n")),
        ("well", "echo log", "FallbackToLogsOnError", Value::Null),
    ] {
        node.api.put(failing(name, script, policy));
        let over = |pod: &Value| matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        let ended = node.api.until(name, over).await;
        let terminated = &ended["status"]["containerStatuses"][0]["state"]["terminated"];
        assert_eq!(terminated["message"], expected, "{name}: {terminated}");
        node.api.delete(name, 0);
        node.api.until(name, Value::is_null).await;
    }
    let sleeping = scripted("web", "", json!([]), json!([]));
    node.api.put(sleeping);
    node.api.until("web", running).await;
    node.finish("web").await;
}

async fn privileges() {
    let mut node = Node::new();
    let script =
        "grep NoNewPrivs /proc/self/status | tr '\\t' ' '; touch /x 2>&1; grep CapEff /proc/self/status | tr '\\t' ' '";
    let mut strict = scripted("strict", script, json!([]), json!([]));
    strict["spec"]["containers"][0]["securityContext"] = json!({
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
    });
    node.api.put(strict);
    assert_eq!(
        says(&node, "strict", 3).await,
        [
            "NoNewPrivs: 1",
            "touch: /x: Read-only file system",
            "CapEff: 0000000000000400"
        ]
    );
    let script = "echo 1 > /proc/sys/net/ipv4/ip_forward && cat /proc/sys/net/ipv4/ip_forward";
    let mut free = scripted("free", script, json!([]), json!([]));
    free["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
    node.api.put(free);
    assert_eq!(says(&node, "free", 1).await[0], "1");
    let user = json!({"runAsNonRoot": true});
    let mut root = scripted("root", "", json!([]), json!([]));
    root["spec"]["securityContext"] = user;
    node.api.put(root);
    let refused = |pod: &Value| {
        pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "CreateContainerConfigError"
    };
    let root = node.api.until("root", refused).await;
    assert_eq!(
        root["status"]["containerStatuses"][0]["state"]["waiting"]["message"],
        "container has runAsNonRoot and image will run as root (pod: \"root_default(uid-root)\", container: main)"
    );
    for name in ["root", "free"] {
        node.api.delete(name, 0);
        node.api.until(name, Value::is_null).await;
    }
    node.finish("strict").await;
}

async fn env_files() {
    let mut node = Node::new();
    // `pods/inject/envars-file-container.yaml` of Kubernetes' website, and the same out of memory.
    for (name, medium) in [("disk", ""), ("memory", "Memory")] {
        let write = "printf \"DB_ADDRESS='address'\\nREST_ENDPOINT='end\\npoint'\\n\" > /data/config.env";
        let setup = json!({"name": "setup-envfile", "image": "busybox", "command": ["sh", "-c", write],
            "volumeMounts": [{"name": "config", "mountPath": "/data"}]});
        let variable = |name: &str, key: &str, optional: bool| {
            let reference = json!({"path": "config.env", "volumeName": "config", "key": key, "optional": optional});
            json!({"name": name, "valueFrom": {"fileKeyRef": reference}})
        };
        let mut web = scripted(
            name,
            "echo $DB_ADDRESS; echo \"$REST\"; echo ${NONE-none}; ls /data",
            json!([]),
            json!([]),
        );
        web["spec"]["containers"][0]["env"] = json!([
            variable("DB_ADDRESS", "DB_ADDRESS", false),
            variable("REST", "REST_ENDPOINT", false),
            variable("NONE", "NONE", true)
        ]);
        web["spec"]["initContainers"] = json!([setup]);
        web["spec"]["volumes"] = json!([{"name": "config", "emptyDir": {"medium": medium}}]);
        node.api.put(web.clone());
        let seen = says(&node, name, 5).await;
        assert_eq!(seen[..4], ["address", "end", "point", "none"]);
        assert!(seen[4].contains("/data"), "it is not mounted: {seen:?}");
    }
    let mut lost = scripted("lost", "", json!([{"name": "config", "emptyDir": {}}]), json!([]));
    lost["spec"]["containers"][0]["env"] = json!([
        {"name": "K", "valueFrom": {"fileKeyRef": {"path": "none.env", "volumeName": "config", "key": "K"}}}
    ]);
    node.api.put(lost);
    node.api.until_event("Failed: Error: couldn't parse env file").await;
    for name in ["disk", "memory"] {
        node.api.delete(name, 0);
        node.api.until(name, Value::is_null).await;
    }
    node.finish("lost").await;
}

async fn shared_processes() {
    let mut node = Node::new();
    let background = json!({"name": "background", "image": "busybox", "command": ["sh", "-c", "sleep 777 & while ! test -e /shared/seen; do usleep 5000; done"],
        "volumeMounts": [{"name": "shared", "mountPath": "/shared"}]});
    // What a container leaves behind does not outlive it, though its namespace does.
    let script = "tr -d '\\0' < /proc/1/cmdline; echo; cat /proc/1/comm
        while ! grep -qs '^sleep' /proc/[0-9]*/cmdline; do usleep 5000; done; echo there; touch /shared/seen
        while grep -qs '^sleep' /proc/[0-9]*/cmdline; do usleep 5000; done; echo gone; exec sleep 1000";
    let main = json!({"name": "main", "image": "busybox", "command": ["sh", "-c", script], "volumeMounts": [{"name": "shared", "mountPath": "/shared"}]});
    let spec = json!({"shareProcessNamespace": true, "restartPolicy": "Never", "volumes": [{"name": "shared", "emptyDir": {}}], "containers": [main, background]});
    node.api.put(pod("web", spec));
    assert_eq!(says(&node, "web", 4).await, ["/pause", "pause", "there", "gone"]);
    node.finish("web").await;
}

async fn node_namespaces() {
    let mut node = Node::new();
    let own = std::process::id();
    let shared = format!("/dev/shm/minik-test-{own}");
    std::fs::write(&shared, "machine\n").unwrap();
    let script = format!(
        "cat {shared}; test -d /proc/{own} && echo its processes; hostname; echo $HOSTNAME; head -1 /etc/hosts; cat /proc/sys/kernel/shm_rmid_forced"
    );
    let mut web = scripted("web", &script, json!([]), json!([]));
    for field in ["hostPID", "hostIPC", "hostNetwork"] {
        web["spec"][field] = json!(true);
    }
    web["spec"]["hostname"] = json!("ignored");
    node.api.put(web);
    let seen = says(&node, "web", 6).await;
    std::fs::remove_file(&shared).unwrap();
    let hosts = "# Kubernetes-managed hosts file (host network).";
    assert_eq!(seen[..5], ["machine", "its processes", "worker1", "worker1", hosts]);
    let status = node.api.until("web", running).await["status"].clone();
    assert_eq!(
        (status["podIP"].clone(), status["hostIP"].clone()),
        (json!("172.30.0.11"), json!("172.30.0.11"))
    );
    let isolated = "ls /dev/shm | wc -l; ls -d /proc/[0-9]* | wc -l; hostname; cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced";
    let mut apart = scripted("apart", isolated, json!([]), json!([]));
    apart["spec"]["hostname"] = json!("db-0");
    apart["spec"]["subdomain"] = json!("db");
    apart["spec"]["setHostnameAsFQDN"] = json!(true);
    apart["spec"]["securityContext"] = json!({"sysctls": [
        {"name": "net.ipv4.ip_unprivileged_port_start", "value": "80"}, {"name": "kernel.shm_rmid_forced", "value": "1"},
    ]});
    node.api.put(apart);
    let seen = says(&node, "apart", 5).await;
    assert_eq!(seen[0], "0");
    assert!(seen[1].parse::<u32>().unwrap() < 5, "{seen:?}");
    assert_eq!(seen[2..], ["db-0.db.default.svc.cluster.local", "80", "1"]);
    node.api.delete("web", 0);
    node.api.until("web", Value::is_null).await;
    node.finish("apart").await;
}
