//! Whatever of minik's own is killed comes back within a second and goes on where it was; what cannot come back is named.

use std::time::{Duration, Instant};

use crate::vm::{Vm, eventually};

/// How long anything may be missed.
const SOON: Duration = Duration::from_secs(1);

/// What the supervisor says of itself: a path into its report.
fn reported(vm: &Vm, field: &str) -> String {
    vm.sh(&format!(
        "jq -r '.{field} // \"\"' /run/minik/minik/supervisor.json 2>/dev/null || true"
    ))
    .out
    .trim()
    .to_owned()
}

/// Kills what `field` of the report names, and tells how long it took until another was named there.
fn missed(vm: &Vm, field: &str) -> Duration {
    let before = reported(vm, field);
    assert!(!before.is_empty(), "nothing is reported as {field}");
    vm.sh(&format!("kill -KILL {before}")).ok();
    let killed = Instant::now();
    eventually(|| match reported(vm, field) {
        now if now.is_empty() || now == before => Err(format!("{field} is {now:?}, and was {before:?}")),
        _ => Ok(killed.elapsed()),
    })
}

fn containers(vm: &Vm) -> String {
    vm.sh("kubectl get pods -A --sort-by=.metadata.name -o jsonpath='{range .items[*]}{.metadata.name} {.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}{\"\\n\"}{end}'")
        .ok()
}

#[test]
fn whoever_is_killed_is_back_within_a_second_and_no_container_was_touched() {
    let vm = Vm::with_cluster();
    let before = containers(&vm);
    for field in [
        "pid",
        "standby",
        "children.apiserver.pid",
        "children[\"agent-worker1\"].pid",
        "pid",
        "children.apiserver.pid",
    ] {
        let missed = missed(&vm, field);
        assert!(missed < SOON, "{field} was missed for {missed:?}");
        vm.sh("kubectl get nodes").ok();
    }
    assert_eq!(containers(&vm), before);
    // All at one moment, but for the standby, which sees to the rest.
    vm.sh("kill -KILL $(jq -r '.pid, .children[].pid' /run/minik/minik/supervisor.json)")
        .ok();
    vm.sh("kubectl get nodes").ok();
    assert_eq!(containers(&vm), before);
    // A program that one of them is about to run bears its name for a moment.
    eventually(
        || match vm.sh("pgrep -fc '[i]nternal (supervisor|apiserver|network|agent)'") {
            said if said.out == "7\n" => Ok(()),
            said => Err(format!("{said}{}", vm.sh("ps -ef"))),
        },
    );
}

#[test]
fn a_program_runs_in_a_pod_whose_agent_was_killed_a_moment_ago() {
    let vm = Vm::with_cluster();
    vm.sh("kubectl run web --image=nginx && kubectl wait --for=condition=Ready pod/web --timeout=30s")
        .ok();
    for _ in 0..5 {
        vm.sh("kill -KILL $(jq '.children[].pid' /run/minik/minik/supervisor.json)")
            .ok();
        assert_eq!(vm.sh("kubectl exec web -- echo here").ok(), "here\n");
        vm.sh("kill -KILL $(jq '.children[].pid' /run/minik/minik/supervisor.json)")
            .ok();
        vm.sh("kubectl logs web").ok();
    }
}

#[test]
fn up_names_an_api_server_that_does_not_stay_up() {
    let vm = Vm::with_cluster();
    vm.sh("minik down").ok();
    // A store that is a file: the API server cannot open it, now or ever.
    vm.sh("cd /var/lib/minik/minik && rm -r db && touch db").ok();
    let began = Instant::now();
    let said = vm.sh("minik up --isolated").fails(1);
    assert!(began.elapsed() < Duration::from_secs(10), "took {:?}", began.elapsed());
    for part in [
        "apiserver does not stay up",
        "/var/lib/minik/minik/log/apiserver.log",
        "database",
    ] {
        assert!(said.contains(part), "{part:?} should be in: {said}");
    }
}
