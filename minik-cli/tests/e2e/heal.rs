//! What other hands take away from a lab comes back by itself, without anybody looking for it every so often.

use std::time::{Duration, Instant};

use crate::vm::{Vm, eventually};

/// A Pod on worker1, asked through Service and node port from outside.
const OBJECTS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec: {nodeName: worker1, containers: [{name: nginx, image: nginx}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, nodePort: 30080}]}
";

/// How long the lab may take.
const SOON: Duration = Duration::from_secs(2);

#[test]
fn what_is_taken_from_the_network_is_laid_again() {
    let vm = Vm::with_cluster();
    vm.sh_with(OBJECTS, "kubectl apply -f -").ok();
    vm.sh("kubectl wait --for=condition=Ready pod/web --timeout=30s").ok();
    let works = || {
        let asked = "minik host exec -- curl -s -o /dev/null -w '%{http_code}' --max-time 1 http://172.30.0.12:30080/";
        match vm.sh(asked) {
            said if said.out == "200" => Ok(()),
            said => Err(said.to_string()),
        }
    };
    eventually(works);
    let before = vm.sh("kubectl get pods -A -o jsonpath='{.items[*].status.containerStatuses[0].containerID}'");
    let before = before.ok();
    for harm in [
        "ip -n minik.minik.worker1 link del eth0",
        "ip -n minik.minik.worker1 link set eth0 down",
        "ip -n minik.minik.worker1 address flush dev eth0",
        "ip -n minik.minik.worker2 route del default",
        "ip -n minik.minik.worker2 route flush table main",
        "ip -n minik.minik.fabric link del br0",
        "ip -n minik.minik.fabric link set worker2 down",
        "ip -n minik.minik.fabric link del outside",
        "ip -n minik.minik.worker1 link del $(ip -n minik.minik.worker1 -o link | grep -o 'veth[0-9a-f]*' | head -1)",
        "ip -n minik.minik.worker1 route del $(ip -n minik.minik.worker1 -o route | grep -o '^10.244.1.[0-9]*' | head -1)",
        "ip netns exec minik.minik.worker1 sysctl -q net.ipv4.ip_forward=0",
        "ip netns exec minik.minik.worker1 sysctl -q net.ipv4.conf.all.rp_filter=1",
        // It may be mounted again before its file is taken away, which fails then.
        "ip netns del minik.minik.worker1 || mountpoint -q /run/netns/minik.minik.worker1",
        "ip netns del minik.minik.fabric || mountpoint -q /run/netns/minik.minik.fabric",
        "ip -n minik.minik.worker2 route flush proto 88",
    ] {
        vm.sh(harm).ok();
        let harmed = Instant::now();
        eventually(|| match vm.sh("minik status") {
            said if said.code == 0 => Ok(()),
            said => Err(format!("after {harm}: {said}")),
        });
        eventually(|| works().map_err(|complaint| format!("after {harm}: {complaint}")));
        assert!(harmed.elapsed() < SOON, "{harm}: took {:?}", harmed.elapsed());
    }
    for (place, parameter, value) in [
        ("worker1", "net.ipv4.ip_forward", "1"),
        ("worker1", "net.ipv4.conf.all.rp_filter", "0"),
    ] {
        let found = vm.sh(&format!("ip netns exec minik.minik.{place} sysctl -n {parameter}"));
        assert_eq!(found.ok().trim(), value, "{parameter}");
    }
    let after = vm.sh("kubectl get pods -A -o jsonpath='{.items[*].status.containerStatuses[0].containerID}'");
    assert_eq!(after.ok(), before, "no container was started again");
}

#[test]
fn up_mends_a_cluster_and_says_what_it_did() {
    let vm = Vm::with_cluster();
    assert!(vm.sh("minik up --isolated").err.contains("is already up, and well"));
    // Stopped first, or the standby may take over between the two deaths.
    vm.sh(
        "both=$(pgrep -f '[i]nternal supervisor'); kill -STOP $both; kill -KILL $both $(pgrep -f '[i]nternal network')",
    )
    .ok();
    vm.sh("ip -n minik.minik.worker1 link del eth0; ip -n minik.minik.worker2 route del default")
        .ok();
    let said = vm.sh("minik up --isolated");
    for part in [
        "mended: the supervisor did not run",
        "mended: worker1: link eth0 is missing or down",
        "mended: worker2: link dead0 lacks the route to 0.0.0.0/0",
    ] {
        assert!(
            said.code == 0 && said.err.contains(part),
            "{part:?} should be in: {said}"
        );
    }
    assert!(vm.sh("minik up --isolated").err.contains("is already up, and well"));
}

#[test]
fn a_node_whose_disk_fills_up_says_so_and_takes_no_pods_until_there_is_room() {
    let vm = Vm::with_cluster();
    let disk = |room: &str| vm.sh(&format!("m=/var/lib/minik; mount -o remount,size={room} $m"));
    disk("$(($(df -k --output=used $m | tail -1) + 32768))k").ok();
    vm.sh("kubectl wait --for=condition=DiskPressure node --all --timeout=30s")
        .ok();
    let nodes = |path: &str| {
        vm.sh(&format!("kubectl get nodes -o jsonpath='{{.items[*]{path}}}'"))
            .ok()
    };
    let taint = "node.kubernetes.io/disk-pressure:NoSchedule";
    let taints = || vm.sh("kubectl get nodes -o jsonpath='{range .items[*].spec.taints[*]}{.key}:{.effect} {end}'");
    eventually(|| match taints().ok() {
        all if all.matches(taint).count() == 3 => Ok(()),
        all => Err(all),
    });
    let events = |reason: &str| {
        vm.sh(&format!(
            "kubectl get events --field-selector reason={reason},involvedObject.name=worker1 -o jsonpath='{{.items[*].message}}'"
        ))
        .ok()
    };
    let said = "Node worker1 status is now: NodeHasDiskPressure";
    eventually(|| match events("NodeHasDiskPressure") {
        found if found == said => Ok(()),
        found => Err(found),
    });

    // Another agent finds it as full as the last one did, and that is no news.
    let since = ".status.conditions[?(@.type==\"DiskPressure\")].lastTransitionTime";
    let before = nodes(since);
    let pid = "jq '.children[\"agent-worker1\"].pid // empty' /run/minik/minik/supervisor.json";
    let killed = vm.sh(pid).ok();
    vm.sh(&format!("kill -9 {killed}")).ok();
    vm.sh("kubectl run late --image=nginx").ok();
    eventually(|| {
        match vm.sh("kubectl get pod late -o jsonpath='{.status.conditions[?(@.type==\"PodScheduled\")].message}'") {
            said if said.out.contains("untolerated taint") => Ok(()),
            said => Err(said.to_string()),
        }
    });
    eventually(|| match vm.sh(pid).out {
        now if now != killed && !now.is_empty() => Ok(()),
        now => Err(now),
    });
    vm.sh("kubectl wait --for=condition=Ready node --all --timeout=10s")
        .ok();
    assert_eq!(nodes(since), before);
    assert_eq!(
        nodes(".status.conditions[?(@.type==\"DiskPressure\")].status"),
        "True True True"
    );

    disk("2g").ok();
    vm.sh("kubectl wait --for=condition=Ready pod/late --timeout=40s").ok();
    eventually(|| match taints().ok() {
        all if !all.contains(taint) => Ok(()),
        all => Err(all),
    });
    eventually(|| match events("NodeHasNoDiskPressure") {
        found if found == "Node worker1 status is now: NodeHasNoDiskPressure" => Ok(()),
        found => Err(found),
    });
}
