//! Objects that nearly fit: an example of a kind, changed where the OpenAPI document says what may be there.
#![no_main]

use std::sync::LazyLock;

use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use minik_api::resource::decode::Format;
use minik_fuzz::objects::Generator;
use minik_fuzz::{REGISTRY, kind, live, object};

static GENERATOR: LazyLock<Generator> = LazyLock::new(|| Generator::new(&REGISTRY));

fuzz_target!(|input: &[u8]| {
    let Some((kind, choices)) = kind(input) else { return };
    let Ok(body) = GENERATOR.object(&mut Unstructured::new(choices), &kind.info) else { return };
    if let Some(object) = object(kind, body.to_string().as_bytes(), Format::Json) {
        live(kind, object);
    }
});
