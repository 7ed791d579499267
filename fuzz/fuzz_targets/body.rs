//! Bodies of every kind as JSON and YAML: a byte for the kind, one for the format, the body.
#![no_main]

use libfuzzer_sys::fuzz_target;
use minik_api::resource::decode::{Format, configuration};
use minik_fuzz::{kind, live, object};

fuzz_target!(|input: &[u8]| {
    let Some((kind, [format, body @ ..])) = kind(input) else { return };
    let format = if format % 2 == 0 { Format::Json } else { Format::Yaml };
    if let Some(object) = object(kind, body, format) {
        live(kind, object);
    }
    // What it says of a configuration that it refuses does not matter, only that it says it.
    let _refused = configuration(body);
});
