//! A program that writes rules is killed in the middle of it: nobody else notices, and the change comes about.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::clients::Clients;
use super::lab::{Lab, Variant};
use crate::private_net::Space;
use crate::proxy::iptables::ruleset::Ruleset;
use crate::view::testing;

/// Services of a change that takes the programs long enough to be met in the middle.
const MANY: u8 = 250;

/// A Service at 10.96.1.`number`:80 with both Pods of n1 and three endpoints that nobody asks.
fn service(number: u8) -> String {
    format!(
        "---
kind: Service
metadata: {{namespace: d, name: s{number}}}
spec: {{clusterIP: 10.96.1.{number}, ports: [{{port: 80}}]}}
---
kind: EndpointSlice
metadata: {{namespace: d, name: s{number}-1, labels: {{kubernetes.io/service-name: s{number}}}}}
addressType: IPv4
ports: [{{name: '', port: 8080, protocol: TCP}}]
endpoints: [{{addresses: [10.244.1.2]}}, {{addresses: [10.244.1.3]}}, {{addresses: [10.244.1.4]}}]
"
    )
}

/// Waits for `iptables…-restore` in the node's namespace, a child of this process, lets it work for a while, and kills
/// it; false when it was done before.
fn kill_restore(node: &Space, after: Duration) -> bool {
    let inside = std::fs::metadata(node.path()).expect("the namespace").ino();
    let limit = Instant::now() + Duration::from_secs(10);
    while Instant::now() < limit {
        if let Some(pid) = children().into_iter().find(|pid| is_restore(*pid, inside)) {
            std::thread::sleep(after);
            // Until its parent has waited for it the number is nobody else's.
            return is_restore(pid, inside) && kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok();
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    panic!("no program was seen writing rules");
}

/// Children of all threads of this process.
fn children() -> BTreeSet<i32> {
    let threads = std::fs::read_dir("/proc/self/task").expect("procfs");
    let children = threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("children")).ok());
    children
        .flat_map(|text| {
            text.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect()
}

fn is_restore(pid: i32, namespace: u64) -> bool {
    let words = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let there = std::fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|meta| meta.ino() == namespace);
    there
        && words
            .split('\0')
            .next()
            .is_some_and(|program| program.ends_with("-restore"))
}

fn rules(node: &Space, variant: Variant) -> Ruleset {
    let program = match variant {
        Variant::Default => "iptables-nft-save",
        Variant::Legacy => "iptables-legacy-save",
    };
    let output = node
        .run(move || std::process::Command::new(program).output())
        .expect("iptables");
    Ruleset::parse(&String::from_utf8_lossy(&output.stdout)).expect("rules")
}

/// Kills what writes at several moments; each time another change has come in by the time it is mended.
fn killed_half_way(variant: Variant) {
    let mut lab = Lab::with(variant);
    lab.apply(&service(1));
    let clients = Clients::start(&[
        (&lab.c, vec!["10.96.1.1:80".to_owned()]),
        (&lab.outside, vec!["10.96.1.1:80".to_owned()]),
    ]);
    let few = service(1);
    let many: String = (1..=MANY).map(service).collect();
    let mut killed = 0;
    for millis in [0, 10, 40] {
        for wanted in [&many, &few] {
            lab.n1.show(&testing::view(Some("n1"), wanted));
            killed += u64::from(kill_restore(&lab.n1.space, Duration::from_millis(millis)));
            // Comes in while the rest is made up for.
            let last = format!("{wanted}{}", service(251));
            lab.n1.show(&testing::view(Some("n1"), &last));
            lab.n1.settle();
            let reached = rules(&lab.n1.space, variant);
            lab.n2.apply(&last);
            assert_eq!(
                reached.to_string().replace("172.30.0.11", "172.30.0.12"),
                rules(&lab.n2.space, variant).to_string(),
                "{variant:?}: as on a node where nothing was killed"
            );
        }
    }
    let failures = lab.n1.metrics.sync_proxy_rules_iptables_restore_failures_total.get();
    assert_eq!(failures, killed, "every death was noticed");
    assert!(killed >= 3, "{variant:?}: only {killed} were met in the middle");
    let report = clients.stop();
    assert!(
        report.failed.is_empty() && report.answered > 50,
        "{variant:?}: {report:#?}"
    );
}

#[test]
fn what_is_killed_half_way_heals_and_loses_nothing() {
    killed_half_way(Variant::Default);
}

#[test]
fn what_is_killed_half_way_heals_and_loses_nothing_with_the_legacy_variant() {
    killed_half_way(Variant::Legacy);
}

/// A node whose lock another program holds waits; its neighbour on the same machine does not.
#[test]
fn nodes_do_not_wait_for_each_other_s_lock() {
    let mut lab = Lab::with(Variant::Legacy);
    lab.apply(&service(1));
    let file = std::fs::File::open(&lab.n1.lock_file).expect("n1 took its own lock");
    let held = Flock::lock(file, FlockArg::LockExclusive).expect("the lock is free");
    let before = lab.n1.passes();
    lab.n1.show(&testing::view(Some("n1"), &service(2)));
    lab.n2.apply(&service(2));
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(lab.n1.passes(), before, "n1 waits for its lock");
    drop(held);
    lab.n1.settle();
    let text = rules(&lab.n1.space, Variant::Legacy).to_string();
    assert!(
        text.contains("10.96.1.2/32") && !text.contains("10.96.1.1/32"),
        "{text}"
    );
}
