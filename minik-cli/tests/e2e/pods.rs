//! What a Pod's processes find and how they live: environment, files, logs, exec, several containers, death and restart,
//! images that there are not.

use crate::vm::{Vm, eventually};

fn run(vm: &Vm, pod: &str) {
    vm.sh_with(pod, "kubectl apply -f -").ok();
    vm.sh("kubectl wait --for=condition=Ready pod --all --timeout=30s").ok();
}

#[test]
fn a_pod_finds_the_services_that_were_there_before_it() {
    let vm = Vm::with_cluster();
    vm.sh_with(
        "{apiVersion: v1, kind: Service, metadata: {name: my-web}, spec: {selector: {app: web}, ports: [{name: 80-80, port: 80}]}}",
        "kubectl apply -f -",
    )
    .ok();
    let ip = vm.sh("kubectl get svc my-web -o jsonpath='{.spec.clusterIP}'").ok();
    run(
        &vm,
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c, image: busybox, command: [sleep, infinity]}]}}",
    );
    let env = vm
        .sh("kubectl exec p -- env | grep -E '^(MY_WEB|KUBERNETES)_' | sort")
        .ok();
    let expected = format!(
        "\
KUBERNETES_PORT=tcp://10.96.0.1:443
KUBERNETES_PORT_443_TCP=tcp://10.96.0.1:443
KUBERNETES_PORT_443_TCP_ADDR=10.96.0.1
KUBERNETES_PORT_443_TCP_PORT=443
KUBERNETES_PORT_443_TCP_PROTO=tcp
KUBERNETES_SERVICE_HOST=10.96.0.1
KUBERNETES_SERVICE_PORT=443
KUBERNETES_SERVICE_PORT_HTTPS=443
MY_WEB_PORT=tcp://{ip}:80
MY_WEB_PORT_80_TCP=tcp://{ip}:80
MY_WEB_PORT_80_TCP_ADDR={ip}
MY_WEB_PORT_80_TCP_PORT=80
MY_WEB_PORT_80_TCP_PROTO=tcp
MY_WEB_SERVICE_HOST={ip}
MY_WEB_SERVICE_PORT=80
MY_WEB_SERVICE_PORT_80_80=80
"
    );
    assert_eq!(env, expected);
}

#[test]
fn a_pod_has_its_own_name_and_the_clusters_resolver() {
    let vm = Vm::with_cluster();
    run(
        &vm,
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c, image: busybox, command: [sleep, infinity]}]}}",
    );
    assert_eq!(vm.sh("kubectl exec p -- hostname").ok(), "p\n");
    let resolver =
        "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n";
    assert_eq!(vm.sh("kubectl exec p -- cat /etc/resolv.conf").ok(), resolver);
    let ip = vm.sh("kubectl get pod p -o jsonpath='{.status.podIP}'").ok();
    let hosts = vm.sh("kubectl exec p -- cat /etc/hosts").ok();
    assert!(hosts.lines().any(|line| line == format!("{ip}\tp")), "{hosts}");
}

#[test]
fn logs_are_what_the_container_wrote() {
    let vm = Vm::with_cluster();
    run(
        &vm,
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c, image: busybox, command: [sh, -c, 'for i in 1 2 3; do echo out $i; done; echo err >&2; sleep infinity']}]}}",
    );
    eventually(|| match vm.sh("kubectl logs p").ok() {
        logs if logs == "out 1\nout 2\nout 3\nerr\n" => Ok(()),
        logs => Err(logs),
    });
    assert_eq!(vm.sh("kubectl logs p --tail=1").ok(), "err\n");
    let stamped = vm.sh("kubectl logs p --timestamps --tail=1").ok();
    assert!(
        regex::Regex::new(r"^\d{4}-\d\d-\d\dT[\d:.]+Z err\n$")
            .expect("constant")
            .is_match(&stamped),
        "{stamped}"
    );
    assert_eq!(vm.sh("kubectl logs --limit-bytes=3 p").ok(), "out");
    assert_eq!(
        vm.sh("kubectl logs nosuch").fails(1),
        "error: error from server (NotFound): pods \"nosuch\" not found in namespace \"default\"\n"
    );
}

#[test]
fn exec_carries_input_output_and_exit_code() {
    let vm = Vm::with_cluster();
    run(
        &vm,
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c, image: busybox, command: [sleep, infinity]}]}}",
    );
    assert_eq!(vm.sh_with("a\nb\n", "kubectl exec -i p -- cat").ok(), "a\nb\n");
    // Input longer than any one frame or pipe arrives whole, and its end does too.
    let long = "0123456789abcde\n".repeat(64 * 1024);
    assert_eq!(
        vm.sh_with(&long, "kubectl exec -i p -- wc -c").ok().trim(),
        long.len().to_string()
    );
    let said = vm.sh("kubectl exec p -- sh -c 'echo out; echo err >&2; exit 42'");
    assert_eq!((said.code, said.out.as_str()), (42, "out\n"));
    assert_eq!(said.err, "err\ncommand terminated with exit code 42\n");
    let missing = vm.sh("kubectl exec p -- nosuchprogram");
    assert!(missing.code != 0 && missing.err.contains("nosuchprogram"), "{missing}");
    let nobody = vm.sh("kubectl exec nosuch -- env").fails(1);
    assert_eq!(nobody, "Error from server (NotFound): pods \"nosuch\" not found\n");
}

#[test]
fn the_containers_of_a_pod_share_its_localhost() {
    let vm = Vm::with_cluster();
    run(
        &vm,
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: web, image: nginx}, {name: side, image: tools, command: [sleep, infinity]}]}}",
    );
    let page = vm
        .sh("kubectl exec p -c side -- curl -s --retry 5 --retry-connrefused localhost")
        .ok();
    assert!(page.contains("Welcome to nginx!"), "{page}");
    let ready = vm.sh("kubectl get pod p --no-headers").ok();
    assert_eq!(
        ready.split_whitespace().collect::<Vec<_>>()[..4],
        ["p", "2/2", "Running", "0"]
    );
    // Without -c it is the first that is meant, and kubectl says so.
    let said = vm.sh("kubectl exec p -- true");
    assert!(
        said.err.starts_with("Defaulted container \"web\" out of: web, side"),
        "{said}"
    );
}

#[test]
fn a_container_that_dies_is_restarted_and_then_waits_its_turn() {
    let vm = Vm::with_cluster();
    vm.sh_with(
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c, image: busybox, command: [sh, -c, 'echo born; exit 3']}]}}",
        "kubectl apply -f -",
    )
    .ok();
    let status = "kubectl get pod p -o jsonpath='{.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].state.waiting.reason} {.status.containerStatuses[0].lastState.terminated.exitCode}'";
    eventually(|| match vm.sh(status).ok() {
        seen if seen == "1 CrashLoopBackOff 3" => Ok(()),
        seen => Err(seen),
    });
    assert_eq!(vm.sh("kubectl logs p --previous").ok(), "born\n");
    let row = vm.sh("kubectl get pod p --no-headers").ok();
    assert!(row.contains("CrashLoopBackOff"), "{row}");
    eventually(|| {
        match vm
            .sh("kubectl get events --field-selector involvedObject.name=p -o jsonpath='{.items[*].reason}'")
            .ok()
        {
            reasons if reasons.split_whitespace().any(|reason| reason == "BackOff") => Ok(()),
            reasons => Err(reasons),
        }
    });
}

#[test]
fn a_pod_that_is_done_stays_done() {
    let vm = Vm::with_cluster();
    vm.sh("kubectl run job --image=busybox --restart=Never -- sh -c 'echo bye; exit 0'")
        .ok();
    eventually(
        || match vm.sh("kubectl get pod job -o jsonpath='{.status.phase}'").ok() {
            phase if phase == "Succeeded" => Ok(()),
            phase => Err(phase),
        },
    );
    assert_eq!(vm.sh("kubectl logs job").ok(), "bye\n");
}

#[test]
fn an_unknown_image_says_what_there_is() {
    let vm = Vm::with_cluster();
    vm.sh("kubectl run p --image=registry.example.com/nonesuch:1").ok();
    eventually(|| {
        match vm
            .sh("kubectl get pod p -o jsonpath='{.status.containerStatuses[0].state.waiting.reason}'")
            .ok()
        {
            reason if reason == "ErrImagePull" || reason == "ImagePullBackOff" => Ok(()),
            reason => Err(reason),
        }
    });
    let message = vm
        .sh("kubectl get events --field-selector involvedObject.name=p,reason=Failed -o jsonpath='{.items[*].message}'")
        .ok();
    for image in ["nginx", "httpd", "busybox", "tools", "pause"] {
        assert!(message.contains(image), "{image} is not named: {message}");
    }
}
