//! What a container sees, with real kubectl: its account's token, objects that change under it, ports of the node, the
//! node's own network; and what `kubectl describe` says where something is missing.

use crate::vm::{Vm, eventually};

fn apply(vm: &Vm, manifests: &str) {
    vm.sh_with(manifests, "kubectl apply -f -").ok();
}

fn ready(vm: &Vm, pods: &str) {
    vm.sh(&format!("kubectl wait --for=condition=Ready pod {pods} --timeout=40s"))
        .ok();
}

/// Asks until the answer is as expected.
fn becomes(vm: &Vm, line: &str, expected: &str) {
    eventually(|| match vm.sh(line) {
        said if said.out == expected => Ok(()),
        said => Err(said.to_string()),
    });
}

const OBJECTS: &str = "
{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {color: red}}
---
{apiVersion: v1, kind: Secret, metadata: {name: login}, stringData: {password: s3cret}}
---
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {app: p}, annotations: {note: first}}
spec:
  hostname: one
  subdomain: group
  containers:
  - name: c
    image: tools
    command: [sleep, infinity]
    resources: {limits: {memory: 64Mi}}
    env:
    - {name: GREETING, value: hello $(NAME)}
    - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: AGAIN, value: hello $(NAME)}
    - {name: MEMORY, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}
    - {name: PASSWORD, valueFrom: {secretKeyRef: {name: login, key: password}}}
    volumeMounts:
    - {name: conf, mountPath: /conf}
    - {name: conf, mountPath: /fixed, subPath: color}
    - {name: info, mountPath: /info}
  volumes:
  - {name: conf, configMap: {name: settings}}
  - {name: info, downwardAPI: {items: [{path: annotations, fieldRef: {fieldPath: metadata.annotations}}]}}
---
apiVersion: v1
kind: Pod
metadata: {name: waiting}
spec:
  containers: [{name: c, image: busybox, command: [sleep, infinity], volumeMounts: [{name: late, mountPath: /late}]}]
  volumes: [{name: late, configMap: {name: late}}]
";

#[test]
fn objects_fields_and_the_accounts_token_are_seen_and_followed() {
    let vm = Vm::with_cluster();
    apply(&vm, OBJECTS);
    ready(&vm, "p");
    let env = vm
        .sh("kubectl exec p -- env | grep -E '^(GREETING|AGAIN|MEMORY|PASSWORD|HOSTNAME)=' | sort")
        .ok();
    assert_eq!(
        env,
        "AGAIN=hello p\nGREETING=hello $(NAME)\nHOSTNAME=one\nMEMORY=64\nPASSWORD=s3cret\n"
    );
    let hosts = vm.sh("kubectl exec p -- tail -1 /etc/hosts").ok();
    assert!(
        hosts.ends_with("\tone.group.default.svc.cluster.local\tone\n"),
        "{hosts}"
    );

    // The account's token is known to the API server, which lets it look at nothing.
    let account = "/var/run/secrets/kubernetes.io/serviceaccount";
    assert_eq!(
        vm.sh(&format!("kubectl exec p -- cat {account}/namespace")).ok(),
        "default"
    );
    let ask = format!(
        "kubectl exec p -- sh -c 'curl -s --cacert {account}/ca.crt -H \"Authorization: Bearer $(cat {account}/token)\" https://kubernetes.default.svc/api/v1/namespaces/default/pods'"
    );
    let answer = vm.sh(&ask).ok();
    let refusal = r#"pods is forbidden: User \"system:serviceaccount:default:default\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""#;
    assert!(answer.contains(refusal), "{answer}");
    let described = vm.sh("kubectl describe pod p").ok();
    assert!(
        described.contains("/var/run/secrets/kubernetes.io/serviceaccount from kube-api-access-"),
        "{described}"
    );

    vm.sh(r#"kubectl patch configmap settings -p '{"data":{"color":"blue"}}'"#)
        .ok();
    becomes(&vm, "kubectl exec p -- cat /conf/color", "blue");
    assert_eq!(
        vm.sh("kubectl exec p -- cat /fixed").ok(),
        "red",
        "a subPath stays what it was"
    );
    vm.sh("kubectl annotate pod p --overwrite note=second").ok();
    eventually(|| match vm.sh("kubectl exec p -- cat /info/annotations").ok() {
        text if text.contains("note=\"second\"") => Ok(()),
        text => Err(text),
    });

    eventually(|| match vm.sh("kubectl describe pod waiting").ok() {
        text if text.contains("MountVolume.SetUp failed for volume \"late\" : configmap \"late\" not found") => Ok(()),
        text => Err(text),
    });
    let row = vm.sh("kubectl get pod waiting --no-headers").ok();
    assert!(row.contains("ContainerCreating"), "{row}");
    vm.sh("kubectl create configmap late --from-literal=a=b").ok();
    ready(&vm, "waiting");
    let missing = vm
        .sh("kubectl run q --image=busybox --overrides='{\"spec\":{\"serviceAccountName\":\"nobody\"}}'")
        .fails(1);
    assert_eq!(
        missing,
        "Error from server (Forbidden): pods \"q\" is forbidden: error looking up service account default/nobody: serviceaccount \"nobody\" not found\n"
    );
}

const NETWORKS: &str = "
{apiVersion: v1, kind: Pod, metadata: {name: one}, spec: {nodeName: worker1, containers: [{name: c, image: nginx, ports: [{containerPort: 80, hostPort: 54323, hostIP: 127.0.0.1}]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: two}, spec: {nodeName: worker1, containers: [{name: c, image: nginx, ports: [{containerPort: 80, hostPort: 54323, hostIP: 172.30.0.11}]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: three}, spec: {nodeName: worker1, containers: [{name: c, image: nginx, ports: [{containerPort: 80, hostPort: 54323, hostIP: 172.30.0.11, protocol: UDP}, {containerPort: 5060, hostPort: 5060, protocol: SCTP}]}]}}
---
apiVersion: v1
kind: Pod
metadata: {name: host, labels: {app: host}}
spec:
  nodeName: worker2
  hostNetwork: true
  hostname: ignored
  dnsPolicy: ClusterFirstWithHostNet
  containers:
  - {name: web, image: nginx, ports: [{containerPort: 80}]}
  - {name: tools, image: tools, command: [sleep, infinity]}
---
apiVersion: v1
kind: Service
metadata: {name: host}
spec: {type: NodePort, selector: {app: host}, ports: [{port: 8080, targetPort: 80, nodePort: 30080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {nodeName: worker1, containers: [{name: c, image: tools, command: [sleep, infinity]}]}
";

#[test]
fn ports_and_network_of_the_node_are_the_pods_where_it_asks_for_them() {
    let vm = Vm::with_cluster();
    apply(&vm, NETWORKS);
    ready(&vm, "--all");
    let addresses =
        "kubectl get pod host -o jsonpath='{.status.podIP} {.status.hostIP} {.spec.containers[0].ports[0].hostPort}'";
    assert_eq!(vm.sh(addresses).ok(), "172.30.0.12 172.30.0.12 80");
    assert_eq!(vm.sh("kubectl exec host -c tools -- hostname").ok(), "worker2\n");
    let hosts = vm.sh("kubectl exec host -c tools -- head -1 /etc/hosts").ok();
    assert_eq!(hosts, "# Kubernetes-managed hosts file (host network).\n");

    // One port of one node, three Pods: the address and the protocol tell them apart.
    let page = |from: &str, to: &str| {
        vm.sh(&format!(
            "{from} curl -s --max-time 3 -o /dev/null -w '%{{http_code}}' http://{to}"
        ))
        .out
    };
    assert_eq!(page("minik node exec worker1 --", "127.0.0.1:54323"), "200");
    assert_eq!(page("minik host exec --", "172.30.0.11:54323"), "200");
    assert_eq!(
        page("kubectl exec two -- ", "172.30.0.11:54323"),
        "200",
        "a Pod reaches itself"
    );
    let rules = vm.sh("minik node exec worker1 -- iptables-save -t nat").ok();
    for rule in [
        "-d 172.30.0.11/32 -p udp -m udp --dport 54323 -j DNAT --to-destination 10.244.1.",
        "-p sctp -m sctp --dport 5060 -j DNAT --to-destination 10.244.1.",
        "-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT",
    ] {
        assert!(rules.contains(rule), "{rule} is not in {rules}");
    }

    // A Service of a Pod in the node's network: from a Pod, from the Pod's own node (a hairpin) and from outside.
    for (from, to) in [
        ("kubectl exec client --", "host:8080"),
        ("kubectl exec host -c tools --", "host.default:8080"),
        ("kubectl exec host -c tools --", "127.0.0.1"),
        ("minik host exec --", "172.30.0.11:30080"),
        ("minik host exec --", "172.30.0.12:30080"),
    ] {
        eventually(|| match page(from, to) {
            code if code == "200" => Ok(()),
            code => Err(format!("{from} {to}: {code}")),
        });
    }

    vm.sh("kubectl delete pod one two three --grace-period=1").ok();
    eventually(|| match vm.sh("minik node exec worker1 -- iptables-save -t nat").ok() {
        rules if !rules.contains("CNI-") => Ok(()),
        rules => Err(rules),
    });
}
