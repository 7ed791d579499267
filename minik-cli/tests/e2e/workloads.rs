//! Workloads as `kubectl` shows and steers them: StatefulSets, DaemonSets, Deployments, Jobs, CronJobs.

use crate::vm::{Vm, eventually};

const STATEFUL: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: nginx}
spec: {clusterIP: None, selector: {app: nginx}, ports: [{name: web, port: 80}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web}
spec:
  serviceName: nginx
  replicas: 2
  selector: {matchLabels: {app: nginx}}
  template:
    metadata: {labels: {app: nginx}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: nginx, image: nginx, ports: [{name: web, containerPort: 80}]}]
"#;

const DAEMON: &str = r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  updateStrategy: {rollingUpdate: {maxUnavailable: 100%}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      terminationGracePeriodSeconds: 0
      tolerations: [{operator: Exists}]
      containers: [{name: agent, image: busybox, command: [sleep, infinity]}]
"#;

fn apply(vm: &Vm, manifest: &str) {
    vm.sh_with(manifest, "kubectl apply -f -").ok();
}

fn revisions(vm: &Vm, what: &str) -> Vec<String> {
    let history = vm.sh(&format!("kubectl rollout history {what}")).ok();
    let rows = history.lines().skip(2).filter_map(|row| row.split_whitespace().next());
    rows.map(String::from).collect()
}

#[test]
fn a_statefulset_keeps_its_names_through_rollout_undo_and_scale() {
    let vm = Vm::with_cluster();
    apply(&vm, STATEFUL);
    let status = vm.sh("kubectl rollout status statefulset/web --timeout=50s").ok();
    assert!(
        status.contains("partitioned roll out complete: 2 new pods have been updated..."),
        "{status}"
    );
    assert_eq!(vm.sh("kubectl exec web-1 -- hostname").ok(), "web-1\n");
    let ip = vm.sh("kubectl get pod web-1 -o jsonpath='{.status.podIP}'").ok();
    let hosts = vm.sh("kubectl exec web-1 -- cat /etc/hosts").ok();
    let own = format!("{ip}\tweb-1.nginx.default.svc.cluster.local\tweb-1");
    assert!(hosts.lines().any(|line| line == own), "{hosts}");
    vm.sh("kubectl run asker --image=tools -- sleep infinity").ok();
    vm.sh("kubectl wait --for=condition=Ready pod/asker --timeout=30s").ok();
    eventually(|| {
        let answer = vm
            .sh("kubectl exec asker -- dig +short web-1.nginx.default.svc.cluster.local")
            .ok();
        if answer.trim() == ip { Ok(()) } else { Err(answer) }
    });

    vm.sh("kubectl set env statefulset/web COLOUR=blue").ok();
    vm.sh("kubectl rollout status statefulset/web --timeout=50s").ok();
    let coloured = |vm: &Vm| vm.sh("kubectl exec web-0 -- env").ok().contains("COLOUR=blue");
    assert!(coloured(&vm));
    assert_eq!(revisions(&vm, "statefulset/web"), ["1", "2"]);
    vm.sh("kubectl rollout undo statefulset/web").ok();
    vm.sh("kubectl rollout status statefulset/web --timeout=50s").ok();
    assert!(!coloured(&vm));
    assert_eq!(revisions(&vm, "statefulset/web"), ["2", "3"]);

    vm.sh("kubectl scale statefulset/web --replicas=1").ok();
    vm.sh("kubectl wait --for=delete pod/web-1 --timeout=30s").ok();
    let row = vm.sh("kubectl get statefulset web --no-headers").ok();
    assert_eq!(row.split_whitespace().collect::<Vec<_>>()[..2], ["web", "1/1"]);
    let described = vm.sh("kubectl describe statefulset web").ok();
    for event in [
        "SuccessfulCreate",
        "create Pod web-0 in StatefulSet web successful",
        "SuccessfulDelete",
    ] {
        assert!(described.contains(event), "{described}");
    }
}

#[test]
fn daemonsets_and_deployments_roll_pause_and_go_back() {
    let vm = Vm::with_cluster();
    apply(&vm, DAEMON);
    vm.sh("kubectl create deployment web --image=nginx --replicas=2").ok();
    let status = vm.sh("kubectl rollout status daemonset/agent --timeout=50s").ok();
    assert!(
        status.contains("daemon set \"agent\" successfully rolled out"),
        "{status}"
    );
    let nodes = vm.sh("kubectl get nodes -o jsonpath='{.items[*].metadata.name}'").ok();
    let running = vm
        .sh("kubectl get pods -l app=agent -o jsonpath='{.items[*].spec.nodeName}'")
        .ok();
    let sorted = |names: &str| {
        let mut names: Vec<String> = names.split_whitespace().map(String::from).collect();
        names.sort();
        names
    };
    assert_eq!(sorted(&running), sorted(&nodes));
    vm.sh("kubectl rollout restart daemonset/agent").ok();
    vm.sh("kubectl rollout status daemonset/agent --timeout=50s").ok();
    vm.sh("kubectl rollout undo daemonset/agent").ok();
    vm.sh("kubectl rollout status daemonset/agent --timeout=50s").ok();
    assert_eq!(revisions(&vm, "daemonset/agent"), ["2", "3"]);
    let row = vm.sh("kubectl get daemonset agent --no-headers").ok();
    assert_eq!(
        row.split_whitespace().collect::<Vec<_>>()[..6],
        ["agent", "3", "3", "3", "3", "3"]
    );

    vm.sh("kubectl rollout status deployment/web --timeout=50s").ok();
    vm.sh("kubectl rollout pause deployment/web").ok();
    vm.sh("kubectl set env deployment/web COLOUR=blue").ok();
    vm.sh("kubectl scale deployment/web --replicas=3").ok();
    eventually(|| match vm.sh("kubectl get deployment web --no-headers").ok() {
        row if row.split_whitespace().collect::<Vec<_>>()[..4] == ["web", "3/3", "0", "3"] => Ok(()),
        row => Err(row),
    });
    assert_eq!(revisions(&vm, "deployment/web"), ["1"]);
    vm.sh("kubectl rollout resume deployment/web").ok();
    vm.sh("kubectl rollout status deployment/web --timeout=50s").ok();
    assert_eq!(revisions(&vm, "deployment/web"), ["1", "2"]);
    vm.sh("kubectl rollout undo deployment/web").ok();
    let status = vm.sh("kubectl rollout status deployment/web --timeout=50s").ok();
    assert!(
        status.contains("deployment \"web\" successfully rolled out"),
        "{status}"
    );
    assert_eq!(revisions(&vm, "deployment/web"), ["2", "3"]);
    let env = vm
        .sh("kubectl get deployment web -o jsonpath='{.spec.template.spec.containers[0].env}'")
        .ok();
    assert_eq!(env, "");
}

#[test]
fn jobs_run_to_their_end_and_cronjobs_make_them() {
    let vm = Vm::with_cluster();
    vm.sh("kubectl create job hi --image=busybox -- echo hello").ok();
    vm.sh("kubectl create cronjob tick --image=busybox --schedule='0 0 1 1 *' -- echo tock")
        .ok();
    vm.sh("kubectl create job by-hand --from=cronjob/tick").ok();
    apply(
        &vm,
        "{apiVersion: batch/v1, kind: Job, metadata: {name: parts}, spec: {completions: 2, parallelism: 2, completionMode: Indexed, template: {spec: {restartPolicy: Never, containers: [{name: c, image: busybox, command: [sh, -c, 'echo part $JOB_COMPLETION_INDEX of $(hostname)']}]}}}}",
    );
    apply(
        &vm,
        "{apiVersion: batch/v1, kind: Job, metadata: {name: bad}, spec: {backoffLimit: 0, template: {spec: {restartPolicy: Never, containers: [{name: c, image: busybox, command: [sh, -c, 'exit 3']}]}}}}",
    );
    vm.sh("kubectl wait --for=condition=Complete job/hi job/by-hand job/parts --timeout=50s")
        .ok();
    vm.sh("kubectl wait --for=condition=Failed job/bad --timeout=50s").ok();
    assert_eq!(vm.sh("kubectl logs job/hi").ok(), "hello\n");
    assert_eq!(vm.sh("kubectl logs job/by-hand").ok(), "tock\n");
    let parts = vm.sh("kubectl logs -l batch.kubernetes.io/job-name=parts | sort").ok();
    assert_eq!(parts, "part 0 of parts-0\npart 1 of parts-1\n");
    let rows = vm.sh("kubectl get jobs --no-headers | awk '{print $1, $2, $3}'").ok();
    assert_eq!(
        rows,
        "bad Failed 0/1\nby-hand Complete 1/1\nhi Complete 1/1\nparts Complete 2/2\n"
    );
    let described = vm.sh("kubectl describe job bad").ok();
    for text in [
        "BackoffLimitExceeded",
        "Job has reached the specified backoff limit",
        "0 Active (0 Ready) / 0 Succeeded / 1 Failed",
    ] {
        assert!(described.contains(text), "{described}");
    }
    let cron = vm.sh("kubectl get cronjob tick --no-headers").ok();
    assert!(cron.starts_with("tick   0 0 1 1 *"), "{cron}");
    vm.sh("kubectl delete job --all").ok();
    eventually(|| match vm.sh("kubectl get pods -o name").ok() {
        pods if pods.is_empty() => Ok(()),
        pods => Err(pods),
    });
}
