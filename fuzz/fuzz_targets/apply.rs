//! Server-side apply: a byte for the kind, a live object with its managedFields, a border, a configuration in YAML.
//! What was applied once and is applied again changes nothing.
#![no_main]

use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use minik_api::resource::decode::{Format, check, configuration};
use minik_api::resource::managed::{Managers, Writer, apply};
use minik_fuzz::{BORDER, kind, live, object};
use serde_json::Value;

fuzz_target!(|input: &[u8]| {
    let Some((kind, rest)) = kind(input) else { return };
    let mut parts = rest.splitn(2, |byte| *byte == BORDER);
    let (Some(body), Some(config)) = (parts.next(), parts.next()) else { return };
    let Ok(config) = configuration(config) else { return };
    let mut live_object = object(kind, body, Format::Json);
    let metadata = live_object.as_mut().and_then(|object| object["metadata"].as_object_mut());
    let stored = metadata.and_then(|metadata| metadata.remove("managedFields")).unwrap_or_default();
    let writer = Writer {
        info: &kind.info,
        name: "fuzz",
        subresource: "",
        now: Timestamp::UNIX_EPOCH,
    };
    let run = |live: Option<&Value>, stored: &Value| apply(&writer, live, stored, &config.object, true);
    let Ok(first) = run(live_object.as_ref(), &stored) else { return };
    Managers::decode(&first.managed_fields).expect("what was written can be read");
    let Ok((fitted, _unknown)) = check(&first.object, &kind.info) else { return };
    let second = run(Some(&fitted), &first.managed_fields).expect("what was applied once can be applied again");
    let (again, _unknown) = check(&second.object, &kind.info).expect("still fits");
    assert_eq!(again, fitted, "the second apply changes nothing");
    live(kind, fitted);
});
