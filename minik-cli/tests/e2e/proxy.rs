//! What people and load balancers ask each node's proxy, where they stand: on the node, in a Pod, outside; "should check
//! kube-proxy urls" and the health check ports of Kubernetes' own network tests.

use crate::vm::{Said, Vm, eventually};

const OBJECTS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec: {nodeName: worker1, containers: [{name: nginx, image: nginx}]}
---
apiVersion: v1
kind: Service
metadata: {name: lb}
spec: {type: LoadBalancer, externalTrafficPolicy: Local, selector: {app: web}, ports: [{port: 80}]}
";

fn contains(said: Said, text: &str) -> Result<(), String> {
    if said.out.contains(text) {
        Ok(())
    } else {
        Err(said.to_string())
    }
}

#[test]
fn each_node_s_proxy_is_asked_as_a_kube_proxy_and_again_after_its_agent_died() {
    let vm = Vm::with_cluster();
    vm.sh_with(OBJECTS, "kubectl apply -f -").ok();
    vm.sh("kubectl wait --for=condition=Ready pod/web --timeout=30s").ok();
    let ask_all = || {
        for (node, address) in [("control-plane", "172.30.0.10"), ("worker1", "172.30.0.11")] {
            let inside = format!("minik node exec {node} -- curl -sf --max-time 2 http://127.0.0.1:10249");
            eventually(|| match vm.sh(&format!("{inside}/proxyMode")) {
                said if said.out == "iptables" => Ok(()),
                said => Err(said.to_string()),
            });
            for metric in [
                "kubeproxy_sync_proxy_rules_duration_seconds_count",
                "kubeproxy_sync_proxy_rules_iptables_total",
            ] {
                eventually(|| contains(vm.sh(&format!("{inside}/metrics")), metric));
            }
            let anywhere = format!("curl -sf --max-time 2 http://{address}:10256/healthz");
            for from in ["kubectl exec web --", "minik host exec --"] {
                let healthy = r#""nodeEligible":true,"healthy":true"#;
                eventually(|| contains(vm.sh(&format!("{from} {anywhere}")), healthy));
            }
            vm.sh(&format!(
                "minik host exec -- curl -s --max-time 2 http://{address}:10249/proxyMode"
            ))
            .fails(7);
        }
    };
    ask_all();

    let port = vm
        .sh("kubectl get service lb -o jsonpath={.spec.healthCheckNodePort}")
        .ok();
    for (address, status, count) in [("172.30.0.11", "200", 1), ("172.30.0.12", "503", 0)] {
        let asked = format!("minik host exec -- curl -s --max-time 2 -w %{{http_code}} http://{address}:{port}/");
        eventually(|| {
            let body = format!("\n\t\"localEndpoints\": {count},\n\t\"serviceProxyHealthy\": true\n}}{status}");
            contains(vm.sh(&asked), &body)
        });
    }

    vm.sh("pkill -KILL -f '[i]nternal agent'").ok();
    ask_all();
    eventually(|| {
        contains(
            vm.sh(&format!(
                "minik host exec -- curl -s --max-time 2 http://172.30.0.11:{port}/"
            )),
            "\"localEndpoints\": 1",
        )
    });
    vm.sh("kubectl delete service lb").ok();
    eventually(|| {
        match vm.sh(&format!(
            "minik host exec -- curl -s --max-time 2 http://172.30.0.11:{port}/"
        )) {
            said if said.out.is_empty() => Ok(()),
            said => Err(said.to_string()),
        }
    });
}
