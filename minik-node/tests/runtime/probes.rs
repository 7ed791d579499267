//! Probes of real containers: what they ask, what they find, and what becomes of the container.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::pods::{Node, condition, pod, running};
use crate::{trial, trial_in_node};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("probes::exec_decides_about_readiness", exec_readiness),
        trial("probes::a_failed_liveness_probe_restarts", exec_liveness),
        trial("probes::an_exec_probe_has_its_time", exec_timeout),
        trial("probes::a_program_that_is_not_there_decides_nothing", exec_missing),
        trial("probes::startup_comes_before_the_others", startup),
        trial("probes::readiness_outlives_the_agent", adoption),
        trial_in_node("probes::http_codes_ports_headers_and_redirects", http),
        trial_in_node("probes::tcp_and_grpc_connect", ports),
        trial_in_node("probes::a_change_of_readiness_is_told_at_once", promptness),
        trial("probes::a_container_that_does_not_start_is_restarted", startup_fails),
    ]
}

fn container(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]
}

fn ready(pod: &Value) -> bool {
    container(pod)["ready"] == true && condition(pod, "Ready") == "True"
}

fn sleeper(probes: Value) -> Value {
    let mut container = json!({"name": "main", "image": "busybox", "command": ["sleep", "1000"]});
    for (name, probe) in probes.as_object().unwrap() {
        container[name] = probe.clone();
    }
    json!({"terminationGracePeriodSeconds": 1, "containers": [container]})
}

fn file_there(path: &str) -> Value {
    json!({"exec": {"command": ["cat", path]}, "periodSeconds": 1, "failureThreshold": 1})
}

/// Touches or removes a file in the Pod's first container, from the node.
fn edit(node: &Node, name: &str, script: &str) {
    let pid = node.registry.get("default", name).unwrap().borrow().states["main"]
        .current
        .pid;
    let root = format!("/proc/{pid}/root/tmp/file");
    match script {
        "touch" => std::fs::write(root, "").unwrap(),
        _ => std::fs::remove_file(root).unwrap(),
    }
}

async fn exec_readiness() {
    let mut node = Node::new();
    node.api
        .put(pod("web", sleeper(json!({"readinessProbe": file_there("/tmp/file")}))));
    let unready = node.api.until("web", running).await;
    assert!(!ready(&unready));
    assert_eq!(container(&unready)["started"], true);
    let event = "Unhealthy: Readiness probe failed: cat: can't open '/tmp/file': No such file or directory";
    node.api.until_event(event).await;
    edit(&node, "web", "touch");
    node.api.until("web", ready).await;
    edit(&node, "web", "rm");
    let again = node.api.until("web", |pod| !ready(pod)).await;
    assert_eq!(container(&again)["restartCount"], 0, "readiness restarts nothing");
    node.finish("web").await;
}

async fn exec_liveness() {
    let mut node = Node::new();
    let mut liveness = file_there("/tmp/file");
    liveness["failureThreshold"] = json!(2);
    liveness["terminationGracePeriodSeconds"] = json!(1);
    let mut spec = sleeper(json!({"livenessProbe": liveness}));
    spec["terminationGracePeriodSeconds"] = json!(100);
    node.api.put(pod("web", spec));
    let before = Instant::now();
    let restarted = node.api.until("web", |pod| container(pod)["restartCount"] == 1).await;
    let last = &container(&restarted)["lastState"]["terminated"];
    assert_eq!(
        (last["exitCode"].as_i64(), last["reason"].as_str()),
        (Some(137), Some("Error"))
    );
    let took = before.elapsed();
    assert!(
        took > Duration::from_secs(3),
        "two failures, then two seconds of grace: {took:?}"
    );
    assert!(
        took < Duration::from_secs(15),
        "the probe's own grace period counts: {took:?}"
    );
    node.api
        .until_event("Killing: Container main failed liveness probe, will be restarted")
        .await;
    node.api.forget("web");
    node.finish_gone().await;
}

async fn exec_timeout() {
    let mut node = Node::new();
    let probe = json!({"exec": {"command": ["sleep", "30"]}, "periodSeconds": 1});
    node.api.put(pod("web", sleeper(json!({"readinessProbe": probe}))));
    let text = "Unhealthy: Readiness probe failed: command timed out: \"sleep 30\" timed out after 1s";
    node.api.until_event(text).await;
    node.finish("web").await;
}

async fn exec_missing() {
    let mut node = Node::new();
    let probe = json!({"exec": {"command": ["no-such-program"]}, "periodSeconds": 1, "failureThreshold": 1});
    node.api.put(pod("web", sleeper(json!({"livenessProbe": probe}))));
    node.api
        .until_event("Unhealthy: Liveness probe errored and resulted in unknown state: rpc error: ")
        .await;
    let pod = node.api.until("web", running).await;
    assert_eq!(container(&pod)["restartCount"], 0);
    node.finish("web").await;
}

async fn startup() {
    let mut node = Node::new();
    let mut startup = file_there("/tmp/file");
    startup["failureThreshold"] = json!(30);
    let mut readiness = json!({"exec": {"command": ["true"]}, "periodSeconds": 100});
    node.api.put(pod(
        "web",
        sleeper(json!({"startupProbe": startup, "readinessProbe": readiness})),
    ));
    node.api.until_event("Unhealthy: Startup probe failed: ").await;
    let pending = node.api.until("web", running).await;
    assert_eq!(
        (container(&pending)["started"].as_bool(), ready(&pending)),
        (Some(false), false)
    );
    edit(&node, "web", "touch");
    // Readiness is asked as soon as startup has succeeded, whatever its period.
    let started = node.api.until("web", ready).await;
    assert_eq!(container(&started)["started"], true);
    readiness["periodSeconds"] = json!(1);
    node.finish("web").await;
}

async fn adoption() {
    let mut node = Node::new();
    let mut readiness = file_there("/tmp/file");
    readiness["failureThreshold"] = json!(2);
    node.api.put(pod("web", sleeper(json!({"readinessProbe": readiness}))));
    node.api.until("web", running).await;
    edit(&node, "web", "touch");
    node.api.until("web", ready).await;
    node.stop().await;
    edit(&node, "web", "rm");
    let changes = node.api.statuses("web").len();
    node.start();
    node.api.until("web", |pod| !ready(pod)).await;
    // Two failures of the new agent came before that, not a reset.
    let heard = node.api.statuses("web").split_off(changes);
    let unready = heard
        .iter()
        .filter(|status| status["containerStatuses"][0]["ready"] == false)
        .count();
    assert_eq!(unready, 1, "{heard:#?}");
    node.api
        .until_event("Unhealthy: Readiness probe failed: cat: can't open")
        .await;
    node.finish("web").await;
}

fn http_probe(path: &str) -> Value {
    json!({"httpGet": {"path": path, "port": "web", "httpHeaders": [{"name": "X-Probe", "value": "yes"}]},
        "periodSeconds": 1, "failureThreshold": 1})
}

/// nginx that tells a probe by its headers, answers with codes, and redirects.
const SITE: &str = r#"
events {}
http {
  server {
    listen 8080;
    location /asked { if ($http_x_probe != yes) { return 400; } if ($http_user_agent != kube-probe/1.36) { return 401; } return 200 ok; }
    location /broken { return 500; }
    location /here { return 302 /asked; }
    location /away { return 302 http://10.244.9.9/; }
  }
}
"#;

async fn http(mut node: Node) {
    let web = |path: &str, probe: &str| {
        let mut container = json!({"name": "main", "image": "nginx", "ports": [{"name": "web", "containerPort": 8080}],
            "command": ["sh", "-c", format!("echo '{}' > /tmp/nginx.conf; exec nginx -c /tmp/nginx.conf -g 'daemon off;'", SITE.replace('\'', ""))]});
        container[probe] = http_probe(path);
        container[probe]["initialDelaySeconds"] = json!(2);
        json!({"terminationGracePeriodSeconds": 1, "containers": [container]})
    };
    node.api.put(pod("asked", web("/asked", "readinessProbe")));
    node.api.until("asked", ready).await;
    node.api.put(pod("here", web("/here", "readinessProbe")));
    node.api.until("here", ready).await;
    node.api.put(pod("away", web("/away", "readinessProbe")));
    node.api.until("away", ready).await;
    node.api
        .until_event("ProbeWarning: Readiness probe warning: Probe terminated redirects, Response body: ")
        .await;
    node.api.put(pod("broken", web("/broken", "livenessProbe")));
    node.api
        .until_event("Unhealthy: Liveness probe failed: HTTP probe failed with statuscode: 500")
        .await;
    node.api
        .until("broken", |pod| container(pod)["restartCount"] == 1)
        .await;
    let refused = json!({"httpGet": {"path": "/", "port": 81}, "periodSeconds": 1});
    node.api
        .put(pod("refused", sleeper(json!({"readinessProbe": refused}))));
    let pod = node.api.until("refused", running).await;
    let ip = pod["status"]["podIP"].as_str().unwrap();
    let text =
        format!("Readiness probe failed: Get \"http://{ip}:81/\": dial tcp {ip}:81: connect: connection refused");
    node.api.until_event(&format!("Unhealthy: {text}")).await;
    for name in ["asked", "here", "away", "broken"] {
        node.api.delete(name, 1);
        node.api.until(name, Value::is_null).await;
    }
    node.finish("refused").await;
}

async fn ports(mut node: Node) {
    let probe = json!({"tcpSocket": {"port": 80}, "periodSeconds": 1});
    let listen =
        json!({"name": "main", "image": "busybox", "command": ["httpd", "-f", "-p", "80"], "readinessProbe": probe});
    node.api.put(pod(
        "tcp",
        json!({"terminationGracePeriodSeconds": 1, "containers": [listen]}),
    ));
    node.api.until("tcp", ready).await;

    let closed = json!({"tcpSocket": {"port": 81}, "periodSeconds": 1});
    node.api.put(pod("closed", sleeper(json!({"readinessProbe": closed}))));
    let pod_closed = node.api.until("closed", running).await;
    let ip = pod_closed["status"]["podIP"].as_str().unwrap();
    let text = format!("Unhealthy: Readiness probe failed: dial tcp {ip}:81: connect: connection refused");
    node.api.until_event(&text).await;

    // A gRPC server of this test's own, in the node's namespace: the Pod is on the node's network.
    let grpc = tokio::spawn(crate::grpc::serve()).await.unwrap();
    let node_ip = ["address", "add", "172.30.0.11/32", "dev", "lo"];
    let added = tokio::task::spawn_blocking(move || std::process::Command::new("ip").args(node_ip).status());
    assert!(added.await.unwrap().unwrap().success());
    for (name, service, text) in [
        ("serving", "", None),
        (
            "not-serving",
            "db",
            Some("Unhealthy: Readiness probe failed: service unhealthy (responded with \"NOT_SERVING\")"),
        ),
        (
            "unknown",
            "x",
            Some(
                "Unhealthy: Readiness probe failed: error: health rpc probe failed: rpc error: code = NotFound desc = unknown service",
            ),
        ),
    ] {
        let probe = json!({"grpc": {"port": grpc.port(), "service": service}, "periodSeconds": 1});
        let mut spec = sleeper(json!({"readinessProbe": probe}));
        spec["hostNetwork"] = json!(true);
        node.api.put(pod(name, spec));
        match text {
            None => drop(node.api.until(name, ready).await),
            Some(text) => node.api.until_event(text).await,
        }
    }
    for name in ["tcp", "serving", "not-serving", "unknown"] {
        node.api.delete(name, 1);
        node.api.until(name, Value::is_null).await;
    }
    node.finish("closed").await;
}

async fn startup_fails() {
    let mut node = Node::new();
    let mut startup = file_there("/tmp/file");
    startup["terminationGracePeriodSeconds"] = json!(1);
    node.api.put(pod("web", sleeper(json!({"startupProbe": startup}))));
    node.api
        .until_event("Killing: Container main failed startup probe, will be restarted")
        .await;
    node.api.until("web", |pod| container(pod)["restartCount"] == 1).await;
    node.finish("web").await;
}

/// Waits until a Pod on the node's network, whose readiness is what the server says, is as it says; gives the time
/// from the server's answer until the API had heard of it.
async fn promptness(mut node: Node) {
    let node_ip = ["address", "add", "172.30.0.11/32", "dev", "lo"];
    let added = tokio::task::spawn_blocking(move || std::process::Command::new("ip").args(node_ip).status());
    assert!(added.await.unwrap().unwrap().success());
    let (answers, answer) = tokio::sync::watch::channel(200_u16);
    let answered = std::sync::Arc::new(std::sync::Mutex::new(None));
    let noted = answered.clone();
    let handler = move || async move {
        let code = *answer.borrow();
        noted.lock().unwrap().get_or_insert((code, Instant::now()));
        axum::http::StatusCode::from_u16(code).unwrap()
    };
    let app = axum::Router::new().fallback(handler);
    let listener = tokio::spawn(tokio::net::TcpListener::bind("172.30.0.11:8080"))
        .await
        .unwrap()
        .unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let probe = json!({"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1, "failureThreshold": 1});
    let mut spec = sleeper(json!({"readinessProbe": probe}));
    spec["hostNetwork"] = json!(true);
    node.api.put(pod("web", spec));
    node.api.until("web", ready).await;
    let mut took = Vec::new();
    for round in 0..6 {
        let code = if round % 2 == 0 { 503 } else { 200 };
        *answered.lock().unwrap() = None;
        answers.send_replace(code);
        node.api.until("web", |pod| ready(pod) == (code == 200)).await;
        let heard = Instant::now();
        let (first, at) = answered.lock().unwrap().unwrap();
        if first == code {
            took.push(heard.duration_since(at));
        }
    }
    took.sort();
    eprintln!("readiness answered to status patched: {took:?}");
    assert!(took[took.len() / 2] < Duration::from_millis(500), "{took:?}");
    node.finish("web").await;
}
