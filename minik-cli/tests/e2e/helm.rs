//! A chart's life: helm waits for what it made, keeps its releases in Secrets, and takes all of it away again.

use crate::vm::{Vm, eventually, workspace};

#[test]
fn helm_installs_upgrades_rolls_back_and_uninstalls() {
    let vm = Vm::with_cluster();
    let chart = workspace().join("minik-cli/tests/e2e/chart");
    let chart = chart.display();
    let state = |what: &str| vm.sh(&format!("kubectl get {what} -o name")).ok();
    let seen = |path: &str| vm.sh(&format!("kubectl get {path}")).ok();

    vm.sh(&format!("helm install web {chart} --wait --timeout 30s")).ok();
    // `--wait` returned, so the Deployment must be available already.
    assert_eq!(seen("deployment web -o jsonpath='{.status.availableReplicas}'"), "1");
    assert_eq!(state("secrets"), "secret/sh.helm.release.v1.web.v1\n");
    assert_eq!(
        seen("secret sh.helm.release.v1.web.v1 -o jsonpath='{.type} {.metadata.labels.status}'"),
        "helm.sh/release.v1 deployed"
    );

    vm.sh(&format!(
        "helm upgrade web {chart} --set replicas=2,greeting=hi --wait --timeout 30s"
    ))
    .ok();
    assert_eq!(seen("deployment web -o jsonpath='{.status.availableReplicas}'"), "2");
    assert_eq!(seen("configmap web -o jsonpath='{.data.greeting}'"), "hi");
    let history = vm.sh("helm history web -o json").ok();
    let history: serde_json::Value = serde_json::from_str(&history).expect("helm writes JSON");
    assert_eq!(
        (&history[0]["status"], &history[1]["status"]),
        (&"superseded".into(), &"deployed".into())
    );

    vm.sh("helm rollback web 1 --wait --timeout 30s").ok();
    assert_eq!(seen("configmap web -o jsonpath='{.data.greeting}'"), "hello");

    vm.sh("helm uninstall web --wait --timeout 30s").ok();
    eventually(|| {
        match state("deployments,replicasets,pods,secrets,services --field-selector metadata.name!=kubernetes") {
            left if left.is_empty() => Ok(()),
            left => Err(left),
        }
    });
    assert_eq!(vm.sh("helm list -q").ok(), "");
}
