//! Bodies of every kind as Kubernetes protobuf: a byte for the kind, the body.
#![no_main]

use libfuzzer_sys::fuzz_target;
use minik_api::resource::decode::Format;
use minik_api::resource::protobuf::{Expected, to_json};
use minik_fuzz::{kind, live, object};

fuzz_target!(|input: &[u8]| {
    let Some((kind, body)) = kind(input) else { return };
    let expected = Expected {
        api_version: kind.info.api_version(),
        kind: kind.info.kind,
    };
    let Ok(json) = to_json(body, &expected) else { return };
    if let Some(object) = object(kind, &json, Format::Json) {
        live(kind, object);
    }
});
