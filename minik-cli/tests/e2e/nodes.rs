//! Nodes that fail and nodes that are taken out of service, as on a real cluster.

use crate::vm::{Vm, eventually};

const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: nginx, image: nginx}]
      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: DoNotSchedule
        nodeTaintsPolicy: Honor
        labelSelector: {matchLabels: {app: web}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, nodePort: 30080}]}
";

const AGENT: &str = "
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec: {terminationGracePeriodSeconds: 0, containers: [{name: agent, image: pause}]}
";

/// The Pod of the Deployment on a node: its name.
fn pod_on(vm: &Vm, node: &str) -> String {
    pod_of(vm, "app=web", node)
}

fn pod_of(vm: &Vm, label: &str, node: &str) -> String {
    vm.sh(&format!(
        "kubectl get pods -l {label} --field-selector=spec.nodeName={node} -o jsonpath='{{.items[*].metadata.name}}'"
    ))
    .ok()
}

fn ready_endpoints(vm: &Vm) -> String {
    vm.sh("kubectl get endpointslices -l kubernetes.io/service-name=web -o jsonpath='{range .items[*].endpoints[?(@.conditions.ready==true)]}{.nodeName} {end}'")
        .ok()
        .trim()
        .to_owned()
}

#[test]
fn a_node_whose_plug_is_pulled_is_noticed_and_comes_back_with_its_pods() {
    let vm = Vm::with_cluster();
    vm.sh_with(WEB, "kubectl apply -f -").ok();
    vm.sh("kubectl rollout status deployment/web --timeout=30s").ok();
    let lost = pod_on(&vm, "worker2");
    assert!(!lost.is_empty(), "one of two on each worker");
    assert!(vm.sh("minik node stop control-plane").fails(1).contains("API server"));

    vm.sh("minik node stop worker2").ok();
    let inside = "ip netns pids minik.minik.worker2";
    assert_eq!(vm.sh(inside).ok(), "", "nothing runs on it");
    vm.sh("minik host exec -- ping -c 1 -W 1 172.30.0.12").fails(1);
    // Nobody has noticed, and neither the supervisor nor a second `up` switches it on.
    assert!(vm.sh("minik up --isolated").code == 0);
    assert_eq!(vm.sh(inside).ok(), "");
    assert_eq!(
        vm.sh("kubectl get node worker2 -o jsonpath='{.status.conditions[?(@.type==\"Ready\")].status}'")
            .ok(),
        "True"
    );

    // The grace period is 50 s.
    vm.sh("kubectl wait --for=condition=Ready=Unknown node/worker2 --timeout=58s")
        .ok();
    let ready = "kubectl get node worker2 -o jsonpath='{range .status.conditions[?(@.type==\"Ready\")]}{.reason}: {.message}{end}'";
    assert_eq!(
        vm.sh(ready).ok(),
        "NodeStatusUnknown: Kubelet stopped posting node status."
    );
    eventually(|| match ready_endpoints(&vm).as_str() {
        "worker1" => Ok(()),
        others => Err(format!("ready on {others:?}")),
    });
    let taints = "kubectl get node worker2 -o jsonpath='{range .spec.taints[*]}{.key}:{.effect} {end}'";
    eventually(|| match vm.sh(taints).ok().trim() {
        "node.kubernetes.io/unreachable:NoSchedule node.kubernetes.io/unreachable:NoExecute" => Ok(()),
        others => Err(others.to_owned()),
    });
    assert!(
        vm.sh("kubectl get nodes worker2 --no-headers")
            .ok()
            .contains("NotReady")
    );
    for _ in 0..10 {
        vm.sh("minik host exec -- curl -sf --max-time 2 -o /dev/null http://172.30.0.11:30080/")
            .ok();
    }

    vm.sh("minik node start worker2").ok();
    vm.sh("kubectl wait --for=condition=Ready node/worker2 --timeout=10s")
        .ok();
    vm.sh(&format!("kubectl wait --for=condition=Ready pod/{lost} --timeout=30s"))
        .ok();
    let story = format!(
        "kubectl get pod {lost} -o jsonpath='{{.status.containerStatuses[0].restartCount}} {{.status.containerStatuses[0].lastState.terminated.exitCode}} {{.status.containerStatuses[0].lastState.terminated.reason}}'"
    );
    assert_eq!(vm.sh(&story).ok(), "1 137 ContainerStatusUnknown");
    eventually(|| match vm.sh(taints).ok().trim() {
        "" => Ok(()),
        others => Err(others.to_owned()),
    });
    eventually(|| match ready_endpoints(&vm).split(' ').count() {
        2 => Ok(()),
        count => Err(format!("{count} endpoints are ready")),
    });
    vm.sh("minik host exec -- ping -c 1 -W 1 172.30.0.12").ok();
}

#[test]
fn a_node_is_drained_within_budgets_and_taken_back() {
    let vm = Vm::with_cluster();
    vm.sh_with(WEB, "kubectl apply -f -").ok();
    vm.sh("kubectl rollout status deployment/web --timeout=30s").ok();
    vm.sh("kubectl create poddisruptionbudget web --selector=app=web --min-available=2")
        .ok();
    let allowed =
        "kubectl get poddisruptionbudget web -o jsonpath='{.status.disruptionsAllowed} {.status.currentHealthy}'";
    eventually(|| match vm.sh(allowed).ok().as_str() {
        "0 2" => Ok(()),
        others => Err(others.to_owned()),
    });
    // In kubectl's own words: what no controller would make again, and what a controller would make again here.
    vm.sh_with(AGENT, "kubectl apply -f -").ok();
    vm.sh("kubectl rollout status daemonset/agent --timeout=30s").ok();
    let agent = pod_of(&vm, "app=agent", "worker2");
    let refused = vm.sh("kubectl drain worker2 --pod-selector=app=agent").fails(1);
    assert!(
        refused.contains(&format!(
            "cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore): default/{agent}"
        )),
        "{refused}"
    );
    let bare = r#"{"spec":{"nodeName":"worker2","terminationGracePeriodSeconds":0}}"#;
    vm.sh(&format!("kubectl run bare --image=pause --overrides='{bare}'"))
        .ok();
    let refused = vm.sh("kubectl drain worker2 --pod-selector=run=bare").fails(1);
    assert!(
        refused.contains("cannot delete Pods that declare no controller (use --force to override): default/bare"),
        "{refused}"
    );
    let forced = vm.sh("kubectl drain worker2 --pod-selector=run=bare --force --timeout=30s");
    assert_eq!(
        forced.err.lines().last(),
        Some("Warning: deleting Pods that declare no controller: default/bare"),
        "{forced}"
    );
    let drain = "kubectl drain worker2 --ignore-daemonsets --delete-emptydir-data";
    let refused = vm.sh(&format!("{drain} --timeout=3s --pod-selector=app=web")).fails(1);
    assert!(
        refused.contains("Cannot evict pod as it would violate the pod's disruption budget."),
        "{refused}"
    );
    assert!(
        vm.sh("kubectl get node worker2 --no-headers")
            .ok()
            .contains("Ready,SchedulingDisabled")
    );

    vm.sh("kubectl patch poddisruptionbudget web --type=merge -p '{\"spec\":{\"minAvailable\":1}}'")
        .ok();
    let drained = vm.sh(&format!("{drain} --timeout=50s")).ok();
    assert!(drained.contains("node/worker2 drained"), "{drained}");
    assert_eq!(pod_of(&vm, "app=agent", "worker2"), agent, "DaemonSets stay");
    assert_eq!(pod_on(&vm, "worker2"), "");
    let taints = "kubectl get node worker2 -o jsonpath='{.spec.taints[*].key}'";
    assert_eq!(vm.sh(taints).ok(), "node.kubernetes.io/unschedulable");

    vm.sh("kubectl uncordon worker2").ok();
    eventually(|| match vm.sh(taints).ok().as_str() {
        "" => Ok(()),
        others => Err(others.to_owned()),
    });
    vm.sh("kubectl rollout restart deployment/web").ok();
    vm.sh("kubectl rollout status deployment/web --timeout=50s").ok();
    assert!(!pod_on(&vm, "worker2").is_empty());

    // A taint by hand keeps away what does not tolerate it, and drives off with NoExecute.
    vm.sh("kubectl taint nodes worker2 maintenance=now:NoExecute").ok();
    eventually(|| match pod_on(&vm, "worker2").as_str() {
        "" => Ok(()),
        others => Err(format!("still there: {others}")),
    });
    vm.sh("kubectl taint nodes worker2 maintenance=now:NoExecute-").ok();
}
