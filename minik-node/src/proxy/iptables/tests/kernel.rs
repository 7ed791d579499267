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
use crate::proxy::tests::times;
use crate::proxy::{ProxyConfig, ProxyReconciler};
use crate::reconcile::{Outcome, Pass, Reconciler};
use crate::view::testing;

const VARIANTS: [&str; 2] = ["iptables-nft", "iptables-legacy"];

/// A directory for a node's lock, gone with the test.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

/// In both variants, whichever way a plan is cut and lines are edited.
#[test]
fn many_services_are_written_in_parts_and_changed_by_the_line() {
    for variant in VARIANTS {
        Space::new().block_on(move || async move {
            let services = |count: u8, without: u8| -> String {
                let numbers = (1..=count).filter(|number| *number != without);
                numbers.map(with_four_endpoints).collect()
            };
            let facts = || node("n1", "192.0.2.1", "10.244.0.0/16");
            let directory = directory();
            let mut kernel = kernel(variant, &directory).await;
            let mut before = Ruleset::default();
            // Some thousand chains at first, so that the nft variant gets several commits.
            for (count, without) in [(200, 0), (200, 77), (200, 0), (20, 0)] {
                let desired = compile(&services(count, without), facts());
                let chains = desired.table(crate::proxy::iptables::ruleset::Table::Nat).chains.len();
                assert!(chains >= usize::from(count - 1) * 5, "{chains} chains");
                kernel
                    .apply(&Plan::new(&before, &desired))
                    .await
                    .expect("the rules are accepted");
                assert_eq!(kernel.save().await.expect("rules"), desired, "{variant}");
                before = desired;
            }
        });
    }
}

fn with_four_endpoints(number: u8) -> String {
    let endpoints: String = (1..5)
        .map(|host| format!("- {{addresses: [10.244.{number}.{host}]}}\n"))
        .collect();
    format!(
        "---\nkind: Service\nmetadata: {{namespace: d, name: s{number}}}\nspec: {{clusterIP: 10.96.1.{number}, ports: [{{port: 80}}]}}\n\
         ---\nkind: EndpointSlice\nmetadata: {{namespace: d, name: s{number}-1, labels: {{kubernetes.io/service-name: s{number}}}}}\n\
         addressType: IPv4\nports: [{{name: '', port: 80, protocol: TCP}}]\nendpoints:\n{endpoints}"
    )
}

async fn kernel(variant: &'static str, directory: &tempfile::TempDir) -> Kernel {
    let lock = directory.path().join("xtables.lock");
    Kernel::with_variant(variant, lock)
        .await
        .expect("the variant is installed")
}

#[test]
fn what_is_written_reads_back_equal() {
    for variant in VARIANTS {
        let desired = compile(POLICIES.0, node("node1", "10.200.0.1", "10.128.0.0/9"));
        let expected = desired.clone();
        let observed = Space::new().block_on(move || async move {
            let directory = directory();
            let mut kernel = kernel(variant, &directory).await;
            let plan = Plan::new(&Ruleset::default(), &desired);
            kernel.apply(&plan).await.expect("the rules are accepted");
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
            kernel(variant, &directory).await.restore(text).await
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
            conntrack_tcp_liberal: false,
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

/// However many changes go by before anybody asks: ours are no disturbance, and those of others are one.
#[test]
fn many_changes_of_ours_disturb_nobody_and_those_of_others_are_told_once() {
    use std::time::Duration;
    const QUIET: Duration = Duration::from_millis(300);

    Space::new().block_on(|| async {
        let directory = directory();
        let mut kernel = kernel("iptables-nft", &directory).await;
        let states = [false, true].map(|grown| compile(&manifests(grown), node("n1", "192.0.2.1", "10.244.0.0/16")));
        let mut before = Ruleset::default();
        for round in 0..40 {
            let desired = &states[round % 2];
            kernel.apply(&Plan::new(&before, desired)).await.expect("accepted");
            before = desired.clone();
            if round == 35 {
                let quiet = tokio::time::timeout(QUIET, kernel.changed()).await.is_err();
                assert!(quiet, "ours were told");
                sh("for n in 1 2 3; do iptables-nft -t nat -N OTHER-$n; done");
            }
        }
        let told = tokio::time::timeout(Duration::from_secs(5), kernel.changed()).await;
        told.expect("others' are told").expect("the socket works");
        let quiet = tokio::time::timeout(QUIET, kernel.changed()).await.is_err();
        assert!(quiet, "others' were told twice");
    });
}

/// Rules that other hands take away are back at once where the kernel reports it, and within the look's interval
/// where it does not; what the proxy writes itself wakes nobody.
#[test]
fn what_other_hands_take_away_comes_back() {
    use std::time::{Duration, Instant};
    use tokio_util::sync::CancellationToken;

    for (variant, limit) in [("iptables-nft", 1), ("iptables-legacy", 3)] {
        Space::new().block_on(move || async move {
            let directory = directory();
            let config = ProxyConfig {
                node: "n1".to_owned(),
                node_ip: "192.0.2.1".parse().expect("an address"),
                cluster_cidr: "10.244.0.0/16".parse().expect("a range"),
                lock_file: directory.path().join("xtables.lock"),
                conntrack_tcp_liberal: false,
                metrics: Arc::default(),
            };
            let metrics = config.metrics.clone();
            let mut proxy = Iptables::new(config.lock_file.clone());
            proxy.use_kernel(kernel(variant, &directory).await);
            let view = Arc::new(testing::view(Some("n1"), &manifests(true)));
            let (_desired, goal) = tokio::sync::watch::channel(Some(view));
            let end = CancellationToken::new();
            let reconciler = ProxyReconciler::new(proxy, config);
            let mut status = crate::reconcile::spawn(reconciler, goal, crate::proxy::TIMING, end.clone());
            let passes = |more: u64| move |status: &crate::reconcile::Status| status.passes >= more;
            status.wait_for(passes(1)).await.expect("a first pass");
            let whole = plain(&text(variant, "save"));
            let quiet = tokio::time::timeout(Duration::from_millis(1500), status.wait_for(passes(2)))
                .await
                .is_err();
            assert!(quiet, "{variant}: woken by its own writing");

            let damages = ["-F KUBE-SERVICES", "-X KUBE-PROXY-CANARY", "-F"];
            let rounds = damages.len() * times();
            let mut took = Vec::new();
            for damage in damages.into_iter().cycle().take(rounds) {
                let began = Instant::now();
                sh(&format!(
                    "XTABLES_LOCKFILE={} {variant} -t nat {damage}",
                    directory.path().join("xtables.lock").display()
                ));
                // Reports of one flush may come in two parts, and make a second pass: the rules count, not the passes.
                let mended = async {
                    while Ruleset::parse(&plain(&text(variant, "save"))) != Ruleset::parse(&whole) {
                        status.changed().await.expect("the proxy runs");
                    }
                };
                let mended = tokio::time::timeout(Duration::from_secs(limit), mended).await;
                assert!(mended.is_ok(), "{variant}: {damage} is not mended");
                took.push(began.elapsed());
            }
            took.sort_unstable();
            eprintln!(
                "{variant}: median {:?}, longest {:?} of {rounds}",
                took[rounds / 2],
                took[rounds - 1]
            );
            let passes = metrics.sync_full_proxy_rules_duration_seconds.read().count;
            assert!(
                (rounds as u64..=2 * rounds as u64 + 1).contains(&passes),
                "{passes} passes"
            );
            assert_eq!(metrics.sync_proxy_rules_iptables_restore_failures_total.get(), 0);
            end.cancel();
        });
    }
}

fn text(variant: &str, what: &str) -> String {
    let output = Command::new(format!("{variant}-{what}"))
        .output()
        .expect("the variant is installed");
    String::from_utf8(output.stdout).expect("text")
}
