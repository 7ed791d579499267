//! Rollouts that go wrong, and those of other strategies: what `kubectl rollout status` says, and how it exits.

use crate::vm::{Vm, eventually};

fn apply(vm: &Vm, manifest: &str) {
    vm.sh_with(manifest, "kubectl apply -f -").ok();
}

fn deployment(image: &str, more: &str) -> String {
    format!(
        "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: web}}, spec: {{replicas: 3, {more}selector: {{matchLabels: {{app: web}}}}, template: {{metadata: {{labels: {{app: web}}}}, spec: {{terminationGracePeriodSeconds: 0, containers: [{{name: c, image: {image}}}]}}}}}}}}"
    )
}

fn stateful(more: &str) -> String {
    format!(
        "{{apiVersion: apps/v1, kind: StatefulSet, metadata: {{name: set}}, spec: {{serviceName: set, replicas: 3, {more}selector: {{matchLabels: {{app: set}}}}, template: {{metadata: {{labels: {{app: set}}}}, spec: {{terminationGracePeriodSeconds: 0, containers: [{{name: c, image: pause}}]}}}}}}}}"
    )
}

#[test]
fn a_rollout_that_makes_no_progress_says_so_and_fails() {
    let vm = Vm::with_cluster();
    apply(&vm, &deployment("pause", "progressDeadlineSeconds: 3, "));
    vm.sh("kubectl rollout status deployment/web --timeout=30s").ok();
    apply(&vm, &deployment("nonesuch:1", "progressDeadlineSeconds: 3, "));
    let said = vm.sh("kubectl rollout status deployment/web --timeout=30s");
    assert_eq!(said.code, 1, "{said}");
    assert_eq!(
        said.err, "error: deployment \"web\" exceeded its progress deadline\n",
        "{said}"
    );
    let condition = vm
        .sh("kubectl get deployment web -o jsonpath='{.status.conditions[?(@.type==\"Progressing\")]}' | jq -r '.status, .reason, .message'")
        .ok();
    let new = vm
        .sh("kubectl get pods -o json | jq -r '.items[] | select(.spec.containers[0].image == \"nonesuch:1\").metadata.ownerReferences[0].name'")
        .ok();
    let expected = format!(
        "False\nProgressDeadlineExceeded\nReplicaSet \"{}\" has timed out progressing.\n",
        new.trim()
    );
    assert_eq!(condition, expected);
    // Nothing was taken away that works.
    assert_eq!(
        vm.sh("kubectl get deployment web --no-headers | awk '{print $2, $3, $4}'")
            .ok(),
        "3/3 1 3\n"
    );
    let pod = "kubectl get pods -o json | jq -r '.items[] | select(.spec.containers[0].image == \"nonesuch:1\").metadata.name'";
    let pod = vm.sh(pod).ok();
    let logs = vm.sh(&format!("kubectl logs {}", pod.trim())).fails(1);
    assert!(
        logs.contains("is waiting to start: trying and failing to pull image"),
        "{logs}"
    );

    vm.sh("kubectl rollout undo deployment/web").ok();
    let said = vm.sh("kubectl rollout status deployment/web --timeout=30s").ok();
    assert!(said.ends_with("deployment \"web\" successfully rolled out\n"), "{said}");
}

#[test]
fn recreate_ends_the_old_before_it_makes_the_new_and_a_taken_name_is_not_fatal() {
    let vm = Vm::with_cluster();
    apply(&vm, &deployment("pause", "strategy: {type: Recreate}, "));
    vm.sh("kubectl rollout status deployment/web --timeout=30s").ok();
    // The name that the next template's ReplicaSet would have belongs to another: the Deployment counts the collision.
    vm.sh("kubectl set env deployment/web ROUND=2 && kubectl rollout status deployment/web --timeout=30s")
        .ok();
    let of_round_two = "kubectl get rs -o json | jq -r '.items[] | select(.spec.replicas == 3).metadata.name'";
    let name = vm.sh(of_round_two).ok();
    let name = name.trim();
    vm.sh("kubectl rollout undo deployment/web && kubectl rollout status deployment/web --timeout=30s")
        .ok();
    vm.sh(&format!(
        "other=$(kubectl get rs {name} -o json | jq -c 'del(.metadata.ownerReferences, .metadata.uid, .metadata.resourceVersion) | .spec.template.spec.containers[0].env[0].value = \"other\" | .metadata.labels = {{}} | .spec.selector.matchLabels = {{other: \"yes\"}} | .spec.template.metadata.labels = {{other: \"yes\"}}') && kubectl delete rs {name} && echo \"$other\" | kubectl create -f -"
    ))
    .ok();
    vm.sh("kubectl set env deployment/web ROUND=2 && kubectl rollout status deployment/web --timeout=30s")
        .ok();
    assert_eq!(
        vm.sh("kubectl get deployment web -o jsonpath='{.status.collisionCount} {.status.readyReplicas}'")
            .ok(),
        "1 3"
    );
    assert_ne!(vm.sh(of_round_two).ok().trim(), name);
    let story = "kubectl get events --sort-by=.firstTimestamp --field-selector involvedObject.name=web,reason=ScalingReplicaSet -o jsonpath='{range .items[*]}{.message}{\"\\n\"}{end}'";
    let story = vm.sh(story).ok();
    let down = story.lines().position(|line| line.ends_with(" from 3 to 0"));
    let up = story
        .lines()
        .position(|line| line.contains(name) && line.ends_with(" from 0 to 3"));
    assert!(down.is_some() && down < up, "{story}");
}

#[test]
fn a_statefulset_may_begin_all_at_once_and_be_replaced_by_hand() {
    let vm = Vm::with_cluster();
    apply(
        &vm,
        &stateful("podManagementPolicy: Parallel, updateStrategy: {type: OnDelete}, "),
    );
    vm.sh("kubectl wait --for=jsonpath='{.status.readyReplicas}'=3 statefulset/set --timeout=30s")
        .ok();
    let refused = vm.sh("kubectl rollout status statefulset/set").fails(1);
    assert_eq!(
        refused,
        "error: rollout status is only available for RollingUpdate strategy type\n"
    );
    let made = vm
        .sh("kubectl get pods -l app=set -o json | jq -r '[.items[].metadata.creationTimestamp] | sort | .[0] + \" \" + .[-1]'")
        .ok();
    assert!(!made.is_empty());
    vm.sh("kubectl set env statefulset/set COLOR=blue").ok();
    let updated = "kubectl get statefulset set -o jsonpath='{.status.observedGeneration} {.status.updatedReplicas}'";
    eventually(|| match vm.sh(updated).ok().trim() {
        "2" | "2 0" => Ok(()),
        said => Err(said.to_owned()),
    });
    let colours = "kubectl get pods -l app=set -o jsonpath='{.items[*].spec.containers[0].env[0].value}'";
    assert_eq!(vm.sh(colours).ok(), "", "nobody is replaced unasked");
    vm.sh("kubectl delete pod set-1 && kubectl wait --for=jsonpath='{.status.readyReplicas}'=3 statefulset/set --timeout=30s")
        .ok();
    eventually(|| match vm.sh(colours).ok().as_str() {
        "blue" => Ok(()),
        said => Err(said.to_owned()),
    });
}
