//! The writing commands of a real kubectl against the API alone: no nodes, no controllers, plain HTTP on loopback.
//! Needs kubectl and diff on the path; a test that lacks one fails and names it.

use std::net::Ipv4Addr;
use std::process::{Command, Output};

use axum::Extension;
use minik_api::server::{Identity, router};
use tokio::net::TcpListener;

use crate::common::Server;
use crate::kubectl::tool;

const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: REPLICAS
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: nginx}]}
";

/// A folder to type in, and the server that kubectl talks to there.
struct Shell {
    home: tempfile::TempDir,
    server: String,
}

impl Shell {
    async fn start() -> Self {
        let server = Server::start().await;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("binds");
        let address = listener.local_addr().expect("is bound");
        let app = router(server.state.clone()).layer(Extension(Identity::admin()));
        tokio::spawn(async move { axum::serve(listener, app).await });
        let home = tempfile::tempdir().expect("is made");
        for replicas in 1..6 {
            let text = WEB.replace("REPLICAS", &replicas.to_string());
            std::fs::write(home.path().join(format!("web{replicas}.yaml")), text).expect("is written");
        }
        let server = format!("http://{address}");
        Self { home, server }
    }

    fn run(&self, line: &str) -> Output {
        let kubectl = format!(
            "kubectl() {{ {} --server={} --namespace=demo \"$@\"; }}\n",
            tool("kubectl").display(),
            self.server
        );
        Command::new("bash")
            .args(["-c", &(kubectl + line)])
            .current_dir(self.home.path())
            .env("HOME", self.home.path())
            .env("KUBECONFIG", self.home.path().join("none"))
            .output()
            .expect("bash runs")
    }

    /// Standard output of a line that must succeed.
    #[track_caller]
    fn ok(&self, line: &str) -> String {
        let said = self.run(line);
        let errors = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(said.status.success(), "{line}: {errors}");
        String::from_utf8(said.stdout).expect("is text")
    }

    /// Standard error and output of a line that must end with `code`.
    #[track_caller]
    fn fails(&self, code: i32, line: &str) -> (String, String) {
        let said = self.run(line);
        let [errors, output] = [said.stderr, said.stdout].map(|text| String::from_utf8(text).expect("is text"));
        assert_eq!(said.status.code(), Some(code), "{line}: {errors}");
        (errors, output)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn server_side_apply_conflicts_and_takes_over() {
    let shell = Shell::start().await;
    assert_eq!(
        shell.ok("kubectl apply --server-side -f web1.yaml"),
        "deployment.apps/web serverside-applied\n"
    );
    shell.ok("kubectl scale deployment web --replicas=2");
    let (errors, _) = shell.fails(1, "kubectl apply --server-side -f web3.yaml");
    let first = errors.lines().next().expect("says why");
    assert_eq!(
        first,
        "error: Apply failed with 1 conflict: conflict with \"kubectl\" with subresource \"scale\" using apps/v1: .spec.replicas"
    );
    assert!(errors.contains("--force-conflicts"), "{errors}");
    shell.ok("kubectl apply --server-side --force-conflicts -f web3.yaml");
    let owners = "kubectl get deployment web -o jsonpath='{range .metadata.managedFields[*]}{.manager} {.operation}{\"\\n\"}{end}'";
    assert_eq!(shell.ok(owners), "kubectl Apply\n");
}

/// What `kubectl apply` made from the client's side goes over to the server's side without a conflict.
#[tokio::test(flavor = "multi_thread")]
async fn client_side_apply_goes_over_to_the_servers_side() {
    let shell = Shell::start().await;
    assert_eq!(shell.ok("kubectl apply -f web1.yaml"), "deployment.apps/web created\n");
    assert_eq!(
        shell.ok("kubectl apply -f web1.yaml"),
        "deployment.apps/web unchanged\n"
    );
    assert_eq!(
        shell.ok("kubectl apply -f web2.yaml"),
        "deployment.apps/web configured\n"
    );
    assert_eq!(
        shell.ok("kubectl apply --server-side -f web3.yaml"),
        "deployment.apps/web serverside-applied\n"
    );
    let replicas = "kubectl get deployment web -o jsonpath='{.spec.replicas}'";
    assert_eq!(shell.ok(replicas), "3");
    let (_, changed) = shell.fails(1, "kubectl diff --server-side -f web4.yaml");
    assert!(changed.contains("-  replicas: 3\n+  replicas: 4\n"), "{changed}");
    assert_eq!(
        shell.ok("kubectl apply --server-side --dry-run=server -f web4.yaml"),
        "deployment.apps/web serverside-applied (server dry run)\n"
    );
    assert_eq!(shell.ok(replicas), "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_everyday_writes_say_what_kubernetes_says() {
    let shell = Shell::start().await;
    shell.ok("kubectl apply -f web1.yaml");
    let (_, changed) = shell.fails(1, "kubectl diff -f web2.yaml");
    assert!(changed.contains("-  replicas: 1\n+  replicas: 2\n"), "{changed}");
    for (line, said) in [
        (
            "kubectl label deployment web tier=front",
            "deployment.apps/web labeled\n",
        ),
        (
            "kubectl label deployment web tier=front",
            "deployment.apps/web not labeled\n",
        ),
        ("kubectl label deployment web tier-", "deployment.apps/web unlabeled\n"),
        (
            "kubectl annotate deployment web note=x",
            "deployment.apps/web annotated\n",
        ),
        (
            r#"kubectl patch deployment web -p '{"spec":{"replicas":2}}'"#,
            "deployment.apps/web patched\n",
        ),
        (
            r#"kubectl patch deployment web -p '{"spec":{"replicas":2}}'"#,
            "deployment.apps/web patched (no change)\n",
        ),
        (
            r#"kubectl patch deployment web --type=merge -p '{"spec":{"replicas":3}}'"#,
            "deployment.apps/web patched\n",
        ),
        (
            r#"kubectl patch deployment web --type=json -p '[{"op":"replace","path":"/spec/replicas","value":4}]'"#,
            "deployment.apps/web patched\n",
        ),
        (
            "KUBE_EDITOR=\"sed -i 's/replicas: 4/replicas: 5/'\" kubectl edit deployment web",
            "deployment.apps/web edited\n",
        ),
        (
            "kubectl set image deployment/web web=nginx:2",
            "deployment.apps/web image updated\n",
        ),
        (
            "kubectl replace --force -f web2.yaml",
            "deployment.apps \"web\" deleted from demo namespace\ndeployment.apps/web replaced\n",
        ),
        (
            "kubectl wait --for=jsonpath='{.spec.replicas}'=2 deployment/web --timeout=5s",
            "deployment.apps/web condition met\n",
        ),
    ] {
        assert_eq!(shell.ok(line), said, "{line}");
    }
    let (errors, _) = shell.fails(1, r#"kubectl patch deployment web -p '{"spec":{"replicas":"x"}}'"#);
    assert_eq!(
        errors,
        "The request is invalid: patch: Invalid value: \"map[spec:map[replicas:x]]\": unrecognized type: int32\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn apply_prunes_what_the_set_has_no_more() {
    let shell = Shell::start().await;
    let map =
        |name: &str| format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}, labels: {{set: one}}}}}}");
    let apply = |maps: &[&str]| {
        let text = maps.iter().map(|name| map(name)).collect::<Vec<_>>().join("\n---\n");
        shell.ok(&format!(
            "kubectl apply --prune -l set=one --prune-allowlist=core/v1/ConfigMap -f - <<'END'\n{text}\nEND"
        ))
    };
    assert_eq!(apply(&["a", "b"]), "configmap/a created\nconfigmap/b created\n");
    assert_eq!(apply(&["b"]), "configmap/b unchanged\nconfigmap/a pruned\n");
}
