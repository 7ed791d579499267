//! kubectl's everyday commands, as they are typed, with what Kubernetes answers.

use std::io::Read;

use crate::vm::{Vm, eventually};

#[test]
fn run_expose_scale_rollout_and_delete() {
    let vm = Vm::with_cluster();
    vm.sh_with(
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, labels: {app: web}}, spec: {replicas: 1, selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: nginx, image: nginx}]}}}}",
        "kubectl apply -f -",
    )
    .ok();
    assert_eq!(
        vm.sh("kubectl expose deployment web --port=80 --target-port=80").ok(),
        "service/web exposed\n"
    );
    assert_eq!(
        vm.sh(
            "kubectl get svc web -o jsonpath='{.spec.selector.app} {.metadata.labels.app} {.spec.ports[0].targetPort}'"
        )
        .ok(),
        "web web 80"
    );

    assert_eq!(
        vm.sh("kubectl scale deployment web --replicas=3").ok(),
        "deployment.apps/web scaled\n"
    );
    let rollout = vm.sh("kubectl rollout status deployment/web --timeout=30s").ok();
    assert!(
        rollout.ends_with("deployment \"web\" successfully rolled out\n"),
        "{rollout}"
    );
    let row = vm.sh("kubectl get deployment web --no-headers").ok();
    assert_eq!(
        row.split_whitespace().collect::<Vec<_>>()[..4],
        ["web", "3/3", "3", "3"]
    );

    assert_eq!(vm.sh("kubectl run one --image=nginx").ok(), "pod/one created\n");
    assert_eq!(
        vm.sh("kubectl get pod one -o jsonpath='{.metadata.labels.run}'").ok(),
        "one"
    );
    assert_eq!(
        vm.sh("kubectl delete pod one").ok(),
        "pod \"one\" deleted from default namespace\n"
    );

    assert_eq!(
        vm.sh("kubectl delete deployment web").ok(),
        "deployment.apps \"web\" deleted from default namespace\n"
    );
    eventually(|| match vm.sh("kubectl get replicasets,pods -l app=web -o name").ok() {
        left if left.is_empty() => Ok(()),
        left => Err(left),
    });
    assert_eq!(
        vm.sh("kubectl get deployment web").fails(1),
        "Error from server (NotFound): deployments.apps \"web\" not found\n"
    );
}

#[test]
fn apply_says_created_unchanged_and_configured() {
    let vm = Vm::with_cluster();
    let service = |extra: &str| {
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: s}}, spec: {{selector: {{app: a}}, ports: [{{port: 80}}]{extra}}}}}"
        )
    };
    assert_eq!(
        vm.sh_with(&service(""), "kubectl apply -f -").ok(),
        "service/s created\n"
    );
    assert_eq!(
        vm.sh_with(&service(""), "kubectl apply -f -").ok(),
        "service/s unchanged\n"
    );
    let ip = vm.sh("kubectl get svc s -o jsonpath='{.spec.clusterIP}'").ok();
    assert_eq!(
        vm.sh_with(&service(", type: NodePort"), "kubectl apply -f -").ok(),
        "service/s configured\n"
    );
    assert_eq!(
        vm.sh("kubectl get svc s -o jsonpath='{.spec.clusterIP} {.spec.type}'")
            .ok(),
        format!("{ip} NodePort")
    );
    assert_eq!(
        vm.sh_with(&service(""), "kubectl create -f -").fails(1),
        "Error from server (AlreadyExists): error when creating \"STDIN\": services \"s\" already exists\n"
    );
    assert_eq!(
        vm.sh("kubectl delete svc s").ok(),
        "service \"s\" deleted from default namespace\n"
    );
}

#[test]
fn get_shows_kubernetes_columns() {
    let vm = Vm::with_cluster();
    let columns = |what: &str| {
        let out = vm.sh(&format!("kubectl get {what} -o wide")).ok();
        let header = out.lines().next().unwrap_or_default().to_owned();
        regex::Regex::new(" {2,}")
            .expect("constant")
            .split(&header)
            .collect::<Vec<_>>()
            .join("|")
    };
    assert_eq!(columns("svc"), "NAME|TYPE|CLUSTER-IP|EXTERNAL-IP|PORT(S)|AGE|SELECTOR");
    assert_eq!(
        columns("pods -A"),
        "NAMESPACE|NAME|READY|STATUS|RESTARTS|AGE|IP|NODE|NOMINATED NODE|READINESS GATES"
    );
    assert_eq!(
        columns("deployments -A"),
        "NAMESPACE|NAME|READY|UP-TO-DATE|AVAILABLE|AGE|CONTAINERS|IMAGES|SELECTOR"
    );
    assert_eq!(
        columns("nodes"),
        "NAME|STATUS|ROLES|AGE|VERSION|INTERNAL-IP|EXTERNAL-IP|OS-IMAGE|KERNEL-VERSION|CONTAINER-RUNTIME"
    );
    assert_eq!(columns("endpointslices"), "NAME|ADDRESSTYPE|PORTS|ENDPOINTS|AGE");
    let namespaces = vm.sh("kubectl get ns -o name").ok();
    assert_eq!(
        namespaces,
        "namespace/default\nnamespace/kube-node-lease\nnamespace/kube-public\nnamespace/kube-system\n"
    );
    let endpoints = vm.sh("kubectl get endpoints");
    assert!(
        endpoints
            .err
            .contains("Warning: v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"),
        "{endpoints}"
    );
    assert!(vm.sh("kubectl version").ok().contains("Server Version: v1.36.2"));
}

#[test]
fn get_w_tells_what_happens_as_it_happens() {
    let vm = Vm::with_cluster();
    vm.sh("kubectl create -f - <<< '{apiVersion: v1, kind: ConfigMap, metadata: {name: before}}'")
        .ok();
    let mut watch =
        vm.start("timeout 5 kubectl get configmaps -w -o name --field-selector metadata.name!=kube-root-ca.crt");
    let mut out = watch.stdout.take().expect("piped");
    let mut seen = vec![0; "configmap/before\n".len()];
    out.read_exact(&mut seen).expect("the list comes first");
    assert_eq!(String::from_utf8_lossy(&seen), "configmap/before\n");
    vm.sh("kubectl create -f - <<< '{apiVersion: v1, kind: ConfigMap, metadata: {name: after}}'")
        .ok();
    vm.sh("kubectl delete configmap before").ok();
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("the watch ends by itself");
    watch.wait().expect("ends");
    assert_eq!(rest, "configmap/after\nconfigmap/before\n");
}

#[test]
fn a_namespace_goes_with_all_that_is_in_it() {
    let vm = Vm::with_cluster();
    vm.sh("kubectl create -f - <<< '{apiVersion: v1, kind: Namespace, metadata: {name: mytest}}'")
        .ok();
    vm.sh("kubectl run p -n mytest --image=pause").ok();
    vm.sh("kubectl expose pod p -n mytest --port=80").ok();
    assert_eq!(
        vm.sh("kubectl delete namespace mytest").ok(),
        "namespace \"mytest\" deleted\n"
    );
    assert_eq!(vm.sh("kubectl get pods,services -n mytest -o name").ok(), "");
    assert_eq!(
        vm.sh("kubectl get ns mytest").fails(1),
        "Error from server (NotFound): namespaces \"mytest\" not found\n"
    );
}

#[test]
fn attach_hears_a_container_from_now_on_and_speaks_to_it() {
    let vm = Vm::with_cluster();
    // `run -i` attaches; the end of its input is the container's, and the container's end is that of the command.
    let said = vm.sh_with(
        "hello\nthere\n",
        "kubectl run once --image=busybox -i --rm --restart=Never --command -- sh -c 'while read line; do echo \"got $line\"; done; echo over'",
    );
    let said = said.ok();
    assert!(said.contains("got hello\ngot there\nover\n"), "{said}");

    // An input that stays open is for one client after the other, and output before an attachment is not repeated.
    vm.sh("kubectl create -f - <<< '{apiVersion: v1, kind: Pod, metadata: {name: many}, spec: {containers: [{name: c, image: busybox, stdin: true, command: [sh, -c, \"while read line; do echo heard $line; echo aside $line >&2; done\"]}]}}'")
        .ok();
    vm.sh("kubectl wait --for=condition=Ready pod/many --timeout=30s").ok();
    for word in ["one", "two"] {
        let said = vm.sh(&format!(
            "echo {word} | timeout 20 kubectl attach -i many > out 2> err & pid=$!; timeout 10 sh -c 'until grep -q aside err; do sleep 0.05; done'; kill $pid; cat out; grep aside err"
        ));
        assert_eq!(said.ok(), format!("heard {word}\naside {word}\n"));
    }
    assert_eq!(
        vm.sh("kubectl logs many").ok(),
        "heard one\naside one\nheard two\naside two\n"
    );
}

#[test]
fn the_api_server_carries_requests_to_services_pods_and_nodes() {
    let vm = Vm::with_cluster();
    vm.sh("kubectl run web --image=nginx --port=80 --expose").ok();
    vm.sh("kubectl wait --for=condition=Ready pod/web --timeout=30s").ok();
    let get = |path: &str| vm.sh(&format!("kubectl get --raw {path}"));
    let namespace = "/api/v1/namespaces/default";
    for path in [
        "services/web/proxy/",
        "services/http:web:80/proxy/",
        "pods/web/proxy/",
        "pods/web:80/proxy/",
    ] {
        let page = eventually(|| match get(&format!("{namespace}/{path}")) {
            said if said.code == 0 => Ok(said.out),
            said => Err(said.to_string()),
        });
        assert!(page.contains("<title>Welcome to nginx!</title>"), "{path}: {page}");
    }
    assert_eq!(get("/api/v1/nodes/worker1/proxy/healthz").ok(), "ok");

    let refused = get(&format!("{namespace}/services/web:81/proxy/")).fails(1);
    assert!(
        refused.contains("no service port \"81\" found for service \"web\""),
        "{refused}"
    );
    vm.sh("kubectl delete pod web --force").ok();
    eventually(|| match get(&format!("{namespace}/services/web/proxy/")).err {
        said if said.contains("no endpoints available for service \"web\"") => Ok(()),
        said => Err(said),
    });
}
