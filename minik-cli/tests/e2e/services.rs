//! The other kinds of Service, seen from where their users stand: NodePort from outside, headless and ExternalName by name,
//! and what happens without endpoints, with several ports, with affinity.

use std::collections::BTreeSet;

use crate::manifest::{TOOLS, WEB};
use crate::vm::{Vm, eventually};

/// A cluster with two web Pods, a Pod to ask from, and `services` (YAML).
fn cluster(services: &str) -> Vm {
    let vm = Vm::with_cluster();
    vm.sh_with(&format!("{WEB}---{TOOLS}---{services}"), "kubectl apply -f -")
        .ok();
    vm.sh("kubectl rollout status deployment/web --timeout=30s").ok();
    vm.sh("kubectl wait --for=condition=Ready pod/tools --timeout=30s").ok();
    vm
}

fn dig(vm: &Vm, question: &str) -> BTreeSet<String> {
    let out = vm
        .sh(&format!(
            "kubectl exec tools -- dig +noall +answer +tries=1 +time=2 {question}"
        ))
        .ok();
    out.lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

#[test]
fn a_node_port_answers_on_every_node_from_outside() {
    let vm = cluster(
        "
apiVersion: v1
kind: Service
metadata: {name: np}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, nodePort: 30080}]}",
    );
    for node in ["172.30.0.10", "172.30.0.11", "172.30.0.12"] {
        eventually(|| {
            let said = vm.sh(&format!("minik host exec -- curl -s --max-time 2 http://{node}:30080/"));
            if said.out.contains("<title>Welcome to nginx!</title>") {
                Ok(())
            } else {
                Err(said.to_string())
            }
        });
    }
    let listening = vm.sh("minik node exec worker1 -- ss -Hltn 'sport = :30080'").ok();
    assert_eq!(listening, "", "the port is a rule, not a socket");
}

#[test]
fn a_headless_name_stands_for_the_pods() {
    let vm = cluster(
        "
apiVersion: v1
kind: Service
metadata: {name: all}
spec: {clusterIP: None, selector: {app: web}, ports: [{name: http, port: 80}]}",
    );
    let ips = vm
        .sh("kubectl get pods -l app=web -o jsonpath='{.items[*].status.podIP}'")
        .ok();
    let ips: Vec<&str> = ips.split_whitespace().collect();
    let name = "all.default.svc.cluster.local.";
    let dashes = |ip: &str| format!("{}.{name}", ip.replace('.', "-"));
    let each = |answer: &dyn Fn(&str) -> String| ips.iter().map(|ip| answer(ip)).collect::<BTreeSet<_>>();
    eventually(|| match dig(&vm, name) {
        seen if seen == each(&|ip| format!("{name} 30 IN A {ip}")) => Ok(()),
        seen => Err(format!("{seen:?}")),
    });
    assert_eq!(
        dig(&vm, &format!("SRV _http._tcp.{name}")),
        each(&|ip| format!("_http._tcp.{name} 30 IN SRV 0 50 80 {}", dashes(ip)))
    );
    let octets: Vec<&str> = ips[0].rsplit('.').collect();
    assert_eq!(
        dig(&vm, &format!("-x {}", ips[0])),
        BTreeSet::from([format!(
            "{}.in-addr.arpa. 30 IN PTR {}",
            octets.join("."),
            dashes(ips[0])
        )])
    );
}

#[test]
fn an_external_name_is_a_cname() {
    let vm = cluster(
        "
apiVersion: v1
kind: Service
metadata: {name: away}
spec: {type: ExternalName, externalName: www.example.com}",
    );
    let name = "away.default.svc.cluster.local.";
    eventually(|| match dig(&vm, &format!("CNAME {name}")) {
        seen if seen == BTreeSet::from([format!("{name} 30 IN CNAME www.example.com.")]) => Ok(()),
        seen => Err(format!("{seen:?}")),
    });
    let expected = "\
Name:              away
Namespace:         default
Labels:            <none>
Annotations:       <none>
Selector:          <none>
Type:              ExternalName
IP Families:       <none>
IP:                
IPs:               <none>
External Name:     www.example.com
Session Affinity:  None
Events:            <none>
";
    vm.sh("kubectl annotate svc away kubectl.kubernetes.io/last-applied-configuration-")
        .ok();
    assert_eq!(vm.sh("kubectl describe svc away").ok(), expected);
}

#[test]
fn a_service_without_endpoints_refuses() {
    let vm = cluster(
        "
apiVersion: v1
kind: Service
metadata: {name: empty}
spec: {selector: {app: nobody}, ports: [{port: 80}]}",
    );
    eventually(|| match vm.sh("kubectl exec tools -- curl -s --max-time 2 empty") {
        said if said.code == 7 => Ok(()),
        said => Err(said.to_string()),
    });
}

#[test]
fn several_ports_lead_to_their_own_targets_and_no_other_answers() {
    let vm = cluster(
        "
apiVersion: v1
kind: Service
metadata: {name: many}
spec:
  selector: {app: web}
  ports: [{name: a, port: 8080, targetPort: 80}, {name: b, port: 9090, targetPort: 80}]",
    );
    for port in [8080, 9090] {
        eventually(|| {
            match vm.sh(&format!(
                "kubectl exec tools -- curl -sf --max-time 2 -o /dev/null many:{port}"
            )) {
                said if said.code == 0 => Ok(()),
                said => Err(said.to_string()),
            }
        });
    }
    // In iptables mode a ClusterIP's other ports are nobody's: silence, as on a real cluster, not a refusal.
    vm.sh("kubectl exec tools -- curl -s --max-time 1 many:80").fails(28);
}

#[test]
fn affinity_keeps_a_client_with_one_pod() {
    let vm = cluster(
        "
apiVersion: v1
kind: Service
metadata: {name: sticky}
spec: {selector: {app: web}, sessionAffinity: ClientIP, ports: [{port: 80}]}",
    );
    eventually(
        || match vm.sh("kubectl exec tools -- curl -sf --max-time 2 -o /dev/null sticky") {
            said if said.code == 0 => Ok(()),
            said => Err(said.to_string()),
        },
    );
    vm.sh("kubectl exec tools -- sh -c 'for i in $(seq 20); do curl -sf --max-time 2 -o /dev/null sticky || exit 9; done'").ok();
    let logs = vm
        .sh("for pod in $(kubectl get pods -l app=web -o name); do kubectl logs $pod | grep -c curl; done; true")
        .ok();
    let mut counts: Vec<u32> = logs.lines().map(|line| line.parse().expect("grep counts")).collect();
    counts.sort_unstable();
    assert_eq!(counts.len(), 2);
    assert_eq!(counts[0], 0, "the other Pod saw requests too: {counts:?}");
    assert!(counts[1] >= 21, "{counts:?}");
}

/// "should connect to the ports exposed by restartable init containers" and "to the named ports"; "should be rejected for
/// evicted pods (no endpoints exist)".
#[test]
fn sidecars_serve_their_ports_and_a_pod_that_was_put_out_serves_none() {
    let vm = cluster(
        "
apiVersion: v1
kind: Pod
metadata: {name: sidecar, labels: {app: sidecar}}
spec:
  initContainers: [{name: web, image: nginx, restartPolicy: Always, ports: [{name: http, containerPort: 80}]}]
  containers: [{name: main, image: pause}]
---
apiVersion: v1
kind: Service
metadata: {name: sidecar}
spec: {selector: {app: sidecar}, ports: [{name: number, port: 80}, {name: named, port: 8080, targetPort: http}]}
---
apiVersion: v1
kind: Pod
metadata: {name: out, labels: {app: out}}
spec: {activeDeadlineSeconds: 2, restartPolicy: Never, terminationGracePeriodSeconds: 1, containers: [{name: web, image: nginx}]}
---
apiVersion: v1
kind: Service
metadata: {name: out}
spec: {selector: {app: out}, ports: [{port: 80}]}",
    );
    for port in [80, 8080] {
        eventually(
            || match vm.sh(&format!("kubectl exec tools -- curl -sf --max-time 2 sidecar:{port}")) {
                said if said.out.contains("Welcome to nginx!") => Ok(()),
                said => Err(said.to_string()),
            },
        );
    }
    vm.sh("kubectl wait --for=jsonpath='{.status.reason}'=DeadlineExceeded pod/out --timeout=30s")
        .ok();
    eventually(|| match vm.sh("kubectl exec tools -- curl -s --max-time 2 out") {
        said if said.code == 7 => Ok(()),
        said => Err(said.to_string()),
    });
}
