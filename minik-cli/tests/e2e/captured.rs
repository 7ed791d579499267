//! Sessions with kubectl 1.36 against Kubernetes 1.36, typed again here: the same answers but for names, addresses, ages.
//!
//! `captured/*.txt` holds what a real API server and kubectl said: `$ COMMAND`, standard output and error together, and
//! `[rc=CODE]`. What differs from one cluster to the next is masked on both sides before they are compared. Newer and older
//! kubectl print some things differently: from them come the same exit codes and the same objects.

use std::fmt::Write;

use regex::Regex;

use crate::vm::{Said, Vm, eventually, workspace};

/// What one cluster calls otherwise than another, and the word that stands for it.
const MASKS: &[(&str, &str)] = &[
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?( \+0000|Z)", "TIME"),
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UID"),
    (r#"resourceVersion: "\d+""#, "resourceVersion: N"),
    (r"\bnginx-[a-z0-9]{8,10}-[a-z0-9]{5}\b", "POD"),
    (r"\bkube-api-access-[a-z0-9]{5}\b", "TOKEN"),
    (r"\bnginx-[a-z0-9]{8,10}\b", "REPLICASET"),
    (r"pod-template-hash=\w+", "pod-template-hash=HASH"),
    (
        r"\b(ext-db|myweb|myweb-externalip|myweb-headless|myweb-lb|myweb-nodeport|nginx-svc)-[bcdfghjklmnpqrstvwxz2456789]{5}\b",
        "$1-ID",
    ),
    (r"\b(10\.\d+\.\d+\.\d+|172\.30\.0\.\d+|192\.168\.191\.144)\b", "ADDRESS"),
    (r"\b(3\d{4}|16443|6443)\b", "PORT"),
    (r"\b(\d+m)?\d+s\b", "AGE"),
    (r"\b(mac-worker|worker\d|control-plane)\b", "NODE"),
    (r"/tmp/(LIVE|MERGED)-\d+", "$1"),
    (r" +", " "),
];

/// One command of a captured session.
struct Step {
    command: String,
    output: String,
    code: i32,
}

fn session(name: &str) -> Vec<Step> {
    let folder = workspace().join("minik-cli/tests/e2e/captured");
    let text = std::fs::read_to_string(folder.join(name)).expect("reads a captured session");
    let steps = text.split("$ kubectl ").skip(1).map(|block| {
        let (command, rest) = block.split_once('\n').expect("a command is a line");
        let (output, code) = rest.rsplit_once("[rc=").expect("a command ends with its code");
        Step {
            command: command.to_owned(),
            output: output.to_owned(),
            code: code.trim().trim_end_matches(']').parse().expect("a number"),
        }
    });
    steps.collect()
}

/// Boots a machine with a cluster in one zone, as the captured one was, and the manifests of the sessions.
fn cluster() -> Vm {
    let vm = Vm::with_cluster();
    vm.sh("kubectl label nodes --all topology.kubernetes.io/zone=z1").ok();
    let folder = workspace().join("minik-cli/tests/e2e/captured");
    for file in ["e.yaml", "svc.yaml", "np.yaml", "np2.yaml", "bad.yaml", "bad2.yaml"] {
        let text = std::fs::read_to_string(folder.join(file)).expect("reads a manifest");
        vm.write(file, &text);
    }
    vm
}

/// The command as a shell must be told it: no word of the sessions has blanks.
fn line(kubectl: &str, command: &str) -> String {
    let mut line = kubectl.to_owned();
    for word in command.split(' ') {
        write!(line, " '{word}'").expect("a string takes everything");
    }
    format!("{line} 2>&1")
}

/// The output with what differs from cluster to cluster masked; lines in order, as addresses decide the captured order.
fn masked(masks: &[(Regex, &str)], output: &str) -> Vec<String> {
    let mut text = output.to_owned();
    for (mask, word) in masks {
        text = mask.replace_all(&text, *word).into_owned();
    }
    // Cluster DNS, which the captured cluster did not have.
    let mut lines: Vec<String> = text
        .lines()
        .filter(|line| !line.contains("kube-system/kube-dns"))
        .map(|line| line.trim_end().to_owned())
        .collect();
    // Names with generated ends decide the order of these.
    if output.contains("PARENTREF") || output.contains("ADDRESSTYPE") {
        lines.sort();
    }
    lines
}

fn masks() -> Vec<(Regex, &'static str)> {
    let compile = |(mask, word): &(&str, &'static str)| (Regex::new(mask).expect("constant"), *word);
    MASKS.iter().map(compile).collect()
}

/// Whether the command only looks, so that it may look again until the cluster has done what it does on its own.
fn looks(command: &str) -> bool {
    ["get", "describe"].contains(&command.split(' ').next().unwrap_or_default())
}

fn says_what_kubernetes_says(name: &str) {
    let vm = cluster();
    let masks = masks();
    for step in session(name) {
        let expected = masked(&masks, &step.output);
        let compare = |said: Said| {
            let seen = masked(&masks, &said.out);
            if said.code == step.code && seen == expected {
                return Ok(());
            }
            Err(format!("{said}\nmasked:\n{seen:#?}\nKubernetes:\n{expected:#?}"))
        };
        let line = line("kubectl-1.36", &step.command);
        if looks(&step.command) {
            eventually(|| compare(vm.sh(&line)));
        } else if let Err(difference) = compare(vm.sh(&line)) {
            panic!("{difference}");
        }
    }
}

#[test]
fn services_as_kubernetes_shows_them() {
    says_what_kubernetes_says("services.txt");
}

#[test]
fn explanations_and_refusals_as_kubernetes_words_them() {
    says_what_kubernetes_says("refusals.txt");
}

/// What the commands left behind: labels, annotations apart from kubectl's own, and the specification.
fn objects(vm: &Vm, masks: &[(Regex, &str)]) -> Vec<String> {
    let template = r#"{{range .items}}{{.kind}}/{{.metadata.name}} {{.metadata.labels}} {{.spec}}{{"\n"}}{{end}}"#;
    let kinds = "deployments,services,ingresses,servicecidrs,pods";
    let said = vm.sh(&format!("kubectl-1.36 get {kinds} -o go-template='{template}'"));
    let mut lines = masked(masks, &said.ok());
    lines.sort();
    lines
}

#[test]
fn kubectl_of_other_versions_ends_alike_and_makes_the_same_objects() {
    let masks = masks();
    let mut made = Vec::new();
    for kubectl in ["kubectl-1.36", "kubectl", "kubectl-1.33"] {
        let vm = cluster();
        for step in session("services.txt").iter().chain(&session("refusals.txt")) {
            let line = line(kubectl, &step.command);
            let ends = |said: Said| match said.code {
                code if code == step.code => Ok(()),
                _ => Err(said.to_string()),
            };
            eventually(|| ends(vm.sh(&line)));
        }
        vm.sh("kubectl wait --for=condition=Available deployment/nginx --timeout=30s")
            .ok();
        eventually(|| match vm.sh("kubectl get pods -o name").ok().lines().count() {
            3 => Ok(()),
            pods => Err(format!("{pods} Pods")),
        });
        made.push((kubectl, objects(&vm, &masks)));
    }
    let (_, first) = &made[0];
    assert!(
        first.iter().any(|line| line.starts_with("Service/my-service ")),
        "{first:#?}"
    );
    for (kubectl, objects) in &made[1..] {
        assert_eq!(objects, first, "{kubectl}");
    }
}
