//! What a node's planners believe: `minik debug plan` beside rules that somebody has damaged, `minik debug trace` beside
//! real requests along the same way.

use serde_json::Value;

use crate::manifest::{TOOLS, WEB};
use crate::vm::{Vm, eventually};

const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, clusterIP: 10.96.0.20, ports: [{port: 80, nodePort: 30080}]}
---
apiVersion: v1
kind: Service
metadata: {name: empty}
spec: {selector: {app: nobody}, clusterIP: 10.96.0.21, ports: [{port: 80}]}
";

fn cluster() -> Vm {
    let vm = Vm::with_cluster();
    vm.sh_with(&format!("{WEB}---{TOOLS}---{SERVICES}"), "kubectl apply -f -")
        .ok();
    vm.sh("kubectl rollout status deployment/web --timeout=30s").ok();
    vm.sh("kubectl wait --for=condition=Ready pod/tools --timeout=30s").ok();
    eventually(
        || match vm.sh("kubectl exec tools -- curl -sf --max-time 2 -o /dev/null 10.96.0.20") {
            said if said.code == 0 => Ok(()),
            said => Err(said.to_string()),
        },
    );
    vm
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// Verdicts and destinations, each with its share in percent.
fn outcomes(report: &Value) -> Vec<(String, String, f64)> {
    let outcomes = report["outcomes"].as_array().expect("outcomes");
    let text = |outcome: &Value, key: &str| outcome[key].as_str().expect(key).to_owned();
    let outcome = |outcome: &Value| {
        let packet = text(outcome, "packet");
        let to = packet.split("-> ").nth(1).expect("a destination").to_owned();
        (
            text(outcome, "verdict"),
            to,
            outcome["probability"].as_f64().expect("a number") * 100.0,
        )
    };
    let mut all: Vec<_> = outcomes.iter().map(outcome).collect();
    all.sort_by(|a, b| a.1.cmp(&b.1));
    all
}

#[test]
fn a_trace_shows_the_way_that_packets_go() {
    let vm = cluster();
    let pods = vm
        .sh("kubectl get pods -l app=web -o jsonpath='{.items[*].status.podIP}'")
        .ok();
    let mut pods: Vec<String> = pods.split_whitespace().map(|ip| format!("{ip}:80")).collect();
    pods.sort();

    for from in ["pod/tools", "node/worker1", "outside"] {
        let traced = outcomes(&json(
            &vm.sh(&format!("minik debug trace {from} 10.96.0.20:80 -o json")).ok(),
        ));
        let to: Vec<&String> = traced.iter().map(|(_, to, _)| to).collect();
        assert_eq!(to, pods.iter().collect::<Vec<_>>(), "{from}");
        assert!(
            traced.iter().all(|(_, _, share)| (share - 50.0).abs() < 1e-6),
            "{traced:?}"
        );
    }

    let refused = vm.sh("minik debug trace pod/tools 10.96.0.21:80").ok();
    assert!(
        refused.contains("100.00% rejected with icmp-port-unreachable"),
        "{refused}"
    );
    assert!(refused.contains(r#"+ KUBE-SERVICES 1 -d 10.96.0.21/32"#), "{refused}");
    vm.sh("kubectl exec tools -- curl -s --max-time 2 10.96.0.21").fails(7);
    let silent = vm.sh("minik debug trace pod/tools 10.96.0.20:443").ok();
    assert!(silent.contains("100.00% forwarded by dead0"), "{silent}");
    assert!(silent.contains("wants --dport 80, has 443"), "{silent}");

    let port = outcomes(&json(
        &vm.sh("minik debug trace outside 172.30.0.11:30080 -o json").ok(),
    ));
    assert_eq!(port.len(), 2, "{port:?}");
    assert!(
        vm.sh("minik debug trace outside 172.30.0.11:30080")
            .ok()
            .contains("on node worker1")
    );

    // A rule of somebody else's decides, and is named.
    vm.sh("minik node exec worker1 -- iptables -I FORWARD -p udp -m length --length 0:100 -j DROP")
        .ok();
    let tcp = vm.sh("minik debug trace outside 10.96.0.20:80 --node worker1");
    assert_eq!(tcp.code, 0, "a TCP packet does not depend on it: {tcp}");
    let said = vm
        .sh("minik debug trace outside 10.244.9.9:53 --node worker1 --protocol udp")
        .fails(1);
    assert!(
        said.contains("table filter, chain FORWARD, rule 1: this match (-m length"),
        "{said}"
    );
}

#[test]
fn wrong_words_are_explained() {
    let vm = Vm::with_cluster();
    let said = vm.sh("minik debug trace pod/nobody 10.96.0.1:443").fails(1);
    assert_eq!(said, "Error from server (NotFound): pods \"nobody\" not found\n");
    let said = vm.sh("minik debug plan worker9").fails(1);
    assert_eq!(
        said,
        "error: node \"worker9\" not found: there are control-plane, worker1, worker2\n"
    );
    assert!(
        vm.sh("minik debug trace web 10.96.0.1:443")
            .fails(1)
            .contains("neither pod/NAME, node/NAME nor outside")
    );
}

#[test]
fn a_plan_is_what_is_missing() {
    let vm = cluster();
    assert_eq!(vm.sh("minik debug plan").ok(), "", "all is in order");
    // The agent would mend it, so it is held while one looks.
    let agent = vm.sh("minik status -o json").ok();
    let agent = json(&agent)["processes"]["agent-worker1"]
        .as_i64()
        .expect("the agent's process");
    vm.sh(&format!("kill -STOP {agent}")).ok();
    vm.sh("minik node exec worker1 -- iptables -t nat -F KUBE-SERVICES")
        .ok();
    let plan = json(&vm.sh("minik debug plan -o json").ok());
    let of = |name: &str| {
        let nodes = plan.as_array().expect("nodes");
        nodes.iter().find(|node| node["node"] == name).expect("a node").clone()
    };
    assert_eq!(of("worker1")["written"], serde_json::json!(["KUBE-SERVICES"]));
    assert_eq!(of("worker1")["removed"], serde_json::json!([]));
    assert_eq!(of("worker2")["restore"], "");
    let text = vm.sh("minik debug plan worker1").ok();
    assert!(
        text.starts_with("# node worker1\n*nat\n:KUBE-SERVICES - [0:0]\n"),
        "{text}"
    );
    assert!(text.contains("-A KUBE-SERVICES -d 10.96.0.20/32 -p tcp"), "{text}");
    vm.sh_with(&text, "minik node exec worker1 -- iptables-restore --noflush")
        .ok();
    assert_eq!(
        vm.sh("minik debug plan").ok(),
        "",
        "what was printed is what was missing"
    );
    vm.sh(&format!("kill -CONT {agent}")).ok();
}
