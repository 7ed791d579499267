//! The life of Pods as Kubernetes' documentation teaches it (probes, init containers, sidecars, hooks), and what becomes
//! of a Service's clients meanwhile. Manifests are the documents' own but for images that are not built in and for times,
//! which are shorter.

use std::time::{Duration, Instant};

use crate::vm::{Vm, eventually};

/// A Pod's row without its age and the time since its last restart.
fn row(vm: &Vm, pod: &str) -> String {
    let row = vm.sh(&format!("kubectl get pod {pod} --no-headers")).ok();
    let words: Vec<&str> = row.split_whitespace().collect();
    words[1..4].join(" ")
}

fn until_row(vm: &Vm, pod: &str, wanted: &str) {
    eventually(|| match row(vm, pod) {
        row if row == wanted => Ok(()),
        row => Err(row),
    });
}

fn until_event(vm: &Vm, pod: &str, wanted: &str) {
    let line =
        format!("kubectl get events --field-selector involvedObject.name={pod} -o json | jq -r '.items[].message'");
    eventually(|| match vm.sh(&line).ok() {
        events if events.lines().any(|event| event.starts_with(wanted)) => Ok(()),
        events => Err(events),
    });
}

const EXEC_LIVENESS: &str = r#"
apiVersion: v1
kind: Pod
metadata:
  labels:
    test: liveness
  name: liveness-exec
spec:
  terminationGracePeriodSeconds: 2
  containers:
  - name: liveness
    image: registry.k8s.io/busybox:1.27.2
    args:
    - /bin/sh
    - -c
    - touch /tmp/healthy; sleep 3; rm -f /tmp/healthy; sleep 600
    livenessProbe:
      exec:
        command:
        - cat
        - /tmp/healthy
      initialDelaySeconds: 1
      periodSeconds: 1
"#;

/// The document's `liveness-http` and `goproxy`, served by nginx.
const HTTP_AND_TCP: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: liveness-http}
spec:
  containers:
  - name: liveness
    image: nginx
    livenessProbe:
      httpGet:
        path: /healthz
        port: 80
        httpHeaders:
        - name: Custom-Header
          value: Awesome
      initialDelaySeconds: 3
      periodSeconds: 1
      failureThreshold: 1
---
apiVersion: v1
kind: Pod
metadata: {name: goproxy}
spec:
  containers:
  - name: goproxy
    image: nginx
    ports:
    - name: liveness-port
      containerPort: 80
    readinessProbe:
      tcpSocket:
        port: liveness-port
      periodSeconds: 1
    startupProbe:
      httpGet:
        path: /
        port: liveness-port
      failureThreshold: 30
      periodSeconds: 1
    livenessProbe:
      tcpSocket:
        port: 81
      initialDelaySeconds: 3
      periodSeconds: 1
"#;

const LIFECYCLE: &str = r#"
apiVersion: v1
kind: Pod
metadata:
  name: lifecycle-demo
spec:
  containers:
  - name: lifecycle-demo-container
    image: nginx
    lifecycle:
      postStart:
        exec:
          command: ["/bin/sh", "-c", "echo Hello from the postStart handler > /usr/share/message"]
      preStop:
        exec:
          command: ["/bin/sh","-c","nginx -s quit; while killall -0 nginx; do sleep 1; done"]
"#;

#[test]
fn probes_and_hooks_do_what_the_documents_say() {
    let vm = Vm::with_cluster();
    vm.sh_with(EXEC_LIVENESS, "kubectl apply -f -").ok();
    vm.sh_with(HTTP_AND_TCP, "kubectl apply -f -").ok();
    vm.sh_with(LIFECYCLE, "kubectl apply -f -").ok();
    vm.sh("kubectl wait --for=condition=Ready pod/lifecycle-demo --timeout=30s")
        .ok();
    let message = vm.sh("kubectl exec lifecycle-demo -- cat /usr/share/message").ok();
    assert_eq!(message, "Hello from the postStart handler\n");

    vm.sh("kubectl wait --for=condition=Ready pod/goproxy --timeout=30s")
        .ok();
    until_event(
        &vm,
        "liveness-exec",
        "Liveness probe failed: cat: can't open '/tmp/healthy': No such file or directory",
    );
    until_event(
        &vm,
        "liveness-exec",
        "Container liveness failed liveness probe, will be restarted",
    );
    until_row(&vm, "liveness-exec", "1/1 Running 1");
    until_event(
        &vm,
        "liveness-http",
        "Liveness probe failed: HTTP probe failed with statuscode: 404",
    );
    let ip = vm.sh("kubectl get pod goproxy -o jsonpath={.status.podIP}").ok();
    let refused = format!("Liveness probe failed: dial tcp {ip}:81: connect: connection refused");
    until_event(&vm, "goproxy", &refused);
    until_event(
        &vm,
        "goproxy",
        "Container goproxy failed liveness probe, will be restarted",
    );
    let described = vm.sh("kubectl describe pod liveness-http").ok();
    let line = "Liveness:       http-get http://:80/healthz delay=3s timeout=1s period=1s";
    assert!(
        described.lines().any(|text| text.trim().starts_with(line)),
        "{described}"
    );
    assert!(described.contains("Unhealthy"), "{described}");

    let before = Instant::now();
    vm.sh("kubectl delete pod lifecycle-demo").ok();
    assert!(
        before.elapsed() < Duration::from_secs(20),
        "the hook ends nginx, nobody waits for the grace period"
    );
}

const MYAPP: &str = r#"
apiVersion: v1
kind: Pod
metadata:
  name: myapp-pod
  labels:
    app.kubernetes.io/name: MyApp
spec:
  containers:
  - name: myapp-container
    image: busybox:1.28
    command: ['sh', '-c', 'echo The app is running! && sleep 3600']
  initContainers:
  - name: init-myservice
    image: busybox:1.28
    command: ['sh', '-c', "until nslookup myservice.default.svc.cluster.local; do echo waiting for myservice; sleep 1; done"]
  - name: init-mydb
    image: busybox:1.28
    command: ['sh', '-c', "until nslookup mydb.default.svc.cluster.local; do echo waiting for mydb; sleep 1; done"]
"#;

const MYSERVICES: &str = r#"
apiVersion: v1
kind: Service
metadata:
  name: myservice
spec:
  ports:
  - protocol: TCP
    port: 80
    targetPort: 9376
---
apiVersion: v1
kind: Service
metadata:
  name: mydb
spec:
  ports:
  - protocol: TCP
    port: 80
    targetPort: 9377
"#;

/// The document's sidecar, in a Pod as its Job makes it.
const SIDECAR: &str = r#"
apiVersion: v1
kind: Pod
metadata:
  name: myjob
spec:
  restartPolicy: Never
  containers:
    - name: myjob
      image: alpine:latest
      command: ['sh', '-c', 'echo "logging" > /opt/logs.txt; sleep 2']
      volumeMounts:
        - name: data
          mountPath: /opt
  initContainers:
    - name: logshipper
      image: alpine:latest
      restartPolicy: Always
      command: ['sh', '-c', 'trap "exit 0" TERM; tail -F /opt/logs.txt & wait']
      volumeMounts:
        - name: data
          mountPath: /opt
  volumes:
    - name: data
      emptyDir: {}
"#;

#[test]
fn init_containers_and_sidecars_do_what_the_documents_say() {
    let vm = Vm::with_cluster();
    vm.sh_with(MYAPP, "kubectl apply -f -").ok();
    vm.sh_with(&SIDECAR.replace("alpine:latest", "busybox"), "kubectl apply -f -")
        .ok();
    until_row(&vm, "myapp-pod", "0/1 Init:0/2 0");
    let described = vm.sh("kubectl describe pod myapp-pod").ok();
    for line in ["Reason:       PodInitializing", "Status:           Pending"] {
        assert!(described.lines().any(|text| text.trim() == line), "{line}: {described}");
    }
    vm.sh_with(MYSERVICES, "kubectl apply -f -").ok();
    until_row(&vm, "myapp-pod", "1/1 Running 0");

    eventually(|| match vm.sh("kubectl logs myjob -c logshipper").ok() {
        logs if logs.contains("logging") => Ok(()),
        logs => Err(logs),
    });
    until_row(&vm, "myjob", "0/2 Completed 0");
    let phase = vm.sh("kubectl get pod myjob -o jsonpath={.status.phase}").ok();
    assert_eq!(phase, "Succeeded");

    for (name, policy, wanted) in [
        ("bad", "Always", "0/1 Init:CrashLoopBackOff 1"),
        ("worse", "Never", "0/1 Init:Error 0"),
    ] {
        let pod = format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{restartPolicy: {policy}, initContainers: [{{name: i, image: busybox, command: ['false']}}], containers: [{{name: c, image: busybox, command: [sleep, infinity]}}]}}}}"
        );
        vm.sh_with(&pod, "kubectl apply -f -").ok();
        until_row(&vm, name, wanted);
    }
}

/// A web server that says its name, ready while `/www/ready` is there, and serving on while it ends.
fn server(name: &str, rest: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: web}}}}
spec:
  terminationGracePeriodSeconds: 20
  {rest}
  containers:
  - name: c
    image: curlimages/curl
    command: [sh, -c, "mkdir /www; echo {name} > /www/index.html; touch /www/ready; exec httpd -f -p 80 -h /www"]
    readinessProbe: {{httpGet: {{path: /ready, port: 80}}, periodSeconds: 1, failureThreshold: 1}}
    lifecycle: {{preStop: {{sleep: {{seconds: 10}}}}}}
---
"#
    )
}

const CLIENT: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  containers:
  - {name: c, image: curlimages/curl, command: [sh, -c, "sleep infinity"]}
"#;

fn endpoints(vm: &Vm, condition: &str) -> String {
    let path =
        format!("[.items[].endpoints[]? | select(.conditions.{condition}) | .targetRef.name] | sort | join(\" \")");
    let line = format!("kubectl get endpointslices -l kubernetes.io/service-name=web -o json | jq -r '{path}'");
    vm.sh(&line).ok().trim().to_owned()
}

fn until_endpoints(vm: &Vm, wanted: &str) {
    eventually(|| match endpoints(vm, "ready") {
        names if names == wanted => Ok(()),
        names => Err(names),
    });
}

#[test]
fn a_services_clients_follow_readiness_and_outlive_termination() {
    let vm = Vm::with_cluster();
    let gate = "readinessGates: [{conditionType: example.com/live}]";
    vm.sh_with(CLIENT, "kubectl apply -f -").ok();
    vm.sh_with(&(server("one", "") + &server("two", "")), "kubectl apply -f -")
        .ok();
    vm.sh("kubectl wait --for=condition=Ready pod --all --timeout=30s").ok();
    until_endpoints(&vm, "one two");

    // Failing readiness takes a Pod out of its Service, and nothing else happens to it.
    vm.sh("kubectl exec one -- rm /www/ready").ok();
    until_endpoints(&vm, "two");
    assert_eq!(row(&vm, "one"), "0/1 Running 0");
    let asked = "kubectl exec client -- sh -c 'for i in $(seq 20); do curl -sS -m 2 http://web; done' | sort | uniq -c";
    assert_eq!(vm.sh(asked).ok().split_whitespace().collect::<Vec<_>>(), ["20", "two"]);
    vm.sh("kubectl exec one -- touch /www/ready").ok();
    until_endpoints(&vm, "one two");

    // A terminating Pod can be reached and can reach others until it has ended.
    let ip = |pod: &str| {
        vm.sh(&format!("kubectl get pod {pod} -o jsonpath={{.status.podIP}}"))
            .ok()
    };
    let (one, two) = (ip("one"), ip("two"));
    vm.sh("kubectl delete pod one --wait=false").ok();
    until_row(&vm, "one", "1/1 Terminating 0");
    assert_eq!(
        vm.sh(&format!("kubectl exec client -- curl -sS -m 2 http://{one}"))
            .ok(),
        "one\n"
    );
    assert_eq!(
        vm.sh(&format!("kubectl exec one -- curl -sS -m 2 http://{two}")).ok(),
        "two\n"
    );
    until_endpoints(&vm, "two");
    assert_eq!(endpoints(&vm, "terminating"), "one");
    vm.sh("kubectl wait --for=delete pod/one --timeout=40s").ok();

    // Blue and green: traffic goes over from one to the other by their gates, and no request is lost.
    vm.sh("kubectl delete pod two --grace-period=1").ok();
    vm.sh_with(&(server("blue", gate) + &server("green", gate)), "kubectl apply -f -")
        .ok();
    let set = |pod: &str, value: &str| {
        let patch = format!(r#"{{"status":{{"conditions":[{{"type":"example.com/live","status":"{value}"}}]}}}}"#);
        vm.sh(&format!("kubectl patch pod {pod} --subresource=status -p '{patch}'"))
            .ok();
    };
    set("blue", "True");
    until_endpoints(&vm, "blue");
    let wide = vm.sh("kubectl get pod blue green -o wide --no-headers").ok();
    let gates: Vec<&str> = wide.lines().filter_map(|line| line.split_whitespace().last()).collect();
    assert_eq!(gates, ["1/1", "0/1"], "{wide}");
    let mut asking = vm.start(
        "kubectl exec client -- sh -c 'until test -e /tmp/stop; do curl -sS -m 2 http://web >> /tmp/out 2>> /tmp/lost || echo lost >> /tmp/lost; done'",
    );
    for round in ["green blue", "blue green", "green blue"] {
        let (to, from) = round.split_once(' ').unwrap();
        set(to, "True");
        until_endpoints(&vm, "blue green");
        set(from, "False");
        until_endpoints(&vm, to);
    }
    vm.sh("kubectl exec client -- touch /tmp/stop").ok();
    asking.wait().unwrap();
    assert_eq!(vm.sh("kubectl exec client -- sh -c 'cat /tmp/lost; true'").ok(), "");
    let seen = vm.sh("kubectl exec client -- sh -c 'sort -u /tmp/out'").ok();
    assert_eq!(seen, "blue\ngreen\n");
}
