//! The hunt for what dies with something that it should outlive: processes are killed, rules flushed, links cut, the disk is
//! filled, while clients ask through every way in, each 10 ms, without a second try.
//!
//! Killing any of minik's own processes must cost nobody anything. What is done to the data path itself (a flush, a cut, a
//! Pod's own death) may fail requests of its moment, which are told with what was happening; afterwards everything is as
//! before. Runs for some seconds among the tests and for as long as `MINIK_ENDURE_SECONDS` says from `scripts/soak endure`.

mod check;
mod clients;
mod dns;
mod harm;

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::vm::Vm;
use check::{census, consistent, held, nothing_is_kept};
use clients::{Asked, Clients};
use harm::{Event, Harm};

const OBJECTS: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: nginx, image: nginx}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, nodePort: 30080}]}
---
apiVersion: v1
kind: Service
metadata: {name: each}
spec: {clusterIP: None, selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {nodeName: worker1, containers: [{name: c, image: busybox, command: [sleep, '1000000']}]}
";

/// How often something is done to the cluster.
const EVERY: Duration = Duration::from_secs(1);

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable)
        .ok()
        .map_or(default, |text| text.parse().expect("a number"))
}

fn cluster() -> Vm {
    let vm = Vm::with_cluster();
    vm.sh_with(OBJECTS, "kubectl apply -f -").ok();
    vm.sh("kubectl rollout status deployment/web --timeout=50s").ok();
    vm.sh("kubectl wait --for=condition=Ready pod/client --timeout=30s")
        .ok();
    vm
}

/// Does one thing each `every` for as long as it is told, and judges every request.
#[expect(clippy::disallowed_methods, reason = "the hunt has a rhythm of its own")]
fn hunt(seconds: u64, every: Duration, harms: &[Harm]) {
    let seed = number("MINIK_ENDURE_SEED", rand::random::<u32>().into());
    eprintln!("MINIK_ENDURE_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let vm = cluster();
    consistent(&vm);
    let (before, held_before) = (census(&vm), held(&vm));
    let clients = Clients::start(&vm);
    std::thread::sleep(every);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut events = Vec::<Event>::new();
    while Instant::now() < end {
        let next = Instant::now() + every;
        let harm = harms[random.random_range(0..harms.len())];
        events.push(harm.carry_out(&vm, &mut random));
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    std::thread::sleep(Duration::from_secs(3));
    let asked = clients.stop();
    tell_of_flushes(&events);
    judge(&asked, &events, seconds);
    consistent(&vm);
    assert_eq!(census(&vm), before, "something was left behind, or lost");
    nothing_is_kept(&vm, &held_before);
}

/// Tells of each request that failed with what was happening; none may have failed without.
fn judge(asked: &Asked, events: &[Event], seconds: u64) {
    let mut unexcused = Vec::new();
    for failure in &asked.failures {
        let around: Vec<&Event> = events.iter().filter(|event| event.is_around(failure.at)).collect();
        let told: Vec<String> = around.iter().map(|event| event.told(failure.at)).collect();
        let line = format!("{failure}; {}", told.join(", "));
        if around.iter().any(|event| event.excuses(failure.at)) {
            eprintln!("  {line}");
        } else {
            unexcused.push(line);
        }
    }
    eprintln!(
        "{} requests, {} failed, {} of them without an excuse; {} things were done",
        asked.total,
        asked.failures.len(),
        unexcused.len(),
        events.len()
    );
    assert!(
        asked.total > seconds * 200,
        "the clients asked too little: {}",
        asked.total
    );
    assert!(
        unexcused.is_empty(),
        "failed with nothing to excuse it:\n{}",
        unexcused.join("\n")
    );
}

/// How long rules were gone after a flush by hand.
fn tell_of_flushes(events: &[Event]) {
    let mut gone: Vec<Duration> = events.iter().filter_map(|event| event.without_rules).collect();
    gone.sort();
    if let (Some(median), Some(worst)) = (gone.get(gone.len() / 2), gone.last()) {
        eprintln!(
            "  rules were back after a flush within {median:?} (median of {}), {worst:?} (worst)",
            gone.len()
        );
    }
}

/// A kill each second. Mostly of what nobody may miss; now and then of a Pod's containers, which fails requests to them.
#[test]
fn killing_any_process_of_minik_costs_no_request() {
    let mut harms = [Harm::KillDaemon; 20];
    harms[..5].fill(Harm::KillShim);
    harms[5] = Harm::KillPod;
    hunt(number("MINIK_ENDURE_SECONDS", 12), EVERY, &harms);
}

/// One thing at a time: what a request lost to the last one, and how long TCP waits before it asks again, must be over
/// before the next.
#[test]
fn whatever_is_done_to_the_data_path_passes() {
    let harms = [
        Harm::KillDaemon,
        Harm::KillShim,
        Harm::KillPod,
        Harm::Flush,
        Harm::CutLink,
        Harm::Partition,
        Harm::FillDisk,
    ];
    hunt(number("MINIK_ENDURE_SECONDS", 16), 4 * EVERY, &harms);
}

/// Up, work, the death of every process, down: again and again, and the machine is as it was.
#[test]
fn a_machine_survives_cycle_after_cycle() {
    let vm = Vm::boot();
    vm.sh("mkdir -p /run/netns").ok();
    let before = crate::clean::snapshot(&vm);
    for cycle in 0..number("MINIK_CYCLES", 2) {
        vm.sh("minik up --isolated").ok();
        vm.sh_with(OBJECTS, "kubectl apply -f -").ok();
        // Any moment of what follows is as good as another.
        vm.sh(&format!(
            "timeout 0.{cycle:03} kubectl rollout status deployment/web; true",
            cycle = cycle * 37 % 1000
        ))
        .ok();
        vm.sh("for p in /proc/[0-9]*; do [[ $(readlink $p/exe) == */minik ]] && kill -9 ${p#/proc/}; done; true")
            .ok();
        vm.sh("minik down --purge").ok();
        crate::clean::pretty_assert_same(&before, &crate::clean::snapshot(&vm));
    }
}
