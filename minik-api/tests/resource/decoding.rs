//! Bodies that do not decode, and the texts with which 1.36 says so.

use minik_api::resource::Registry;
use minik_api::resource::decode::{FieldValidation, Format, check, decode};
use serde_json::json;

use crate::row;

fn refusal(kind: &str, body: &str, format: Format) -> String {
    let registry = Registry::standard();
    let info = &row(&registry, kind).info;
    decode(body.as_bytes(), format, info, FieldValidation::Strict)
        .unwrap_err()
        .to_string()
}

#[test]
fn refusals_read_as_those_of_1_36() {
    let cases = [
        (
            "{nope",
            "the object provided is unrecognized (must be of type Service): couldn't get version/kind; json parse error: invalid character 'n' looking for beginning of object key string ({nope)",
        ),
        (
            r#"{"spec":{"portz":[]}}"#,
            r#"Service in version "v1" cannot be handled as a Service: strict decoding error: unknown field "spec.portz""#,
        ),
        (
            r#"{"spec":{"ports":[{"port":80,"targetport":1}],"selectr":{}}}"#,
            r#"Service in version "v1" cannot be handled as a Service: strict decoding error: unknown field "spec.ports[0].targetport", unknown field "spec.selectr""#,
        ),
        (
            r#"{"spec":{"ports":[{"port":"eighty"}]}}"#,
            r#"Service in version "v1" cannot be handled as a Service: json: cannot unmarshal string into Go struct field ServicePort.spec.ports.port of type int32"#,
        ),
        (
            r#"{"spec":{"type":"NodePort","type":"ClusterIP"}}"#,
            r#"Service in version "v1" cannot be handled as a Service: strict decoding error: duplicate field "spec.type""#,
        ),
        (
            r#"{"kind":"Nope","apiVersion":"v1"}"#,
            r#"Nope in version "v1" cannot be handled as a Service: no kind "Nope" is registered for version "v1" in scheme "pkg/api/legacyscheme/scheme.go:30""#,
        ),
    ];
    for (body, text) in cases {
        assert_eq!(refusal("Service", body, Format::Json), text);
    }
}

#[test]
fn warnings_name_each_field_and_the_object_goes_without() {
    let registry = Registry::standard();
    let info = &row(&registry, "Service").info;
    let body = r#"{"metadata":{"name":"bad"},"spec":{"ports":[{"port":80,"targetport":1}],"selectr":{}}}"#;
    let decoded = decode(body.as_bytes(), Format::Json, info, FieldValidation::Warn).unwrap();
    assert_eq!(
        decoded.warnings,
        [
            r#"unknown field "spec.ports[0].targetport""#,
            r#"unknown field "spec.selectr""#
        ]
    );
    assert_eq!(decoded.object["spec"], json!({"ports": [{"port": 80}]}));
    let ignored = decode(body.as_bytes(), Format::Json, info, FieldValidation::Ignore).unwrap();
    assert_eq!((ignored.warnings, ignored.object), (vec![], decoded.object));
}

#[test]
fn yaml_and_json_mean_the_same() {
    let registry = Registry::standard();
    let info = &row(&registry, "Service").info;
    let yaml = "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  labels: {app: web}\nspec:\n  ports:\n  - port: 80\n    targetPort: http\n";
    let json = r#"{"metadata":{"name":"a","labels":{"app":"web"}},"spec":{"ports":[{"port":80,"targetPort":"http"}]}}"#;
    let of = |body: &str, format| {
        decode(body.as_bytes(), format, info, FieldValidation::Strict)
            .unwrap()
            .object
    };
    assert_eq!(of(yaml, Format::Yaml), of(json, Format::Json));
    let broken = refusal("Service", "a: b: c\n", Format::Yaml);
    assert!(
        broken.starts_with("the object provided is unrecognized (must be of type Service): yaml: line 1: "),
        "{broken}"
    );
    let twice = refusal("Service", "metadata:\n  name: a\n  name: b\n", Format::Yaml);
    assert!(twice.contains("line 3: key \"name\" already set in map"), "{twice}");
}

#[test]
fn nulls_and_empty_optional_values_leave_no_trace() {
    let registry = Registry::standard();
    let info = &row(&registry, "Service").info;
    let value =
        json!({"metadata": {"name": "a", "labels": {}, "annotations": null}, "spec": {"clusterIP": "", "ports": []}});
    let (object, unknown) = check(&value, info).unwrap();
    assert!(unknown.is_empty());
    assert_eq!(
        object,
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {}, "status": {"loadBalancer": {}}})
    );
}

/// The tags of Kubernetes' Go types say which zeros are meant: those of pointers, and of fields without `omitempty`.
#[test]
fn a_zero_that_go_leaves_out_leaves_no_trace_and_one_that_is_meant_stays() {
    let registry = Registry::standard();
    let fitted = |kind: &str, spec: serde_json::Value| {
        let (object, unknown) = check(&spec, &row(&registry, kind).info).unwrap();
        assert!(unknown.is_empty(), "{unknown:?}");
        object
    };
    let pod = json!({"spec": {
        "hostNetwork": false, "hostPID": false, "nodeName": "", "tolerations": [{"key": "", "operator": "Exists"}],
        "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false, "hostUsers": false,
        "containers": [{
            "name": "a", "image": "", "stdin": false, "tty": false, "command": [],
            "ports": [{"containerPort": 0, "hostPort": 0, "name": ""}],
            "env": [{"name": "A", "value": ""}],
            "securityContext": {"privileged": false, "runAsUser": 0},
            "livenessProbe": {"initialDelaySeconds": 0, "httpGet": {"port": 0, "path": ""}},
            "volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": false}],
        }],
        "volumes": [{"name": "v", "configMap": {"name": "", "optional": false}}],
    }});
    assert_eq!(
        fitted("Pod", pod)["spec"],
        json!({
            "tolerations": [{"operator": "Exists"}],
            "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false, "hostUsers": false,
            "containers": [{
                "name": "a", "ports": [{"containerPort": 0}], "env": [{"name": "A"}], "resources": {},
                "securityContext": {"privileged": false, "runAsUser": 0},
                "livenessProbe": {"httpGet": {"port": 0}},
                "volumeMounts": [{"name": "v", "mountPath": "/v"}],
            }],
            "volumes": [{"name": "v", "configMap": {"optional": false}}],
        })
    );
    let spec = json!({"spec": {"replicas": 0, "paused": false, "minReadySeconds": 0, "revisionHistoryLimit": 0}});
    let spec = fitted("Deployment", spec)["spec"].clone();
    assert_eq!(
        (&spec["replicas"], &spec["revisionHistoryLimit"]),
        (&json!(0), &json!(0))
    );
    assert_eq!((spec.get("paused"), spec.get("minReadySeconds")), (None, None));
    let class = fitted(
        "PriorityClass",
        json!({"value": 0, "globalDefault": false, "description": ""}),
    );
    assert_eq!(
        (&class["value"], class.get("globalDefault"), class.get("description")),
        (&json!(0), None, None)
    );
    let claim = fitted(
        "PersistentVolumeClaim",
        json!({"spec": {"storageClassName": "", "volumeName": ""}}),
    );
    assert_eq!(
        (&claim["spec"]["storageClassName"], claim["spec"].get("volumeName")),
        (&json!(""), None)
    );
    assert_eq!(
        fitted("Lease", json!({"spec": {"holderIdentity": ""}}))["spec"],
        json!({"holderIdentity": ""})
    );
}

#[test]
fn a_null_in_a_list_is_gos_zero_value_and_fits_its_type() {
    let registry = Registry::standard();
    let kind = row(&registry, "Service");
    let body = br#"{"metadata":{"name":"a"},"spec":{"ports":[null]},"status":{"conditions":[null]}}"#;
    let mut object = decode(body, Format::Json, &kind.info, FieldValidation::Strict)
        .unwrap()
        .object;
    // What is decoded fits the type that defaults are written for.
    kind.strategy.default(&mut object).unwrap();
    assert_eq!(
        object["status"]["conditions"],
        json!([{"type": "", "status": "", "reason": "", "message": "", "lastTransitionTime": "0001-01-01T00:00:00Z"}])
    );
    assert_eq!(object["spec"]["ports"][0]["protocol"], "TCP");
}
