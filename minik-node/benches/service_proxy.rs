//! What Services cost a node in iptables mode: all of them from nothing, one endpoint changed, one Service added, by
//! number of Services and by variant of the programs, ten endpoints each. Needs root.
//!
//! Each case runs in a process and on a machine of its own, so that memory and processor time are its own. Arguments:
//! numbers of Services, `nft` or `legacy` to leave the other out; the default is 100 and 1,000 with both. Time is from
//! a new view of the cluster to the end of the commit; `cpu` is that of the proxy and of the programs it runs.

#![allow(clippy::print_stdout, reason = "a table is what a benchmark is run for")]

#[path = "../tests/lab/mod.rs"]
mod lab;

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use minik_node::model::{
    Endpoint, ObjectName, Protocol, Service, ServicePort, ServiceType, Slice, SlicePort, TrafficPolicy,
};
use minik_node::proxy::iptables::Iptables;
use minik_node::proxy::iptables::kernel::Kernel;
use minik_node::proxy::{ProxyConfig, ProxyReconciler};
use minik_node::reconcile::{Outcome, Pass, Reconciler};
use minik_node::view::ClusterView;
use nix::sys::resource::{UsageWho, getrusage};

const ENDPOINTS: u8 = 10;
const ROUNDS: u8 = 11;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    if let [one, variant, services] = words.as_slice()
        && one == "one"
    {
        return case(variant, services.parse().expect("a number of Services"));
    }
    let mut sizes: Vec<u32> = words.iter().filter_map(|word| word.parse().ok()).collect();
    if sizes.is_empty() {
        sizes = vec![100, 1_000];
    }
    println!(
        "{:<9} {:>9} {:>12} {:>10} {:>12} {:>10} {:>12} {:>10}",
        "variant", "Services", "from nothing", "cpu", "one endpoint", "cpu", "one Service", "memory"
    );
    for variant in ["nft", "legacy"] {
        let left_out =
            words.iter().any(|word| word == "nft" || word == "legacy") && !words.iter().any(|word| word == variant);
        for services in sizes.iter().filter(|_| !left_out) {
            let own = std::env::current_exe().expect("the bench's own program");
            let status = Command::new(own).args(["one", variant, &services.to_string()]).status();
            assert!(status.expect("the bench runs itself").success(), "{variant} {services}");
        }
    }
}

/// Runs one case here and prints its line.
fn case(variant: &str, services: u32) {
    lab::become_a_machine();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let lock_file = std::path::PathBuf::from("/run/xtables.lock");
        let mut proxy = Iptables::new(lock_file.clone());
        let programs = if variant == "nft" {
            "iptables-nft"
        } else {
            "iptables-legacy"
        };
        proxy.use_kernel(
            Kernel::with_variant(programs, lock_file.clone())
                .await
                .expect("the variant is installed"),
        );
        let mut proxy = ProxyReconciler::new(
            proxy,
            ProxyConfig {
                node: "n1".to_owned(),
                node_ip: [172, 30, 0, 10].into(),
                cluster_cidr: "10.244.0.0/16".parse().expect("a range"),
                lock_file,
                conntrack_tcp_liberal: false,
                metrics: Arc::default(),
            },
        );
        let mut view = cluster(services);
        let (all, all_cpu) = pass(&mut proxy, &view, Pass::Full).await;
        let mut changes = Vec::new();
        for round in 0..ROUNDS {
            set_slice(&mut view, services / 2, 100 + round);
            changes.push(pass(&mut proxy, &view, Pass::Changed).await);
        }
        let memory = memory();
        let mut added = Vec::new();
        for round in 0..ROUNDS {
            add(&mut view, services + u32::from(round));
            added.push(pass(&mut proxy, &view, Pass::Changed).await);
        }
        let (change, change_cpu) = median(changes);
        println!(
            "{variant:<9} {services:>9} {:>12} {:>10} {:>12} {:>10} {:>12} {memory:>6} MiB",
            shown(all),
            shown(all_cpu),
            shown(change),
            shown(change_cpu),
            shown(median(added).0)
        );
    });
}

async fn pass(proxy: &mut ProxyReconciler<Iptables>, view: &ClusterView, pass: Pass) -> (Duration, Duration) {
    let (began, spent) = (Instant::now(), cpu());
    assert_eq!(proxy.reconcile(Arc::new(view.clone()), pass).await, Outcome::Synced);
    (began.elapsed(), cpu() - spent)
}

/// Processor time of this process and of the programs that it has waited for.
fn cpu() -> Duration {
    let of = |who| {
        let usage = getrusage(who).expect("usage");
        [usage.user_time(), usage.system_time()]
    };
    let times = [of(UsageWho::RUSAGE_SELF), of(UsageWho::RUSAGE_CHILDREN)].concat();
    let micros = times
        .iter()
        .map(|time| time.tv_sec() * 1_000_000 + time.tv_usec())
        .sum::<i64>();
    Duration::from_micros(micros.unsigned_abs())
}

/// MiB that this process holds now.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("VmRSS");
    line.split_whitespace()
        .next()
        .and_then(|number| number.parse::<u64>().ok())
        .expect("a number")
        / 1024
}

fn median(mut times: Vec<(Duration, Duration)>) -> (Duration, Duration) {
    times.sort_unstable();
    times[times.len() / 2]
}

fn shown(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

fn cluster(services: u32) -> ClusterView {
    let mut view = ClusterView {
        node: Some("n1".to_owned()),
        ..ClusterView::default()
    };
    (0..services).for_each(|number| add(&mut view, number));
    view
}

fn name(number: u32) -> ObjectName {
    ObjectName::new("bench", format!("s{number:05}"))
}

fn add(view: &mut ClusterView, number: u32) {
    let service = Service {
        name: name(number),
        kind: ServiceType::ClusterIp,
        cluster_ip: Some(Ipv4Addr::from_bits(Ipv4Addr::new(10, 96, 1, 0).to_bits() + number)),
        headless: false,
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        source_ranges: Vec::new(),
        ports: vec![ServicePort {
            name: String::new(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: None,
        }],
        affinity_seconds: None,
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        health_check_node_port: None,
        publish_not_ready: false,
        proxied: true,
    };
    view.services.insert(service.name.clone(), Arc::new(service));
    set_slice(view, number, 1);
}

/// The slice of Service `number`; its last endpoint has `host` as part of its address.
fn set_slice(view: &mut ClusterView, number: u32, host: u8) {
    let [.., high, low] = number.to_be_bytes();
    let address = |endpoint: u8| match endpoint {
        0 => Ipv4Addr::new(10, 128 | high >> 2, low, host),
        endpoint => Ipv4Addr::new(10, 128 | high >> 2, low, 200 + endpoint),
    };
    let endpoint = |endpoint| Endpoint {
        address: address(endpoint),
        ready: true,
        serving: true,
        terminating: false,
        hostname: None,
        node: Some(format!("n{}", endpoint % 3)),
        for_zones: Vec::new(),
        for_nodes: Vec::new(),
    };
    let slice = Slice {
        name: name(number),
        service: name(number),
        ports: vec![SlicePort {
            name: String::new(),
            protocol: Protocol::Tcp,
            port: Some(8080),
        }],
        endpoints: (0..ENDPOINTS).map(endpoint).collect(),
        proxied: true,
        triggered: None,
    };
    let slices = view.slices.entry(name(number)).or_default();
    slices.insert(slice.name.name.clone(), Arc::new(slice));
}
