//! The same in a real kernel, with both variants of the programs, each test in a namespace of its own.

use std::process::Command;
use std::sync::Arc;

use super::kube_proxy::POLICIES;
use super::{compile, node};
use crate::private_net::Space;
use crate::proxy::iptables::Iptables;
use crate::proxy::iptables::kernel::{Kernel, KernelError};
use crate::proxy::iptables::plan::Plan;
use crate::proxy::iptables::ruleset::Ruleset;
use crate::proxy::{ProxyConfig, ProxyReconciler};
use crate::reconcile::{Outcome, Pass, Reconciler};
use crate::view::testing;

const VARIANTS: [&str; 2] = ["iptables-nft", "iptables-legacy"];

/// A directory for a node's lock, gone with the test.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

#[test]
fn what_is_written_reads_back_equal() {
    for variant in VARIANTS {
        let desired = compile(POLICIES.0, node("node1", "10.200.0.1", "10.128.0.0/9"));
        let expected = desired.clone();
        let observed = Space::new().block_on(move || async move {
            let directory = directory();
            let kernel = Kernel::with_variant(variant, directory.path().join("xtables.lock"));
            let plan = Plan::new(&Ruleset::default(), &desired);
            kernel.restore(&plan.to_string()).await.expect("the rules are accepted");
            kernel.save().await.expect("the rules are read")
        });
        assert_eq!(observed.to_string(), expected.to_string(), "{variant}");
    }
}

#[test]
fn a_refused_line_is_named() {
    for variant in VARIANTS {
        let refused = Space::new().block_on(move || async move {
            let text = "*nat\n:KUBE-X - [0:0]\n-A KUBE-X --nonsense -j DROP\nCOMMIT\n";
            let directory = directory();
            Kernel::with_variant(variant, directory.path().join("xtables.lock"))
                .restore(text)
                .await
        });
        let Err(KernelError::Exit { line, .. }) = refused else {
            panic!("{variant}: {refused:?}")
        };
        assert_eq!(line.as_deref(), Some("-A KUBE-X --nonsense -j DROP"), "{variant}");
    }
}

/// Two Services; `b` has one endpoint more when `grown`.
fn manifests(grown: bool) -> String {
    let more = if grown { "- {addresses: [10.244.0.4]}\n" } else { "" };
    let service = |name: &str, ip: u8, more: &str| {
        format!(
            "---\nkind: Service\nmetadata: {{namespace: d, name: {name}}}\nspec: {{clusterIP: 10.96.0.{ip}, ports: [{{port: 80}}]}}\n\
             ---\nkind: EndpointSlice\nmetadata: {{namespace: d, name: {name}-1, labels: {{kubernetes.io/service-name: {name}}}}}\n\
             addressType: IPv4\nports: [{{name: '', port: 80, protocol: TCP}}]\nendpoints:\n- {{addresses: [10.244.0.{ip}]}}\n{more}"
        )
    };
    [service("a", 2, ""), service("b", 3, more)].concat()
}

fn save() -> String {
    let output = Command::new("iptables-save").arg("-c").output().expect("iptables-save");
    String::from_utf8(output.stdout).expect("text")
}

fn sh(script: &str) {
    assert!(
        Command::new("sh").args(["-ec", script]).status().expect("sh").success(),
        "{script}"
    );
}

#[test]
fn a_change_rewrites_its_own_chains_and_a_full_pass_mends_everything() {
    Space::new().block_on(|| async {
        let directory = directory();
        let config = ProxyConfig {
            node: "n1".to_owned(),
            node_ip: "192.0.2.1".parse().expect("an address"),
            cluster_cidr: "10.244.0.0/16".parse().expect("a range"),
            lock_file: directory.path().join("xtables.lock"),
            metrics: Arc::default(),
        };
        let mut proxy = ProxyReconciler::new(Iptables::new(config.lock_file.clone()), config);
        let view = |grown| Arc::new(testing::view(Some("n1"), &manifests(grown)));
        assert_eq!(proxy.reconcile(view(false), Pass::Full).await, Outcome::Synced);

        // Counters tell which rules were written again: a rewritten rule starts from zero.
        sh("iptables -Z; iptables -t nat -Z; iptables-save -c | sed 's/^\\[0:0\\]/[7:7]/' | iptables-restore -c");
        assert_eq!(proxy.reconcile(view(true), Pass::Changed).await, Outcome::Synced);
        let rules = save();
        let fresh: Vec<&str> = rules
            .lines()
            .filter(|line| line.starts_with("[0:0] -A KUBE-"))
            .collect();
        assert!(
            !fresh.is_empty() && fresh.iter().all(|line| line.contains("d/b")),
            "{fresh:#?}"
        );
        let kept = rules.lines().filter(|line| line.contains("\"d/a"));
        assert!(
            kept.clone().count() > 0 && kept.clone().all(|line| line.starts_with("[7:7]")),
            "{rules}"
        );

        sh("iptables -t nat -F KUBE-SERVICES; iptables -D INPUT 1; iptables -t nat -F PREROUTING");
        let broken = save();
        assert_eq!(
            proxy.reconcile(view(true), Pass::Changed).await,
            Outcome::Synced,
            "nothing changed, nothing is read"
        );
        assert_eq!(save(), broken);
        assert_eq!(proxy.reconcile(view(true), Pass::Full).await, Outcome::Synced);
        let mended = Ruleset::parse(&plain(&save())).expect("rules");
        assert_eq!(
            mended.to_string(),
            compile(&manifests(true), node("n1", "192.0.2.1", "10.244.0.0/16")).to_string()
        );
    });
}

/// Without counters.
fn plain(rules: &str) -> String {
    rules
        .lines()
        .map(|line| {
            line.split_once("] -A")
                .map_or(line.to_owned(), |(_, rule)| format!("-A{rule}"))
                + "\n"
        })
        .collect()
}
