//! Whether everything that tells of a cluster tells the same, and what a cluster holds of the machine.

use std::collections::{BTreeMap, BTreeSet};

use crate::vm::{Vm, eventually};

/// Waits until API, endpoints, rules and names agree about the Pods, and everything is well.
pub fn consistent(vm: &Vm) {
    eventually(|| match vm.sh("minik status") {
        said if said.code == 0 => Ok(()),
        said => Err(said.to_string()),
    });
    eventually(|| {
        let pods = words(
            vm,
            "kubectl get pods -l app=web -o jsonpath='{.items[?(@.status.containerStatuses[0].ready==true)].status.podIP}'",
        )?;
        if pods.len() != 3 {
            return Err(format!("ready: {pods:?}"));
        }
        for service in ["web", "each"] {
            let slices = format!(
                "kubectl get endpointslices -l kubernetes.io/service-name={service} -o jsonpath='{{.items[*].endpoints[?(@.conditions.ready==true)].addresses[0]}}'"
            );
            same(&format!("endpoints of {service}"), &pods, &words(vm, &slices)?)?;
        }
        for node in ["control-plane", "worker1", "worker2"] {
            let rules = format!(
                "ip netns exec minik.minik.{node} iptables-save -t nat | grep -F -- '--comment \"default/web\"' | grep -oE 'to-destination [0-9.]+' | cut -d' ' -f2"
            );
            same(&format!("rules of {node}"), &pods, &words(vm, &rules)?)?;
        }
        let names = "kubectl exec client -- nslookup each.default.svc.cluster.local. | sed 1,3d | grep -oE '([0-9]+\\.){3}[0-9]+'";
        same("names", &pods, &words(vm, names)?)
    });
}

fn words(vm: &Vm, line: &str) -> Result<BTreeSet<String>, String> {
    let said = vm.sh(line);
    if said.code == 0 {
        Ok(said.out.split_whitespace().map(str::to_owned).collect())
    } else {
        Err(said.to_string())
    }
}

fn same(what: &str, expected: &BTreeSet<String>, found: &BTreeSet<String>) -> Result<(), String> {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{what}: {found:?} instead of {expected:?}"))
    }
}

/// What the cluster holds: processes by kind, namespaces, mounts, links. Two of them compare.
pub fn census(vm: &Vm) -> String {
    [
        ("processes", "pgrep -af '[i]nternal ' | grep -oE 'internal [a-z]+' | sort | uniq -c"),
        ("namespaces", "ls /run/netns | sed -E 's/pod\\..*/pod/' | sort | uniq -c"),
        ("mounts", "cut -d' ' -f5 /proc/self/mountinfo | sed -E 's/pod\\.[-0-9a-f]+/pod/; s/[-0-9a-f]{36}/UID/' | sort | uniq -c"),
        // All together: a Pod that takes the place of another may be on another node.
        ("links", "for n in control-plane worker1 worker2 fabric outside; do ip -n minik.minik.$n -o link; done | wc -l"),
        ("Pods", "ls /run/minik/minik/nodes/*/pods | wc -l"),
        ("temporary files", "find /run/minik /var/lib/minik -name '.tmp*' -o -name '*.tmp'"),
    ]
    .map(|(name, command)| format!("== {name}\n{}", vm.sh(command).out))
    .join("\n")
}

/// What the processes of one kind hold, all together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// How many they are.
    pub processes: u64,
    /// Of memory, their own and their share of what others use too, in KiB.
    pub memory: u64,
    /// Open descriptors.
    pub descriptors: u64,
}

/// What minik's processes hold, by kind.
pub fn held(vm: &Vm) -> BTreeMap<String, Held> {
    let each = r#"for p in $(pgrep -f '[i]nternal '); do
        kind=$(tr '\0' ' ' < /proc/$p/cmdline | grep -oE 'internal [a-z]+' | cut -d' ' -f2)
        [[ -n $kind ]] && echo "$kind $(awk '/^Pss:/ { print $2 }' /proc/$p/smaps_rollup) $(ls /proc/$p/fd | wc -l)"
    done 2>/dev/null"#;
    let mut all = BTreeMap::<String, Held>::new();
    for line in vm.sh(each).out.lines() {
        // One that ended meanwhile says less.
        if let [kind, memory, descriptors] = line.split(' ').collect::<Vec<_>>()[..]
            && let (Ok(memory), Ok(descriptors)) = (memory.parse::<u64>(), descriptors.parse::<u64>())
        {
            let held = all.entry(kind.to_owned()).or_default();
            held.processes += 1;
            held.memory += memory;
            held.descriptors += descriptors;
        }
    }
    all
}

/// Waits until minik's processes hold no more than `before`, and tells of both. Descriptors come and go with requests;
/// memory is back when it is not half as much again: what is remembered of the last minutes has a bound of its own.
pub fn nothing_is_kept(vm: &Vm, before: &BTreeMap<String, Held>) {
    /// Connections that may be open while we look.
    const UNDER_WAY: u64 = 16;
    /// What a process that has just begun may take more than one that has settled, in KiB: it has read all there is, an
    /// agent the thousands of flows that the clients have left to be tracked.
    const YOUNG: u64 = 8 << 10;
    let after = eventually(|| {
        let after = held(vm);
        for (kind, then) in before {
            let now = after.get(kind).copied().unwrap_or_default();
            if now.descriptors > then.descriptors + UNDER_WAY
                || now.memory > then.memory * 3 / 2 + YOUNG * now.processes
            {
                return Err(format!("{kind}: {now:?}, and before {then:?}"));
            }
        }
        Ok(after)
    });
    for (kind, then) in before {
        let now = after.get(kind).copied().unwrap_or_default();
        eprintln!(
            "  {kind}: {:.1} MiB and {} descriptors, before {:.1} MiB and {}",
            mebibytes(now),
            now.descriptors,
            mebibytes(*then),
            then.descriptors
        );
    }
}

fn mebibytes(held: Held) -> f64 {
    held.memory as f64 / 1024.0
}
