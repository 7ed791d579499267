//! Inputs that fuzz targets and schemathesis found, each with what was wrong about it.

use jiff::{Timestamp, tz::TimeZone};
use minik_api::resource::Registry;
use minik_api::resource::cron::Schedule;
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

/// It was decoded and then fitted no type: a 500.
#[test]
fn a_time_in_a_map_that_is_null_is_gos_zero_time() {
    let registry = Registry::standard();
    let kind = row(&registry, "PodDisruptionBudget");
    let body = br#"{"metadata":{"name":"a"},"spec":{},"status":{"disruptedPods":{"web":null}}}"#;
    let mut object = decode(body, Format::Json, &kind.info, FieldValidation::Strict)
        .unwrap()
        .object;
    kind.strategy.default(&mut object).unwrap();
    assert_eq!(object["status"]["disruptedPods"]["web"], "0001-01-01T00:00:00Z");
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

/// It was decoded and then fitted no type: a 500.
#[test]
fn a_series_of_events_without_a_time_has_gos_zero_time() {
    let registry = Registry::standard();
    let kind = registry.by_kind("events.k8s.io", "Event").unwrap();
    let body = br#"{"metadata":{"name":"a"},"series":{"count":2}}"#;
    let mut object = decode(body, Format::Json, &kind.info, FieldValidation::Strict)
        .unwrap()
        .object;
    kind.strategy.default(&mut object).unwrap();
    assert_eq!(object["series"]["lastObservedTime"], "0001-01-01T00:00:00.000000Z");
}

/// Every minute of the days it allows was looked at, for a quarter of a minute: a comma alone is no hour.
#[test]
fn a_schedule_without_an_hour_is_seen_through_at_once() {
    let schedule = Schedule::parse("TZ=GB 6\u{b}\u{b}\u{b}, 15 * 5").unwrap();
    let before = std::time::Instant::now();
    assert_eq!(schedule.next(Timestamp::UNIX_EPOCH, &TimeZone::UTC), None);
    assert!(
        before.elapsed() < std::time::Duration::from_secs(1),
        "{:?}",
        before.elapsed()
    );
}
