//! PersistentVolumeClaims: bound for the first Pod that wants them, their data outlives it, and goes or stays with the
//! claim as the volume says.

use crate::vm::{Vm, eventually};

const CLAIM: &str = r#"
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
"#;

fn user(name: &str, node: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{nodeSelector: {{kubernetes.io/hostname: {node}}}, terminationGracePeriodSeconds: 0, volumes: [{{name: v, persistentVolumeClaim: {{claimName: data}}}}], containers: [{{name: c, image: busybox, command: [sleep, infinity], volumeMounts: [{{name: v, mountPath: /data}}]}}]}}}}"
    )
}

fn apply(vm: &Vm, manifest: &str) {
    vm.sh_with(manifest, "kubectl apply -f -").ok();
}

/// Waits until `line` prints `wanted`.
fn becomes(vm: &Vm, line: &str, wanted: &str) {
    eventually(|| match vm.sh(line).ok().trim() {
        said if said == wanted => Ok(()),
        said => Err(said.to_owned()),
    });
}

#[test]
fn a_claims_data_outlives_its_pods_and_goes_with_the_claim() {
    let vm = Vm::with_cluster();
    apply(&vm, CLAIM);
    let events = "kubectl get events --field-selector involvedObject.name=data -o jsonpath='{.items[*].reason}'";
    becomes(&vm, events, "WaitForFirstConsumer");
    assert_eq!(
        vm.sh("kubectl get pvc data -o jsonpath='{.status.phase}'").ok(),
        "Pending"
    );

    apply(&vm, &user("first", "worker1"));
    vm.sh("kubectl wait --for=condition=Ready pod/first --timeout=30s").ok();
    let row = vm
        .sh("kubectl get pvc data --no-headers | awk '{print $2, $4, $5, $6}'")
        .ok();
    assert_eq!(row, "Bound 1Gi RWO standard\n");
    vm.sh("kubectl exec first -- sh -c 'echo kept > /data/file'").ok();
    // Whoever is used is protected.
    vm.sh("kubectl delete pvc data --wait=false").ok();
    assert_eq!(
        vm.sh("kubectl get pvc data --no-headers | awk '{print $2}'").ok(),
        "Terminating\n"
    );
    vm.sh("kubectl exec first -- cat /data/file").ok();
    vm.sh("kubectl delete pod first").ok();
    becomes(&vm, "kubectl get pvc,pv -o name", "");

    // A claim that is kept keeps its data: nodes are of one machine and share its disk, so on another node too.
    apply(&vm, CLAIM);
    apply(&vm, &user("first", "worker1"));
    vm.sh("kubectl wait --for=condition=Ready pod/first --timeout=30s").ok();
    assert_eq!(
        vm.sh("kubectl exec first -- ls /data").ok(),
        "",
        "another volume is empty"
    );
    vm.sh("kubectl exec first -- sh -c 'echo kept > /data/file'; kubectl delete pod first")
        .ok();
    apply(&vm, &user("second", "worker2"));
    vm.sh("kubectl wait --for=condition=Ready pod/second --timeout=30s")
        .ok();
    assert_eq!(vm.sh("kubectl exec second -- cat /data/file").ok(), "kept\n");
    vm.sh("kubectl delete pod second").ok();

    // A volume that is to be retained is released, with its data, and waits for somebody.
    let volume = vm.sh("kubectl get pvc data -o jsonpath='{.spec.volumeName}'").ok();
    vm.sh(&format!(
        "kubectl patch pv {volume} -p '{{\"spec\":{{\"persistentVolumeReclaimPolicy\":\"Retain\"}}}}'"
    ))
    .ok();
    vm.sh("kubectl delete pvc data").ok();
    becomes(
        &vm,
        "kubectl get pv --no-headers | awk '{print $4, $5}'",
        "Retain Released",
    );
}
