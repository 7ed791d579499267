//! What those who look after a cluster use: status, the support bundle, and a service manager.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use serde_json::Value;

use crate::vm::{Vm, eventually};

fn status(vm: &Vm) -> Value {
    serde_json::from_str(&vm.sh("minik status -o json").out).expect("JSON")
}

#[test]
fn status_says_what_is_well_and_what_is_not() {
    let vm = Vm::boot();
    assert_eq!(status(&vm)["state"], "Stopped");
    vm.sh("minik up --isolated --wait").ok();
    let report = status(&vm);
    assert_eq!(
        (&report["state"], &report["wrong"], report["pods"]["ready"].as_u64()),
        (&Value::from("Running"), &Value::from(Vec::<Value>::new()), Some(2)),
        "{report:#}"
    );
    for process in ["supervisor", "standby", "apiserver", "network", "agent-worker2"] {
        let pid = report["processes"][process].as_u64();
        assert!(pid.is_some_and(|pid| pid > 1), "{process}: {report:#}");
        assert!(report["memory"][process].as_u64() > Some(0), "{process}: {report:#}");
    }
    // Too often for it to be there for long.
    vm.sh("for i in {1..12}; do kill -9 $(jq '.children[\"agent-worker1\"].pid // empty' /run/minik/minik/supervisor.json) 2>/dev/null; sleep 0.1; done; kill -STOP $(jq '.children.apiserver.pid' /run/minik/minik/supervisor.json)").ok();
    let said = vm.sh("minik status");
    assert_eq!(said.code, 1, "{said}");
    for part in ["cluster minik: Degraded", "wrong      the API server does not answer"] {
        assert!(said.out.contains(part), "{part:?} should be in {said}");
    }
    vm.sh("kill -CONT $(jq '.children.apiserver.pid' /run/minik/minik/supervisor.json)")
        .ok();
    eventually(|| match vm.sh("minik status") {
        said if said.code == 0 => Ok(()),
        said => Err(said.to_string()),
    });
    // Stopped first, or the standby may take over between the two deaths.
    vm.sh("both=$(pgrep -f '[i]nternal supervisor'); kill -STOP $both; kill -KILL $both")
        .ok();
    // A killed process holds its lock until the kernel has taken it apart.
    eventually(|| match vm.sh("minik status") {
        said if said.code == 1 && said.out.contains("the supervisor does not run: minik up starts it") => Ok(()),
        said => Err(said.to_string()),
    });
}

#[test]
fn a_support_bundle_has_what_helps_and_no_secret() {
    let vm = Vm::with_cluster();
    vm.sh("kubectl create secret generic s --from-literal=password=open-sesame")
        .ok();
    vm.sh("minik support-bundle -f bundle.tar.gz").ok();
    assert_eq!(vm.sh("stat -c %a bundle.tar.gz").ok(), "600\n");
    vm.sh("mkdir b && tar -xzf bundle.tar.gz -C b --strip-components=1")
        .ok();
    for file in [
        "version",
        "cluster.json",
        "status.json",
        "supervisor.json",
        "log/supervisor.log",
        "log/agent-worker1.log",
        "objects/pods.json",
        "objects/secrets.json",
        "objects/deployments.apps.json",
        "network/worker1/routes",
        "network/fabric/addresses",
        "network/outside/neighbours",
    ] {
        vm.sh(&format!("test -e b/{file}")).ok();
    }
    vm.sh("grep -q KUBE-SERVICES b/network/worker1/iptables").ok();
    vm.sh("grep -q '\"name\": \"s\"' b/objects/secrets.json").ok();
    for secret in ["open-sesame", "b3Blbi1zZXNhbWU="] {
        vm.sh(&format!("grep -r {secret} b")).fails(1);
    }
    assert_eq!(vm.sh("cat b/amiss").ok(), "", "nothing was out of reach");
}

#[test]
fn a_service_manager_keeps_a_cluster() {
    let vm = Vm::boot();
    let path = vm.home().join("notify.sock");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut up = vm.start(&format!(
        "NOTIFY_SOCKET={} exec minik up --isolated --wait --foreground",
        path.display()
    ));
    let mut word = [0; 64];
    let length = manager.recv(&mut word).unwrap();
    assert_eq!(String::from_utf8_lossy(&word[..length]).trim(), "READY=1");
    assert_eq!(status(&vm)["state"], "Running");

    vm.sh("kill -9 $(pgrep -f '[i]nternal (supervisor|agent)')").ok();
    eventually(|| match vm.sh("minik status") {
        said if said.code == 0 => Ok(()),
        said => Err(said.to_string()),
    });

    vm.sh("kill -TERM $(pgrep -x -f 'minik up --isolated --wait --foreground')")
        .ok();
    assert!(up.wait().unwrap().success());
    assert_eq!(status(&vm)["state"], "Stopped");
    vm.sh("test -e /var/lib/minik/minik/cluster.json").ok();
}
