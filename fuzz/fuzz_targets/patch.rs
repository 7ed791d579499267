//! Patches of all three types on objects of every kind: a byte for the kind, an object, a border, a patch.
#![no_main]

use libfuzzer_sys::fuzz_target;
use minik_api::resource::decode::{Format, check, check_merged};
use minik_api::resource::patch::{json_patch, merge_patch, strategic_patch};
use minik_fuzz::{BORDER, kind, live, object};

fuzz_target!(|input: &[u8]| {
    let Some((kind, rest)) = kind(input) else { return };
    let mut parts = rest.splitn(2, |byte| *byte == BORDER);
    let (Some(body), Some(patch)) = (parts.next(), parts.next()) else { return };
    let Some(old) = object(kind, body, Format::Json) else { return };
    let info = &kind.info;
    let outcomes = [
        json_patch(&old, patch).map(|new| check(&new, info)),
        merge_patch(&old, patch).map(|new| check(&new, info)),
        strategic_patch(&old, patch, info).map(|new| check_merged(&new, info)),
    ];
    for (new, _unknown) in outcomes.into_iter().flatten().flatten() {
        live(kind, new);
    }
});
