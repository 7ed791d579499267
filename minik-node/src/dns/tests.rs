//! A server on the loopback of a private namespace, asked by the real `dig`.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::handler::Handler;
use super::upstream::Upstream;
use super::{bind, serve};
use crate::plan::dns_zone::{Zone, origin};
use crate::private_net::Space;
use crate::view::testing;

const MANIFESTS: &str = include_str!("../../testdata/names.yaml");

/// A server at 127.0.0.1:53 of a namespace of its own.
struct Lab {
    space: Space,
    zone: watch::Sender<Option<Arc<Zone>>>,
    stop: CancellationToken,
}

impl Lab {
    fn new(upstream: Vec<SocketAddr>) -> Self {
        let (zone, zones) = watch::channel(None);
        let (space, stop) = (Space::new(), CancellationToken::new());
        let lab = Self { space, zone, stop };
        lab.serve("127.0.0.1:53", zones, upstream);
        lab
    }

    fn serve(&self, address: &str, zones: watch::Receiver<Option<Arc<Zone>>>, upstream: Vec<SocketAddr>) {
        let (address, stop) = (address.parse().expect("an address"), self.stop.clone());
        self.space.run(move || {
            let (ready, bound) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime");
                let origin = origin("cluster.local").expect("a domain");
                let handler = Handler::new(origin, zones, Upstream::new(upstream));
                runtime.block_on(async {
                    let sockets = bind(address).await.expect("port 53 is free");
                    ready.send(()).expect("the test waits");
                    serve(sockets, handler, stop).await.expect("the server stops when told");
                });
            });
            bound.recv().expect("a server");
        });
    }

    fn learn(&self, manifests: &str) {
        let origin = origin("cluster.local").expect("a domain");
        self.zone
            .send_replace(Some(Arc::new(Zone::full(&testing::view(None, manifests), origin, 7))));
    }

    /// What `dig` prints.
    fn dig(&self, arguments: &str) -> String {
        let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
        self.space.run(move || {
            let dig = ["@127.0.0.1", "+tries=5", "+timeout=1"];
            let output = Command::new("dig")
                .args(dig)
                .args(arguments)
                .output()
                .expect("dig (Debian package bind9-dnsutils)");
            String::from_utf8(output.stdout).expect("dig prints text")
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[test]
fn before_the_lists_are_complete_nothing_is_denied() {
    let lab = Lab::new(Vec::new());
    assert!(lab.dig("web.lab.svc.cluster.local").contains("status: SERVFAIL"));
    assert!(lab.dig("-x 10.96.0.20").contains("status: SERVFAIL"));
    lab.learn(MANIFESTS);
    assert_eq!(lab.dig("+short web.lab.svc.cluster.local"), "10.96.0.20\n");
}

#[test]
fn flags_and_sections_over_udp_and_tcp() {
    let lab = Lab::new(Vec::new());
    lab.learn(MANIFESTS);
    for transport in ["+notcp", "+tcp"] {
        let found = lab.dig(&format!("{transport} web.lab.svc.cluster.local"));
        assert!(
            found.contains("status: NOERROR") && found.contains("flags: qr aa rd;"),
            "{found}"
        );
        let missing = lab.dig(&format!("{transport} nope.lab.svc.cluster.local"));
        assert!(
            missing.contains("status: NXDOMAIN") && missing.contains("AUTHORITY: 1"),
            "{missing}"
        );
        assert!(
            missing.contains("SOA\tns.dns.cluster.local. hostmaster.cluster.local. 7 7200 1800 86400 30"),
            "{missing}"
        );
    }
    assert_eq!(
        lab.dig("+short -x 10.244.2.3"),
        "10-244-2-3.db.lab.svc.cluster.local.\n"
    );
    assert!(lab.dig("+noedns web.lab.svc.cluster.local").contains("status: NOERROR"));
    assert!(
        lab.dig("+edns=7 +noednsneg web.lab.svc.cluster.local")
            .contains("status: BADVERS")
    );
    assert!(lab.dig("-c CH version.bind TXT").contains("status: REFUSED"));
}

#[test]
fn a_large_set_is_truncated_over_udp_whole_over_tcp_and_shuffled() {
    let lab = Lab::new(Vec::new());
    let mut manifests = "kind: Namespace\nmetadata: {name: lab}\n---\nkind: Service\nmetadata: {namespace: lab, name: big}\nspec: {clusterIP: None}\n\
         ---\nkind: EndpointSlice\nmetadata: {namespace: lab, name: big-1, labels: {kubernetes.io/service-name: big}}\naddressType: IPv4\nendpoints:\n"
        .to_owned();
    for host in 0..100 {
        writeln!(manifests, "- {{addresses: [10.244.3.{host}]}}").expect("text grows");
    }
    lab.learn(&manifests);
    let cut = lab.dig("+notcp +ignore +noedns big.lab.svc.cluster.local");
    assert!(cut.contains("flags: qr aa tc rd;"), "{cut}");
    let whole = lab.dig("+short +tcp big.lab.svc.cluster.local");
    assert_eq!(whole.lines().count(), 100);
    assert_ne!(
        whole,
        lab.dig("+short +tcp big.lab.svc.cluster.local"),
        "100! orders, and twice the same"
    );
}

#[test]
fn foreign_names_go_upstream_when_there_is_one() {
    let alone = Lab::new(Vec::new());
    alone.learn(MANIFESTS);
    assert!(alone.dig("www.example.com").contains("status: SERVFAIL"));
    assert_eq!(alone.dig("+short away.lab.svc.cluster.local"), "www.example.com.\n");

    // The upstream server is another of ours, whose zone happens to hold the names asked for.
    let lab = Lab::new(vec!["127.0.0.2:53".parse().expect("an address")]);
    lab.learn("kind: Namespace\nmetadata: {name: lab}\n---\nkind: Service\nmetadata: {namespace: lab, name: up}\nspec: {type: ExternalName, externalName: web.lab.svc.other.test}\n");
    let view = testing::view(None, MANIFESTS);
    let other = Zone::full(&view, origin("other.test").expect("a domain"), 1);
    let (_sender, zones) = watch::channel(Some(Arc::new(other)));
    lab.serve("127.0.0.2:53", zones, Vec::new());
    assert_eq!(
        lab.dig("+short up.lab.svc.cluster.local"),
        "web.lab.svc.other.test.\n10.96.0.20\n"
    );
    assert!(lab.dig("nope.lab.svc.other.test").contains("status: NXDOMAIN"));
}

/// A fake API server: lists and watches of the three kinds that a name server follows.
mod api {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use axum::body::Body;
    use axum::extract::{Path, Query, State};
    use axum::response::{IntoResponse, Response};
    use axum::{Json, Router};
    use futures::StreamExt;
    use k8s_openapi::serde_json::{Value, json};
    use tokio::sync::broadcast;
    use tokio_stream::wrappers::BroadcastStream;

    /// Objects to list, and the channel on which watches of any kind of `resource` hear `(resource, event)`.
    #[derive(Debug, Clone)]
    pub struct Fake {
        pub objects: Arc<Vec<Value>>,
        pub events: broadcast::Sender<(&'static str, Value)>,
    }

    pub fn router(fake: Fake) -> Router {
        let one = axum::routing::get(answer);
        Router::new()
            .route("/api/v1/{resource}", one.clone())
            .route("/apis/discovery.k8s.io/v1/{resource}", one)
            .with_state(fake)
    }

    async fn answer(
        Path(resource): Path<String>,
        Query(query): Query<BTreeMap<String, String>>,
        State(fake): State<Fake>,
    ) -> Response {
        if query.get("watch").is_some_and(|watch| watch == "true") {
            let events = BroadcastStream::new(fake.events.subscribe()).filter_map(move |event| {
                let line = event
                    .ok()
                    .filter(|(of, _)| *of == resource)
                    .map(|(_, event)| Ok::<_, std::io::Error>(format!("{event}\n")));
                std::future::ready(line)
            });
            return Body::from_stream(events).into_response();
        }
        let kind = match resource.as_str() {
            "services" => "Service",
            "namespaces" => "Namespace",
            _ => "EndpointSlice",
        };
        let items: Vec<&Value> = fake.objects.iter().filter(|object| object["kind"] == kind).collect();
        Json(json!({"kind": format!("{kind}List"), "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items})).into_response()
    }
}

/// From a kubeconfig file to answers, through a change, and on after the API server's death.
#[test]
fn it_follows_the_api_and_outlives_it() {
    use k8s_openapi::serde_json::{Value, json};

    let space = Space::new();
    let directory = tempfile::tempdir().expect("a directory");
    let kubeconfig = directory.path().join("kubeconfig");
    let text = "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: c, cluster: {server: 'http://127.0.0.1:8001'}}]\nusers: [{name: u, user: {}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n";
    std::fs::write(&kubeconfig, text).expect("the file is written");
    let objects: Vec<Value> = serde_saphyr::from_multiple(MANIFESTS).expect("manifests");
    let (events, _keep) = tokio::sync::broadcast::channel(16);
    let fake = api::Fake {
        objects: Arc::new(objects),
        events: events.clone(),
    };
    let (api_stop, dns_stop) = (CancellationToken::new(), CancellationToken::new());
    let (api_stopped, dns_stopped) = (api_stop.clone(), dns_stop.clone());
    let (gone, api_gone) = std::sync::mpsc::channel();
    space.run(move || {
        let runtime = || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime")
        };
        std::thread::spawn(move || {
            runtime().block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:8001")
                    .await
                    .expect("a free port");
                let serve = axum::serve(listener, api::router(fake)).into_future();
                api_stopped.run_until_cancelled(serve).await
            });
            gone.send(()).expect("the test waits");
        });
        std::thread::spawn(move || {
            let config = super::DnsConfig {
                kubeconfig,
                domain: "cluster.local".to_owned(),
                listen: "127.0.0.1:53".parse().expect("an address"),
            };
            runtime()
                .block_on(super::run(config, dns_stopped))
                .expect("the server stops when told");
        });
    });
    let (zone, _) = watch::channel(None);
    let lab = Lab {
        space,
        zone,
        stop: dns_stop,
    };
    let until = |question: &str, expected: &str| {
        let found = (0..500).map(|_| lab.dig(question)).find(|found| found == expected);
        assert_eq!(found.as_deref(), Some(expected), "{question}");
    };
    until("+short web.lab.svc.cluster.local", "10.96.0.20\n");
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "lab", "name": "new", "resourceVersion": "2"},
        "spec": {"clusterIP": "10.96.0.77", "ports": [{"port": 80}]}});
    assert!(lab.dig("new.lab.svc.cluster.local").contains("status: NXDOMAIN"));
    events
        .send(("services", json!({"type": "ADDED", "object": service})))
        .expect("somebody watches");
    until("+short new.lab.svc.cluster.local", "10.96.0.77\n");
    api_stop.cancel();
    api_gone.recv().expect("the API server ends");
    assert_eq!(lab.dig("+short new.lab.svc.cluster.local"), "10.96.0.77\n");
    assert_eq!(lab.dig("+short web.lab.svc.cluster.local"), "10.96.0.20\n");
}
