//! The programs of Kubernetes' documented examples, as stand-ins in real containers: its probe examples to the letter
//! (`content/en/examples/pods/probe/` of its website), with periods that a test can wait for.

use std::process::Command;

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::fixture::Fixture;
use crate::pods::{Node, pod};
use crate::{trial, trial_in_node};

pub fn trials() -> Vec<Trial> {
    vec![
        trial_in_node("standins::probe_examples_run_as_documented", examples),
        trial("standins::netexec_tells_dials_runs_and_ends", netexec),
        trial("standins::agnhost_is_a_command_too", commands),
        trial("standins::etcd_refuses_what_it_does_not_do", etcd),
    ]
}

fn ready(pod: &Value) -> bool {
    pod["status"]["containerStatuses"][0]["ready"] == true
}

fn of(container: Value) -> Value {
    json!({"terminationGracePeriodSeconds": 1, "containers": [container]})
}

async fn examples(mut node: Node) {
    // pods/probe/http-liveness.yaml
    node.api.put(pod(
        "liveness-http",
        of(json!({
            "name": "liveness", "image": "registry.k8s.io/e2e-test-images/agnhost:2.40", "args": ["liveness"],
            "livenessProbe": {
                "httpGet": {"path": "/healthz", "port": 8080, "httpHeaders": [{"name": "Custom-Header", "value": "Awesome"}]},
                "initialDelaySeconds": 3, "periodSeconds": 3, "failureThreshold": 1
            }
        })),
    ));
    // pods/probe/tcp-liveness-readiness.yaml
    node.api.put(pod(
        "goproxy",
        of(json!({
            "name": "goproxy", "image": "registry.k8s.io/goproxy:0.1", "ports": [{"containerPort": 8080}],
            "readinessProbe": {"tcpSocket": {"port": 8080}, "initialDelaySeconds": 1, "periodSeconds": 10},
            "livenessProbe": {"tcpSocket": {"port": 8080}, "initialDelaySeconds": 1, "periodSeconds": 10}
        })),
    ));
    // pods/probe/grpc-liveness.yaml
    node.api.put(pod(
        "etcd-with-grpc",
        of(json!({
            "name": "etcd", "image": "registry.k8s.io/etcd:3.5.1-0",
            "command": ["/usr/local/bin/etcd", "--data-dir", "/var/lib/etcd", "--listen-client-urls", "http://0.0.0.0:2379",
                "--advertise-client-urls", "http://127.0.0.1:2379", "--log-level", "debug"],
            "ports": [{"containerPort": 2379}],
            "readinessProbe": {"grpc": {"port": 2379}, "periodSeconds": 1}
        })),
    ));
    // A health that ends, of a service that has a name.
    node.api.put(pod(
        "unhealthy",
        of(json!({
            "name": "main", "image": "agnhost", "args": ["grpc-health-checking", "--service=db", "--delay-unhealthy-sec", "0"],
            "readinessProbe": {"grpc": {"port": 5000, "service": "db"}, "periodSeconds": 1}
        })),
    ));
    node.api.until("goproxy", ready).await;
    node.api.until("etcd-with-grpc", ready).await;
    node.api
        .until_event("Unhealthy: Readiness probe failed: service unhealthy (responded with \"NOT_SERVING\")")
        .await;
    node.api
        .until("liveness-http", |pod| {
            pod["status"]["containerStatuses"][0]["restartCount"] == 1
        })
        .await;
    node.api
        .until_event("Unhealthy: Liveness probe failed: HTTP probe failed with statuscode: 500")
        .await;
    node.api
        .until_event("Killing: Container liveness failed liveness probe, will be restarted")
        .await;
    for name in ["goproxy", "etcd-with-grpc", "unhealthy"] {
        node.api.delete(name, 1);
        node.api.until(name, Value::is_null).await;
    }
    node.finish("liveness-http").await;
}

/// Runs curl inside a Pod's network namespace until the server listens; gives what it printed.
fn curl(pod: &Fixture, more: &[&str], path: &str) -> String {
    let output = Command::new("ip")
        .args(["netns", "exec", &pod.netns, "curl", "-sS", "--max-time", "10"])
        .args(["--retry", "50", "--retry-connrefused", "--retry-max-time", "10"])
        .args(more)
        .arg(format!("http://127.0.0.1:8080{path}"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{path}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

async fn netexec() {
    let pod = Fixture::new();
    let mut watch = pod.client.watch().await.unwrap();
    let spec = pod
        .container(
            "main",
            "agnhost",
            &["/agnhost", "netexec", "--http-port=8080", "--udp-port", "8081"],
        )
        .await;
    pod.client.start(spec).await.unwrap();
    assert_eq!(curl(&pod, &[], "/hostname"), "web");
    assert_eq!(curl(&pod, &[], "/hostName"), "web");
    assert!(curl(&pod, &[], "/clientip").starts_with("127.0.0.1:"));
    assert!(curl(&pod, &[], "/").starts_with("NOW: "));
    assert_eq!(curl(&pod, &[], "/echo?msg=hello%20you"), "hello you");
    assert_eq!(curl(&pod, &[], "/readyz"), "ok");
    assert_eq!(curl(&pod, &[], "/header?key=Host"), "127.0.0.1:8080");
    let dial = |rest: &str| curl(&pod, &[], &format!("/dial?host=127.0.0.1&{rest}"));
    assert_eq!(
        dial("port=8080&request=hostname&tries=2"),
        r#"{"responses":["web","web"]}"#
    );
    assert_eq!(
        dial("port=8081&protocol=udp&request=hostname"),
        r#"{"responses":["web"]}"#
    );
    assert_eq!(
        dial("port=1&request=hostname"),
        r#"{"errors":["Get \"http://127.0.0.1:1/hostname\": dial tcp 127.0.0.1:1: connect: connection refused"]}"#
    );
    assert_eq!(curl(&pod, &[], "/shell?cmd=hostname"), r#"{"output":"web\n"}"#);
    assert_eq!(
        curl(&pod, &[], "/shell?shellCommand=exit%204"),
        r#"{"error":"exit status 4"}"#
    );
    assert_eq!(curl(&pod, &[], "/exit?code=5&timeout=1s"), "");
    let ended = crate::fixture::until(&mut watch, |states| {
        states.get("main").is_some_and(|state| state.current.ended.is_some())
    })
    .await;
    assert_eq!(ended["main"].current.ended.as_ref().unwrap().exit.code, 5);
    pod.finish().await;
}

async fn commands() {
    let pod = Fixture::new();
    let script = "/agnhost entrypoint-tester a b; /agnhost connect 127.0.0.1:1; echo code $?; /agnhost connect --protocol udp --timeout 1s 127.0.0.1:2; \
                  /agnhost serve-hostname --http=false --tcp --port 3 2>/dev/null & /agnhost connect --timeout=3s nowhere:1; \
                  until nc 127.0.0.1 3 </dev/null 2>/dev/null; do :; done; /agnhost netexec --sctp-port 1; echo code $?";
    let spec = pod.container("main", "agnhost", &["sh", "-c", script]).await;
    let mut watch = pod.client.watch().await.unwrap();
    pod.client.start(spec).await.unwrap();
    crate::fixture::until(&mut watch, |states| {
        states.get("main").is_some_and(|state| state.current.ended.is_some())
    })
    .await;
    let log = pod.log("main", 0);
    for line in [
        "stdout F [/agnhost entrypoint-tester a b]",
        "stderr F REFUSED",
        "stdout F code 1",
        "stderr F REFUSED: connection refused",
        "stderr F DNS: ",
        "web",
        "unexpected argument '--sctp-port' found",
    ] {
        assert!(log.contains(line), "{line}\n{log}");
    }
    pod.finish().await;
}

async fn etcd() {
    let pod = Fixture::new();
    let script = "etcd --listen-client-urls http://127.0.0.1:8080 & wait";
    let spec = pod.container("main", "etcd", &["sh", "-c", script]).await;
    pod.client.start(spec).await.unwrap();
    assert_eq!(curl(&pod, &[], "/health"), r#"{"health":"true","reason":""}"#);
    let call = ["--http2-prior-knowledge", "-D", "-", "-X", "POST"];
    let head = curl(&pod, &call, "/etcdserverpb.KV/Put");
    assert!(head.contains("grpc-status: 12"), "{head}");
    assert!(
        head.contains("grpc-message: minik's stand-in for etcd answers health checks and stores nothing"),
        "{head}"
    );
    pod.finish().await;
}
