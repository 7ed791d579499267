//! What protobuf costs beside JSON: one Deployment and one Pod read and written both ways, and the table built.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use divan::{Bencher, black_box};
use minik_api::resource::protobuf::{Expected, from_json, to_json};
use serde_json::{Value, json};

fn main() {
    divan::main();
}

fn object(kind: &str) -> Value {
    let pod = json!({
        "metadata": {"labels": {"app": "web", "tier": "front"}},
        "spec": {
            "containers": [{
                "name": "nginx", "image": "nginx:1.29", "ports": [{"name": "http", "containerPort": 80, "protocol": "TCP"}],
                "env": [{"name": "A", "value": "b"}, {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                "resources": {"limits": {"cpu": "100m", "memory": "64Mi"}},
                "livenessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 10},
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }],
            "volumes": [{"name": "data", "emptyDir": {}}], "restartPolicy": "Always", "dnsPolicy": "ClusterFirst",
        },
    });
    if kind == "Pod" {
        let mut pod = pod;
        pod["apiVersion"] = "v1".into();
        pod["kind"] = "Pod".into();
        pod["metadata"]["name"] = "web".into();
        return pod;
    }
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "demo"},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": pod},
    })
}

const KINDS: [&str; 2] = ["Pod", "Deployment"];

/// A protobuf body to the JSON bytes that the decoder takes.
#[divan::bench(args = KINDS)]
fn protobuf_body_to_json(bencher: Bencher<'_, '_>, kind: &str) {
    let body = from_json(&object(kind)).unwrap();
    let expected = Expected {
        api_version: String::new(),
        kind: "",
    };
    bencher.bench(|| to_json(black_box(&body), &expected).unwrap());
}

/// A JSON answer to a protobuf one: parsed, then written.
#[divan::bench(args = KINDS)]
fn json_answer_to_protobuf(bencher: Bencher<'_, '_>, kind: &str) {
    let text = object(kind).to_string();
    bencher.bench(|| from_json(&serde_json::from_str(black_box(&text)).unwrap()).unwrap());
}

/// The same object's JSON, read and written: what protobuf adds to.
#[divan::bench(args = KINDS)]
fn json_read_and_written(bencher: Bencher<'_, '_>, kind: &str) {
    let text = object(kind).to_string();
    bencher.bench(|| serde_json::from_str::<Value>(black_box(&text)).unwrap().to_string());
}
