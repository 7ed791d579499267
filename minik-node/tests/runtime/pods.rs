//! The Pod manager from the API to processes and back, in a network namespace that stands for the node.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use axum::http::Request;
use futures::{SinkExt, StreamExt};
use http_body_util::BodyExt;
use libtest_mimic::Trial;
use minik_node::agent::{AgentConfig, over_socket};
use minik_node::clock::{self, Clock};
use minik_node::kernel::netns::NetNs;
use minik_node::kernel::pod_network::PodNetworks;
use minik_node::kubelet;
use minik_node::pods::{self, NodeContext, Objects, Registry};
use minik_node::reconcile::host_ports::HostPortTable;
use minik_node::runtime::image::Images;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::api::Api;
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("pods::a_pod_runs_is_reported_and_goes_without_a_trace", life),
        trial("pods::a_restarted_agent_adopts_what_runs", restart),
        trial("pods::init_containers_come_first", init),
        trial("pods::logs_follow_and_exec_exits_as_kubectl_expects", kubelet_endpoint),
        trial("pods::a_missing_config_map_holds_the_container_back", missing_config),
    ]
}

pub struct Node {
    pub dir: tempfile::TempDir,
    cluster: String,
    pub netns: NetNs,
    pub api: Api,
    pub registry: Registry,
    shutdown: CancellationToken,
    manager: Option<JoinHandle<()>>,
}

/// A name that no other test has.
pub fn fresh_cluster() -> String {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!("rt{}x{count}", std::process::id())
}

impl Node {
    pub fn new() -> Self {
        Self::of(fresh_cluster())
    }

    /// The node of a cluster of this name.
    pub fn of(cluster: String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let netns = NetNs::create(&format!("minik.{cluster}.worker1")).unwrap();
        let api = Api::serve(&dir.path().join("api.sock"));
        let mut node = Self {
            dir,
            cluster,
            netns,
            api,
            registry: Registry::default(),
            shutdown: CancellationToken::new(),
            manager: None,
        };
        node.start();
        node
    }

    pub fn start(&mut self) {
        let path = |name: &str| self.dir.path().join(name);
        let config = AgentConfig {
            cluster: self.cluster.clone(),
            node: "worker1".into(),
            role: None,
            tainted: false,
            node_ip: [172, 30, 0, 11].into(),
            node_pod_cidr: "10.244.1.0/24".parse().unwrap(),
            pod_cidr: "10.244.0.0/16".parse().unwrap(),
            service_cidr: "10.96.0.0/12".parse().unwrap(),
            cluster_dns: [10, 96, 0, 10].into(),
            cluster_domain: "cluster.local".into(),
            resolv_conf: None,
            api_socket: path("api.sock"),
            run_dir: path("run"),
            state_dir: path("state"),
            image_dir: path("images"),
        };
        let view = tokio::sync::watch::channel(Some(std::sync::Arc::default())).1;
        self.shutdown = CancellationToken::new();
        let context = NodeContext {
            clock: Clock::start(),
            steps: clock::steps().expect("a timer"),
            client: over_socket(&config.api_socket),
            images: Images::new(&config.image_dir),
            objects: Objects::new(over_socket(&config.api_socket)),
            host_ports: HostPortTable::spawn(path("xtables.lock"), self.shutdown.clone()),
            networks: PodNetworks::open_in(&self.netns).unwrap(),
            view,
            program: std::env::current_exe().unwrap(),
            config,
        };
        self.registry = Registry::default();
        self.manager = Some(pods::spawn(context, self.registry.clone(), self.shutdown.clone()));
    }

    pub async fn stop(&mut self) {
        self.shutdown.cancel();
        self.manager.take().unwrap().await.unwrap();
    }

    /// Deletes the Pod and checks that nothing of it is left.
    pub async fn finish(&mut self, name: &str) {
        self.api.delete(name, 0);
        self.api.until(name, Value::is_null).await;
        self.finish_gone().await;
    }

    /// Checks that nothing is left once no Pod is.
    pub async fn finish_gone(&mut self) {
        let pods = format!("minik.{}.pod.", self.cluster);
        let deadline = Instant::now() + Duration::from_secs(5);
        while !self.registry.names().is_empty() && Instant::now() < deadline {
            tokio::task::yield_now().await;
        }
        assert_eq!(self.registry.names(), Vec::<String>::new());
        assert_eq!(NetNs::list(&pods).unwrap(), Vec::<String>::new());
        for dir in ["run/pods", "state/pods", "state/logs"] {
            // A directory that no Pod needed was never made.
            let entries = std::fs::read_dir(self.dir.path().join(dir)).into_iter().flatten();
            let left: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
            assert_eq!(left, Vec::<PathBuf>::new());
        }
        self.stop().await;
        NetNs::delete(&format!("minik.{}.worker1", self.cluster)).unwrap();
    }
}

impl Drop for Node {
    /// After a failed assertion: ends what still runs.
    fn drop(&mut self) {
        self.shutdown.cancel();
        let prefix = format!("minik.{}.", self.cluster);
        let left = NetNs::list(&prefix).unwrap_or_default();
        if left.is_empty() {
            return;
        }
        let pods = std::fs::read_dir(self.dir.path().join("run/pods"))
            .into_iter()
            .flatten()
            .filter_map(Result::ok);
        crate::fixture::end_shims(pods.map(|entry| entry.path()).collect());
        for name in left {
            if let Err(error) = NetNs::delete(&name) {
                eprintln!("{error}");
            }
        }
    }
}

pub fn pod(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"), "generation": 1},
        "spec": spec,
        "status": {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}]},
    })
}

pub fn running(pod: &Value) -> bool {
    pod["status"]["phase"] == "Running" && pod["status"]["containerStatuses"][0]["state"]["running"].is_object()
}

pub fn condition<'a>(pod: &'a Value, name: &str) -> &'a str {
    let conditions = pod["status"]["conditions"].as_array().unwrap();
    conditions.iter().find(|condition| condition["type"] == name).unwrap()["status"]
        .as_str()
        .unwrap()
}

async fn life() {
    let mut node = Node::new();
    let sleep = json!({"nodeName": "worker1", "containers": [{"name": "main", "image": "busybox", "command": ["sleep", "1000"]}]});
    node.api.put(pod("first", sleep.clone()));
    node.api.until("first", running).await;
    // The image is built by now: this is what a Pod costs.
    let before = Instant::now();
    node.api.put(pod("second", sleep));
    let second = node.api.until("second", running).await;
    eprintln!("POST to Running: {:?}", before.elapsed());
    let status = &second["status"];
    assert_eq!(
        (status["podIP"].as_str(), status["hostIP"].as_str()),
        (Some("10.244.1.3"), Some("172.30.0.11"))
    );
    for name in [
        "PodScheduled",
        "PodReadyToStartContainers",
        "Initialized",
        "ContainersReady",
        "Ready",
    ] {
        assert_eq!(condition(&second, name), "True", "{name}");
    }
    let container = &status["containerStatuses"][0];
    assert_eq!(
        (container["ready"].as_bool(), container["restartCount"].as_i64()),
        (Some(true), Some(0))
    );
    assert!(container["containerID"].as_str().unwrap().starts_with("minik://"));
    assert!(
        container["imageID"]
            .as_str()
            .unwrap()
            .starts_with("minik://busybox@sha256:")
    );
    let expected = [
        "Pulled: Container image \"busybox\" already present on machine and can be accessed by the pod",
        "Created: Container created",
        "Started: Container started",
    ];
    for event in expected {
        node.api.until_event(event).await;
    }
    node.api.delete("first", 0);
    node.api.until("first", Value::is_null).await;
    node.finish("second").await;
}

async fn restart() {
    let mut node = Node::new();
    node.api.put(pod(
        "web",
        json!({"containers": [{"name": "main", "image": "busybox", "command": ["sleep", "1000"]}]}),
    ));
    let before = node.api.until("web", running).await;
    node.stop().await;
    node.start();
    let other = json!({"containers": [{"name": "main", "image": "busybox", "command": ["sleep", "1000"]}]});
    node.api.put(pod("other", other));
    let other = node.api.until("other", running).await;
    let after = node.api.until("web", running).await;
    let id = |pod: &Value| pod["status"]["containerStatuses"][0]["containerID"].clone();
    assert_eq!(
        id(&before),
        id(&after),
        "{:#}\n{:#?}",
        after["status"],
        node.api.events()
    );
    assert_ne!(
        other["status"]["podIP"], after["status"]["podIP"],
        "the address of a running Pod is not given out again"
    );
    node.api.delete("other", 0);
    node.api.until("other", Value::is_null).await;
    node.finish("web").await;
}

async fn init() {
    let mut node = Node::new();
    let mount = json!([{"name": "shared", "mountPath": "/shared"}]);
    node.api.put(pod(
        "staged",
        json!({
            "volumes": [{"name": "shared", "emptyDir": {}}],
            "initContainers": [
                {"name": "one", "image": "busybox", "command": ["sh", "-c", "echo 1 >> /shared/order"], "volumeMounts": mount},
                {"name": "two", "image": "busybox", "command": ["sh", "-c", "echo 2 >> /shared/order"], "volumeMounts": mount},
            ],
            "containers": [{"name": "main", "image": "busybox", "command": ["sh", "-c", "cat /shared/order; exec sleep 1000"], "volumeMounts": mount}],
        }),
    ));
    node.api.until("staged", running).await;
    let log = get(
        &node.registry,
        "/containerLogs/default/staged/main?follow=true&limitBytes=4",
    )
    .await;
    assert_eq!(log, (200, "1\n2\n".to_owned()));
    node.finish("staged").await;
}

pub async fn get(registry: &Registry, path: &str) -> (u16, String) {
    let response = kubelet::router(registry.clone())
        .oneshot(Request::get(path).body(axum::body::Body::empty()).unwrap())
        .await
        .unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn kubelet_endpoint() {
    let mut node = Node::new();
    let script = "echo start; while ! test -e /stop; do usleep 10000; done; echo end";
    node.api.put(pod("web", json!({"restartPolicy": "Never", "containers": [{"name": "main", "image": "busybox", "command": ["sh", "-c", script]}]})));
    node.api.until("web", running).await;
    let socket = node.dir.path().join("kubelet.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let server = kubelet::spawn(listener, node.registry.clone(), node.shutdown.clone()).unwrap();
    assert_eq!(get(&node.registry, "/healthz").await, (200, "ok".to_owned()));
    assert_eq!(get(&node.registry, "/containerLogs/default/none/main").await.0, 404);
    assert_eq!(
        get(&node.registry, "/containerLogs/default/web/main?previous=true")
            .await
            .0,
        400
    );

    let failed = exec(
        &socket,
        "command=sh&command=-c&command=echo%20out;%20echo%20err%20%3E%262;%20exit%203&output=1&error=1",
        b"",
    )
    .await;
    assert_eq!(
        (failed.out.as_str(), failed.err.as_str(), failed.code()),
        ("out\n", "err\n", Some("3"))
    );
    let piped = exec(
        &socket,
        "command=tr&command=a-z&command=A-Z&input=1&output=1&error=1",
        b"shout",
    )
    .await;
    assert_eq!(
        (piped.out.as_str(), piped.status["status"].as_str()),
        ("SHOUT", Some("Success"))
    );
    let absent = exec(&socket, "command=bash&output=1&error=1", b"").await;
    assert_eq!(
        (absent.err.as_str(), absent.code()),
        ("exec: \"bash\": executable file not found in $PATH\n", Some("127"))
    );
    let tty = exec(
        &socket,
        "command=sh&command=-c&command=tty;%20stty%20size&output=1&tty=1",
        b"",
    )
    .await;
    assert!(tty.out.starts_with("/dev/pts/0\r\n"), "{}", tty.out);

    let registry = node.registry.clone();
    let follower = tokio::spawn(async move { get(&registry, "/containerLogs/default/web/main?follow=true").await });
    exec(&socket, "command=touch&command=/stop", b"").await;
    assert_eq!(follower.await.unwrap(), (200, "start\nend\n".to_owned()));
    let shutdown = node.shutdown.clone();
    node.finish("web").await;
    shutdown.cancel();
    server.await.unwrap();
}

#[derive(Default)]
struct Executed {
    out: String,
    err: String,
    status: Value,
}

impl Executed {
    fn code(&self) -> Option<&str> {
        let cause = &self.status["details"]["causes"][0];
        (cause["reason"] == "ExitCode")
            .then(|| cause["message"].as_str())
            .flatten()
    }
}

async fn exec(socket: &std::path::Path, query: &str, input: &[u8]) -> Executed {
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;
    let mut request = format!("ws://minik/exec/default/web/main?{query}")
        .into_client_request()
        .unwrap();
    request
        .headers_mut()
        .insert("sec-websocket-protocol", "v5.channel.k8s.io".parse().unwrap());
    let stream = tokio::net::UnixStream::connect(socket).await.unwrap();
    let (mut socket, response) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "v5.channel.k8s.io");
    if !input.is_empty() {
        socket.send(Message::binary([&[0], input].concat())).await.unwrap();
        socket.send(Message::binary(vec![255, 0])).await.unwrap();
    }
    let mut executed = Executed::default();
    while let Some(message) = socket.next().await {
        let Message::Binary(message) = message.unwrap() else {
            continue;
        };
        let text = String::from_utf8(message[1..].to_vec()).unwrap();
        match message[0] {
            1 => executed.out.push_str(&text),
            2 => executed.err.push_str(&text),
            _ => executed.status = serde_json::from_str(&text).unwrap(),
        }
    }
    executed
}

async fn missing_config() {
    let mut node = Node::new();
    let container = json!({"name": "main", "image": "busybox", "command": ["sh", "-c", "echo $GREETING; cat /conf/file; ls -lL /conf/file | cut -c1-10; exec sleep 1000"],
        "env": [{"name": "WHO", "value": "you"}, {"name": "GREETING", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "greeting"}}}],
        "volumeMounts": [{"name": "conf", "mountPath": "/conf"}]});
    let spec = json!({"volumes": [{"name": "conf", "configMap": {"name": "settings", "items": [{"key": "text", "path": "file", "mode": 0o440}]}}], "containers": [container]});
    let mut lonely = spec.clone();
    lonely["volumes"] = json!([]);
    lonely["containers"][0]["volumeMounts"] = json!([]);
    node.api.put(pod("lonely", lonely));
    let waiting = |pod: &Value| {
        pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "CreateContainerConfigError"
    };
    let held = node.api.until("lonely", waiting).await;
    assert_eq!(
        held["status"]["containerStatuses"][0]["state"]["waiting"]["message"],
        "configmap \"settings\" not found"
    );
    node.api.add(
        "/api/v1/namespaces/default/configmaps/settings",
        json!({"metadata": {"name": "settings"}, "data": {"greeting": "hello", "text": "conf\n"}}),
    );
    node.api.put(pod("web", spec));
    node.api.until("web", running).await;
    let log = get(
        &node.registry,
        "/containerLogs/default/web/main?follow=true&limitBytes=22",
    )
    .await;
    assert_eq!(log, (200, "hello\nconf\n-r--r-----\n".to_owned()));
    node.api.delete("lonely", 0);
    node.api.until("lonely", Value::is_null).await;
    node.finish("web").await;
}
