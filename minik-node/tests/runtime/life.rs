//! The life of Pods in real processes: hooks, sidecars, ends, deadlines, gates.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::pods::{Node, condition, get, pod, running};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("life::a_failing_container_backs_off", crash_loop),
        trial("life::a_finished_pod_keeps_its_end", finished),
        trial("life::a_pod_runs_once_its_post_start_hook_has_ended", post_start),
        trial("life::a_failed_post_start_hook_ends_the_container", post_start_fails),
        trial("life::pre_stop_runs_before_the_signal", pre_stop),
        trial("life::a_pre_stop_hook_that_hangs_has_the_grace_period", pre_stop_hangs),
        trial("life::a_forgotten_pod_has_a_moment_left", forced),
        trial("life::a_shorter_grace_period_ends_a_pod_sooner", shorter),
        trial("life::sidecars_start_first_and_end_last", sidecars),
        trial("life::a_job_ends_with_its_sidecars", job),
        trial(
            "life::a_failed_init_container_fails_a_pod_that_never_restarts",
            init_fails,
        ),
        trial("life::a_deadline_fails_the_pod", deadline),
        trial("life::gates_are_opened_by_others", gates),
        trial("life::the_stop_signal_is_the_containers_own", stop_signal),
        trial("life::a_program_that_is_missing_is_told", start_error),
        trial("life::a_container_has_its_own_restart_rules", restart_rules),
        trial("life::a_deleted_pod_tells_how_it_ended", last_words),
        trial("life::another_image_restarts_the_container", image_changed),
    ]
}

fn container(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]
}

fn init(pod: &Value, index: usize) -> &Value {
    &pod["status"]["initContainerStatuses"][index]
}

/// A shell script that ends when it is told to.
fn shell(script: &str) -> Value {
    json!({"name": "main", "image": "busybox", "command": ["sh", "-c", script]})
}

/// Says so when it is told to end, and does.
const POLITE: &str = "trap 'echo term; exit 0' TERM; echo up; while :; do sleep 0.05; done";

/// Waits until a container has said that it is up, and so heeds signals.
async fn up(node: &Node, pod: &str, container: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !log(node, pod, container).await.starts_with("up") {
        assert!(Instant::now() < deadline, "{container} is not up");
        tokio::task::yield_now().await;
    }
}

async fn log(node: &Node, pod: &str, container: &str) -> String {
    get(&node.registry, &format!("/containerLogs/default/{pod}/{container}"))
        .await
        .1
}

async fn post_start() {
    let mut node = Node::new();
    let mut main = shell("sleep 1000");
    main["lifecycle"] = json!({"postStart": {"exec": {"command": ["sh", "-c", "touch /began; until test -e /go; do usleep 10000; done"]}}});
    let other = json!({"name": "other", "image": "busybox", "command": ["sleep", "1000"]});
    node.api.put(pod(
        "web",
        json!({"terminationGracePeriodSeconds": 1, "containers": [main, other]}),
    ));
    let path = |node: &Node, file: &str| {
        let facts = node.registry.get("default", "web");
        let pid = facts.and_then(|facts| facts.borrow().states.get("main").map(|state| state.current.pid));
        pid.map(|pid| format!("/proc/{pid}/root/{file}"))
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while !path(&node, "began").is_some_and(|path| std::fs::exists(path).unwrap()) {
        assert!(Instant::now() < deadline, "{:#?}", node.api.events());
        tokio::task::yield_now().await;
    }
    let held = node.api.until("web", |pod| container(pod).is_object()).await;
    assert_eq!(container(&held)["state"]["waiting"]["reason"], "ContainerCreating");
    let facts = node.registry.get("default", "web").unwrap();
    assert!(
        !facts.borrow().states.contains_key("other"),
        "containers begin one after another"
    );
    std::fs::write(path(&node, "go").unwrap(), "").unwrap();
    let both =
        |pod: &Value| (0..2).all(|index| pod["status"]["containerStatuses"][index]["state"]["running"].is_object());
    node.api.until("web", both).await;
    node.finish("web").await;
}

async fn post_start_fails() {
    let mut node = Node::new();
    let hook = "until test -e /up; do usleep 1000; done; echo why; exit 3";
    let mut main = shell("trap 'exit 0' TERM; touch /up; while :; do sleep 0.05; done");
    main["lifecycle"] = json!({"postStart": {"exec": {"command": ["sh", "-c", hook]}}});
    node.api.put(pod("web", json!({"containers": [main]})));
    node.api.until_event("FailedPostStartHook: PostStartHook failed").await;
    node.api.until_event("Killing: FailedPostStartHook").await;
    let waiting = |pod: &Value| container(pod)["state"]["waiting"]["reason"] == "CrashLoopBackOff";
    let web = node.api.until("web", waiting).await;
    assert_eq!(container(&web)["restartCount"], 1);
    assert_eq!(container(&web)["lastState"]["terminated"]["exitCode"], 0);
    let told = node.api.statuses("web");
    let mut reasons = told
        .iter()
        .map(|status| &status["containerStatuses"][0]["state"]["waiting"]);
    let failed = reasons.find(|waiting| waiting["reason"] == "PostStartHookError");
    let message = failed.map(|waiting| waiting["message"].as_str().unwrap());
    let expected = format!(
        "Exec lifecycle hook ([sh -c {hook}]) for Container \"main\" in Pod \"web_default(uid-web)\" failed - error: command 'sh -c {hook}' exited with 3: why\n, message: \"why\\n\""
    );
    assert!(message.is_none_or(|message| message == expected), "{message:?}");
    node.finish("web").await;
}

async fn pre_stop() {
    let mut node = Node::new();
    let mut main = shell(POLITE);
    main["lifecycle"] = json!({"preStop": {"exec": {"command": ["sh", "-c", "echo hook > /proc/1/fd/1"]}}});
    node.api
        .put(pod("web", json!({"restartPolicy": "Never", "containers": [main]})));
    node.api.until("web", running).await;
    up(&node, "web", "main").await;
    let follower = follow(&node, "web");
    node.api.delete("web", 30);
    node.api.until_event("Killing: Stopping container main").await;
    assert_eq!(follower.await.unwrap(), "up\nhook\nterm\n");
    node.api.until("web", Value::is_null).await;
    node.finish_gone().await;
}

fn follow(node: &Node, name: &str) -> tokio::task::JoinHandle<String> {
    let (registry, path) = (
        node.registry.clone(),
        format!("/containerLogs/default/{name}/main?follow=true"),
    );
    tokio::spawn(async move { get(&registry, &path).await.1 })
}

async fn pre_stop_hangs() {
    let mut node = Node::new();
    let mut main = shell(POLITE);
    main["lifecycle"] = json!({"preStop": {"exec": {"command": ["sleep", "1000"]}}});
    node.api.put(pod("web", json!({"containers": [main]})));
    node.api.until("web", running).await;
    up(&node, "web", "main").await;
    let follower = follow(&node, "web");
    let before = Instant::now();
    node.api.delete("web", 2);
    node.api.until("web", Value::is_null).await;
    let took = before.elapsed();
    assert!(
        took >= Duration::from_secs(2) && took < Duration::from_secs(4),
        "{took:?}"
    );
    assert_eq!(follower.await.unwrap(), "up\nterm\n", "it is still asked");
    node.finish_gone().await;
}

async fn forced() {
    let mut node = Node::new();
    node.api.put(pod(
        "web",
        json!({"terminationGracePeriodSeconds": 100, "containers": [shell(POLITE)]}),
    ));
    node.api.until("web", running).await;
    up(&node, "web", "main").await;
    let follower = follow(&node, "web");
    node.api.forget("web");
    assert_eq!(follower.await.unwrap(), "up\nterm\n");
    node.finish_gone().await;
}

async fn shorter() {
    let mut node = Node::new();
    let deaf = json!({"name": "main", "image": "busybox", "command": ["sleep", "1000"]});
    node.api.put(pod("web", json!({"containers": [deaf]})));
    node.api.until("web", running).await;
    node.api.delete("web", 100);
    node.api.until_event("Killing: Stopping container main").await;
    let before = Instant::now();
    node.api.delete("web", 1);
    node.api.until("web", Value::is_null).await;
    let took = before.elapsed();
    assert!(
        took > Duration::from_secs(1) && took < Duration::from_secs(4),
        "two seconds at least: {took:?}"
    );
    node.finish_gone().await;
}

async fn sidecars() {
    let mut node = Node::new();
    let mount = json!([{"name": "shared", "mountPath": "/shared"}]);
    let noting = |name: &str| {
        let script = format!(
            "echo {name} up >> /shared/order; trap 'echo {name} down >> /shared/order; exit 0' TERM; while :; do sleep 0.05; done"
        );
        json!({"name": name, "image": "busybox", "command": ["sh", "-c", script], "volumeMounts": mount})
    };
    let mut first = noting("first");
    first["restartPolicy"] = json!("Always");
    first["startupProbe"] =
        json!({"exec": {"command": ["grep", "-q", "first up", "/shared/order"]}, "periodSeconds": 1});
    let mut second = noting("second");
    second["restartPolicy"] = json!("Always");
    second["readinessProbe"] = json!({"exec": {"command": ["test", "-e", "/shared/ready"]}, "periodSeconds": 1});
    let once = json!({"name": "once", "image": "busybox", "command": ["sh", "-c", "echo once >> /shared/order"], "volumeMounts": mount});
    node.api.put(pod(
        "web",
        json!({
            "volumes": [{"name": "shared", "emptyDir": {}}],
            "initContainers": [first, once, second], "containers": [noting("main")],
        }),
    ));
    let web = node.api.until("web", running).await;
    assert_eq!(condition(&web, "Initialized"), "True");
    assert_eq!(condition(&web, "Ready"), "False", "a sidecar's readiness is the Pod's");
    let pid = node.registry.get("default", "web").unwrap().borrow().states["main"]
        .current
        .pid;
    let shared = std::path::PathBuf::from(format!("/proc/{pid}/root/shared"));
    let order = || std::fs::read_to_string(shared.join("order")).unwrap_or_default();
    std::fs::write(shared.join("ready"), "").unwrap();
    node.api.until("web", |pod| condition(pod, "Ready") == "True").await;
    let deadline = Instant::now() + Duration::from_secs(5);
    while !order().contains("main up") && Instant::now() < deadline {
        tokio::task::yield_now().await;
    }
    assert_eq!(order(), "first up\nonce\nsecond up\nmain up\n");

    // A sidecar that ends is started again, whatever the others do.
    let pid = node.registry.get("default", "web").unwrap().borrow().states["second"]
        .current
        .pid;
    std::process::Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status()
        .unwrap();
    node.api
        .until("web", |pod| {
            init(pod, 2)["restartCount"] == 1 && init(pod, 2)["ready"] == true
        })
        .await;
    let file = std::fs::File::open(shared.join("order")).unwrap();
    node.api.delete("web", 30);
    node.api.until("web", Value::is_null).await;
    let mut text = String::new();
    std::io::Read::read_to_string(&mut &file, &mut text).unwrap();
    let downs: Vec<&str> = text.lines().filter(|line| line.ends_with("down")).collect();
    assert_eq!(downs, ["main down", "second down", "first down"]);
    node.finish_gone().await;
}

async fn job() {
    let mut node = Node::new();
    let mut sidecar = shell(POLITE);
    sidecar["name"] = json!("sidecar");
    sidecar["restartPolicy"] = json!("Always");
    node.api.put(pod(
        "job",
        json!({"restartPolicy": "Never", "initContainers": [sidecar], "containers": [shell("echo done")]}),
    ));
    let job = node.api.until("job", |pod| pod["status"]["phase"] == "Succeeded").await;
    assert_eq!(init(&job, 0)["state"]["terminated"]["exitCode"], 0);
    assert_eq!(log(&node, "job", "sidecar").await, "up\nterm\n");
    node.finish("job").await;
}

async fn init_fails() {
    let mut node = Node::new();
    let bad = json!({"name": "bad", "image": "busybox", "command": ["sh", "-c", "exit 2"]});
    node.api.put(pod(
        "web",
        json!({"restartPolicy": "Never", "initContainers": [bad], "containers": [shell("sleep 1000")]}),
    ));
    let web = node.api.until("web", |pod| pod["status"]["phase"] == "Failed").await;
    assert_eq!(init(&web, 0)["state"]["terminated"]["exitCode"], 2);
    assert_eq!(container(&web)["state"]["waiting"]["reason"], "PodInitializing");
    assert_eq!(condition(&web, "Initialized"), "False");
    node.api.put(pod(
        "again",
        json!({"initContainers": [bad], "containers": [shell("sleep 1000")]}),
    ));
    let waiting = |pod: &Value| init(pod, 0)["state"]["waiting"]["reason"] == "CrashLoopBackOff";
    let again = node.api.until("again", waiting).await;
    assert_eq!(again["status"]["phase"], "Pending");
    node.api.delete("again", 1);
    node.api.until("again", Value::is_null).await;
    node.finish("web").await;
}

async fn deadline() {
    let mut node = Node::new();
    node.api.put(pod(
        "web",
        json!({"activeDeadlineSeconds": 1, "terminationGracePeriodSeconds": 10, "containers": [shell(POLITE)]}),
    ));
    let ended = |pod: &Value| container(pod)["state"]["terminated"].is_object();
    let web = node.api.until("web", ended).await;
    let status = &web["status"];
    assert_eq!(
        (status["phase"].as_str(), status["reason"].as_str()),
        (Some("Failed"), Some("DeadlineExceeded"))
    );
    assert_eq!(condition(&web, "Ready"), "False");
    node.api
        .until_event("DeadlineExceeded: Pod was active on the node longer than the specified deadline")
        .await;
    node.finish("web").await;
}

async fn gates() {
    let mut node = Node::new();
    node.api.put(pod(
        "web",
        json!({"readinessGates": [{"conditionType": "example.com/open"}], "containers": [shell(POLITE)]}),
    ));
    let web = node.api.until("web", running).await;
    assert_eq!(
        (condition(&web, "Ready"), condition(&web, "ContainersReady")),
        ("False", "True")
    );
    node.api.set_condition("web", "example.com/open", "True");
    let web = node.api.until("web", |pod| condition(pod, "Ready") == "True").await;
    assert_eq!(condition(&web, "example.com/open"), "True");
    let list = web["status"]["conditions"].as_array().unwrap();
    let ready = list.iter().find(|condition| condition["type"] == "Ready").unwrap();
    assert_eq!(ready.get("reason"), None, "what held it back is unsaid");
    node.finish("web").await;
}

async fn stop_signal() {
    let mut node = Node::new();
    let mut main =
        shell("trap 'echo usr1; exit 0' USR1; trap 'echo term; exit 1' TERM; echo up; while :; do sleep 0.05; done");
    main["lifecycle"] = json!({"stopSignal": "SIGUSR1"});
    node.api.put(pod("web", json!({"containers": [main]})));
    node.api.until("web", running).await;
    up(&node, "web", "main").await;
    let follower = follow(&node, "web");
    node.api.delete("web", 30);
    assert_eq!(follower.await.unwrap(), "up\nusr1\n");
    node.api.until("web", Value::is_null).await;
    node.finish_gone().await;
}

async fn start_error() {
    let mut node = Node::new();
    let missing = json!({"name": "main", "image": "busybox", "command": ["/no/such/program"]});
    node.api
        .put(pod("never", json!({"restartPolicy": "Never", "containers": [missing]})));
    let never = node.api.until("never", |pod| pod["status"]["phase"] == "Failed").await;
    let end = &container(&never)["state"]["terminated"];
    assert_eq!(
        (end["reason"].as_str(), end["exitCode"].as_i64()),
        (Some("StartError"), Some(128))
    );
    assert_eq!(end["startedAt"], "1970-01-01T00:00:00Z");
    node.api.put(pod("always", json!({"containers": [missing]})));
    let waiting = |pod: &Value| container(pod)["state"]["waiting"]["reason"] == "CrashLoopBackOff";
    let always = node.api.until("always", waiting).await;
    assert_eq!(container(&always)["lastState"]["terminated"]["reason"], "StartError");
    node.api.delete("always", 1);
    node.api.until("always", Value::is_null).await;
    node.finish("never").await;
}

async fn restart_rules() {
    let mut node = Node::new();
    let mut main = shell("test -e /keep/once && exit 7; touch /keep/once; exit 42");
    main["restartPolicy"] = json!("Never");
    main["restartPolicyRules"] = json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]);
    main["volumeMounts"] = json!([{"name": "keep", "mountPath": "/keep"}]);
    node.api.put(pod(
        "web",
        json!({"restartPolicy": "Never", "volumes": [{"name": "keep", "emptyDir": {}}], "containers": [main]}),
    ));
    let web = node.api.until("web", |pod| pod["status"]["phase"] == "Failed").await;
    let status = container(&web);
    assert_eq!(
        (
            status["restartCount"].as_i64(),
            status["state"]["terminated"]["exitCode"].as_i64()
        ),
        (Some(1), Some(7))
    );
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 42);
    node.finish("web").await;
}

async fn last_words() {
    let mut node = Node::new();
    node.api.put(pod("web", json!({"containers": [shell(POLITE)]})));
    node.api.until("web", running).await;
    up(&node, "web", "main").await;
    node.api.delete("web", 30);
    node.api.until("web", Value::is_null).await;
    let told = node.api.statuses("web");
    let last = told.last().unwrap();
    assert_eq!(last["phase"], "Succeeded");
    assert_eq!(last["containerStatuses"][0]["state"]["terminated"]["exitCode"], 0);
    node.finish_gone().await;
}

async fn image_changed() {
    let mut node = Node::new();
    let mut spec = json!({"containers": [shell(POLITE)]});
    node.api.put(pod("web", spec.clone()));
    let web = node.api.until("web", running).await;
    up(&node, "web", "main").await;
    spec["containers"][0]["image"] = json!("busybox:latest");
    let mut changed = pod("web", spec);
    changed["status"] = web["status"].clone();
    node.api.put(changed);
    let again = |pod: &Value| container(pod)["restartCount"] == 1 && running(pod);
    let web = node.api.until("web", again).await;
    assert_eq!(container(&web)["image"], "busybox:latest");
    node.api
        .until_event("Killing: Container main definition changed, will be restarted")
        .await;
    node.finish("web").await;
}

async fn crash_loop() {
    let mut node = Node::new();
    node.api.put(pod(
        "bad",
        json!({"containers": [{"name": "main", "image": "busybox", "command": ["sh", "-c", "exit 3"]}]}),
    ));
    let waiting =
        |pod: &Value| pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff";
    let bad = node.api.until("bad", waiting).await;
    let status = &bad["status"]["containerStatuses"][0];
    assert_eq!(
        status["state"]["waiting"]["message"],
        "back-off 10s restarting failed container=main pod=bad_default(uid-bad)"
    );
    assert_eq!(
        (
            status["restartCount"].as_i64(),
            status["lastState"]["terminated"]["exitCode"].as_i64()
        ),
        (Some(1), Some(3))
    );
    assert_eq!(
        (bad["status"]["phase"].as_str(), condition(&bad, "Ready")),
        (Some("Running"), "False")
    );
    let event = "BackOff: Back-off restarting failed container main in pod bad_default(uid-bad)";
    node.api.until_event(event).await;
    node.finish("bad").await;
}

async fn finished() {
    let mut node = Node::new();
    node.api.put(pod("job", json!({"restartPolicy": "Never", "containers": [{"name": "main", "image": "busybox", "command": ["echo", "done"]}]})));
    let job = node.api.until("job", |pod| pod["status"]["phase"] == "Succeeded").await;
    let terminated = &job["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(
        (terminated["reason"].as_str(), terminated["exitCode"].as_i64()),
        (Some("Completed"), Some(0))
    );
    let log = get(&node.registry, "/containerLogs/default/job/main").await;
    assert_eq!(log, (200, "done\n".to_owned()));
    node.finish("job").await;
}
