//! The lesson every cluster starts with, examples/nginx-svc: two Pods on two nodes behind one Service, by name and by
//! number, from inside and outside, before and after a Pod dies.

use std::collections::BTreeSet;

use crate::vm::{Vm, eventually, workspace};

/// A cluster with the lesson's objects, its Pods running and known to every node.
fn lesson() -> Vm {
    let vm = Vm::with_cluster();
    vm.sh(&format!(
        "kubectl apply -f {}/examples/nginx-svc",
        workspace().display()
    ))
    .ok();
    vm.sh("kubectl rollout status deployment/nginx-deployment --timeout=30s")
        .ok();
    in_service(&vm, 2);
    vm
}

/// Waits until every worker's rules lead to `count` Pods.
fn in_service(vm: &Vm, count: usize) {
    eventually(|| {
        for node in ["control-plane", "worker1", "worker2"] {
            let rules = vm.sh(&format!("minik node exec {node} -- iptables-save -t nat")).ok();
            let backends = rules
                .lines()
                .filter(|rule| rule.contains(r#""default/nginx-svc -> "#))
                .count();
            if backends != count {
                return Err(format!("{node} has rules for {backends} Pods"));
            }
        }
        Ok(())
    });
}

fn pods(vm: &Vm) -> BTreeSet<String> {
    let names = vm
        .sh("kubectl get pods -l app=nginx-deployment -o jsonpath='{.items[*].metadata.name}'")
        .ok();
    names.split_whitespace().map(str::to_owned).collect()
}

/// The Pods that answered `count` requests sent by `pod`; none may fail.
fn answers(vm: &Vm, pod: &str, count: usize) -> BTreeSet<String> {
    let requests = format!(
        "kubectl exec {pod} -- sh -c 'for i in $(seq {count}); do curl -sf --max-time 5 http://nginx-svc/ || exit 9; done'"
    );
    let out = vm.sh(&requests).ok();
    let hosts: Vec<&str> = out.lines().filter_map(|line| line.strip_prefix("host: ")).collect();
    assert_eq!(hosts.len(), count, "{out}");
    assert_eq!(
        out.lines().filter(|line| *line == "uri : GET nginx-svc /").count(),
        count,
        "{out}"
    );
    hosts.into_iter().map(str::to_owned).collect()
}

#[test]
fn forty_requests_by_name_reach_both_pods_and_none_fails() {
    let vm = lesson();
    let pods = pods(&vm);
    assert_eq!(pods.len(), 2);
    let nodes = vm
        .sh("kubectl get pods -l app=nginx-deployment -o jsonpath='{.items[*].spec.nodeName}'")
        .ok();
    assert_eq!(
        nodes.split_whitespace().collect::<BTreeSet<_>>(),
        BTreeSet::from(["worker1", "worker2"])
    );
    // One of the two is the Pod that asks: half of the requests come back to their sender.
    for pod in &pods {
        assert_eq!(answers(&vm, pod, 40), pods);
    }
}

#[test]
fn a_deleted_pod_is_replaced_in_service_rules_and_names() {
    let vm = lesson();
    let before = pods(&vm);
    let gone = before.first().expect("two");
    let old_ip = vm
        .sh(&format!("kubectl get pod {gone} -o jsonpath='{{.status.podIP}}'"))
        .ok();

    let said = vm.sh(&format!("kubectl delete pod {gone}")).ok();
    assert_eq!(said, format!("pod \"{gone}\" deleted from default namespace\n"));
    vm.sh("kubectl rollout status deployment/nginx-deployment --timeout=30s")
        .ok();
    eventually(|| {
        match vm
            .sh("kubectl get endpoints nginx-svc -o jsonpath='{.subsets[*].addresses[*].ip}'")
            .ok()
        {
            ips if ips.contains(&old_ip) || ips.split_whitespace().count() != 2 => Err(format!("endpoints: {ips}")),
            _ => Ok(()),
        }
    });
    eventually(|| match vm.sh("minik node exec worker1 -- iptables-save -t nat").ok() {
        rules if rules.contains(&format!("-> {old_ip}:80")) => Err(format!("still in the rules: {old_ip}")),
        _ => Ok(()),
    });
    in_service(&vm, 2);

    let after = pods(&vm);
    assert_eq!(after.len(), 2);
    assert!(!after.contains(gone));
    let kept = before.intersection(&after).next().expect("one was left alone");
    assert_eq!(answers(&vm, kept, 40), after);
}

#[test]
fn a_ping_of_the_cluster_ip_loses_everything() {
    let vm = lesson();
    let said = vm.sh("kubectl exec deploy/nginx-deployment -- ping -c2 -W1 $(kubectl get svc nginx-svc -o jsonpath='{.spec.clusterIP}')");
    assert_eq!(said.code, 1, "{said}");
    assert!(said.out.contains("100% packet loss"), "{said}");
    assert!(said.err.contains("command terminated with exit code 1"), "{said}");
}

#[test]
fn the_reply_names_the_pod_in_four_lines() {
    let vm = lesson();
    let pod = pods(&vm).first().cloned().expect("two");
    let ip = vm
        .sh(&format!("kubectl get pod {pod} -o jsonpath='{{.status.podIP}}'"))
        .ok();
    // A node reaches a Pod by its own address.
    let out = vm.sh(&format!("minik node exec control-plane -- curl -s {ip}")).ok();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(
        lines[..3],
        [
            format!("srv : {ip}:80"),
            format!("host: {pod}"),
            format!("uri : GET {ip} /")
        ]
    );
    let date = regex::Regex::new(r"^date: \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d$").expect("constant");
    assert!(lines.len() == 4 && date.is_match(lines[3]), "{out}");
}

#[test]
fn describe_says_what_kubernetes_says() {
    let vm = lesson();
    let ip = vm.sh("kubectl get svc nginx-svc -o jsonpath='{.spec.clusterIP}'").ok();
    let slice = "kubectl get endpointslices -l kubernetes.io/service-name=nginx-svc";
    let pods = vm
        .sh(&format!(
            "{slice} -o jsonpath='{{.items[0].endpoints[*].addresses[0]}}'"
        ))
        .ok();
    let endpoints = pods
        .split_whitespace()
        .map(|ip| format!("{ip}:80"))
        .collect::<Vec<_>>()
        .join(",");
    let annotation = "kubectl.kubernetes.io/last-applied-configuration";
    vm.sh(&format!("kubectl annotate svc nginx-svc {annotation}-")).ok();
    let expected = format!(
        "\
Name:                     nginx-svc
Namespace:                default
Labels:                   <none>
Annotations:              <none>
Selector:                 app=nginx-deployment
Type:                     ClusterIP
IP Family Policy:         SingleStack
IP Families:              IPv4
IP:                       {ip}
IPs:                      {ip}
Port:                     <unset>  80/TCP
TargetPort:               80/TCP
Endpoints:                {endpoints}
Session Affinity:         None
Internal Traffic Policy:  Cluster
Events:                   <none>
"
    );
    assert_eq!(vm.sh("kubectl describe svc nginx-svc").ok(), expected);
}
