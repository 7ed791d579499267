//! Inputs that fuzz targets found, each with what was wrong about it.

use jiff::Timestamp;
use minik_api::resource::Registry;
use minik_api::resource::decode::{FieldValidation, Format, check, decode};
use minik_api::resource::managed::{Writer, apply};
use serde_json::{Value, json};

use crate::row;

/// It was decoded and then fitted no type: a 500.
#[test]
fn a_claim_in_a_stateful_set_is_a_claim_whatever_it_calls_itself() {
    let registry = Registry::standard();
    let kind = row(&registry, "StatefulSet");
    let body = br#"{"metadata":{"name":"a"},"spec":{"volumeClaimTemplates":[{"kind":"web","apiVersion":"b"},null]}}"#;
    let mut object = decode(body, Format::Json, &kind.info, FieldValidation::Strict)
        .unwrap()
        .object;
    kind.strategy.default(&mut object).unwrap();
    let claim = &object["spec"]["volumeClaimTemplates"][0];
    assert_eq!(
        (&claim["apiVersion"], &claim["kind"]),
        (&json!("v1"), &json!("PersistentVolumeClaim"))
    );
}

/// It was appended with each apply.
#[test]
fn a_key_that_is_null_is_one_that_is_left_out() {
    let registry = Registry::standard();
    let info = &row(&registry, "Pod").info;
    let writer = Writer {
        info,
        name: "test",
        subresource: "",
        now: Timestamp::UNIX_EPOCH,
    };
    let config = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
        "spec": {"containers": [{"name": "web", "image": "nginx", "ports": [{"containerPort": null}]}]},
    });
    let first = apply(&writer, None, &Value::Null, &config, false).unwrap();
    let (fitted, _unknown) = check(&first.object, info).unwrap();
    let second = apply(&writer, Some(&fitted), &first.managed_fields, &config, false).unwrap();
    assert_eq!(check(&second.object, info).unwrap().0, fitted);
}
