//! What `minik down` meets on a machine that others use too: mounts that are busy, strangers in its namespaces, a disk that
//! takes no change; and where a cluster's state may lie.

use crate::clean::{pretty_assert_same, snapshot};
use crate::vm::Vm;

#[test]
fn busy_mounts_and_strangers_in_its_namespaces_hold_no_cluster_up() {
    let vm = Vm::boot();
    vm.sh("mkdir -p /run/netns").ok();
    let before = snapshot(&vm);
    vm.sh("minik up --isolated --wait").ok();
    vm.sh("setsid ip netns exec minik.minik.worker1 sleep 1111 < /dev/null > /dev/null 2>&1 &")
        .ok();
    // Somebody looks around in a Pod's files, and is no part of the lab.
    vm.sh("cd $(grep -oE ' /(run|var/lib)/minik/[^ ]*' /proc/self/mountinfo | head -1); setsid sleep 2222 < /dev/null > /dev/null 2>&1 &")
        .ok();
    vm.sh("minik down --purge").ok();
    vm.sh("pgrep -x -f 'sleep 1111'").fails(1);
    vm.sh("kill $(pgrep -x -f 'sleep 2222')").ok();
    crate::vm::eventually(|| match vm.sh("pgrep -x -f 'sleep 2222'") {
        said if said.code == 1 => Ok(()),
        said => Err(said.to_string()),
    });
    pretty_assert_same(&before, &snapshot(&vm));
}

#[test]
fn what_cannot_be_removed_is_named_with_the_command_that_would() {
    let vm = Vm::boot();
    // `mount` keeps notes there.
    vm.sh("mkdir -p /run/netns /run/mount").ok();
    let before = snapshot(&vm);
    vm.sh("minik up --isolated --wait").ok();
    // As a disk with errors is.
    vm.sh("mount --bind /var/lib/minik /var/lib/minik && mount -o remount,bind,ro /var/lib/minik")
        .ok();
    let said = vm.sh("minik down --purge").fails(1);
    let state = "error: directory /var/lib/minik/minik: Read-only file system (os error 30): ";
    let line = said.lines().find(|line| line.starts_with(state));
    let command = &line.unwrap_or_else(|| panic!("{state:?} should be in: {said}"))[state.len()..];
    assert_eq!(
        vm.sh("pgrep -f '[i]nternal '; ls -A /run/netns; test -e /run/minik || ip -o link | wc -l")
            .ok(),
        "1\n",
        "the rest is gone"
    );
    vm.sh("umount /var/lib/minik").ok();
    vm.sh(command).ok();
    vm.sh("minik down --purge").ok();
    pretty_assert_same(&before, &snapshot(&vm));
}

#[test]
fn state_outlives_down_until_it_is_purged() {
    let vm = Vm::boot();
    vm.sh("mkdir -p /run/netns").ok();
    let before = snapshot(&vm);
    let state = vm.home().join("state");
    for place in ["", &format!(" --state-dir {}", state.display())] {
        vm.sh(&format!("minik up --isolated{place}")).ok();
        vm.sh("minik down").ok();
        let kept = if place.is_empty() {
            "/var/lib/minik/minik"
        } else {
            state.to_str().expect("a path of letters")
        };
        vm.sh(&format!("test -e {kept}/cluster.json && ! test -e /run/minik"))
            .ok();
        let said = vm.sh(&format!("minik down --purge{place}"));
        assert!(
            said.code == 0 && said.err.contains(&format!("removed {kept}")),
            "{said}"
        );
        let again = vm.sh(&format!("minik down --purge{place}"));
        assert!(again.code == 0 && again.err.contains("is not up"), "{again}");
        pretty_assert_same(&before, &snapshot(&vm));
    }
    assert!(!state.exists());
}

#[test]
fn state_may_be_copied_to_another_place_and_used_there() {
    let vm = Vm::boot();
    // Relative, as people type it.
    vm.sh("minik up --isolated --wait --state-dir first").ok();
    vm.sh("kubectl run web --image=nginx && kubectl expose pod web --port=80")
        .ok();
    vm.sh("kubectl wait --for=condition=Ready pod/web --timeout=30s").ok();
    let identities = || {
        vm.sh("kubectl get pods,services -A -o jsonpath='{range .items[*]}{.metadata.uid} {.spec.clusterIP}{\"\\n\"}{end}'")
    };
    let before = identities().ok();
    vm.sh("minik down && cp -a first second && touch since").ok();

    vm.sh("minik up --isolated --wait --state-dir second").ok();
    assert_eq!(identities().ok(), before);
    vm.sh("kubectl wait --for=condition=Ready pod/web --timeout=30s").ok();
    vm.sh("kubectl exec web -- curl -s --retry 3 --retry-connrefused web")
        .ok();
    vm.sh("minik down --purge").ok();
    vm.sh("test ! -e second").ok();
    assert_eq!(
        vm.sh("find first -newer since").ok(),
        "",
        "the place it was copied from is nobody's"
    );
}
