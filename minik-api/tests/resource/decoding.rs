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
