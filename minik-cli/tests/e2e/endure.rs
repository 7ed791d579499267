//! The data path outlives the daemons: with supervisor, API server and agents all dead, Services, names and Pods go on,
//! and the next `minik up` finds everything as it was.

use crate::manifest::WEB;
use crate::vm::Vm;

const OBJECTS: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, nodePort: 30080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  containers:
  - name: client
    image: tools
    command: [sh, -c, 'until curl -sf --max-time 2 -o /dev/null http://web/; do sleep 0.1; done; while :; do curl -sf --max-time 2 -o /dev/null http://web/ && echo answered || echo lost; sleep 0.02; done']
";

/// What identifies every container that runs: a restart would change it.
fn containers(vm: &Vm) -> String {
    vm.sh("kubectl get pods -A --sort-by=.metadata.name -o jsonpath='{range .items[*]}{.metadata.name} {.status.podIP} {.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}{\"\\n\"}{end}'")
        .ok()
}

#[test]
fn services_names_and_pods_go_on_without_any_daemon() {
    let vm = Vm::with_cluster();
    vm.sh_with(&format!("{WEB}---{OBJECTS}"), "kubectl apply -f -").ok();
    vm.sh("kubectl rollout status deployment/web --timeout=30s").ok();
    vm.sh("kubectl wait --for=condition=Ready pod/client --timeout=30s")
        .ok();
    vm.sh("timeout 20 sh -c 'until kubectl logs client | grep -q answered; do sleep 0.1; done'")
        .ok();
    let before = containers(&vm);

    // Supervisor and standby first, or they start the others again within milliseconds; and stopped before that, or one
    // takes the other's place between the two deaths.
    vm.sh("pkill -STOP -f '[i]nternal supervisor'; pkill -KILL -f '[i]nternal supervisor'")
        .ok();
    vm.sh("pkill -KILL -f '[i]nternal (agent|apiserver)'").ok();
    // A killed process is still listed until its parent has taken its exit code.
    vm.sh("timeout 10 sh -c \"while pgrep -f '[i]nternal (supervisor|agent|apiserver)'; do sleep 0.01; done\"")
        .ok();
    for _ in 0..20 {
        vm.sh("minik host exec -- curl -sf --max-time 2 -o /dev/null http://172.30.0.11:30080/")
            .ok();
    }

    vm.sh("minik up --isolated --wait").ok();
    let log = vm.sh("kubectl logs client").ok();
    assert!(log.lines().count() > 20, "the client went on asking:\n{log}");
    assert_eq!(
        log.matches("lost").count(),
        0,
        "of {} requests by name",
        log.lines().count()
    );
    assert_eq!(containers(&vm), before, "no container was started again");
}
