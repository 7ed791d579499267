//! Real kubectl of three versions against the server on a loopback port: what it sends as protobuf is stored as if it
//! had come as JSON, and goes back to the bytes it came as.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use http::StatusCode;
use http_body_util::BodyExt;
use minik_api::pki::{ClusterPki, ServerNames};
use minik_api::resource::protobuf::{Expected, from_json, to_json};
use minik_api::server::Identity;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::common::Server;

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// kubectl 1.37, and the older ones that scripts/kubectl puts beside it.
const PROGRAMS: [&str; 3] = ["kubectl", "kubectl-1.36", "kubectl-1.33"];

/// A server that kubectl can reach, and the protobuf bodies that it was sent.
struct Lab {
    server: Server,
    url: String,
    bodies: Arc<Mutex<Vec<Vec<u8>>>>,
    home: TempDir,
    serving: JoinHandle<()>,
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn record(bodies: Arc<Mutex<Vec<Vec<u8>>>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let bytes = body.collect().await.expect("is read").to_bytes();
    if parts.headers.get("content-type").is_some_and(|kind| kind == PROTOBUF) {
        bodies.lock().expect("is not poisoned").push(bytes.to_vec());
    }
    next.run(Request::from_parts(parts, Body::from(bytes))).await
}

impl Lab {
    async fn start() -> Self {
        let server = Server::start().await;
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let seen = bodies.clone();
        let app = server
            .app(Identity::admin())
            .layer(from_fn(move |request, next| record(seen.clone(), request, next)));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let url = format!("http://{}", listener.local_addr().expect("is bound"));
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.expect("serves") });
        let home = TempDir::new().expect("makes a home");
        Self {
            server,
            url,
            bodies,
            home,
            serving,
        }
    }

    /// What the command prints on both outputs, and whether it succeeded.
    async fn try_run(&self, program: &str, line: &str) -> (bool, String) {
        let path = tool(program);
        let run = tokio::process::Command::new(&path)
            .args(["--server", &self.url, "--namespace", "demo"])
            .args(line.split_whitespace())
            .env_clear()
            .env("HOME", self.home.path())
            .current_dir(self.home.path())
            .stdin(Stdio::null())
            .output()
            .await
            .unwrap_or_else(|error| panic!("{} does not start (run scripts/setup): {error}", path.display()));
        let text = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
        (run.status.success(), text)
    }

    /// `cert.pem` and `key.pem` in the folder in which commands run.
    fn write_key_pair(&self) {
        let names = ServerNames::standard("cluster.local", Vec::new());
        let pki = ClusterPki::load_or_create(&self.home.path().join("pki"), &names).expect("is made");
        let issued = pki.issue_client("somebody", &[]).expect("is issued");
        std::fs::write(self.home.path().join("cert.pem"), issued.cert_pem).expect("is written");
        std::fs::write(self.home.path().join("key.pem"), issued.key_pem).expect("is written");
    }

    async fn run(&self, program: &str, line: &str) -> String {
        let (ok, text) = self.try_run(program, line).await;
        assert!(ok, "{program} {line}: {text}");
        text
    }
}

pub fn tool(program: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools").join(program)
}

/// An object without what the server chose for it: what the same request gives every time.
fn comparable(mut object: Value) -> Value {
    for field in ["uid", "resourceVersion", "creationTimestamp", "managedFields"] {
        object["metadata"].as_object_mut().expect("has metadata").remove(field);
    }
    for field in ["clusterIP", "clusterIPs"] {
        object
            .pointer_mut("/spec")
            .and_then(Value::as_object_mut)
            .map(|spec| spec.remove(field));
    }
    for port in object
        .pointer_mut("/spec/ports")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        port.as_object_mut().map(|port| port.remove("nodePort"));
    }
    object
}

/// Every `kubectl create` that sends protobuf, what it says, and where the object is then.
const CREATED: &[(&str, &str, &str)] = &[
    ("namespace made", "namespace/made", "/api/v1/namespaces/made"),
    (
        "configmap settings --from-literal=a=b --from-file=key.pem",
        "configmap/settings",
        "/api/v1/namespaces/demo/configmaps/settings",
    ),
    (
        "secret generic words --from-literal=a=b --type=example.com/words",
        "secret/words",
        "/api/v1/namespaces/demo/secrets/words",
    ),
    (
        "secret tls pair --cert=cert.pem --key=key.pem",
        "secret/pair",
        "/api/v1/namespaces/demo/secrets/pair",
    ),
    (
        "secret docker-registry pull --docker-server=example.com --docker-username=u --docker-password=p",
        "secret/pull",
        "/api/v1/namespaces/demo/secrets/pull",
    ),
    (
        "serviceaccount robot",
        "serviceaccount/robot",
        "/api/v1/namespaces/demo/serviceaccounts/robot",
    ),
    (
        "service clusterip inner --tcp=80:8080 --tcp=443",
        "service/inner",
        "/api/v1/namespaces/demo/services/inner",
    ),
    (
        "service clusterip headless --clusterip=None",
        "service/headless",
        "/api/v1/namespaces/demo/services/headless",
    ),
    (
        "service nodeport outer --tcp=80:80 --node-port=30080",
        "service/outer",
        "/api/v1/namespaces/demo/services/outer",
    ),
    (
        "service loadbalancer wide --tcp=80:http",
        "service/wide",
        "/api/v1/namespaces/demo/services/wide",
    ),
    (
        "service externalname away --external-name=example.com",
        "service/away",
        "/api/v1/namespaces/demo/services/away",
    ),
    (
        "deployment nginx --image=nginx:1.8.1 --replicas=3 --port=80",
        "deployment.apps/nginx",
        "/apis/apps/v1/namespaces/demo/deployments/nginx",
    ),
    (
        "deployment idle --image=nginx --replicas=0",
        "deployment.apps/idle",
        "/apis/apps/v1/namespaces/demo/deployments/idle",
    ),
];

async fn creates(program: &str) {
    let (lab, other) = (Lab::start().await, Server::start().await);
    lab.write_key_pair();
    for (line, name, path) in CREATED {
        assert_eq!(
            lab.run(program, &format!("create {line}")).await,
            format!("{name} created\n")
        );
        let sent = std::mem::take(&mut *lab.bodies.lock().expect("is not poisoned"));
        let [sent] = sent.as_slice() else {
            panic!("{program} create {line}: {} protobuf bodies", sent.len())
        };

        // The same object as JSON, which kubectl prints, on another server.
        let manifest = lab
            .run(program, &format!("create {line} --dry-run=client --output=json"))
            .await;
        let manifest: Value = serde_json::from_str(&manifest).expect("is JSON");
        let (collection, _) = path.rsplit_once('/').expect("is in a collection");
        let made = other.post(collection, &manifest).await;
        assert_eq!(made.code, StatusCode::CREATED, "{program} create {line}");
        let as_protobuf = comparable(lab.server.get(path).await.json());
        assert_eq!(as_protobuf, comparable(made.json()), "{program} create {line}");

        // Back to protobuf it is what kubectl's own encoder wrote, byte for byte.
        let nothing = Expected {
            api_version: String::new(),
            kind: "",
        };
        let object: Value = serde_json::from_slice(&to_json(sent, &nothing).expect("decodes")).expect("is JSON");
        assert_eq!(
            from_json(&object).expect("encodes"),
            *sent,
            "{program} create {line}: {object}"
        );
    }
}

#[tokio::test]
async fn what_kubectl_1_37_creates_as_protobuf_is_what_it_creates_as_json() {
    creates(PROGRAMS[0]).await;
}

#[tokio::test]
async fn what_kubectl_1_36_creates_as_protobuf_is_what_it_creates_as_json() {
    creates(PROGRAMS[1]).await;
}

#[tokio::test]
async fn what_kubectl_1_33_creates_as_protobuf_is_what_it_creates_as_json() {
    creates(PROGRAMS[2]).await;
}

/// What a kube-apiserver 1.36 answers to the same commands (`kubectl explain` formats what the schema says).
#[tokio::test]
async fn explain_prints_what_it_prints_of_kubernetes() {
    let lab = Lab::start().await;
    let expected = include_str!("golden/explain.txt").split("$ kubectl ").skip(1);
    for case in expected {
        let (line, wanted) = case.split_once('\n').expect("has output");
        let seen = lab.run("kubectl", line).await;
        assert_eq!(seen.trim_end(), wanted.trim_end(), "{line}");
    }
    let deep = lab
        .run(
            "kubectl",
            "explain deployment.spec.template.spec.containers.env --recursive",
        )
        .await;
    for field in [
        "name\t<string> -required-",
        "valueFrom\t<EnvVarSource>",
        "secretKeyRef\t<SecretKeySelector>",
        "optional\t<boolean>",
    ] {
        assert!(deep.contains(field), "{field:?} is not in\n{deep}");
    }
    for kind in lab.server.state.registry.iter() {
        lab.run("kubectl", &format!("explain {} --recursive", kind.info.plural))
            .await;
    }
}

/// What can only be created has no patch in the schema, so kubectl validates it itself, after it asked for custom kinds.
#[tokio::test]
async fn reviews_are_created_with_validation_by_every_kubectl() {
    let reviews = r#"
{apiVersion: authentication.k8s.io/v1, kind: TokenReview, spec: {token: nonsense}}
---
{apiVersion: authentication.k8s.io/v1, kind: SelfSubjectReview}
---
apiVersion: authorization.k8s.io/v1
kind: SelfSubjectAccessReview
spec: {resourceAttributes: {verb: get, resource: pods}}
---
apiVersion: authorization.k8s.io/v1
kind: LocalSubjectAccessReview
metadata: {namespace: demo}
spec: {user: jane, resourceAttributes: {verb: get, resource: pods, namespace: demo}}
---
apiVersion: authorization.k8s.io/v1
kind: SubjectAccessReview
spec: {groups: ["system:masters"], extra: {a: [b]}, nonResourceAttributes: {verb: get, path: /x}}
---
{apiVersion: authorization.k8s.io/v1, kind: SelfSubjectRulesReview, spec: {namespace: demo}}
"#;
    let lab = Lab::start().await;
    std::fs::write(lab.home.path().join("reviews.yaml"), reviews).expect("is written");
    let wrong = "{apiVersion: authentication.k8s.io/v1, kind: TokenReview, spec: {tokn: a}}";
    std::fs::write(lab.home.path().join("wrong.yaml"), wrong).expect("is written");
    let shown = "{.kind}:{.status.error}{.status.userInfo.username}{.status.allowed}{.status.incomplete};";
    for program in PROGRAMS {
        let line = format!("create -f reviews.yaml --validate=strict -o jsonpath={shown}");
        assert_eq!(
            lab.run(program, &line).await,
            "TokenReview:[invalid bearer token];SelfSubjectReview:kubernetes-admin;SelfSubjectAccessReview:true;LocalSubjectAccessReview:false;SubjectAccessReview:true;SelfSubjectRulesReview:false;",
            "{program}"
        );
        let (ok, said) = lab.try_run(program, "create -f wrong.yaml").await;
        assert!(!ok && said.contains(r#"unknown field "tokn""#), "{program}: {said}");
    }
}

/// A kind of Kubernetes that is not served: the path is not there, whatever the body says.
#[tokio::test]
async fn a_kind_that_is_not_served_is_refused_as_kubernetes_refuses_it() {
    const MISSING: &str = "the server could not find the requested resource";
    let cases = [
        (
            "Ingress",
            "create ingress i --rule=a.example/=web:80",
            "failed to create ingress: ",
        ),
        ("Job", "create job j --image=nginx", "failed to create job: "),
        (
            "ResourceQuota",
            "create quota q --hard=pods=1",
            "failed to create quota: ",
        ),
        (
            "PriorityClass",
            "create priorityclass p --value=1",
            "failed to create priorityclass: ",
        ),
    ];
    let lab = Lab::start().await;
    for (kind, line, before) in cases {
        if lab.server.state.registry.iter().all(|served| served.info.kind != kind) {
            let (ok, text) = lab.try_run("kubectl", line).await;
            let wanted = format!("error: {before}{MISSING}");
            assert!(!ok && text.starts_with(&wanted), "{line}: {text}");
        }
    }
}
