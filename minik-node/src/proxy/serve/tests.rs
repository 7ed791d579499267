//! The endpoints in a namespace of their own, asked with curl.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::private_net::Space;
use crate::proxy::metrics::Metrics;
use crate::view::testing;

fn config() -> ProxyConfig {
    ProxyConfig {
        node: "n1".to_owned(),
        node_ip: Ipv4Addr::new(172, 30, 0, 11),
        cluster_cidr: "10.244.0.0/16".parse().expect("a range"),
        lock_file: "unused".into(),
        conntrack_tcp_liberal: false,
        metrics: Arc::new(Metrics::default()),
    }
}

const SYNCED: Status = Status {
    passes: 1,
    outcome: Some(Outcome::Synced),
};

fn node(rest: &str) -> String {
    format!("kind: Node\nmetadata: {{name: n1}}\n{rest}")
}

/// Header lines (without `Date`) and body, as curl prints them.
async fn curl(url: &'static str) -> String {
    let asked = tokio::task::spawn_blocking(move || {
        Command::new("curl")
            .args(["-sS", "-i", "--max-time", "5", url])
            .output()
    });
    let output = asked.await.expect("no panic").expect("curl");
    assert!(
        output.status.success(),
        "{url}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("text").replace('\r', "");
    text.lines()
        .filter(|line| !line.starts_with("Date:"))
        .collect::<Vec<_>>()
        .join("\n")
}

struct Served {
    views: watch::Sender<Option<Arc<ClusterView>>>,
    status: watch::Sender<Status>,
    metrics: Arc<Metrics>,
    happened: tokio::sync::mpsc::Receiver<http::Request<kube::client::Body>>,
    _stop: tokio_util::sync::DropGuard,
}

/// The endpoints over a proxy whose view and status the test makes up, and an API server that only listens.
fn serve(manifests: &str) -> Served {
    let (views, seen) = watch::channel(Some(Arc::new(testing::view(Some("n1"), manifests))));
    let (status, reported) = watch::channel(Status {
        passes: 0,
        outcome: None,
    });
    let (asked, happened) = tokio::sync::mpsc::channel(8);
    let api = tower::service_fn(move |request| {
        let asked = asked.clone();
        async move {
            asked
                .send(request)
                .await
                .map_err(|_gone| std::io::Error::other("the test is over"))?;
            Err::<http::Response<kube::client::Body>, _>(std::io::Error::other("nobody answers"))
        }
    });
    let events = Events::spawn(kube::Client::new(api, "default"), "kube-proxy", "n1".to_owned());
    let stop = CancellationToken::new();
    let config = config();
    spawn(&config, seen, reported, events, stop.clone());
    Served {
        views,
        status,
        metrics: config.metrics,
        happened,
        _stop: stop.drop_guard(),
    }
}

impl Served {
    fn show(&self, manifests: &str) {
        self.views
            .send_replace(Some(Arc::new(testing::view(Some("n1"), manifests))));
        self.status.send_modify(|status| {
            *status = Status {
                passes: status.passes + 1,
                ..SYNCED
            }
        });
    }
}

#[test]
fn people_are_told_what_a_kube_proxy_tells() {
    Space::new().block_on(|| async {
        let served = serve(&node(""));
        served.status.send_replace(SYNCED);
        served
            .metrics
            .sync_proxy_rules_duration_seconds
            .observe(Duration::from_millis(700));
        let mode = curl("http://127.0.0.1:10249/proxyMode").await;
        assert!(mode.ends_with("\n\niptables"), "{mode}");
        assert!(
            mode.starts_with(
                "HTTP/1.1 200 OK\nContent-Type: text/plain; charset=utf-8\nX-Content-Type-Options: nosniff\n"
            ),
            "{mode}"
        );
        assert!(curl("http://127.0.0.1:10249/healthz").await.ends_with("\n\nok"));
        assert!(curl("http://127.0.0.1:10249/nothing").await.starts_with("HTTP/1.1 404"));

        let config = curl("http://127.0.0.1:10249/configz").await;
        let config: serde_json::Value = serde_json::from_str(config.lines().last().expect("a body")).expect("JSON");
        let config = &config["kubeproxy.config.k8s.io"];
        assert_eq!(config["kind"], "KubeProxyConfiguration");
        assert_eq!(config["mode"], "iptables");
        assert_eq!(config["clusterCIDR"], "10.244.0.0/16");
        assert_eq!(config["metricsBindAddress"], "127.0.0.1:10249");

        for url in ["http://127.0.0.1:10256/healthz", "http://127.0.0.1:10256/livez"] {
            assert!(curl(url).await.starts_with("HTTP/1.1 200 OK\n"), "{url}");
        }
        let metrics = curl("http://127.0.0.1:10249/metrics").await;
        for line in metrics.lines().skip_while(|line| !line.is_empty()).skip(1) {
            assert!(line.starts_with("kubeproxy_") || line.starts_with("# "), "{line}");
        }
        for line in [
            "kubeproxy_proxy_healthz_total{code=\"200\"} 1",
            "kubeproxy_proxy_livez_total{code=\"200\"} 1",
            "kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family=\"IPv4\",le=\"1.024\"} 1",
            "kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family=\"IPv4\",le=\"+Inf\"} 1",
            "kubeproxy_sync_proxy_rules_duration_seconds_sum{ip_family=\"IPv4\"} 0.7",
        ] {
            assert!(metrics.lines().any(|shown| shown == line), "{line} in {metrics}");
        }
    });
}

/// Series of metrics are compared by name and labels; values are a run's own.
fn series(text: &str) -> Vec<String> {
    let ours = text
        .lines()
        .filter(|line| line.contains("kubeproxy_") && !line.contains("IPv6"));
    let key = |line: &str| match line.strip_prefix("# ") {
        Some(_) => line.to_owned(),
        None => line.rsplit_once(' ').map_or(line, |(key, _)| key).to_owned(),
    };
    ours.map(key).collect()
}

#[test]
fn metrics_are_kube_proxy_s() {
    let metrics = Metrics::default();
    metrics.proxy_healthz_total.ok.add(1);
    metrics.proxy_livez_total.ok.add(1);
    metrics.sync_proxy_rules_last_queued_timestamp_seconds.set(1.0);
    metrics.sync_proxy_rules_last_timestamp_seconds.set(1.0);
    metrics
        .sync_proxy_rules_duration_seconds
        .observe(Duration::from_millis(1));
    metrics
        .sync_full_proxy_rules_duration_seconds
        .observe(Duration::from_millis(1));
    let ours = series(&text::exposition(&metrics).expect("text"));
    // Counters of rules with -m nfacct, which are not written (as by kube-proxy on a kernel without nfacct).
    let theirs: Vec<String> = series(include_str!("../../../testdata/kube-proxy/metrics.txt"))
        .into_iter()
        .filter(|line| !line.contains("kubeproxy_iptables_"))
        .collect();
    assert_eq!(ours, theirs);
}

#[test]
fn a_node_about_to_go_is_no_place_for_new_connections_but_alive() {
    Space::new().block_on(|| async {
        let served = serve("");
        served.status.send_replace(SYNCED);
        let healthz = || curl("http://127.0.0.1:10256/healthz");
        assert!(
            healthz().await.starts_with("HTTP/1.1 503 Service Unavailable\n"),
            "not registered"
        );
        served.show(&node(""));
        let healthy = healthz().await;
        assert!(healthy.starts_with("HTTP/1.1 200 OK\n"), "{healthy}");
        assert!(
            healthy.contains("\nContent-Type: application/json\n")
                && healthy.contains("\nX-Content-Type-Options: nosniff\n"),
            "{healthy}"
        );
        assert!(
            healthy.contains(r#""nodeEligible":true,"healthy":true,"status":{"IPv4":{"lastUpdated":""#),
            "{healthy}"
        );
        served.show(&node(
            "spec: {taints: [{key: ToBeDeletedByClusterAutoscaler, effect: NoSchedule}]}",
        ));
        assert!(healthz().await.contains(r#""nodeEligible":false,"healthy":true"#));
        served.show("kind: Node\nmetadata: {name: n1, deletionTimestamp: '2026-11-21T00:00:00Z'}");
        assert!(healthz().await.starts_with("HTTP/1.1 503"));
        assert!(
            curl("http://127.0.0.1:10256/livez")
                .await
                .starts_with("HTTP/1.1 200 OK\n")
        );
        assert_eq!(
            (
                served.metrics.proxy_healthz_total.ok.get(),
                served.metrics.proxy_healthz_total.unavailable.get()
            ),
            (1, 3)
        );
    });
}

const LB: &str = "
---
kind: Service
metadata: {namespace: demo, name: lblocal}
spec: {type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 30962, clusterIP: 10.96.0.1, ports: [{port: 80}]}
---
kind: EndpointSlice
metadata: {namespace: demo, name: lblocal-1, labels: {kubernetes.io/service-name: lblocal}}
addressType: IPv4
ports: [{name: '', port: 80, protocol: TCP}]
endpoints: [{addresses: [10.244.1.2], nodeName: n1}]
";

/// Waits for what follows a status: bounded, and over as soon as it holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), wait)
        .await
        .unwrap_or_else(|_late| panic!("{what}"));
}

async fn listens(port: u16) -> bool {
    tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .await
        .is_ok()
}

#[test]
fn a_health_check_port_opens_answers_and_closes_with_its_service() {
    const URL: &str = "http://127.0.0.1:30962/any/path";
    Space::new().block_on(|| async {
        let served = serve(&node(""));
        served.show(&(node("") + LB));
        until("the port opens", async || listens(30962).await).await;
        let answer = curl(URL).await;
        let expected = include_str!("../../../testdata/kube-proxy/health-check.txt");
        let expected: Vec<&str> = expected.lines().filter(|line| !line.starts_with("Date:")).collect();
        assert_eq!(sorted(&answer), sorted(&expected.join("\n")));

        served.show(&(node("") + &LB.replace("nodeName: n1", "nodeName: n2")));
        until("nothing here", async || {
            curl(URL).await.starts_with("HTTP/1.1 503 Service Unavailable")
        })
        .await;
        assert!(curl(URL).await.contains("X-Load-Balancing-Endpoint-Weight: 0\n"));

        served.show(&(node("") + &LB.replace("30962", "30963")));
        until("the port moves", async || listens(30963).await && !listens(30962).await).await;
        served.show(&node(""));
        until("the port closes", async || !listens(30963).await).await;
    });
}

/// Headers have no order; the body has.
fn sorted(answer: &str) -> (Vec<&str>, String) {
    let (head, body) = answer.split_once("\n\n").expect("a body");
    let mut head: Vec<&str> = head
        .lines()
        .filter(|line| !line.to_lowercase().starts_with("content-length"))
        .collect();
    head.sort_unstable();
    (head, body.to_owned())
}

#[test]
fn a_port_that_is_taken_is_an_event_once_and_served_when_it_is_free() {
    Space::new().block_on(|| async {
        let taken = std::net::TcpListener::bind("0.0.0.0:30962").expect("free until now");
        let mut served = serve(&node(""));
        served.show(&(node("") + LB));
        let request = served.happened.recv().await.expect("an event");
        assert_eq!(request.uri().path(), "/api/v1/namespaces/demo/events");
        let body = request.into_body().collect_bytes().await.expect("a body");
        let event: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(event["reason"], "FailedToStartServiceHealthcheck");
        assert_eq!(event["type"], "Warning");
        assert_eq!(event["involvedObject"]["kind"], "Service");
        assert_eq!(event["source"]["component"], "kube-proxy");
        assert_eq!(
            event["message"],
            "node n1 failed to start healthcheck \"demo/lblocal\" on port 30962: listen tcp 0.0.0.0:30962: bind: address already in use"
        );
        drop(taken);
        served.show(&(node("") + LB));
        until("the port opens", async || listens(30962).await).await;
        assert!(served.happened.try_recv().is_err(), "told once");
    });
}
