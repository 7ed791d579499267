//! What comes back after everything but the state directory is gone: a reboot, a power cut, a kill of all there is.

use crate::manifest::WEB;
use crate::vm::{Vm, eventually};

const OBJECTS: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: once}
spec: {restartPolicy: Never, containers: [{name: c, image: busybox, command: [sh, -c, 'echo ran; sleep 1000']}]}
---
apiVersion: v1
kind: Pod
metadata: {name: done}
spec: {restartPolicy: OnFailure, containers: [{name: c, image: busybox, command: [sh, -c, 'echo ran']}]}
---
apiVersion: v1
kind: Pod
metadata: {name: half}
spec:
  restartPolicy: OnFailure
  containers:
  - {name: short, image: busybox, command: [sh, -c, 'echo ran']}
  - {name: long, image: busybox, command: [sh, -c, 'echo ran; sleep 1000']}
";

/// Ends every process but the test's own, and takes away what a reboot does: namespaces, links, `/run`. They are stopped
/// first: of those that lose their power together none sees another's end.
const REBOOT: &str = "own=$(readlink /proc/self/ns/net)
each() { for p in /proc/[0-9]*; do
    if [[ $(readlink $p/exe) == */minik || $(readlink $p/ns/net) != \"$own\" ]]; then kill $1 ${p#/proc/} 2>/dev/null; fi
done; }
for round in 1 2 3; do each -STOP; done
for round in 1 2 3 4 5; do each -KILL; done
ip -all netns delete
for m in $(grep -oE ' /(run|var/lib/minik)/[^ ]*' /proc/self/mountinfo | sort -r); do umount -l $m 2>/dev/null; done
umount -l /run/netns; rm -rf /run/*
mkdir -p /run/netns";

/// What must be the same: names, identities, addresses, ports.
fn objects(vm: &Vm) -> String {
    let services = "kubectl get services -A -o jsonpath='{range .items[*]}{.metadata.uid} {.spec.clusterIP} {.spec.ports[*].nodePort}{\"\\n\"}{end}'";
    let others = "kubectl get deployments,replicasets,pods,configmaps,secrets,serviceaccounts -A --sort-by=.metadata.uid -o jsonpath='{range .items[*]}{.metadata.uid} {.metadata.name}{\"\\n\"}{end}'";
    format!("{}{}", vm.sh(services).ok(), vm.sh(others).ok())
}

fn state(vm: &Vm, pod: &str, path: &str) -> String {
    vm.sh(&format!("kubectl get pod {pod} -o jsonpath='{{{path}}}'")).ok()
}

fn is(found: &str, expected: &str) -> Result<(), String> {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{found:?} instead of {expected:?}"))
    }
}

#[test]
fn a_cluster_is_as_it_was_after_a_reboot_and_nothing_runs_twice() {
    let vm = Vm::with_cluster();
    vm.sh_with(&format!("{WEB}---{OBJECTS}"), "kubectl apply -f -").ok();
    vm.sh("kubectl rollout status deployment/web --timeout=30s").ok();
    vm.sh("kubectl wait --for=condition=Ready pod/once --timeout=30s").ok();
    vm.sh("kubectl wait --for=jsonpath='{.status.phase}'=Succeeded pod/done --timeout=30s")
        .ok();
    eventually(|| {
        is(
            &state(&vm, "half", ".status.containerStatuses[*].state.terminated.reason"),
            "Completed",
        )
    });
    let before = objects(&vm);
    let kubeconfig = std::fs::read_to_string(vm.home().join("kubeconfig")).unwrap();

    vm.sh(REBOOT).ok();
    assert_eq!(vm.sh("ls -A /run; ip -o link | wc -l").ok(), "netns\n1\n");
    vm.sh("minik up --isolated --wait").ok();

    assert_eq!(objects(&vm), before);
    // Whoever copied it can go on with it.
    vm.write("kubeconfig-before", &kubeconfig);
    vm.sh("kubectl --kubeconfig kubeconfig-before get nodes").ok();
    vm.sh("kubectl rollout status deployment/web --timeout=30s").ok();
    let port = vm
        .sh("kubectl get service web -o jsonpath='{.spec.ports[0].nodePort}'")
        .ok();
    eventually(|| {
        is(
            &vm.sh(&format!(
                "minik host exec -- curl -s -o /dev/null -w '%{{http_code}}' --max-time 2 http://172.30.0.12:{port}/"
            ))
            .out,
            "200",
        )
    });
    let pod = vm
        .sh("kubectl get pods -l app=web -o jsonpath='{.items[0].metadata.name}'")
        .ok();
    let status = ".status.containerStatuses[0]";
    assert_eq!(state(&vm, &pod, &format!("{status}.restartCount")), "1");
    let lost = "137 ContainerStatusUnknown";
    let terminated = |of: &str| format!("{status}.{of}.terminated.exitCode}} {{{status}.{of}.terminated.reason");
    assert_eq!(state(&vm, &pod, &terminated("lastState")), lost);

    eventually(|| is(&state(&vm, "once", ".status.phase"), "Failed"));
    assert_eq!(state(&vm, "once", &terminated("state")), lost);
    assert_eq!(state(&vm, "done", ".status.phase"), "Succeeded");
    eventually(|| is(&state(&vm, "half", ".status.containerStatuses[*].restartCount"), "0 1"));
    for (log, container) in [("once", "c"), ("done", "c"), ("half", "short")] {
        assert_eq!(
            vm.sh(&format!("kubectl logs {log} -c {container}")).ok(),
            "ran\n",
            "{log} ran once and its log is there"
        );
    }
}

/// Ends shims.
const KILL_SHIMS: &str = "kill -9 $(pgrep -f '[i]nternal shim')";
/// Ends them and what they would come back to. Agents wait until that is over: a shim that they started in between would find
/// a sandbox, and keep it.
const KILL_SANDBOXES: &str = "agents=$(pgrep -f '[i]nternal agent')
kill -STOP $agents
kill -9 $(pgrep -f '[i]nternal shim') $(pgrep -fx /pause)
timeout 10 bash -c 'while pgrep -fx /pause; do sleep 0.01; done' > /dev/null
kill -CONT $agents";

#[test]
fn a_pod_outlives_its_shim_and_starts_again_only_if_it_may() {
    let vm = Vm::with_cluster();
    vm.sh_with(&format!("{WEB}---{OBJECTS}"), "kubectl apply -f -").ok();
    vm.sh("kubectl rollout status deployment/web --timeout=30s").ok();
    vm.sh("kubectl wait --for=condition=Ready pod/once --timeout=30s").ok();

    let shims = "pgrep -fc '[i]nternal shim'";
    // Of every Pod but the one that is over.
    let count = "6\n";
    eventually(|| is(&vm.sh(shims).out, count));
    let running = "kubectl get pods -A -o jsonpath='{range .items[*]}{.metadata.name} {.status.containerStatuses[*].containerID} {.status.containerStatuses[*].restartCount} {.status.containerStatuses[*].state.running.startedAt}{\"\\n\"}{end}'";
    let before = vm.sh(running).ok();
    vm.sh(KILL_SHIMS).ok();
    eventually(|| is(&vm.sh(shims).out, count));
    vm.sh("kubectl exec once -- true").ok();
    // Agents die too, and find what is left.
    vm.sh(&format!("kill -9 $(pgrep -f '[i]nternal agent') ; {KILL_SHIMS}"))
        .ok();
    eventually(|| is(&vm.sh(shims).out, count));
    eventually(|| match vm.sh("kubectl exec once -- sh -c 'kill 1; true'") {
        said if said.code == 0 => Ok(()),
        said => Err(said.to_string()),
    });
    assert_eq!(vm.sh(running).ok(), before, "the same runs of the same containers");
    assert_eq!(vm.sh("kubectl logs once").ok(), "ran\n");

    vm.sh(KILL_SANDBOXES).ok();
    eventually(|| is(&state(&vm, "once", ".status.phase"), "Failed"));
    let reason = ".status.containerStatuses[0].state.terminated.reason";
    assert_eq!(state(&vm, "once", reason), "ContainerStatusUnknown");
    assert_eq!(vm.sh("kubectl logs once").ok(), "ran\n");
    let restarts = "kubectl get pods -l app=web -o jsonpath='{.items[*].status.containerStatuses[0].restartCount} {.items[*].status.containerStatuses[0].ready}'";
    eventually(|| is(&vm.sh(restarts).ok(), "1 1 true true"));
}
