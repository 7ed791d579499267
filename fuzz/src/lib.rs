//! What the fuzz targets share: the registry, how an input is cut into parts, and what must hold for every object that a
//! decoder has let in. Each target is a file of `fuzz_targets/`; a broken promise is a panic, which libFuzzer keeps.

#[path = "../../minik-api/tests/support/examples.rs"]
pub mod examples;
#[path = "../../minik-api/tests/support/objects.rs"]
pub mod objects;

use std::sync::LazyLock;

use jiff::Timestamp;
use minik_api::resource::decode::{FieldValidation, Format, decode};
use minik_api::resource::managed::{self, Writer};
use minik_api::resource::protobuf::{self, Expected};
use minik_api::resource::{Registered, Registry};
use serde_json::Value;

/// Every kind.
pub static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::standard);

/// What parts of an input are parted by: a byte that no UTF-8 has.
pub const BORDER: u8 = 0xff;

/// The kind that the first byte of an input chooses, and the rest of the input.
pub fn kind(input: &[u8]) -> Option<(&'static Registered, &[u8])> {
    let (first, rest) = input.split_first()?;
    let all: Vec<&Registered> = REGISTRY.iter().collect();
    Some((all[usize::from(*first) % all.len()], rest))
}

/// The place of a kind in the registry, as [`kind`] reads it.
pub fn number(name: &str) -> Option<u8> {
    let at = REGISTRY.iter().position(|kind| kind.info.kind == name)?;
    u8::try_from(at).ok()
}

/// The object in a body of the kind, if the decoder lets it in.
pub fn object(kind: &Registered, body: &[u8], format: Format) -> Option<Value> {
    let decoded = decode(body, format, &kind.info, FieldValidation::Warn).ok()?;
    Some(decoded.object)
}

/// Leads an object that the decoder has let in through all that happens to one: whatever it says, each step takes it.
pub fn live(kind: &Registered, mut object: Value) {
    let strategy = &kind.strategy;
    strategy.default(&mut object).expect("what is decoded fits its type");
    let mut again = object.clone();
    strategy.default(&mut again).expect("what has defaults fits its type");
    assert_eq!(again, object, "defaults are idempotent");
    strategy.prepare_for_create(&mut object).expect("can be created");
    let errors = strategy.validate(&object).expect("can be judged");
    let writer = Writer {
        info: &kind.info,
        name: "fuzz",
        subresource: "",
        now: Timestamp::UNIX_EPOCH,
    };
    let owners = managed::update(&writer, None, &object, &Value::Null, &Value::Null);
    managed::Managers::decode(&owners).expect("what was written can be read");
    if !errors.is_empty() {
        return;
    }
    strategy.warnings(&object).expect("can be warned of");
    strategy.row(&object, Timestamp::UNIX_EPOCH).expect("can be listed");
    for label in strategy.selectable_fields() {
        strategy.selectable_field(&object, label).expect("can be selected");
    }
    let mut same = object.clone();
    strategy.prepare_for_update(&mut same, &object).expect("can be updated");
    strategy.validate_update(&same, &object).expect("can be judged again");
    strategy.prepare_for_status_update(&mut same, &object).expect("its status can be updated");
    travel(kind, &object);
}

/// Protobuf carries every valid object there and back.
fn travel(kind: &Registered, object: &Value) {
    let expected = Expected {
        api_version: kind.info.api_version(),
        kind: kind.info.kind,
    };
    let there = protobuf::from_json(object).expect("has a message");
    let back = protobuf::to_json(&there, &expected).expect("can be read again");
    let mut back = self::object(kind, &back, Format::Json).expect("is still of its kind");
    kind.strategy.default(&mut back).expect("is still of its type");
    let again = protobuf::from_json(&back).expect("has a message again");
    assert_eq!(again, there, "protobuf loses nothing: {object} {back}");
}
