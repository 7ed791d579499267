//! minik changes only what is its own: a machine after `down` is the machine before `up`, clusters side by side do not
//! meet, and what cannot work is refused before anything is touched.

use crate::vm::{Vm, workspace};

/// What a machine looks like to its own tools, a section each. Counters and link indexes are left out: they only grow.
pub fn snapshot(vm: &Vm) -> String {
    let sections = [
        (
            "links and addresses",
            r#"ip -j address | sed -E 's/"ifindex":[0-9]+,//g'"#,
        ),
        ("routes", "ip -j route show table all"),
        ("policy", "ip -j rule"),
        ("neighbours", "ip -j neigh"),
        ("namespaces", "ls /run/netns 2>/dev/null || true"),
        ("iptables", "iptables-save; iptables-legacy-save 2>/dev/null || true"),
        ("nftables", "nft -j list ruleset"),
        (
            "mounts",
            r"cut -d' ' -f4- /proc/self/mountinfo | sed -E 's/ (shared|master):[0-9]+//g' | sort",
        ),
        (
            "cgroups",
            "find /sys/fs/cgroup -type d -name '*minik*' 2>/dev/null || true",
        ),
        (
            "processes",
            // Looked at before the filters start, which are called by their names alone for a moment; without those that
            // have ended and wait for their parent.
            "all=$(ps -e -o stat=,args=); grep -v '^Z' <<< \"$all\" | sed 's/^[^ ]* *//' | grep -vE '^(timeout|bash -o pipefail|ps)( |$)' | sort",
        ),
        ("runtime files", "find /run -not -path '*/xtables.lock' | sort"),
        ("state", "find /var/lib/minik | sort"),
        (
            "forwarding",
            "sysctl -a 2>/dev/null | grep -E 'forward|rp_filter|route_localnet|redirects'",
        ),
    ];
    sections
        .map(|(name, command)| format!("== {name}\n{}", vm.sh(command).ok()))
        .join("\n")
}

#[test]
fn down_leaves_the_machine_as_up_found_it() {
    let vm = Vm::boot();
    vm.sh("mkdir -p /run/netns").ok();
    let before = snapshot(&vm);

    vm.sh("minik up --isolated --wait").ok();
    assert_ne!(snapshot(&vm), before, "a snapshot that sees no cluster proves nothing");
    vm.sh(&format!(
        "kubectl apply -f {}/examples/nginx-svc",
        workspace().display()
    ))
    .ok();
    vm.sh("kubectl rollout status deployment/nginx-deployment --timeout=30s")
        .ok();
    vm.sh("kubectl exec deploy/nginx-deployment -- curl -s --retry 3 --retry-connrefused nginx-svc")
        .ok();
    vm.sh("minik down --purge").ok();

    pretty_assert_same(&before, &snapshot(&vm));
    let kubeconfig = std::fs::read_to_string(vm.home().join("kubeconfig")).unwrap_or_default();
    assert!(
        !kubeconfig.contains("minik"),
        "the kubeconfig still knows the cluster:\n{kubeconfig}"
    );
}

#[test]
fn down_needs_no_living_process() {
    let vm = Vm::boot();
    vm.sh("mkdir -p /run/netns").ok();
    let before = snapshot(&vm);
    vm.sh("minik up --isolated --wait").ok();
    vm.sh("kubectl run web --image=nginx && kubectl wait --for=condition=Ready pod/web --timeout=30s")
        .ok();
    // Every process of minik's dies at once, as when memory runs out; the Pods' own go on.
    vm.sh("for p in /proc/[0-9]*; do [[ $(readlink $p/exe) == */minik ]] && kill -9 ${p#/proc/}; done; true")
        .ok();
    vm.sh("minik down --purge").ok();
    pretty_assert_same(&before, &snapshot(&vm));
}

#[test]
fn up_and_down_may_be_said_twice() {
    let vm = Vm::boot();
    vm.sh("minik down").ok();
    vm.sh("minik up --isolated --wait").ok();
    let again = vm.sh("minik up --isolated --wait");
    assert_eq!(
        vm.sh("kubectl get nodes --no-headers").ok().lines().count(),
        3,
        "{again}"
    );
    vm.sh("minik down --purge").ok();
    vm.sh("minik down --purge").ok();
}

#[test]
fn what_was_applied_is_there_after_down_and_up() {
    let vm = Vm::with_cluster();
    vm.sh(
        "kubectl create -f - <<< '{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {ports: [{port: 80}]}}'",
    )
    .ok();
    let ip = vm.sh("kubectl get svc s -o jsonpath='{.spec.clusterIP}'").ok();
    vm.sh("minik down").ok();
    vm.sh("minik up --isolated --wait").ok();
    assert_eq!(vm.sh("kubectl get svc s -o jsonpath='{.spec.clusterIP}'").ok(), ip);
}

#[test]
fn two_isolated_clusters_share_addresses_and_nothing_else() {
    let vm = Vm::boot();
    for name in ["one", "two"] {
        let state = vm.home().join(name);
        vm.sh(&format!(
            "minik up --isolated --wait --name {name} --state-dir {}",
            state.display()
        ))
        .ok();
        let pod = "{apiVersion: v1, kind: Pod, metadata: {name: p, labels: {app: p}}, spec: {containers: [{name: c, image: nginx}]}}";
        vm.sh_with(pod, &format!("kubectl --context minik-{name} apply -f -"))
            .ok();
        vm.sh(&format!(
            "kubectl --context minik-{name} wait --for=condition=Ready pod/p --timeout=30s"
        ))
        .ok();
        vm.sh(&format!("kubectl --context minik-{name} create -f - <<< '{{apiVersion: v1, kind: ConfigMap, metadata: {{name: of-{name}}}}}'")).ok();
    }
    let names = |context: &str| {
        vm.sh(&format!(
            "kubectl --context minik-{context} get configmaps -o name | grep of-"
        ))
        .ok()
    };
    assert_eq!(names("one"), "configmap/of-one\n");
    assert_eq!(names("two"), "configmap/of-two\n");
    vm.sh("minik down --name one --purge").ok();
    assert_eq!(
        vm.sh("kubectl --context minik-two get pod p -o jsonpath='{.status.phase}'")
            .ok(),
        "Running"
    );
    vm.sh("kubectl --context minik-two exec p -- curl -s localhost").ok();
    vm.sh("minik down --name two --purge").ok();
}

#[test]
fn up_refuses_what_cannot_work_and_touches_nothing() {
    let vm = Vm::boot();
    vm.sh(
        "mkdir -p /run/netns && ip link add lan type veth peer name peer && ip link set lan up && ip link set peer up",
    )
    .ok();
    vm.sh("ip address add 172.30.0.77/24 dev lan").ok();
    let before = snapshot(&vm);
    // Not isolated, the machine's own network is the outside world, and it has these addresses already.
    let clash = vm.sh("minik up");
    assert!(
        clash.code != 0 && clash.err.contains("172.30.0.0/24") && clash.err.contains("--node-network-cidr"),
        "{clash}"
    );
    pretty_assert_same(&before, &snapshot(&vm));

    for nonsense in [
        "--nodes 0",
        "--name Not_A_Label",
        "--service-cidr 10.96.0.0/33",
        "--proxy-mode userspace",
    ] {
        let said = vm.sh(&format!("minik up --isolated {nonsense}"));
        assert!(said.code != 0 && !said.err.is_empty(), "{said}");
    }
    pretty_assert_same(&before, &snapshot(&vm));
}

/// Like `assert_eq!`, but names the lines that differ.
#[track_caller]
pub fn pretty_assert_same(before: &str, after: &str) {
    let missing: Vec<&str> = before.lines().filter(|line| !after.contains(line)).collect();
    let added: Vec<&str> = after.lines().filter(|line| !before.contains(line)).collect();
    assert_eq!(
        before, after,
        "the machine differs\nno longer there: {missing:#?}\nleft behind: {added:#?}"
    );
}
