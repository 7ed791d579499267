//! Streams between kubectl and Pods, in both ways that clients have of carrying them: inside WebSockets, and over SPDY,
//! which every kubectl before 1.31 speaks and newer ones when they are told to.

use crate::vm::Vm;

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec: {containers: [{name: nginx, image: nginx, ports: [{name: http, containerPort: 80}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: host, labels: {app: host}}
spec: {hostNetwork: true, containers: [{name: nginx, image: nginx}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 8080, targetPort: http}]}
";

/// Starts `kubectl port-forward $1` and sets `port` to its own end's.
const FORWARD: &str = r#"
forward() {
    : > said
    kubectl port-forward "$@" > said 2>&1 &
    pid=$!
    for try in $(seq 200); do
        port=$(sed -n 's/^Forwarding from 127.0.0.1:\([0-9]*\) .*/\1/p' said | head -n 1)
        [ -z "$port" ] || return 0
        kill -0 $pid || break
        sleep 0.05
    done
    cat said >&2
    return 1
}
"#;

fn transports() -> [(&'static str, &'static str); 2] {
    [
        ("WebSockets", ""),
        (
            "SPDY",
            "export KUBECTL_PORT_FORWARD_WEBSOCKETS=false KUBECTL_REMOTE_COMMAND_WEBSOCKETS=false; ",
        ),
    ]
}

#[test]
fn connections_programs_and_their_input_go_both_ways_over_either_transport() {
    let vm = Vm::with_cluster();
    vm.sh_with(PODS, "kubectl apply -f -").ok();
    vm.sh("kubectl wait --for=condition=Ready pod --all --timeout=30s").ok();
    // More than any window or buffer between them, and nothing that compresses.
    vm.sh("kubectl exec web -- sh -c 'head -c 9000000 /dev/urandom > /usr/share/nginx/html/big'")
        .ok();
    let sum = vm
        .sh("kubectl exec web -- sha256sum /usr/share/nginx/html/big | cut -c -64")
        .ok();

    for (transport, setting) in transports() {
        let forwarded = |what: &str, then: &str| {
            vm.sh(&format!("cd $(mktemp -d); {setting}{FORWARD} forward {what} || exit 1; {then}; code=$?; kill $pid 2>/dev/null; wait $pid; cat said >&2; exit $code"))
        };
        // To a Pod, to a Service by the name of its Pods' port, and several at once.
        for what in ["pod/web :80", "service/web :8080", "pod/web :http", "pod/host :80"] {
            let page = forwarded(what, "curl -sf --max-time 5 http://127.0.0.1:$port/").ok();
            assert!(page.contains("Welcome to nginx!"), "{transport} {what}: {page}");
        }
        let sums = forwarded(
            "pod/web :80",
            "for n in 1 2 3 4; do curl -sf --max-time 20 http://127.0.0.1:$port/big | sha256sum | cut -c -64 > $n & clients=\"$clients $!\"; done; wait $clients; cat 1 2 3 4",
        );
        assert_eq!(sums.ok(), sum.repeat(4), "{transport}");

        // A port that nobody listens on: told by the error stream, with what the system said.
        let refused = forwarded(
            "pod/web :81",
            "curl -s --max-time 5 http://127.0.0.1:$port/; for try in $(seq 100); do grep -q 'error forwarding' said && break; sleep 0.05; done; true",
        );
        for text in [
            "error forwarding port 81 to pod",
            "dial tcp 127.0.0.1:81: connect: connection refused",
        ] {
            assert!(refused.err.contains(text), "{transport}: {refused}");
        }

        // Programs: output apart from complaints, input to its end, the exit code, a terminal with a size.
        let run = |script: &str| vm.sh(&format!("{setting}{script}"));
        let both = run("kubectl exec web -- sh -c 'echo out; echo err >&2; exit 7'");
        assert_eq!(both.out.trim(), "out", "{transport}: {both}");
        assert!(both.err.contains("err\n"), "{transport}: {both}");
        both.fails(7);
        let echoed =
            run("head -c 3000000 /dev/urandom > in; kubectl exec -i web -- cat < in | cmp - in && echo same").ok();
        assert_eq!(echoed, "same\n", "{transport}");
        let size = run(
            "script -qec \"stty rows 33 cols 77; kubectl exec -it web -- sh -c 'sleep 0.5; stty size'\" /dev/null < /dev/null",
        );
        assert!(size.out.contains("33 77"), "{transport}: {size}");
        let missing = run("kubectl exec web -- no-such-program");
        missing.fails(127);

        // Attached to a Pod that reads its input.
        let name = format!("cat-{}", transport.to_lowercase());
        let attached = run(&format!(
            "echo hello | kubectl run {name} --image=busybox --restart=Never -i --quiet --command -- cat"
        ));
        assert!(attached.out.contains("hello"), "{transport}: {attached}");
    }
}

/// Clients in the field: the oldest that we promise, the newest, and each over its own first choice.
#[test]
fn every_kubectl_forwards_and_runs_programs() {
    let vm = Vm::with_cluster();
    vm.sh_with(PODS, "kubectl apply -f -").ok();
    vm.sh("kubectl wait --for=condition=Ready pod/web --timeout=30s").ok();
    for kubectl in ["kubectl-1.33", "kubectl-1.36", "kubectl"] {
        let said = vm.sh(&format!(
            "cd $(mktemp -d); kubectl() {{ command {kubectl} \"$@\"; }}; {FORWARD} forward pod/web :80 || exit 1; \
             curl -sf --max-time 5 http://127.0.0.1:$port/ | grep -o 'Welcome to nginx!' | head -n 1; kill $pid; \
             kubectl exec web -- echo ran"
        ));
        assert_eq!(said.ok(), "Welcome to nginx!\nran\n", "{kubectl}");
    }
}
