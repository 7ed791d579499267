//! `minik rules`: what is programmed for one Service, beside what the kernel has.

use serde_json::Value;

use crate::manifest::WEB;
use crate::vm::{Vm, eventually};

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, externalTrafficPolicy: Local, selector: {app: web}, ports: [{name: http, port: 80, nodePort: 30080}]}
";

#[test]
fn every_rule_of_a_service_is_shown_with_its_reason_and_compared_with_the_kernel() {
    let vm = Vm::with_cluster();
    vm.write("objects.yaml", &format!("{WEB}---{SERVICE}"));
    vm.sh("kubectl apply -f objects.yaml && kubectl rollout status deployment/web --timeout=30s")
        .ok();
    let rules = |node: &str| vm.sh(&format!("minik rules svc/web --node {node}"));
    let shown = eventually(|| match rules("worker1") {
        said if said.code == 0 && said.out.matches("KUBE-SEP-").count() >= 4 => Ok(said.out),
        said => Err(said.to_string()),
    });
    let at = |text: &str| shown.find(text).unwrap_or_else(|| panic!("{text} is not in\n{shown}"));
    let way = [
        "chain PREROUTING",
        "chain KUBE-SERVICES",
        "chain KUBE-EXT-",
        "chain KUBE-SVC-",
        "chain KUBE-SEP-",
        "chain KUBE-POSTROUTING",
    ];
    assert!(way.map(at).is_sorted(), "in the order of a packet's way: {shown}");
    at("default/web:http cluster IP");
    at("--dport 30080");
    at("externalTrafficPolicy Local: ");
    at(": on another node");

    // While its agent stands still, what other hands do on a node stays, and is told.
    let agent = "$(minik status -o json | grep -o 'agent-worker1\": *[0-9]*' | grep -o '[0-9]*$')";
    vm.sh(&format!("kill -STOP {agent}")).ok();
    vm.sh("minik node exec worker1 -- iptables -t nat -I KUBE-SERVICES -p tcp -m comment --comment 'default/web:http by hand' -j RETURN")
        .ok();
    vm.sh("minik node exec worker1 -- iptables -t nat -D PREROUTING 1").ok();
    let disturbed = rules("worker1");
    assert!(
        disturbed
            .out
            .contains("    + -p tcp -m comment --comment \"default/web:http by hand\" -j RETURN"),
        "{disturbed}"
    );
    assert!(
        disturbed
            .out
            .contains("    - -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES"),
        "{disturbed}"
    );
    disturbed.fails(1);
    vm.sh(&format!("kill -CONT {agent}")).ok();
    let report: Value = eventually(|| {
        let said = vm.sh("minik rules svc/web --node worker1 -o json");
        let report: Value = serde_json::from_str(&said.out).map_err(|error| format!("{error}: {said}"))?;
        if said.code == 0 {
            Ok(report)
        } else {
            Err(said.to_string())
        }
    });
    let states = report["rules"].as_array().expect("rules").iter();
    assert!(states.clone().count() > 10 && states.clone().all(|rule| rule["state"] == "present"));
    assert_eq!(report["ports"][0]["pools"][1]["trafficPolicy"], "Local");

    let said = vm.sh("minik rules svc/nobody");
    assert_eq!(
        said.fails(1),
        "Error from server (NotFound): services \"nobody\" not found\n"
    );
}
