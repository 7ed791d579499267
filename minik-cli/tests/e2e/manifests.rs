//! Bad manifests: each is refused in Kubernetes' own words, with exit code 1, and changes nothing.

use crate::vm::Vm;

/// A manifest that must be refused, with what kubectl prints (captured from Kubernetes 1.36's API server, or by the client
/// itself where it never gets there).
struct Bad {
    why: &'static str,
    command: &'static str,
    manifest: &'static str,
    says: &'static str,
}

const APPLY: &str = "kubectl apply -f bad.yaml";

const BAD: &[Bad] = &[
    Bad {
        why: "unknown fields",
        command: APPLY,
        manifest: "{apiVersion: v1, kind: Service, metadata: {name: bad}, spec: {selectr: {app: a}, ports: [{port: 80, targetport: 80}]}}",
        says: "Error from server (BadRequest): error when creating \"bad.yaml\": Service in version \"v1\" cannot be handled as a Service: strict decoding error: unknown field \"spec.ports[0].targetport\", unknown field \"spec.selectr\"\n",
    },
    Bad {
        why: "a port beyond 65535",
        command: APPLY,
        manifest: "{apiVersion: v1, kind: Service, metadata: {name: bad}, spec: {ports: [{port: 70000}]}}",
        says: "The Service \"bad\" is invalid: \n* spec.ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive\n* spec.ports[0].targetPort: Invalid value: 70000: must be between 1 and 65535, inclusive\n",
    },
    Bad {
        why: "the same port twice, without names",
        command: APPLY,
        manifest: "{apiVersion: v1, kind: Service, metadata: {name: bad}, spec: {ports: [{port: 80}, {port: 80}]}}",
        says: "The Service \"bad\" is invalid: \n* spec.ports[0].name: Required value\n* spec.ports[1].name: Required value\n* spec.ports[1]: Duplicate value: {\"Name\":\"\",\"Protocol\":\"TCP\",\"AppProtocol\":null,\"Port\":80,\"TargetPort\":0,\"NodePort\":0}\n",
    },
    Bad {
        why: "a node port out of range",
        command: APPLY,
        manifest: "{apiVersion: v1, kind: Service, metadata: {name: bad}, spec: {type: NodePort, ports: [{port: 80, nodePort: 40000}]}}",
        says: "The Service \"bad\" is invalid: spec.ports[0].nodePort: Invalid value: 40000: provided port is not in the valid range. The range of valid ports is 30000-32767\n",
    },
    Bad {
        why: "a node port that another Service has",
        command: APPLY,
        manifest: "{apiVersion: v1, kind: Service, metadata: {name: bad}, spec: {type: NodePort, ports: [{port: 80, nodePort: 30080}]}}",
        says: "The Service \"bad\" is invalid: spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated\n",
    },
    Bad {
        why: "a name that is no DNS label",
        command: APPLY,
        manifest: "{apiVersion: v1, kind: Service, metadata: {name: Bad_Name}, spec: {ports: [{port: 80}]}}",
        says: "The Service \"Bad_Name\" is invalid: metadata.name: Invalid value: \"Bad_Name\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')\n",
    },
    Bad {
        why: "a word where a number belongs",
        command: APPLY,
        manifest: "{apiVersion: v1, kind: Service, metadata: {name: bad}, spec: {ports: [{port: http}]}}",
        says: "Error from server (BadRequest): error when creating \"bad.yaml\": Service in version \"v1\" cannot be handled as a Service: json: cannot unmarshal string into Go struct field ServicePort.spec.ports.port of type int32\n",
    },
    Bad {
        why: "a type that there is not",
        command: APPLY,
        manifest: "{apiVersion: v1, kind: Service, metadata: {name: bad}, spec: {type: NodePart, ports: [{port: 80}]}}",
        says: "The Service \"bad\" is invalid: spec.type: Unsupported value: \"NodePart\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"\n",
    },
    Bad {
        why: "no kind",
        command: APPLY,
        manifest: "{apiVersion: v1, metadata: {name: bad}}",
        says: "error: error validating \"bad.yaml\": error validating data: kind not set; if you choose to ignore these errors, turn validation off with --validate=false\n",
    },
    Bad {
        why: "broken YAML",
        command: APPLY,
        manifest: "kind: Service\n  metadata: [",
        says: "error: error parsing bad.yaml: error converting YAML to JSON: yaml: line 2: mapping values are not allowed in this context\n",
    },
    Bad {
        why: "another namespace than the one asked for",
        command: "kubectl apply -n kube-public -f bad.yaml",
        manifest: "{apiVersion: v1, kind: Service, metadata: {name: bad, namespace: default}, spec: {ports: [{port: 80}]}}",
        says: "error: the namespace from the provided object \"default\" does not match the namespace \"kube-public\". You must pass '--namespace=default' to perform this operation.\n",
    },
    Bad {
        why: "a namespace that there is not",
        command: "kubectl apply -n nonesuch -f bad.yaml",
        manifest: "{apiVersion: v1, kind: Service, metadata: {name: bad}, spec: {ports: [{port: 80}]}}",
        says: "Error from server (NotFound): error when creating \"bad.yaml\": namespaces \"nonesuch\" not found\n",
    },
];

#[test]
fn each_is_refused_in_kubernetes_words_and_changes_nothing() {
    let vm = Vm::with_cluster();
    vm.sh("kubectl run taker --image=pause --labels=app=taker").ok();
    vm.sh_with(
        "{apiVersion: v1, kind: Service, metadata: {name: taker}, spec: {type: NodePort, selector: {app: taker}, ports: [{port: 80, nodePort: 30080}]}}",
        "kubectl apply -f -",
    )
    .ok();
    let before = everything(&vm);

    let mut wrong = Vec::new();
    for bad in BAD {
        vm.write("bad.yaml", bad.manifest);
        let said = vm.sh(bad.command);
        if said.code != 1 || said.err != bad.says || !said.out.is_empty() {
            wrong.push(format!("{}: should say {}but\n{said}", bad.why, bad.says));
        }
        if everything(&vm) != before {
            wrong.push(format!("{}: changed what is there", bad.why));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn a_body_beyond_the_limit_is_refused_before_it_is_read() {
    let vm = Vm::with_cluster();
    let before = everything(&vm);
    // A ConfigMap of 10 MB; the API server takes 3 MiB.
    let manifest = format!(
        "{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"bad\"}},\"data\":{{\"a\":\"{}\"}}}}",
        "x".repeat(10 << 20)
    );
    vm.write("big.json", &manifest);
    assert_eq!(
        vm.sh("kubectl create -f big.json").fails(1),
        "Error from server (RequestEntityTooLarge): error when creating \"big.json\": Request entity too large: limit is 3145728\n"
    );
    assert_eq!(everything(&vm), before);
}

/// Every Service and ConfigMap there is, at its version.
fn everything(vm: &Vm) -> String {
    let template =
        "'{range .items[*]}{.kind}/{.metadata.namespace}/{.metadata.name}@{.metadata.resourceVersion}{\"\\n\"}{end}'";
    vm.sh(&format!("kubectl get services,configmaps -A -o jsonpath={template}"))
        .ok()
}
